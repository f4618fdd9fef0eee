"""The bridge's HTTP client: to the gateway and nobody else, once, as it arrives."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from citywatch.adapters.bridge.client import GatewayClient
from citywatch.adapters.tls import GatewayPin, TlsKey
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.service.authority import p256
from tests.identity_city import BILLING, HOUR
from tests.unit.adapters.bridge.gate import END, STREAM, Asked, Gate, chunk, open_gate, plain, says
from tests.unit.adapters.test_tls import HOSTS, Town

LIMIT = 1 << 20


def client_of(gate: Gate) -> GatewayClient:
    return GatewayClient(gate.url, None, connect_s=10)


async def ask(client: GatewayClient, body: bytes = b"{}") -> bytes:
    reply = await client.request(b"POST", b"/mcp/desk", [(b"content-type", b"application/json")], body)
    return await reply.read(LIMIT)


async def test_a_request_arrives_as_it_was_asked_and_the_reply_as_it_was_given() -> None:
    async with open_gate(says(plain(b'{"a":1}', more=b"mcp-session-id: s\r\n"))) as gate:
        client = client_of(gate)
        reply = await client.request(b"POST", b"/mcp/desk", [(b"mcp-name", b"look")], b"{}")
        assert (reply.status, reply.header(b"mcp-session-id")) == (200, b"s")
        assert await reply.read(LIMIT) == b'{"a":1}'
        await client.close()
    (asked,) = gate.asked
    assert (asked.method, asked.path, asked.body) == (b"POST", b"/mcp/desk", b"{}")
    assert asked.headers == {b"host": gate.url[7:].encode(), b"mcp-name": b"look", b"content-length": b"2"}


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with open_gate(says(plain(b"{}"))) as gate:
        client = client_of(gate)
        for _ in range(3):
            await ask(client)
        await client.close()
    assert [asked.connection for asked in gate.asked] == [1, 1, 1]


async def test_requests_at_once_have_connections_of_their_own() -> None:
    together = asyncio.Event()

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.connection == 3:
            together.set()
        await together.wait()
        writer.write(plain(asked.body))

    async with open_gate(answer) as gate:
        client = client_of(gate)
        assert await asyncio.gather(*(ask(client, body) for body in (b"1", b"2", b"3"))) == [b"1", b"2", b"3"]
        await client.close()
    assert gate.connections == 3


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (plain(b"{}", more=b"connection: close\r\n"), False),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", False),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (STREAM + chunk(b"{}") + END, True),
    ],
)
async def test_a_connection_is_kept_only_if_both_ends_know_where_the_reply_ended(reply: bytes, kept: bool) -> None:
    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        if not kept:
            writer.write_eof()

    async with open_gate(answer) as gate:
        client = client_of(gate)
        assert await ask(client) in (b"{}", b"")
        await ask(client)
        await client.close()
    assert gate.connections == (1 if kept else 2)


async def test_a_connection_that_the_gateway_closed_is_not_used_again() -> None:
    closed = asyncio.Event()

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(b"{}"))
        await writer.drain()
        await closed.wait()
        writer.close()

    async with open_gate(answer) as gate:
        client = client_of(gate)
        await ask(client)
        closed.set()
        await gate.gone.wait()
        await ask(client)
        await client.close()
    assert len(gate.asked) == 2
    assert gate.connections == 2


async def test_a_stream_is_handed_on_as_it_arrives() -> None:
    seen = asyncio.Event()

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + chunk(b"data: 1\n\n"))
        await seen.wait()  # the second part is written only after the first one was read at the other end
        writer.write(chunk(b"data: 2\n\n") + END)

    async with open_gate(answer) as gate:
        client = client_of(gate)
        reply = await client.request(b"GET", b"/mcp/desk", [], None)
        found = []
        async for part in reply.chunks():
            found.append(part)
            seen.set()
        await client.close()
    assert found == [b"data: 1\n\n", b"data: 2\n\n"]


async def test_whoever_stops_reading_lets_the_gateway_know() -> None:
    async with open_gate(says(STREAM + chunk(b"data: 1\n\n"))) as gate:
        client = client_of(gate)
        reply = await client.request(b"GET", b"/mcp/desk", [], None)
        reply.close()
        await gate.gone.wait()
        await client.close()


async def test_a_slow_reader_slows_the_gateway() -> None:
    """A hundred megabytes are on offer; nobody reads; only what fits in the sockets' buffers is ever sent."""
    sent = 0

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(STREAM)
        for _number in range(1_600):
            writer.write(chunk(bytes(65_536)))
            await writer.drain()
            sent += 65_536

    async with open_gate(answer) as gate:
        client = client_of(gate)
        reply = await client.request(b"GET", b"/mcp/desk", [], None)
        for _ in range(2_000):
            await asyncio.sleep(0)
        assert sent < 30 << 20
        reply.close()
        await client.close()


