"""What the log costs: synced appends beside bare SQLite, the worst of a million beside the disk's, memory, a proof.

Every append carries a leaf of 600 bytes and a payload of 400, all different, and rests on a row that was read.
`log.of_sqlite` gives bare `sqlite3` the same bytes, 64 to a transaction with `synchronous=FULL`, which is the same
promise. The disk's own worst is taken between slices of the million, with nothing of ours running. `log.proof_ms` is
the way from an index to its hashes, over tiles on the disk and the cache that the gateway has; `log.bundle_ms` adds the
verified head, the leaf and a last check of it all. Run it: `python -m bench.log`.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bench.decide import quantile, row
from citywatch.adapters.files import LogDirectory
from citywatch.adapters.memory import MemorySigner
from citywatch.adapters.sqlite import SqliteStore, open_store
from citywatch.core.log.merkle import inclusion_proof
from citywatch.service.ports import Append, Appended, Key, NewEntry, Payload
from citywatch.service.publisher import Publisher
from citywatch.service.witnessing import Witnesses

SEED = 6962
CALLERS = 64
SYNCED = 32_000
ROUNDS = 7
MILLION = 1_000_000
SLICES = 20
BARE_SYNCS = 100
BARE_BYTES = 96 << 10  # what one full transaction adds to the write-ahead log
PROOFS = 200

AGENT: Key = ("agent", "bench")


def entries(count: int, chance: random.Random) -> Iterator[NewEntry]:
    """Entries of the usual size, no two alike, from a pool of bytes so that drawing them is not what is measured."""
    pool = chance.randbytes(1 << 20)
    for number in range(count):
        at = number * 61 % ((1 << 20) - 1_100)
        yield NewEntry(pool[at : at + 600], Payload(pool[at + 600 : at + 616], pool[at + 616 : at + 1_016]))


async def append_all(store: SqliteStore, count: int, *, sync: bool) -> float:
    """Let 64 callers append `count` entries between them; return the seconds that the slowest append took."""
    source = entries(count, random.Random(SEED))
    seen = (await store.load([AGENT], [])).rows[AGENT].version
    worst = 0.0

    async def caller() -> None:
        nonlocal worst
        for entry in source:
            before = time.perf_counter()
            done = await store.append(Append(entries=(entry,), reads=((AGENT, seen),), sync=sync))
            worst = max(worst, time.perf_counter() - before)
            assert isinstance(done, Appended)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return worst


async def opened(path: Path) -> SqliteStore:
    store = open_store(path)
    await store.append(Append(puts=((AGENT, b"{}"),)))
    return store


async def synced_rate(path: Path) -> float:
    store = await opened(path)
    before = time.perf_counter()
    await append_all(store, SYNCED, sync=True)
    taken = time.perf_counter() - before
    await store.close()
    return SYNCED / taken


def bare_rate(path: Path) -> float:
    """The floor: one thread, no callers, no checks."""
    rows = [(n, e.leaf, *_payload(e)) for n, e in enumerate(entries(SYNCED, random.Random(SEED)))]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE entry (idx INTEGER PRIMARY KEY, leaf BLOB, salt BLOB, body BLOB)")
        before = time.perf_counter()
        for start in range(0, SYNCED, CALLERS):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO entry VALUES (?, ?, ?, ?)", rows[start : start + CALLERS])
            connection.execute("COMMIT")
        return SYNCED / (time.perf_counter() - before)


def bare_syncs(path: Path) -> list[float]:
    """Seconds of each bare `fdatasync` after a write as long as one transaction's."""
    fd, data, taken = os.open(path, os.O_RDWR | os.O_CREAT), os.urandom(BARE_BYTES), []
    for number in range(BARE_SYNCS):
        os.pwrite(fd, data, number * BARE_BYTES)
        before = time.perf_counter()
        os.fdatasync(fd)
        taken.append(time.perf_counter() - before)
    os.close(fd)
    path.unlink()
    return taken


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


