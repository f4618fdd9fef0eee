"""HTTP/1.1 to one gateway: kept-alive connections, and replies as they arrive.

Decides whom it speaks to: over TLS the gateway that `pin` accepts, without TLS what root, our own user or
one of `users` runs on loopback, and never anybody else. Does not read what it carries.
INVARIANTS: no byte of a request is sent before the other end was accepted; a request is sent once, whatever happens;
nothing is read ahead of whoever consumes the reply, so that a slow reader slows the gateway and fills no memory.
SPEC: RFC 9112.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Protocol
from urllib.parse import urlsplit

import httptools

from citywatch.adapters.bridge.owner import check_owner
from citywatch.core.errors import Code, Malformed, Refused, Unavailable

READ_BYTES = 65_536
MAX_HEAD_BYTES = 65_536
KEPT_S = 30.0
"""Shorter than the gateway's own patience, so that we never write into a connection that it is closing."""
_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
Headers = Iterable[tuple[bytes, bytes]]


# SPEC: RFC 8446 §6.2: what TLS says to a client whose certificate it refused. No request was read then.
_PAPERS = {
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": Code.CREDENTIAL_EXPIRED,
    "SSLV3_ALERT_BAD_CERTIFICATE": Code.CREDENTIAL_UNTRUSTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": Code.CREDENTIAL_UNTRUSTED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": Code.CREDENTIAL_UNTRUSTED,
    "TLSV1_ALERT_UNKNOWN_CA": Code.CREDENTIAL_UNTRUSTED,
}


class PapersRefused(Refused):
    """The gateway refused our certificate in the handshake."""


class Pin(Protocol):
    """What makes a TLS connection the gateway's: a context, and a check once the handshake is done."""

    context: ssl.SSLContext

    def check(self, handshake: ssl.SSLObject) -> object: ...


