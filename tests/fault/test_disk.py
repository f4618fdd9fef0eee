"""The disk fills, is locked, read-only or damaged: the gateway says so, forwards nothing unrecorded, and comes back."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.e2e.gateway.desk import Desk, wait_for
from tests.fault.test_killed_gateway import ask

FULL = 1024  # no file may be written beyond so many bytes: not even the first page of a write-ahead log
STATE = ".citywatch"

# Root passes over a file's mode. Without that power (it cannot be had back) root is an ordinary owner of its files.
POWERLESS = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "citywatch", *sys.argv[1:]])
"""
HOLDER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def powerless(*arguments: str) -> list[str]:
    return [sys.executable, "-c", POWERLESS, *arguments]


@contextmanager
def full_disk(process: forked.Running, but_for: Path | None = None) -> Iterator[None]:
    """No room on the disk, or (where the operator's terminal is a file of ours) just enough for that file."""
    _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    room = FULL if but_for is None else but_for.stat().st_size + FULL
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, most))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))


def pay(desk: Desk, token: str, amount: int) -> dict[str, Any]:
    answer = ask(desk, token, "pay", {"to": "ann", "amount": amount})
    assert answer is not None, "the gateway did not answer"
    return answer


def assert_paid(answer: dict[str, Any]) -> None:
    assert answer["result"]["content"][0]["text"] == "paid", answer


def assert_refused(answer: dict[str, Any]) -> None:
    assert answer["error"]["data"]["code"] == "store_unavailable", answer
    assert "cannot record calls and so refuses them" in answer["error"]["message"]


def health(desk: Desk) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{desk.port}/citywatch/health", timeout=30) as response:
        found: dict[str, Any] = json.load(response)
        return found


def entries_of(desk: Desk, kind: str) -> list[dict[str, Any]]:
    return [event for event in desk.events() if event["type"] == kind]


