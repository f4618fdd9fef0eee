"""A notice for anybody: a few public pages at an address of their own, and nothing else of the gateway.

Readers of a bundle that know no SPIFFE want a certificate of the Web's. The address that shows one serves only this:
whoever could get a certificate for its host's name would otherwise be where agents show their papers.
Decides nothing. INVARIANTS: nothing that is read here reaches a call, an agent or the log; of a request only its first
line is looked at; no connection lasts longer than `SECONDS`, sends more than `MOST_HEAD`, or is kept for a second
request; at most `MOST` are open, and the oldest gives way.
SPEC: RFC 9112 §3 and §9.6; SPIFFE Federation §5.2.1.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Final

from citywatch.adapters.gateway.secure import Handshakes, TlsProtocol
from citywatch.core.errors import Code, Refused, Unavailable

MOST: Final = 64
SECONDS: Final = 10.0
MOST_HEAD: Final = 8_192
_ASKED = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]{1,2048}) HTTP/1\.[01]\r\n")
_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 405: b"Method Not Allowed"}


class Notice:
    """The pages, by path, and the sockets at which they can be read."""

    def __init__(self, pages: Mapping[str, Callable[[], bytes]]) -> None:
        """Each page is asked for its JSON whenever somebody reads it."""
        self._pages = {path.encode("ascii"): page for path, page in pages.items()}
        self._handshakes = Handshakes(MOST, SECONDS, _told)
        self._open: dict[_Reading, None] = {}
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int, tls: ssl.SSLContext) -> int:
        """Listen; return the port (0 takes any)."""

        def protocol() -> TlsProtocol:
            return TlsProtocol(tls, lambda: _Reading(self), self._handshakes)

        try:
            server = await asyncio.get_running_loop().create_server(protocol, host, port, backlog=MOST)
        except OSError as failure:
            where = f"{host}:{port}"
            raise Unavailable(Code.STORE_UNAVAILABLE, f"cannot listen on {where}: {failure.strerror}") from None
        self._server = server
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        if self._server is not None:
            self._server.close()
        await self._handshakes.close()
        for one in tuple(self._open):
            one.end()

    def begin(self, reading: _Reading) -> None:
        if len(self._open) >= MOST:
            next(iter(self._open)).end()
        self._open[reading] = None

    def leave(self, reading: _Reading) -> None:
        self._open.pop(reading, None)

    def answer(self, head: bytes) -> bytes:
        """The whole answer to a request, by its first line."""
        asked = _ASKED.match(head)
        if asked is None:
            return _written(400, b"{}")
        page = self._pages.get(asked[2].partition(b"?")[0])
        if page is None:
            return _written(404, b"{}")
        return _written(200, page()) if asked[1] == b"GET" else _written(405, b"{}", b"allow: GET\r\n")


class _Reading(asyncio.Protocol):
    """One reader's one request."""

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self.end)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._notice.begin(self)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._head += data[: MOST_HEAD + 1]
        if b"\r\n\r\n" in self._head:
            self._transport.write(self._notice.answer(self._head))
            self._transport.close()
        elif len(self._head) > MOST_HEAD:
            self.end()

    def eof_received(self) -> None:
        self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._notice.leave(self)

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def _told(refused: Refused, address: str) -> None:
    """Nobody shows papers here."""


def _written(status: int, body: bytes, more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n"
    return head % (status, _REASONS[status], len(body), more) + body