class Reply:
    """One reply: its head, and its body as chunks. Close it when it is not read to its end."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._whole = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `Unavailable` when it breaks off."""
        while (chunk := await self._connection.next_chunk()) is not None:
            yield chunk
        if not self._whole:
            self._whole = True
            self._connection.finished()

    async def read(self, limit: int) -> bytes:
        """The whole body; `Unavailable` if it is longer than `limit` bytes."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                self.close()
                raise Unavailable(Code.REPLY_TOO_LARGE, "the gateway's reply is too long")
        return bytes(body)

    def close(self) -> None:
        """Leave the rest of the body, if there is any: the gateway sees the connection end."""
        if not self._whole:
            self._connection.drop()


class GatewayClient:
    """Requests to one gateway. Made and used in one event loop."""

    def __init__(
        self,
        url: str,
        pin: Callable[[], Pin] | None,
        *,
        connect_s: float,
        users: Collection[int] = (),
        unsafe_loopback: bool = False,
    ) -> None:
        """`pin` is asked for each new connection. How long a reply may take is the gateway's to bound.

        `users` are those besides root and our own whose gateway is believed without TLS; with `unsafe_loopback`
        anybody's is.

        Raises `Malformed` for a URL that is none, and for one that would show papers on the network.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise Malformed(f"`{url}` is not a gateway's URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise Malformed(f"`{url}` is not a gateway's URL: expected https://host[:port]")
        if parts.query or parts.fragment or parts.username is not None:
            raise Malformed(f"`{url}` is not a gateway's URL: expected https://host[:port]")
        self.secure = parts.scheme == "https"
        if self.secure and pin is None:
            raise Malformed("https needs the bundle that proves the gateway")
        if not self.secure and not _names_loopback(parts.hostname):
            raise Malformed(f"`{url}` would show papers on the network: use https, or a gateway on this machine")
        self._host, self._port = parts.hostname, port or (443 if self.secure else 80)
        self.authority = parts.netloc.encode("idna" if not parts.netloc.isascii() else "ascii")
        self._pin = pin
        self._connect_s = connect_s
        self._users = None if unsafe_loopback else frozenset((0, os.geteuid(), *users))
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def request(self, method: bytes, path: bytes, headers: Headers, body: bytes | None) -> Reply:
        """Ask once; return when the reply's head is there. `Unavailable` if there is no gateway, `Refused` if it is
        another's."""
        lines = [b"%s %s HTTP/1.1\r\nhost: %s\r\n" % (method, path, self.authority)]
        for name, value in headers:
            if not _HEADER.match(name) or not _VALUE.match(value):  # a line break here would be a second request there
                raise Malformed("a header is not one line")
            lines.append(b"%s: %s\r\n" % (name, value))
        if body is not None:
            lines.append(b"content-length: %d\r\n" % len(body))
        connection = self._take() or await self._connect()
        try:
            return await connection.ask(b"".join([*lines, b"\r\n", body or b""]))
        except BaseException:
            connection.drop()
            raise

    def forget(self) -> None:
        """Keep nothing that was made under another pin: what is idle is dropped, what is busy is not used again."""
        for connection in tuple(self._idle):
            connection.drop()
        for connection in self._open:
            connection.last = True

    async def close(self) -> None:
        """Drop every connection, and wait until they are gone."""
        open_now = tuple(self._open)
        for connection in open_now:
            connection.drop()
        for connection in open_now:
            await connection.gone()

    def _take(self) -> _Connection | None:
        oldest = asyncio.get_running_loop().time() - KEPT_S
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since > oldest and connection.alive:
                return connection
            connection.drop()
        return None

    async def _connect(self) -> _Connection:
        pin = None if not self.secure or self._pin is None else self._pin()
        try:
            async with asyncio.timeout(self._connect_s):
                reader, writer = await asyncio.open_connection(
                    self._host,
                    self._port,
                    ssl=None if pin is None else pin.context,
                    server_hostname=None if pin is None else self._host,
                    limit=READ_BYTES,
                )
        except TimeoutError:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the gateway does not answer") from None
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or error.reason or "no common TLS"
            raise Refused(Code.CREDENTIAL_UNTRUSTED, f"the gateway could not prove itself: {why}".lower()) from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the gateway cannot be reached: {why}".lower()) from None
        # A gateway that vanished without a word would leave a call waiting for ever.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection = _Connection(reader, writer, self._idle, self._open)
        try:
            if pin is not None:
                pin.check(writer.get_extra_info("ssl_object"))
            elif not _is_loopback(writer):  # wherever the name `localhost` led
                raise Malformed("plain http is for a gateway on this machine: use https")
            elif self._users is not None:
                await self._own(writer.get_extra_info("socket"), self._users)
        except BaseException:
            connection.drop()
            raise
        return connection

    async def _own(self, connection: socket.socket, users: Collection[int]) -> None:
        try:
            async with asyncio.timeout(self._connect_s):
                await check_owner(connection, users)
        except TimeoutError:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the gateway does not answer") from None
        except OSError:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the gateway hung up") from None


class _Connection:
    """One connection, one request at a time."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        idle: list[_Connection],
        every: set[_Connection],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._idle, self._every = idle, every
        self._every.add(self)
        self._dropped = self._until_end = False
        self._answered = False
        self.last = False
        self.idle_since = 0.0

    @property
    def alive(self) -> bool:
        return not self._dropped and not self._reader.at_eof() and not self._writer.is_closing()

    async def ask(self, request: bytes) -> Reply:
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._head = 0
        self._headed = self._complete = self._keep = False
        self._reply = Reply(self)
        self._writer.write(request)
        while not self._headed:
            await self._feed()
        return self._reply

    async def next_chunk(self) -> bytes | None:
        while not self._chunks and not self._complete:
            await self._feed()
        if not self._chunks:
            return None
        chunk = b"".join(self._chunks)
        self._chunks.clear()
        return chunk

    async def _feed(self) -> None:
        try:
            if not self._headed:
                await self._writer.drain()
            data = await self._reader.read(READ_BYTES)
            if data:
                self._answered = True
                self._parser.feed_data(data)
            elif self._headed and self._until_end:
                self._complete = True
            else:
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the gateway hung up")
        except (OSError, ssl.SSLError, httptools.HttpParserError) as error:
            self.drop()
            refused = _PAPERS.get(str(getattr(error, "reason", "")))
            if refused is not None and not self._answered:
                raise PapersRefused(refused, "the gateway refused the agent's certificate") from None
            why = type(error).__name__.lower()
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the gateway's reply broke off: {why}") from None

    def finished(self) -> None:
        """The body was read to its end: keep the connection if both ends want to."""
        if self._complete and not self._until_end and self._keep and not self.last and self.alive:
            self.idle_since = asyncio.get_running_loop().time()
            self._idle.append(self)
        else:
            self.drop()

    def drop(self) -> None:
        if not self._dropped:
            self._dropped = True
            self._writer.transport.abort()
            if self in self._idle:
                self._idle.remove(self)
            self._every.discard(self)

    async def gone(self) -> None:
        try:
            await self._writer.wait_closed()
        except (OSError, ssl.SSLError):
            return

    # -- what the parser calls ---------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value)
        if self._head > MAX_HEAD_BYTES:
            raise Unavailable(Code.REPLY_TOO_LARGE, "the head of the gateway's reply is too long")
        self._reply.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue and its like: the reply is still to come
            self._reply.headers.clear()
            return
        self._reply.status = status
        framed = {b"content-length", b"transfer-encoding"} & {name for name, _ in self._reply.headers}
        self._until_end = not framed and status not in (204, 304)
        self._headed = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        self._complete = self._headed
        self._keep = self._parser.should_keep_alive()  # asked here, because the parser then begins anew


def _names_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_loopback(writer: asyncio.StreamWriter) -> bool:
    return ipaddress.ip_address(writer.get_extra_info("peername")[0].partition("%")[0]).is_loopback
