"""What the store's fault tests share: a disk that can be held up, and how a refusal reads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable

import pytest

from citywatch.core.errors import Unavailable
from citywatch.service.ports import Key, NewEntry

AGENT: Key = ("agent", "billing")


def entry(text: bytes) -> NewEntry:
    return NewEntry(text)


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0.001)


async def refusal_of(attempt: Awaitable[object]) -> Unavailable:
    """What the attempt was refused with, as one line without a final period."""
    with pytest.raises(Unavailable) as caught:
        await attempt
    assert str(caught.value) == str(caught.value).strip(".\n")
    return caught.value


class HeldDisk:
    """An `fdatasync` that waits to be let go, and knows what the file held when it was called."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.finished = 0
        self.fails: OSError | None = None
        self._gate = threading.Semaphore(0)

    def __call__(self, fd: int) -> None:
        self.calls.append(os.pread(fd, os.fstat(fd).st_size, 0))
        self._gate.acquire()
        if self.fails is not None:
            raise self.fails
        os.fdatasync(fd)
        self.finished += 1

    def let_go(self, times: int = 1) -> None:
        self._gate.release(times)
