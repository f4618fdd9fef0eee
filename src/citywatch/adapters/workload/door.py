"""The socket that a program finds in SPIFFE_ENDPOINT_SOCKET: each connection is looked at before a byte is read.

Decides nothing itself (`peer` does); what passes goes, byte for byte, to the server behind, which hides from gRPC's
users who is on the other end. INVARIANTS: the socket is the program's alone (0600, its account), in a folder that is
ours; a process that is refused gets no byte and is named to the operator; connections are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from citywatch.core.errors import Code, Refused, Unavailable

MAX_CONNECTIONS: Final = 32
CHUNK: Final = 65_536
MAX_PATH: Final = 107
"""Bytes of a socket's path. SPEC: unix(7)."""


class Door(msgspec.Struct, frozen=True):
    """`path` is where the program asks; `behind` is where the server listens, for us alone."""

    path: str
    behind: str
    listener: socket.socket

    async def serve(self, check: Callable[[socket.socket], object], say: Callable[[str], None]) -> None:
        """Let in whom `check` does not refuse, until cancelled."""
        loop = asyncio.get_running_loop()
        open_now: set[asyncio.Task[None]] = set()
        try:
            while True:
                connection, _ = await loop.sock_accept(self.listener)
                try:
                    if len(open_now) >= MAX_CONNECTIONS:
                        raise Refused(Code.OVERLOADED, "the program has too many connections open")
                    check(connection)  # INVARIANT: before anything is read
                except (Refused, OSError) as failure:
                    connection.close()
                    say(str(failure))
                    continue
                task = asyncio.create_task(self._pass_on(connection))
                open_now.add(task)
                task.add_done_callback(open_now.discard)
        finally:
            for task in open_now:
                task.cancel()
            await asyncio.gather(*open_now, return_exceptions=True)

    async def _pass_on(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            theirs = await asyncio.open_unix_connection(sock=connection)
            try:
                ours = await asyncio.open_unix_connection(self.behind)
                try:
                    await _both(_pump(theirs[0], ours[1]), _pump(ours[0], theirs[1]))
                finally:
                    ours[1].close()
            finally:
                theirs[1].close()


@asynccontextmanager
async def open_door(uid: int) -> AsyncIterator[Door]:
    """Make the program's socket and the place behind it; remove both on the way out."""
    folder = Path(tempfile.mkdtemp(prefix="citywatch-"))
    try:
        os.chmod(folder, 0o711)  # noqa: S103  # passed through, not listed: what is in it has modes of its own
        inner = folder / "behind"
        inner.mkdir(mode=0o700)
        path = str(folder / "api.sock")
        if len(os.fsencode(str(inner / "api.sock"))) > MAX_PATH:
            raise Unavailable(Code.OVERLOADED, "the Workload API cannot listen", operator=f"`{path}` is too long")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with listener:
            before = os.umask(0o177)
            try:
                listener.bind(path)
            finally:
                os.umask(before)
            if uid != os.geteuid():
                os.chown(path, uid, -1)
            listener.listen(MAX_CONNECTIONS)
            listener.setblocking(False)
            yield Door(path, str(inner / "api.sock"), listener)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _both(first: object, second: object) -> None:
    """Until one side ends: half an HTTP/2 connection is of no use to anybody."""
    tasks = [asyncio.ensure_future(one) for one in (first, second)]  # type: ignore[call-overload]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
