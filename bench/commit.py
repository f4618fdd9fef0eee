"""Where to commit: on the event loop, or in a thread of its own? The figures of `docs/adr/0007-commit-on-the-loop.md`.

The same ledger behind both, the same entries; callers that only append, and callers that also compute for about 60 µs
between appends, as a gateway does. Not a part of `make bench`. Run it: `python -m bench.commit`.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import statistics
import tempfile
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from bench.decide import quantile
from bench.log import SEED, entries
from citywatch.adapters.sqlite import SqliteStore, open_store
from citywatch.adapters.sqlite.ledger import Job, Result
from citywatch.adapters.sqlite.store import CHECKPOINT_BYTES, MAX_BATCH, PAGE
from citywatch.service.ports import Append

CALLERS = (1, 16, 64)
APPENDS = 16_000
ROUNDS = 5
WORK_S = 60e-6

Waiter = tuple[Job, "asyncio.Future[Result]"]


class Appender(Protocol):
    async def append(self, append: Append) -> Result: ...

    async def close(self) -> None: ...


class InAThread:
    """The alternative: a writer thread takes what has queued up, commits it and calls the loop back."""

    def __init__(self, path: Path) -> None:
        self._store: SqliteStore = open_store(path)
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Waiter | None] = SimpleQueue()
        self._written = 0
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    async def append(self, append: Append) -> Result:
        future: asyncio.Future[Result] = self._loop.create_future()
        self._queue.put((Job(append), future))
        return await future

    async def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        await self._store.close()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < MAX_BATCH and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    return
                batch.append(following)
            results = self._commit([job for job, _ in batch])
            self._loop.call_soon_threadsafe(self._answer, batch, results)
            self._written += 2 * PAGE + 1_080 * len(batch)  # as the store reckons
            if self._written > CHECKPOINT_BYTES:
                self._written = 0
                self._store._checkpointer.ask()

    def _commit(self, jobs: list[Job]) -> list[Result]:
        while True:
            try:
                return self._store._ledger.commit(jobs)
            except sqlite3.OperationalError:  # the checkpoint's turn
                time.sleep(0.0005)

    def _answer(self, batch: list[Waiter], results: list[Result]) -> None:
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)


def compute(steps: int) -> int:
    total = 0
    for step in range(steps):
        total += step
    return total


def steps_in(seconds: float) -> int:
    before = time.perf_counter()
    compute(1_000_000)
    return int(1_000_000 * seconds / (time.perf_counter() - before))


async def measure(kind: str, callers: int, steps: int) -> tuple[float, float, float, float]:
    """Appends a second, p50 and p99 in milliseconds, processor microseconds an append."""
    with tempfile.TemporaryDirectory(prefix=".bench-commit-", dir=Path(__file__).resolve().parents[1]) as here:
        path = Path(here) / "log.db"
        store: Appender = open_store(path) if kind == "loop" else InAThread(path)
        source, taken = entries(APPENDS, random.Random(SEED)), []

        async def caller() -> None:
            for entry in source:
                compute(steps)
                before = time.perf_counter()
                await store.append(Append(entries=(entry,)))
                taken.append(1000 * (time.perf_counter() - before))

        busy, before = time.process_time(), time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        elapsed, busy = time.perf_counter() - before, time.process_time() - busy
        await store.close()
    return APPENDS / elapsed, quantile(taken, 0.5), quantile(taken, 0.99), 1e6 * busy / APPENDS


def main() -> None:
    for callers in CALLERS:
        for steps in (0, steps_in(WORK_S)):
            rounds: dict[str, list[tuple[float, float, float, float]]] = {"loop": [], "thread": []}
            for _ in range(ROUNDS):
                for kind, found in rounds.items():
                    found.append(asyncio.run(measure(kind, callers, steps)))
            for kind, found in rounds.items():
                rate, half, tail, cpu = (statistics.median(column) for column in zip(*found, strict=True))
                print(
                    f"{callers:>3} callers, {60 if steps else 0:>2} us of work, {kind:<6}"
                    f"{rate:>8.0f}/s  p50 {half:.3f} ms  p99 {tail:.3f} ms  cpu {cpu:.0f} us"
                )


if __name__ == "__main__":
    main()
