"""Servers that behave as a test wants: real sockets on loopback, a script for what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from citywatch.adapters.upstream import Bounds, HttpServer, HttpUpstream, Patience
from citywatch.adapters.upstream.settings import Owned, Shown

JSON = "application/json"
EVENTS = "text/event-stream"


def message(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}, separators=(",", ":")).encode()


REPLY = message(id=1, result={"content": []})
ASK = message(id=1, method="tools/call", params={"name": "pay"})


def response(body: bytes = REPLY, *lines: str, status: str = "200 OK", media: str = JSON) -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", f"content-type: {media}", *lines]
    return "\r\n".join((*head, "", "")).encode() + body


def chunked(*pieces: bytes, media: str = JSON, end: bool = True, lines: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: {media}\r\n{lines}\r\n".encode()
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head + body + (b"0\r\n\r\n" if end else b"")


class Seen:
    """One request as it arrived, and the number of the connection it came on."""

    def __init__(self, connection: int, head: bytes, body: bytes) -> None:
        self.connection = connection
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.headers = [tuple(line.split(": ", 1)) for line in lines[1:] if line]
        self.body = body

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2
        return values[0] if values else None


Script = Callable[[Seen, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class World:
    """A server and what it has seen; `script` may be changed between two requests."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.port = 0
        self.seen: list[Seen] = []
        self.connections = 0
        self.open: dict[int, asyncio.StreamWriter] = {}
        self.ended: dict[int, asyncio.Event] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        self.open[number] = writer
        self.ended[number] = asyncio.Event()
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                seen = Seen(number, head[:-4], b"")
                seen.body = await reader.readexactly(int(seen.header("content-length") or 0))
                self.seen.append(seen)
                await self.script(seen, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended[number].set()
            del self.open[number]
            writer.transport.abort()

    def upstream(
        self,
        credential: Callable[[], str] | None = None,
        *,
        patience: Patience | None = None,
        bounds: Bounds | None = None,
        url: str | None = None,
        ca: str | None = None,
        takes_tokens: bool = False,
        shown: Shown | None = None,
        owned: Owned | None = None,
    ) -> HttpUpstream:
        server = HttpServer(
            name="world",
            url=url or f"http://127.0.0.1:{self.port}/mcp",
            ca=ca,
            takes_tokens=takes_tokens,
            shown=shown,
            owned=owned,
            patience=patience or Patience(),
            bounds=bounds or Bounds(),
        )
        return HttpUpstream(server, credential)


def says(*answers: bytes) -> Script:
    """Each request gets the next of these bytes, the last one for ever."""
    left = list(answers)

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return script


def says_and_closes(answer: bytes) -> Script:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        raise ConnectionError

    return script


async def silence(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never answers; ends when the other side does."""
    if not await reader.read(1):
        raise ConnectionError


@asynccontextmanager
async def world(script: Script, **more: Any) -> AsyncIterator[World]:
    made = World(script)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, **more)
    # What the kernel takes off a script's hands is the same on every machine.
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in tuple(made.open.values()):
            writer.transport.abort()
        await asyncio.gather(*(ended.wait() for ended in made.ended.values()))
        with contextlib.suppress(asyncio.CancelledError):
            await server.wait_closed()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that another task or process does; gives up (and fails) after twenty seconds."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def gone(pid: int) -> bool:
    """No such process, or one that has ended and only waits to be counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def unseen_errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What asyncio could only log: errors in callbacks, tasks that nobody awaited."""
    records = caplog.get_records("setup") + caplog.get_records("call")
    return [record.getMessage() for record in records if record.name == "asyncio" and record.levelno >= logging.ERROR]
