"""What the store's fault tests run as a process of its own: `python store_child.py ROLE DATABASE ARGUMENT...`.

Each line on standard output is one fact, written and flushed before the next act; lines on standard input let it go on.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from citywatch.adapters.sqlite import SqliteStore, checkpoint, open_store
from citywatch.adapters.sqlite import store as store_module
from citywatch.core.errors import Unavailable
from citywatch.service.ports import Append, Appended, Exhausted, NewEntry, Payload, Spend, Stale

CAPABILITY_DAC_OVERRIDE = 1
PR_CAPBSET_DROP = 24


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def await_go() -> str:
    return sys.stdin.readline().strip()


def note(worker: int, n: int) -> NewEntry:
    """An entry that tells who wrote it, with a payload that belongs to no other."""
    text = b"%d:%d" % (worker, n)
    return NewEntry(b"leaf " + text, Payload(b"salt " + text, b"body " + text * 40))


async def scribble(store: SqliteStore, seed: str) -> None:
    """Append for ever from eight workers, saying each append once it is acknowledged. To be killed."""
    vars(store_module).update(CHECKPOINT_BYTES=1 << 16)  # so that kills fall into checkpoints too
    vars(checkpoint).update(MAX_FRAMES=64)

    async def worker(number: int) -> None:
        n = 0
        while True:
            sync = (number + n) % 2 == 0
            key = ("scribble", f"{seed}/{number}")
            done = await store.append(Append(entries=(note(number, n),), puts=((key, b"%d" % n),), sync=sync))
            assert isinstance(done, Appended)
            say(f"{done.first} {number} {n}")
            n += 1

    await asyncio.gather(*(worker(number) for number in range(8)))


async def race(store: SqliteStore, name: str, rounds: str, chunk: str) -> None:
    """Race in every round, in odd ones for a budget, in even ones about an agent: left revokes it, right acts as it.

    Chunk by chunk, say each round's outcome.
    """
    size = int(chunk)

    async def attempt(number: int) -> tuple[int, str]:
        row, agent, total = ("round", str(number)), ("agent", str(number)), Spend("all", 0, int(rounds))
        if number % 2:
            mine = Append(
                entries=(NewEntry(f"{name} {number}".encode()),),
                spends=(total, Spend(f"round {number}", 0, 1)),
                puts=((row, name.encode()),),
            )
        else:
            # Both have read the row as it was before the revocation. Who acts changes nothing of it.
            mine = Append(
                entries=(NewEntry(f"{name} {number}".encode()),),
                reads=((agent, 0),),
                puts=((agent, b"revoked"),) if name == "left" else ((row, b"acted"),),
            )
        result = await store.append(mine)
        assert isinstance(result, Appended | Stale | Exhausted)
        return number, type(result).__name__

    for first in range(0, int(rounds), size):
        say("ready")
        await_go()
        numbers = range(first, first + size)
        # The two come from both ends and meet in the middle, so that both win and both lose.
        ordered = numbers if (first // size % 2 == 0) == (name == "left") else reversed(numbers)
        pending = list(ordered)
        told: list[tuple[int, str]] = []
        while pending:
            told += await asyncio.gather(*(attempt(number) for number in pending[:8]))
            del pending[:8]
        say(" ".join(f"{number}={outcome}" for number, outcome in told))


async def act_until_revoked(store: SqliteStore, name: str) -> None:
    """Append under an agent's row as it was at the start, until the store says that it changed."""
    loaded = await store.load([("agent", name)], [])
    seen = loaded.rows["agent", name].version
    n = 0
    while True:
        done = await store.append(Append(entries=(note(0, n),), reads=((("agent", name), seen),), sync=n % 16 == 0))
        if isinstance(done, Stale):
            break
        assert isinstance(done, Appended)
        say(f"acted {done.first}")
        n += 1
    again = await store.load([("agent", name)], [])
    say(f"stale {again.rows['agent', name].value.decode()}")


async def outgrow(store: SqliteStore) -> None:
    """Fill the disk (a file-size limit stands for it), be refused, get space again, go on."""
    await store.append(Append(entries=(note(0, 0),), puts=((("row", "a"), b"before"),), sync=True))
    wal = Path(sys.argv[2] + "-wal").stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 4096, hard))
    big = NewEntry(b"big", Payload(b"s", bytes(100_000)))
    results = await asyncio.gather(
        *(store.append(Append(entries=(big,), puts=((("row", "a"), b"half"),))) for _ in range(5)),
        return_exceptions=True,
    )
    for result in results:
        assert isinstance(result, Unavailable), result
        say(f"refused {result.code} {result}")
    rows = (await store.load([("row", "a")], [])).rows
    say(f"left {len(await store.entries(0, 99))} {rows['row', 'a'].value.decode()}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    say(f"returned {await store.append(Append(entries=(big,), sync=True))}")


async def count(store: SqliteStore) -> None:
    say(f"count {await store.sync()}")


def powerless(database: str) -> None:
    """Open a database that this user may not write, with root's power to write it anyhow given up."""
    if sys.argv[3:] != ["now"]:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAPABILITY_DAC_OVERRIDE, 0, 0, 0)  # refused to who never had it
        os.execv(sys.executable, [sys.executable, __file__, "powerless", database, "now"])
    try:
        open_store(Path(database))
    except Unavailable as refusal:
        say(f"refused {refusal.code} {refusal}")


def leave_wal_mode(database: str) -> None:
    """What only the sole user of a database can do."""
    connection = sqlite3.connect(database, timeout=0.1)
    try:
        say(f"left {connection.execute('PRAGMA journal_mode=DELETE').fetchone()[0]}")
    except sqlite3.OperationalError as error:
        say(f"kept {error}")
    connection.close()


ROLES: dict[str, Callable[..., Awaitable[None]]] = {
    "scribble": scribble,
    "race": race,
    "act": act_until_revoked,
    "outgrow": outgrow,
    "count": count,
}


async def main(role: str, database: str, *arguments: str) -> None:
    store = open_store(Path(database))
    await ROLES[role](store, *arguments)
    await store.close()


if __name__ == "__main__":
    if sys.argv[1] == "powerless":
        powerless(sys.argv[2])
    elif sys.argv[1] == "leave-wal-mode":
        leave_wal_mode(sys.argv[2])
    else:
        asyncio.run(main(*sys.argv[1:]))
