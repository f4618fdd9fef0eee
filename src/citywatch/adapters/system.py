"""The machine's clock and its randomness, as the ports want them.

Decides nothing. INVARIANT: ids and salts come from the kernel's generator; none is used twice.
"""

from __future__ import annotations

import os
import time

_BLOCK = 4096


class SystemClock:
    """`service.ports.Clock`: wall-clock milliseconds."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SystemChance:
    """`service.ports.Chance`: the kernel's randomness, fetched in blocks because each fetch is a system call."""

    def __init__(self) -> None:
        self._block = b""
        self._used = 0
        os.register_at_fork(after_in_child=self._forget)

    def call_id(self) -> str:
        return self._take().hex()

    def salt(self) -> bytes:
        return self._take()

    def _take(self) -> bytes:
        if self._used + 16 > len(self._block):
            self._block, self._used = os.urandom(_BLOCK), 0
        start = self._used
        self._used = start + 16
        return self._block[start : start + 16]

    def _forget(self) -> None:
        """A forked child must not continue its parent's block."""
        self._block, self._used = b"", 0
