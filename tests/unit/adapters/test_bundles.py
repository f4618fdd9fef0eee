"""Bundle endpoints over real sockets: who has to prove what, and how much an answer may be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from citywatch.adapters.bundles import FileSource, HttpsSource, web_proof
from citywatch.adapters.tls import SpiffePin, TlsKey
from citywatch.core.errors import CitywatchError, Malformed, Refused, Unavailable
from citywatch.core.identity.bundle import MAX_BUNDLE_BYTES, TrustBundle
from citywatch.core.identity.certificate import format_certificate
from citywatch.service.authority import p256
from tests.identity_city import GATEWAY, HOUR
from tests.unit.adapters.test_tls import Town

BODY = b'{"keys":[]}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n" + BODY
Says = Callable[[asyncio.StreamWriter], Awaitable[None]]


def plainly(answer: bytes) -> Says:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return say


@asynccontextmanager
async def endpoint(context: ssl.SSLContext, says: Says, asked: list[bytes]) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            await says(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/.well-known/spiffe-bundle?x=1"


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def by_spiffe(town: Town, url: str, name: str = GATEWAY, timeout_s: float = 10) -> HttpsSource:
    def proof(known: TrustBundle | None) -> tuple[ssl.SSLContext, Callable[[ssl.SSLObject], object]]:
        assert known is not None
        pin = SpiffePin(known, name, town.clock.now_ms, 0)
        return pin.context, pin.check

    return HttpsSource(url, proof, timeout_s)


async def test_an_endpoint_that_proves_its_spiffe_id_is_read(town: Town) -> None:
    town.gateway()
    asked: list[bytes] = []
    async with endpoint(town.tls.context, plainly(GOOD), asked) as url:
        assert await by_spiffe(town, url).fetch(town.bundle) == BODY
    assert asked[0].startswith(b"GET /.well-known/spiffe-bundle?x=1 HTTP/1.0\r\nHost: 127.0.0.1:")
    assert b"uthorization" not in asked[0]


async def test_another_name_of_the_same_domain_is_not_the_endpoint(town: Town) -> None:
    """Every agent of the partner has a certificate of the same authority."""
    town.gateway()
    asked: list[bytes] = []
    async with endpoint(town.tls.context, plainly(GOOD), asked) as url:
        with pytest.raises(Refused, match="is not `spiffe://acme"):
            await by_spiffe(town, url, "spiffe://acme.example/agent/billing").fetch(town.bundle)
    assert not any(asked)


async def test_another_authority_s_endpoint_is_not_believed(town: Town, tmp_path: Path) -> None:
    town.gateway()
    (tmp_path / "other").mkdir(mode=0o700)
    other = Town(tmp_path / "other")
    other.gateway()
    async with endpoint(other.tls.context, plainly(GOOD), []) as url:
        with pytest.raises(Unavailable, match="did not prove itself"):
            await by_spiffe(town, url).fetch(town.bundle)


async def test_an_endpoint_s_certificate_that_has_ended_by_our_clock_is_refused(town: Town) -> None:
    town.gateway()
    town.clock.advance(2 * HOUR)
    async with endpoint(town.tls.context, plainly(GOOD), []) as url:
        with pytest.raises(Refused, match="not valid now"):
            await by_spiffe(town, url).fetch(town.bundle)


async def test_the_web_profile_asks_for_the_host_s_name(town: Town, tmp_path: Path) -> None:
    town.gateway()
    ca = tmp_path / "web.pem"
    ca.write_text("".join(ssl.DER_cert_to_PEM_cert(format_certificate(one)) for one in town.bundle.certificates))
    async with endpoint(town.tls.context, plainly(GOOD), []) as url:
        assert await HttpsSource(url, web_proof(str(ca)), 10).fetch(None) == BODY
        with pytest.raises(Unavailable, match="did not prove itself"):
            await HttpsSource(url, web_proof(None), 10).fetch(None)  # the machine's own authorities
    key = TlsKey()
    issued = town.authority.issue_gateway(p256(key.public), ["elsewhere.example"], now=town.clock.now_ms(), ttl=HOUR)
    town.tls.install([issued.value], key, town.bundle)
    async with endpoint(town.tls.context, plainly(GOOD), []) as url:
        with pytest.raises(Unavailable, match="did not prove itself"):
            await HttpsSource(url, web_proof(str(ca)), 10).fetch(None)
    with pytest.raises(Malformed):
        web_proof(str(tmp_path / "missing.pem"))


BAD = {
    "another status": b"HTTP/1.1 404 Not Found\r\n\r\n",
    "a redirection": b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\n\r\n" + BODY,
    "cut off": GOOD[:-1],
    "no head": b"hello",
    "nothing": b"",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n" + BODY + b"\r\n0\r\n\r\n",
    "packed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nxxxx",
    "endless": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (2 * MAX_BUNDLE_BYTES),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
async def test_an_answer_that_is_no_whole_bundle_is_unavailable(town: Town, answer: bytes) -> None:
    town.gateway()
    async with endpoint(town.tls.context, plainly(answer), []) as url:
        with pytest.raises(Unavailable):
            await by_spiffe(town, url).fetch(town.bundle)


async def test_an_answer_that_drips_ends_in_its_time(town: Town) -> None:
    town.gateway()
    gone = asyncio.Event()

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        except OSError:
            gone.set()
            raise

    async with endpoint(town.tls.context, drip, []) as url:
        with pytest.raises(Unavailable, match="in time"):
            await by_spiffe(town, url, timeout_s=0.5).fetch(town.bundle)
        await asyncio.wait_for(gone.wait(), 30)


async def test_nobody_there_is_unavailable(town: Town) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        await by_spiffe(town, "https://127.0.0.1:1/").fetch(town.bundle)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "https://", "https://u@127.0.0.1/", "https://é.example/"])
def test_what_is_no_https_address_is_malformed(url: str) -> None:
    with pytest.raises(CitywatchError):
        HttpsSource(url, web_proof(None), 1)


async def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "partner.json"
    source = FileSource(str(file))
    with pytest.raises(Unavailable, match="cannot be read"):
        await source.fetch(None)
    file.write_bytes(BODY)
    assert await source.fetch(None) == BODY
    file.write_bytes(b"x" * (2 * MAX_BUNDLE_BYTES))
    assert len(await source.fetch(None)) == MAX_BUNDLE_BYTES + 1
