"""A gateway that does what a test says: real sockets, replies written by hand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httptools

from citywatch.adapters.gateway.secure import Handshakes, TlsProtocol
from citywatch.core.errors import Code, Refused

Answer = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Asked:
    """One request as it arrived, and the number of the connection it came on."""

    connection: int
    method: bytes = b""
    path: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""


class _Reading:
    def __init__(self, connection: int) -> None:
        self.connection = connection
        self.parser = httptools.HttpRequestParser(self)
        self.done: list[Asked] = []

    def on_message_begin(self) -> None:
        self.asked = Asked(self.connection)

    def on_url(self, url: bytes) -> None:
        self.asked.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        assert name.lower() not in self.asked.headers
        self.asked.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.asked.body += body

    def on_message_complete(self) -> None:
        self.asked.method = self.parser.get_method()
        self.done.append(self.asked)


class Gate:
    """Keeps every request; `answer` writes the reply. `gone` is set when a client leaves a connection."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.bytes_in = 0
        self.connections = 0
        self.gone = asyncio.Event()
        self.port = 0
        self.refused: list[Code] = []
        self.certificates: list[bytes | None] = []
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        tls = writer.get_extra_info("ssl_object")
        self.certificates.append(None if tls is None else tls.getpeercert(binary_form=True))
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        reading = _Reading(self.connections)
        answering: asyncio.Task[None] | None = None
        with suppress(ConnectionError, ssl.SSLError, httptools.HttpParserError):
            while data := await reader.read(65_536):
                self.bytes_in += len(data)
                reading.parser.feed_data(data)
                while reading.done:
                    asked = reading.done.pop(0)
                    self.asked.append(asked)
                    answering = asyncio.create_task(self._answer(asked, writer))
        self.gone.set()
        if answering is not None:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
        del self._open[task]

    async def refuse(self, refused: Refused, _: str) -> None:
        self.refused.append(refused.code)

    async def close(self) -> None:
        """Cut off whoever is still there."""
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await self.answer(asked, writer)
            await writer.drain()


@asynccontextmanager
async def open_gate(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Gate]:
    gate = Gate(answer)
    handshakes = Handshakes(10, 30.0, gate.refuse)

    def protocol() -> asyncio.Protocol:
        plain = asyncio.StreamReaderProtocol(asyncio.StreamReader(), gate.serve)
        return plain if tls is None else TlsProtocol(tls, lambda: plain, handshakes)

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    gate.port = server.sockets[0].getsockname()[1]
    async with server:
        yield gate
        await gate.close()
        await handshakes.close()


def plain(body: bytes, *, status: bytes = b"200 OK", media: bytes = b"application/json", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s\r\n%s" % (status, media, len(body), more, body)


def says(reply: bytes) -> Answer:
    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)

    return answer


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


END = b"0\r\n\r\n"