async def hang_up(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def half(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(plain(b"{}")[:-1])
    await writer.drain()
    writer.close()


BROKEN = {
    "hangs up": hang_up,
    "half a reply": half,
    "no HTTP": says(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "a length that is none": says(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"),
    "two lengths": says(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
    "a chunk that is none": says(STREAM + b"zz\r\n"),
    "an endless head": says(b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"a" * 200_000 + b"\r\n\r\n"),
    "a reply too long": says(plain(b"a" * (LIMIT + 1))),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_a_gateway_that_breaks_off_is_told_and_asked_once(answer: object) -> None:
    async with open_gate(answer) as gate:  # type: ignore[arg-type]
        client = client_of(gate)
        with pytest.raises(Unavailable):
            await ask(client)
        await client.close()
    assert len(gate.asked) == 1


async def test_an_interim_reply_is_not_the_reply() -> None:
    async with open_gate(says(b"HTTP/1.1 100 Continue\r\n\r\n" + plain(b"{}"))) as gate:
        client = client_of(gate)
        assert await ask(client) == b"{}"
        await client.close()


async def test_nobody_at_home_is_unavailable() -> None:
    async with open_gate(says(b"")) as gate:
        pass
    with pytest.raises(Unavailable) as caught:
        await ask(client_of(gate))
    assert caught.value.code is Code.UPSTREAM_UNAVAILABLE


@pytest.mark.parametrize(
    "header",
    [(b"a", b"1\r\nx: y"), (b"a", b"1\ny"), (b"a\r\nb", b"1"), (b"a b", b"1"), (b"", b"1"), (b"a", b"\0")],
)
async def test_a_header_cannot_become_two(header: tuple[bytes, bytes]) -> None:
    async with open_gate(says(plain(b"{}"))) as gate:
        client = client_of(gate)
        with pytest.raises(Malformed):
            await client.request(b"POST", b"/mcp/desk", [header], b"{}")
        await client.close()
    assert not gate.asked


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1",
        "http://gateway.example",
        "http://0.0.0.0:80",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "https://127.0.0.1/mcp",
        "https://127.0.0.1?x",
        "https://u:p@127.0.0.1",
        "https://127.0.0.1:x",
        "https://127.0.0.1:99999",
        "https://",
        "127.0.0.1:80",
        "file:///etc/passwd",
        "",
    ],
)
def test_a_url_that_is_no_gateways_is_malformed(url: str) -> None:
    with pytest.raises(Malformed):
        GatewayClient(url, lambda: None, connect_s=1)  # type: ignore[arg-type, return-value]


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def secure(gate: Gate, town: Town) -> GatewayClient:
    return GatewayClient(
        f"https://localhost:{gate.port}", lambda: GatewayPin(town.bundle, town.clock.now_ms, 0), connect_s=10
    )


async def test_over_tls_it_speaks_to_the_pinned_gateway(town: Town) -> None:
    town.gateway()
    async with open_gate(says(plain(b"{}")), town.tls.context) as gate:
        client = secure(gate, town)
        assert await ask(client) == b"{}"
        await client.close()


async def test_over_tls_nobody_else_hears_a_word(town: Town, tmp_path: Path) -> None:
    """Another authority's gateway, and an agent of ours that shows a certificate with the right host."""
    (tmp_path / "other").mkdir(mode=0o700)
    other = Town(tmp_path / "other")
    other.gateway()
    key = TlsKey()
    posing = town.authority._issue_leaf(str(BILLING), HOSTS, p256(key.public), town.clock.now_ms(), HOUR)
    town.tls.install([posing.value], key, town.bundle)
    for tls, code in ((other.tls, Code.CREDENTIAL_UNTRUSTED), (town.tls, Code.CREDENTIAL_BAD_NAME)):
        async with open_gate(says(plain(b"{}")), tls.context) as gate:
            client = secure(gate, town)
            with pytest.raises(Refused) as caught:
                await ask(client)
            await client.close()
        assert caught.value.code is code
        assert gate.bytes_in == 0


async def test_plain_http_to_a_tls_port_and_back_is_an_error_and_no_hang(town: Town) -> None:
    town.gateway()
    async with open_gate(says(plain(b"{}")), town.tls.context) as gate:
        client = client_of(gate)
        with pytest.raises(CitywatchError):
            await ask(client)
        await client.close()
    async with open_gate(says(plain(b"{}"))) as gate:
        client = secure(gate, town)
        with pytest.raises(CitywatchError):
            await ask(client)
        await client.close()