def start_fails(desk: Desk, command: list[str], exit_code: int) -> str:
    """Run `up`, which must end by itself and say why in words."""
    done = subprocess.run(command, cwd=desk.folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == exit_code, f"{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("citywatch: "), done.stderr
    return done.stderr


UP = [sys.executable, "-m", "citywatch", "up"]


# ---- no space --------------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_every_call_and_service_returns_with_space(ready_desk: Desk) -> None:
    desk = ready_desk
    process = desk.up()
    token = desk.token()
    assert_paid(pay(desk, token, 1))
    before = desk.events()
    with full_disk(process):
        for amount in range(2, 5):
            assert_refused(pay(desk, token, amount))
        looked = ask(desk, token, "look", {})
        assert looked is not None
        assert_refused(looked)
        assert desk.ledger() == ["ann 1"], "something was forwarded that could not be recorded"
        assert desk.events() == before
        desk.token()  # an entry by a process that has space: now there is something to publish
        wait_for(lambda: health(desk)["status"] != "ok", "the gateway to say that it cannot publish")
        desk.run("log", "verify")
    assert_paid(pay(desk, token, 5))
    assert desk.ledger() == ["ann 1", "ann 5"]
    wait_for(lambda: health(desk)["published"] == len(desk.events()), "the log to be published again")
    assert health(desk)["status"] == "ok"
    desk.run("log", "verify")


def test_the_operator_is_told_once_that_it_begins_and_once_that_it_is_over(ready_desk: Desk) -> None:
    desk = ready_desk
    before = len(said(desk))
    process = desk.up()
    token = desk.token()
    assert_paid(pay(desk, token, 1))
    with full_disk(process, but_for=desk.folder / "up.log"):
        for amount in range(2, 12):
            assert_refused(pay(desk, token, amount))
        wait_for(lambda: len(said(desk)) > before, "the operator to be told")
    wait_for(lambda: "calls are recorded again" in said(desk)[-1], "the operator to be told that it is over")
    (begins, ends) = (line for line in said(desk)[before:] if "calls are" in line)
    assert begins.startswith("citywatch: calls are refused, because they cannot be recorded: the log's database")
    assert ends.startswith("citywatch: calls are recorded again")
    assert_paid(pay(desk, token, 12))


def said(desk: Desk) -> list[str]:
    """What gateways of this desk said to their operators while they ran."""
    path = desk.folder / "up.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.startswith("citywatch: ")]


def test_a_reply_that_cannot_be_recorded_is_not_released(ready_desk: Desk) -> None:
    desk = ready_desk
    process = desk.up()
    token = desk.token()
    answers: list[dict[str, Any] | None] = []
    call = threading.Thread(target=lambda: answers.append(ask(desk, token, "nap", {"seconds": 60})))
    call.start()
    wait_for(lambda: (desk.folder / "napping").exists(), "the server to begin")
    with full_disk(process):
        (desk.folder / "wake").touch()
        call.join()
    (answer,) = answers
    assert answer is not None
    assert "awake" not in json.dumps(answer)
    assert answer["error"]["data"]["code"] == "store_unavailable"
    (decided,) = (one for one in entries_of(desk, "decided") if one["name"] == "nap")
    assert decided["call"] not in {one["call"] for one in entries_of(desk, "settled")}

    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    desk.up()
    assert [one["call"] for one in entries_of(desk, "lost")] == [decided["call"]]
    again = ask(desk, token, "nap", {"seconds": 60})
    assert again is not None
    assert again["result"]["_meta"]["citywatch/code"] == "outcome_unknown"
    desk.run("log", "verify")


# ---- no lock, no right to write --------------------------------------------------------------------------------------


def test_a_database_that_another_process_holds_refuses_in_bounded_time_and_service_returns(ready_desk: Desk) -> None:
    desk = ready_desk
    desk.up()
    token = desk.token()
    database = str(desk.folder / STATE / "citywatch.db")
    command = [sys.executable, "-c", HOLDER, database]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert_refused(pay(desk, token, 1))
        assert desk.ledger() == []
        holder.stdin.close()
        assert holder.wait(30) == 0
    assert_paid(pay(desk, token, 2))
    assert desk.ledger() == ["ann 2"]
    desk.run("log", "verify")


def test_a_read_only_database_does_not_start(ready_desk: Desk) -> None:
    desk = ready_desk
    database = desk.folder / STATE / "citywatch.db"
    database.chmod(0o400)
    said = start_fails(desk, powerless("up"), 1)
    assert "store_unavailable" in said
    assert "read-only" in said or "permission denied" in said
    assert str(database.name) in said
    for file in database.parent.glob("citywatch.db*"):  # SQLite gave its own two the database's mode
        file.chmod(0o600)
    desk.up(powerless("up"))
    assert_paid(pay(desk, desk.token(), 1))


def test_unwritable_tiles_hold_back_publishing_and_no_call_and_publishing_returns(ready_desk: Desk) -> None:
    """The book is kept all the same: what was decided is committed, only the head that strangers see stands still."""
    desk = ready_desk
    desk.up(powerless("up"))
    token = desk.token()
    wait_for(lambda: health(desk)["published"] == len(desk.events()), "the log to be published")
    published = health(desk)["published"]
    folders = [Path(path) for path, _, _ in os.walk(desk.folder / STATE / "log")]
    for folder in folders:
        folder.chmod(0o500)
    try:
        assert_paid(pay(desk, token, 1))
        wait_for(lambda: health(desk)["status"] != "ok", "the gateway to say that it cannot publish")
        assert health(desk)["published"] == published
        verified = desk.run("log", "verify").stdout
        assert "are not published yet" in verified

        desk.down()
        desk.up(powerless("up"))
        assert "not published up to now: the log's files: permission denied" in (desk.folder / "up.log").read_text()
        assert_paid(pay(desk, token, 2))
    finally:
        for folder in folders:
            folder.chmod(0o700)
    wait_for(lambda: health(desk)["published"] == len(desk.events()), "the log to be published again")
    assert desk.ledger() == ["ann 1", "ann 2"]
    desk.run("log", "verify")


# ---- damaged, or open to others --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "damage", "says"),
    [
        (0, b"not a database at all, but something else", "is not a database"),
        (100, b"\xff" * 4000, "is damaged"),
        (68, b"\x00\x00\x00\x07", "is a database of another program"),
        (60, b"\x00\x00\x00\x63", "upgrade citywatch"),
    ],
    ids=["text", "scribbled", "another program's", "a later schema"],
)
def test_a_damaged_database_does_not_start(ready_desk: Desk, offset: int, damage: bytes, says: str) -> None:
    desk = ready_desk
    with (desk.folder / STATE / "citywatch.db").open("r+b") as file:
        file.seek(offset)
        file.write(damage)
    said = start_fails(desk, UP, 1)
    assert says in said
    assert "citywatch.db" in said


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o702])
def test_a_state_folder_that_is_open_to_others_does_not_start(ready_desk: Desk, mode: int) -> None:
    state = ready_desk.folder / STATE
    state.chmod(mode)
    said = start_fails(ready_desk, UP, 2)
    assert f"run `chmod 700 {state}`" in said
    state.chmod(0o700)


def test_a_key_that_others_can_read_does_not_start(ready_desk: Desk) -> None:
    ready_desk.run("log", "key")
    key = ready_desk.folder / STATE / "keys" / "log.pem"
    key.chmod(0o644)
    assert "log.pem` is open to others" in start_fails(ready_desk, UP, 2)


def test_a_file_where_the_tiles_should_be_does_not_start(ready_desk: Desk) -> None:
    tiles = ready_desk.folder / STATE / "log"
    for path, folders, files in os.walk(tiles, topdown=False):
        for name in files:
            Path(path, name).unlink()
        for name in folders:
            Path(path, name).rmdir()
    tiles.rmdir()
    tiles.touch()
    assert f"{tiles}" in start_fails(ready_desk, UP, 1)
