"""`citywatch stop` and `quarantine` killed between any two steps: said again they finish, and nothing is half.

A stop is there with its entry or not at all. A quarantine that died has refused the agent first; said again, it leaves
what one leaves that nobody killed.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.e2e.gateway.desk import DEADLINE_S, Desk
from tests.fault.test_killed_flow import FLOWING
from tests.fault.test_killed_gateway import ask

CHILD = Path(__file__).with_name("doomed_command.py")
MOMENTS = [(when, number) for number in (1, 2) for when in ("before", "after")]


def killed(desk: Desk, when: str, number: int, *arguments: str) -> bool:
    """Run a command that dies at that moment; whether it came so far."""
    command = [sys.executable, str(CHILD), when, str(number), *arguments]
    done = forked.run(command, cwd=desk.folder, timeout=DEADLINE_S)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def agent_row(desk: Desk) -> dict[str, Any]:
    with closing(sqlite3.connect(desk.folder / ".citywatch" / "citywatch.db")) as database:
        ((value,),) = database.execute("SELECT value FROM row WHERE kind = 'agent' AND id = 'clerk'").fetchall()
    found: dict[str, Any] = json.loads(value)
    return found


def everything_is_stopped(desk: Desk) -> bool:
    with closing(sqlite3.connect(desk.folder / ".citywatch" / "citywatch.db")) as database:
        return bool(database.execute("SELECT count(*) FROM row WHERE kind = 'halt'").fetchone()[0])


def told(desk: Desk, *kinds: str) -> list[str]:
    return [event["type"] for event in desk.events() if event["type"] in kinds]


@pytest.mark.parametrize("what", [("clerk",), ("--all",)])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stop_is_whole_or_not_there_and_so_is_its_end(ready_desk: Desk, what: tuple[str, ...], when: str) -> None:
    desk = ready_desk

    def stopped() -> bool:
        return everything_is_stopped(desk) if what == ("--all",) else bool(agent_row(desk).get("halted"))

    stop = ("stop", *what, "--reason", "fire")
    assert killed(desk, when, 1, *stop)
    assert stopped() is (when == "after")
    assert told(desk, "halted") == ["halted"] * (when == "after"), "its row and its entry are one"
    desk.run(*stop)
    assert stopped()
    assert told(desk, "halted") == ["halted"], "said again it is the same stop"

    assert killed(desk, when, 1, *stop, "--resume")
    assert stopped() is (when == "before")
    desk.run(*stop, "--resume")
    assert not stopped()
    assert told(desk, "halted", "resumed") == ["halted", "resumed"]


@pytest.fixture
def worked(ready_desk: Desk) -> Iterator[Desk]:
    """The clerk has read something, made parties known and written by it; its gateway is down."""
    file = ready_desk.folder / "citywatch.yaml"
    plain = file.read_text()
    looks = 'look: {effect: read, output: {"$": {label: untrusted, party: places}}}'
    naps = "nap: {effect: write, parameters: {seconds: {role: content}}}"
    file.write_text(plain.replace("look: {effect: read}", looks).replace("nap: {effect: write}", naps) + FLOWING)
    desk = ready_desk
    desk.run("task", "start", "clerk", "--as", "alice", "Look around, then nap for 0 seconds")
    desk.up()
    token = desk.token()
    for tool, arguments in (("look", {}), ("nap", {"seconds": 0})):
        reply = ask(desk, token, tool, arguments)
        assert reply is not None
        assert not reply["result"].get("isError"), reply
    desk.down()
    yield desk
    file.write_text(plain)


def frozen(desk: Desk) -> dict[tuple[str, str], Any]:
    """What is left of contexts, parties and objects; not where items lie, which has a version in its name."""
    with closing(sqlite3.connect(desk.folder / ".citywatch" / "citywatch.db")) as database:
        found = database.execute(
            "SELECT kind, id, value FROM row WHERE kind IN ('context', 'party', 'written')"
        ).fetchall()
    rows = {(kind, row): json.loads(value) for kind, row, value in found}
    for value in rows.values():
        value.pop("home", None)
    return rows


def test_a_quarantine_that_died_is_finished_by_saying_it_again(worked: Desk) -> None:
    lay = ("quarantine", "clerk", "--reason", "it lies")
    state, kept = worked.folder / ".citywatch", worked.folder / "kept"
    before = frozen(worked)
    assert {kind for kind, _ in before} == {"context", "party", "written"}
    subprocess.run(["cp", "-a", str(state), str(kept)], check=True)
    worked.run(*lay)
    wanted = frozen(worked)
    assert wanted != before
    assert not [row for kind, row in wanted if kind == "party"]

    reached = []
    for when, number in MOMENTS:
        subprocess.run(["rm", "-rf", str(state)], check=True)
        subprocess.run(["cp", "-a", str(kept), str(state)], check=True)
        reached.append(killed(worked, when, number, *lay))
        refused = number > 1 or when == "after"
        assert bool(agent_row(worked).get("quarantined")) is refused, (
            "the agent is refused before anything is looked for"
        )
        assert told(worked, "quarantined") == ["quarantined"] * refused
        worked.run(*lay)
        assert frozen(worked) == wanted, (when, number)
        assert told(worked, "quarantined") == ["quarantined"]
        worked.run(*lay)
        assert told(worked, "frozen") == ["frozen"], "and what is finished is not begun again"
    assert all(reached), "each moment is one that there is"
    subprocess.run(["rm", "-rf", str(kept)], check=True)
