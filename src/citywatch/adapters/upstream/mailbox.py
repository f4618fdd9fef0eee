"""What a program said to one call, waiting to be read; and the valve that stops the pipe when too much waits.

Decides when reading from the program stops. INVARIANTS: what waits is bounded by what one reading of the pipe can add;
a closed mailbox takes nothing and weighs nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from citywatch.core.errors import Unavailable

_SHUT_ABOVE: Final = 256
_SHUT_ABOVE_BYTES: Final = 1 << 20


class Valve:
    """Counts what waits in all mailboxes of one program, and shuts its pipe while that is too much."""

    def __init__(self, hold: Callable[[bool], None], now: Callable[[], float]) -> None:
        self.shut_since: float | None = None
        self._hold = hold
        self._now = now
        self._messages = 0
        self._bytes = 0

    def add(self, messages: int, size: int) -> None:
        self._messages += messages
        self._bytes += size
        too_much = self._messages > _SHUT_ABOVE or self._bytes > _SHUT_ABOVE_BYTES
        if too_much and self.shut_since is None:
            self.shut_since = self._now()
            self._hold(True)
        elif not too_much and self.shut_since is not None:
            self.shut_since = None
            self._hold(False)


class Mailbox:
    """The messages for one reader, in order. Ends when finished, fails when failed; what came before is still read."""

    __slots__ = ("_ended", "_failure", "_messages", "_reader", "_valve")

    def __init__(self, valve: Valve) -> None:
        self._valve = valve
        self._messages: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._ended = False
        self._failure: Unavailable | None = None

    @property
    def only_one(self) -> bool:
        """Whether there is exactly one message and no more will come."""
        return self._ended and self._failure is None and len(self._messages) == 1

    async def wait(self) -> None:
        """Until there is a message or an end; raises the failure if there was no message before it."""
        while not (self._messages or self._ended):
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if not self._messages and self._failure is not None:
            raise self._failure

    async def next(self) -> bytes | None:
        """The next message, None at the end; raises the failure."""
        await self.wait()
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._valve.add(-1, -len(message))
        return message

    def put(self, message: bytes) -> None:
        if not self._ended:
            self._messages.append(message)
            self._valve.add(1, len(message))
            self._wake()

    def finish(self) -> None:
        self._ended = True
        self._wake()

    def fail(self, failure: Unavailable) -> None:
        if not self._ended:
            self._failure = failure
            self.finish()

    def close(self) -> None:
        """Nobody reads this any more."""
        self._valve.add(-len(self._messages), -sum(map(len, self._messages)))
        self._messages.clear()
        self.finish()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
