"""The log's tail, read once for everybody in a process who folds it: what is new is handed on in order, then told.

Decides nothing. INVARIANTS: every leaf is handed to every fold exactly once, in the order of the log; nobody who waits
is told of an entry that the folds have not seen; a reader that falls behind is told only where the log is by now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from citywatch.core.errors import Unavailable
from citywatch.service.ports import Store

SLICE: Final = 512
PAUSE_S: Final = 0.1
"""Between two looks at a log that has not grown: what a person takes for at once."""
Fold = Callable[[int, bytes], None]


class Following:
    """How far the log was read. `seen` is how many entries the folds know, `size` how many there were at last look."""

    def __init__(self, store: Store, folds: Sequence[Fold]) -> None:
        self._store = store
        self._folds = folds
        self._grew = asyncio.Condition()
        self.seen = 0
        self.size = 0

    @property
    def caught_up(self) -> bool:
        return self.seen >= self.size

    async def look(self) -> int:
        """Read one slice more, if there is any; return how many entries that was."""
        leaves = await self._store.entries(self.seen, self.seen + SLICE)
        for index, leaf in enumerate(leaves, self.seen):
            for fold in self._folds:
                fold(index, leaf)
        if leaves:
            self.seen += len(leaves)
            self.size = max(self.size, self.seen)
            async with self._grew:
                self._grew.notify_all()
        return len(leaves)

    async def run(self) -> None:
        """Follow the log until cancelled; a store that cannot be read just now is looked at again."""
        while True:
            try:
                if not self.size:
                    self.size = await self._store.sync()
                read = await self.look()
            except Unavailable:
                read = 0
            await asyncio.sleep(0 if read else PAUSE_S)

    async def past(self, index: int) -> int:
        """Wait until an entry after the first `index` was seen; return how many were by then."""
        async with self._grew:
            await self._grew.wait_for(lambda: self.seen > index)
            return self.seen
