"""The one address of an authorization server: what it answers is bounded, and it leads nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from citywatch.adapters.upstream import HttpTokenEndpoint
from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.wire.token_grant import MAX_ANSWER


@asynccontextmanager
async def serving(answer: bytes, seen: list[bytes]) -> AsyncIterator[str]:
    """A server that answers with these bytes and closes; an empty answer is silence."""

    handling: list[asyncio.Task[None]] = []

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.append(asyncio.create_task(handle(reader, writer)))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        seen.append(head + await reader.readexactly(length))
        writer.write(answer)
        if answer:
            writer.write_eof()
        with suppress(ConnectionError):
            await reader.read()  # until it goes away
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token?tenant=a"
        finally:
            await asyncio.gather(*handling)


async def asked(answer: bytes, timeout_s: float = 30) -> tuple[tuple[int, bytes], bytes]:
    seen: list[bytes] = []
    async with serving(answer, seen) as url:
        said = await HttpTokenEndpoint(url, ca=None, timeout_s=timeout_s).ask(b"a=secret")
    return said, seen[0]


async def test_a_form_is_sent_and_the_answer_is_told_whatever_its_status() -> None:
    for status in (200, 400, 503):
        said, sent = await asked(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status)
        assert said == (status, b"{}")
        assert sent.startswith(b"POST /token?tenant=a HTTP/1.0\r\nHost: 127.0.0.1:")
        assert sent.endswith(b"\r\n\r\na=secret")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirection_is_not_followed(status: int) -> None:
    """Wherever it leads, a private address among them: the assertion was for this server alone."""
    seen: list[bytes] = []
    async with serving(b"HTTP/1.1 200 OK\r\n\r\n{}", seen) as elsewhere:
        answer = b"HTTP/1.1 %d Go\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, elsewhere.encode())
        with pytest.raises(Unavailable, match="leads elsewhere"):
            await asked(answer)
    assert seen == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", "not whole"),
        (b"HTTP/1.1 200 OK\r\n", "not whole"),
        (b"nonsense\r\n\r\n", "not whole"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "not whole"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_ANSWER * 2), "too long"),
    ],
)
async def test_an_answer_that_is_not_whole_or_has_no_end_is_none(answer: bytes, why: str) -> None:
    with pytest.raises(Unavailable, match=why) as refused:
        await asked(answer)
    assert "secret" not in str(refused.value)


async def test_silence_has_an_end() -> None:
    with pytest.raises(Unavailable) as refused:
        await asked(b"", timeout_s=0.05)
    assert refused.value.code is Code.UPSTREAM_TIMEOUT


async def test_nobody_there_is_told() -> None:
    async with serving(b"", []) as url:
        pass
    with pytest.raises(Unavailable, match="cannot be reached"):
        await HttpTokenEndpoint(url, ca=None, timeout_s=30).ask(b"")


@pytest.mark.parametrize("url", ["ftp://a.example/", "https:///token", "https://u:p@a.example/", "https://ä.example/"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Malformed, match="no token endpoint"):
        HttpTokenEndpoint(url, ca=None, timeout_s=1)


def test_a_file_without_certificates_is_refused() -> None:
    with pytest.raises(Malformed, match="holds no certificates"):
        HttpTokenEndpoint("https://a.example/", ca="/dev/null/none", timeout_s=1)