async def million(path: Path) -> tuple[list[dict[str, Any]], SqliteStore]:
    """Append a million entries in slices; between them, ask the disk alone."""
    store = await opened(path)
    await append_all(store, CALLERS, sync=False)
    grown_from = resident_mb()
    worst, floor, taken = [], [], 0.0
    for _ in range(SLICES):
        before = time.perf_counter()
        worst.append(1000 * await append_all(store, MILLION // SLICES, sync=False))
        taken += time.perf_counter() - before
        await store.sync()
        floor.append([1000 * one for one in bare_syncs(path.with_name("bare"))])
    grown = resident_mb() - grown_from
    floors = [max(part) for part in floor]
    stall = row("log.stall_ratio", [max(worst) / max(floors)], "", MILLION, "log.worst_fdatasync_ms")
    # A worst case has no median; how far its two halves disagree is the best spread there is.
    halves = [max(worst[h::2]) / max(floors[h::2]) for h in (0, 1)]
    stall |= {"ratio": stall["value"], "spread": round(abs(halves[0] - halves[1]) / stall["value"], 3), "seed": SEED}
    medians = [quantile(part, 0.5) for part in floor]
    return [
        stall,
        row("log.worst_append_ms", [max(worst)], "ms", MILLION, "log.worst_fdatasync_ms", [max(floors)]),
        row("log.worst_fdatasync_ms", [max(floors)], "ms", SLICES * BARE_SYNCS, "median", [quantile(medians, 0.5)]),
        row("log.appends_per_s", [MILLION / taken], "1/s", MILLION),
        row("log.rss_growth_mb", [grown], "MB", MILLION),
    ], store


async def proving(store: SqliteStore, root: Path) -> list[dict[str, Any]]:
    """Publish the million and prove entries drawn from all of it."""
    root.mkdir()
    publisher = Publisher(
        store=store,
        files=LogDirectory(root),
        signer=MemorySigner(SEED),
        origin="bench.example",
        witnesses=Witnesses([], 0),
    )
    before = time.perf_counter()
    size = (await publisher.publish()).size
    published = 1000 * (time.perf_counter() - before)
    proofs = publisher.proofs

    async def hashes(index: int) -> object:
        return await proofs.over_tiles(size, lambda node: inclusion_proof(index, size, node))

    async def bundle(index: int) -> object:
        return await proofs.prove(index, with_payload=False)

    async def timed(prove: Callable[[int], Awaitable[object]]) -> list[float]:
        chance, rounds = random.Random(SEED), []
        for _ in range(ROUNDS):
            taken = []
            for _ in range(PROOFS):
                index = chance.randrange(size)
                begun = time.perf_counter()
                await prove(index)
                taken.append(1000 * (time.perf_counter() - begun))
            rounds.append(quantile(taken, 0.5))
        return rounds

    return [
        row(f"log.proof_ms.{MILLION}", await timed(hashes), "ms", PROOFS * ROUNDS),
        row(f"log.bundle_ms.{MILLION}", await timed(bundle), "ms", PROOFS * ROUNDS),
        row("log.publish_us_an_entry", [1000 * published / size], "us", size),
    ]


@contextmanager
def folder() -> Iterator[Path]:
    """Beside the checkout, not in a /tmp that may be memory."""
    with tempfile.TemporaryDirectory(prefix=".bench-log-", dir=Path(__file__).resolve().parents[1]) as name:
        yield Path(name)


def synced() -> list[dict[str, Any]]:
    ours, bare = [], []
    for number in range(ROUNDS):  # in turn, so that a change of the disk's mood meets both
        with folder() as here:
            bare.append(bare_rate(here / f"bare{number}.db"))
            ours.append(asyncio.run(synced_rate(here / f"ours{number}.db")))
    share = row(
        "log.of_sqlite", [one / other for one, other in zip(ours, bare, strict=True)], "", SYNCED, "sqlite.rows_per_s"
    )
    return [
        share | {"ratio": share["value"]},
        row("log.synced_per_s", ours, "1/s", SYNCED, "sqlite.rows_per_s", bare),
        row("sqlite.rows_per_s", bare, "1/s", SYNCED),
    ]


def run() -> list[dict[str, Any]]:
    """All rows of the log."""

    async def long_run(here: Path) -> list[dict[str, Any]]:
        rows, store = await million(here / "log.db")
        try:
            return rows + await proving(store, here / "tiles")
        finally:
            await store.close()

    rows = synced()
    with folder() as here:
        rows += asyncio.run(long_run(here))
    return [{**one, "seed": SEED} for one in rows]


def _payload(entry: NewEntry) -> tuple[bytes, bytes]:
    assert entry.payload is not None
    return entry.payload.salt, entry.payload.body


if __name__ == "__main__":
    for found in run():
        print(found)
