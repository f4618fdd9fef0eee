"""Real processes on one store: killed at any moment, racing, revoking. What was acknowledged holds for all of them."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from citywatch.adapters.sqlite import open_store
from citywatch.service.ports import Append, Appended, NewEntry

CHILD = Path(__file__).with_name("store_child.py")
ROUNDS = 10_000


@contextmanager
def child(role: str, database: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, CHILD, role, database, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the child ended early with {process.wait()}"
    return line.strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")


def check_integrity(database: Path) -> None:
    connection = sqlite3.connect(database)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_a_kill_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    database = tmp_path / "log.db"
    chance = random.Random(7)
    acknowledged: dict[int, tuple[int, int]] = {}
    newest: dict[tuple[int, int], int] = {}
    for killing in range(12):
        with child("scribble", database, str(killing)) as process:
            for _ in range(chance.randrange(1, 900)):
                index, worker, n = map(int, line_of(process).split())
                acknowledged[index] = (worker, n)
                newest[killing, worker] = n
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            for line in process.stdout.read().splitlines():  # acknowledged before the signal arrived
                index, worker, n = map(int, line.split())
                acknowledged[index] = (worker, n)
                newest[killing, worker] = n
        store = open_store(database)
        leaves = await store.entries(0, 10**9)
        assert len(leaves) > max(acknowledged)
        for index, (worker, n) in acknowledged.items():
            assert leaves[index] == b"leaf %d:%d" % (worker, n)
        payload = await store.payload(max(acknowledged))
        assert payload is not None
        assert payload.salt == b"salt %d:%d" % acknowledged[max(acknowledged)]
        rows = dict(await store.scan("scribble"))
        for (life, worker), n in newest.items():
            assert int(rows[f"{life}/{worker}"].value) >= n, "an entry and its row are in one transaction"
        assert await store.append(Append(entries=(NewEntry(b"after"),))) == Appended(len(leaves))
        await store.close()
    assert len(acknowledged) > 1_000
    check_integrity(database)


async def test_two_processes_race_and_no_budget_is_spent_twice_and_no_revoked_agent_acts(tmp_path: Path) -> None:
    database, chunk = tmp_path / "log.db", 200
    won: dict[int, list[str]] = {number: [] for number in range(ROUNDS)}
    arguments = (str(ROUNDS), str(chunk))
    with child("race", database, "left", *arguments) as left, child("race", database, "right", *arguments) as right:
        for first in range(0, ROUNDS, chunk):
            assert [line_of(left), line_of(right)] == ["ready", "ready"]
            # Who is told first has a start, on a machine with little time a long one: each has it now and then.
            for process in (left, right) if first // chunk % 4 < 2 else (right, left):
                go(process)
            for name, process in (("left", left), ("right", right)):
                told = dict(pair.split("=") for pair in line_of(process).split())
                assert len(told) == chunk
                for number, outcome in told.items():
                    lost = "Exhausted" if int(number) % 2 else "Stale" if name == "right" else "Appended"
                    assert outcome in ("Appended", lost)
                    if outcome == "Appended":
                        won[int(number)].append(name)
        assert (left.wait(), right.wait()) == (0, 0)
    budgets, revocations = ({n: won[n] for n in range(first, ROUNDS, 2)} for first in (1, 0))
    assert all(len(winners) == 1 for winners in budgets.values())
    assert {name for winners in budgets.values() for name in winners} == {"left", "right"}
    acted = {number for number, winners in revocations.items() if "right" in winners}
    assert 0 < len(acted) < len(revocations), "it came too late now and then, and not always"
    store = open_store(database)
    leaves = await store.entries(0, 10**9)
    assert sorted(leaves) == sorted(f"{name} {number}".encode() for number, names in won.items() for name in names)
    at = {leaf: index for index, leaf in enumerate(leaves)}
    for each in acted:
        assert at[b"right %d" % each] < at[b"left %d" % each], "nobody acted once it was revoked"
    assert {name: row.value.decode() for name, row in await store.scan("round")} == {
        str(number): "acted" if number in acted else winners[0]
        for number, winners in won.items()
        if number in budgets or number in acted
    }
    assert (await store.load([], [("all", 0)])).used == {"all": ROUNDS // 2}
    await store.close()
    check_integrity(database)


async def test_a_revocation_by_another_process_is_seen_by_the_next_append(tmp_path: Path) -> None:
    database = tmp_path / "log.db"
    store = open_store(database)
    for life in range(8):
        name = f"agent{life}"
        await store.append(Append(puts=((("agent", name), b"active"),)))
        with child("act", database, name) as process:
            acted = [int(line_of(process).split()[1]) for _ in range(3 + 7 * life)]
            revoked = await store.append(
                Append(puts=((("agent", name), b"revoked"),), entries=(NewEntry(b"revoked"),), sync=True)
            )
            assert isinstance(revoked, Appended)
            while (line := line_of(process)).startswith("acted"):
                acted.append(int(line.split()[1]))
            assert line == "stale revoked"
            assert process.wait() == 0
        assert max(acted) < revoked.first, "nothing was appended under the row after it was revoked"
    await store.close()


async def test_a_store_closed_here_leaves_the_locks_of_another_open_one(tmp_path: Path) -> None:
    """POSIX drops all locks of a process on a file when it closes any descriptor of that file."""
    database = tmp_path / "log.db"
    kept, closed = open_store(database), open_store(database)
    await kept.append(Append(entries=(NewEntry(b"a"),)))
    await closed.append(Append(entries=(NewEntry(b"b"),)))
    await closed.close()
    with child("leave-wal-mode", database) as process:
        assert line_of(process) == "kept database is locked"
    with child("count", database) as process:
        assert line_of(process) == "count 2"
    await kept.close()
    with child("leave-wal-mode", database) as process:
        assert line_of(process) == "left delete", "the control: with nobody left it may"
