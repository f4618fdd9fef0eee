"""The socket that a program finds in SPIFFE_ENDPOINT_SOCKET: each connection is looked at before a byte is read.

Decides nothing itself (`peer` does); what passes goes, byte for byte, to the server behind, which hides from gRPC's
users who is on the other end. INVARIANTS: the socket is the program's alone (0600, its account), in a folder that is
ours; a process that is refused gets no byte and is named to the operator; connections are bounded; a socket that
somebody took away is put back, in that same folder and in no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from citywatch.core.errors import Code, Refused, Unavailable

MAX_CONNECTIONS: Final = 32
CHUNK: Final = 65_536
LOOK_S: Final = 1.0
MAX_PATH: Final = 107
"""Bytes of a socket's path. SPEC: unix(7)."""


class Door(msgspec.Struct):
    """`path` is where the program asks; `behind` is where the server listens, for us alone."""

    path: str
    behind: str
    uid: int
    listener: socket.socket

    async def serve(self, check: Callable[[socket.socket], object], say: Callable[[str], None]) -> None:
        """Let in whom `check` does not refuse, until cancelled. Who is in stays in, whatever becomes of the socket."""
        open_now: set[asyncio.Task[None]] = set()
        try:
            while True:
                letting_in = asyncio.create_task(self._let_in(check, say, open_now))
                try:
                    await self._until_gone(letting_in)
                finally:
                    letting_in.cancel()
                    await asyncio.gather(letting_in, return_exceptions=True)
                say("the program's socket was taken away: what it has goes on, and nobody new is let in")
                await self._put_back()
                say("the program's socket is there again")
        finally:
            for task in open_now:
                task.cancel()
            await asyncio.gather(*open_now, return_exceptions=True)

    async def _until_gone(self, letting_in: asyncio.Task[None]) -> None:
        while os.path.exists(self.path):
            await asyncio.wait((letting_in,), timeout=LOOK_S)
            if letting_in.done():
                letting_in.result()

    async def _put_back(self) -> None:
        while not os.path.exists(self.path):
            with contextlib.suppress(OSError):  # its folder is away as well
                if is_ours(Path(self.path).parent):
                    again = listen_at(self.path, self.uid)
                    self.listener.close()
                    self.listener = again
                    return
            await asyncio.sleep(LOOK_S)

    async def _let_in(
        self, check: Callable[[socket.socket], object], say: Callable[[str], None], open_now: set[asyncio.Task[None]]
    ) -> None:
        loop = asyncio.get_running_loop()
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
        door = Door(path, str(inner / "api.sock"), uid, listen_at(path, uid))
        try:
            yield door
        finally:
            door.listener.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def listen_at(path: str, uid: int) -> socket.socket:
    """Make the socket that one account alone may use; `OSError` where it cannot be. The folder has to be ours."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        if uid != os.geteuid():
            os.chown(path, uid, -1, follow_symlinks=False)
        listener.listen(MAX_CONNECTIONS)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def is_ours(folder: Path) -> bool:
    """Whether this is a folder in which nobody but us puts anything.

    # INVARIANT: the place of one that was removed is anybody's, and what root made there could be led elsewhere.
    """
    found = os.lstat(folder)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


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
