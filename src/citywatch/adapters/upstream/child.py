"""One running program and its pipes: lines in, lines out, and its end.

Decides when a program has broken the rules of the pipe. INVARIANTS: a line never grows beyond its bound; what waits for
the program to read is bounded; the end of any pipe is the end of the program: its whole group is killed and reaped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Final

from citywatch.adapters.upstream import sandbox
from citywatch.core.errors import Code, Unavailable

_MAX_UNWRITTEN: Final = 8 << 20
_KEPT_OF_STDERR: Final = 8 * 1024
_GRACE: Final = 0.5
_MAX_BLANK: Final = 4096
"""Bytes of empty lines between two messages: some programs write one after each, and who never stops only costs us."""


class Child:
    """A started program. `on_line` gets each line of its output, `on_end` the reason why there will be no more."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        max_line: int,
        on_line: Callable[[bytes], None],
        on_end: Callable[[Unavailable], None],
    ) -> None:
        self._process = process
        self._max_line = max_line
        self._on_line = on_line
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._line = bytearray()
        self._blank = 0
        self._stdin: asyncio.WriteTransport | None = None
        self._reading: list[asyncio.ReadTransport] = []
        self._ended = False
        self._gone: asyncio.Future[None] | None = None
        self.reaping: asyncio.Future[int] | None = None
        self.last_words = b""

    async def attach(self) -> None:
        """Connect the pipes to the loop."""
        out, error, into = self._process.stdout, self._process.stderr, self._process.stdin
        output = partial(_Reader, self._take_output, partial(self._closed, "stdout"))
        errors = partial(_Reader, self._take_error, partial(self._closed, "stderr"))
        # Writing first: a program that ends at once must find everything that `end` closes.
        self._stdin, _ = await self._loop.connect_write_pipe(partial(_Writer, partial(self._closed, "stdin")), into)
        for protocol, pipe in ((output, out), (errors, error)):
            transport, _ = await self._loop.connect_read_pipe(protocol, pipe)
            self._reading.append(transport)
            if self._ended:
                transport.close()

    def write(self, line: bytes) -> None:
        """Send one line. Raises `Unavailable` if the program is gone or does not read."""
        if self._ended or self._stdin is None:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the server's program has ended")
        if self._stdin.get_write_buffer_size() > _MAX_UNWRITTEN:
            raise Unavailable(Code.OVERLOADED, "the server's program does not read")
        self._stdin.write(line + b"\n")

    def hold(self, shut: bool) -> None:
        """Stop or resume reading its output."""
        if not self._ended and self._reading:
            if shut:
                self._reading[0].pause_reading()
            else:
                self._reading[0].resume_reading()

    @property
    def exited(self) -> bool:
        """Whether the program itself is gone, even if something it started still holds its pipes.

        It reaps nothing: until then nobody else can get its number, and killing its group cannot hit a stranger.
        """
        if self._ended or not hasattr(os, "waitid"):
            return False
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self, failure: Unavailable) -> None:
        """Kill the program and everything in its group, at once; tell why, once."""
        if self._ended:
            return
        self._ended = True
        sandbox.stop(self._process)
        for transport in self._reading:
            transport.close()
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.abort()
        self.reaping = self._loop.run_in_executor(None, self._process.wait)
        self._on_end(failure)

    async def close(self, failure: Unavailable) -> None:
        """Let the program end by itself for a moment, as MCP wants it, then kill it; return once it is reaped."""
        if not self._ended and self._stdin is not None:
            self._stdin.close()
            self._gone = self._loop.create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone, _GRACE)
        self.end(failure)
        await self.reaped()

    async def reaped(self) -> None:
        """Until nothing of the program is left to wait for."""
        if self.reaping is not None:
            await asyncio.shield(self.reaping)

    def _take_output(self, data: bytes) -> None:
        if self._ended:
            return
        head, *rest = data.split(b"\n")
        self._line += head  # in place: a list of pieces of a byte each would be forty times as large
        if len(self._line) > self._max_line:
            self.end(Unavailable(Code.REPLY_TOO_LARGE, f"the server sent a line of more than {self._max_line} bytes"))
            return
        if not rest:
            return
        lines = [bytes(self._line), *rest]
        self._line = bytearray(lines.pop())
        for line in lines:
            if self._ended:
                return
            if line.strip():
                self._blank = 0
                self._on_line(line)
                continue
            self._blank += len(line) + 1
            if self._blank > _MAX_BLANK:
                self.end(Unavailable(Code.REPLY_MALFORMED, "the server floods us with empty lines"))

    def _take_error(self, data: bytes) -> None:
        # For the operator alone: it may hold the server's secrets, so it goes into no reply and no log.
        self.last_words = (self.last_words + data)[-_KEPT_OF_STDERR:]

    def _closed(self, which: str) -> None:
        if which == "stderr":
            return  # a program may close it and go on
        if which == "stdin":
            self._stdin = None
            if self._gone is not None:
                return  # it was us; now the program has a moment to end
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        self.end(Unavailable(Code.UPSTREAM_UNAVAILABLE, "the server's program has ended"))


class _Reader(asyncio.Protocol):
    def __init__(self, take: Callable[[bytes], None], closed: Callable[[], None]) -> None:
        self._take = take
        self._closed = closed

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed()


class _Writer(asyncio.BaseProtocol):
    def __init__(self, closed: Callable[[], None]) -> None:
        self._closed = closed

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed()
