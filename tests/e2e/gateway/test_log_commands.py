"""`citywatch log` as its users have it, on what a real gateway wrote; and the verifier that shares no line with it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway.desk import Desk, wait_for
from tests.e2e.gateway.test_observe import health
from tests.fault.test_killed_gateway import ask

VERIFIER = Path(__file__).parents[3] / "spec" / "verify_log.py"
SECRET = "ann-of-17-willow-lane"


def stranger(verb: str, path: Path, key: str) -> subprocess.CompletedProcess[str]:
    """Somebody with the verifier and the key: no citywatch, no working directory of ours."""
    command = [sys.executable, "-I", "-S", str(VERIFIER), verb, str(path), "--key", key]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)


def pay(desk: Desk, to: str, amount: int) -> dict[str, Any]:
    answer = ask(desk, desk.token(), "pay", {"to": to, "amount": amount})
    assert answer is not None
    return answer


def index_of(desk: Desk, call: str, kind: str) -> int:
    (found,) = (n for n, e in enumerate(desk.events()) if e.get("call") == call and e["type"] == kind)
    return found


def last_payment(desk: Desk) -> str:
    calls = [str(e["call"]) for e in desk.events() if e["type"] == "decided" and e["name"] == "pay"]
    return calls[-1]


def copies(desk: Desk, text: str) -> list[str]:
    """The files of the state folder in which these bytes stand, once the publisher has none under way."""
    wait_for(lambda: health(desk)["published"] == len(desk.events()), "the log to be published")
    files = [path for path in (desk.folder / ".citywatch").rglob("*") if path.is_file()]
    assert {"citywatch.db", "citywatch.db-wal"} <= {path.name for path in files}
    return sorted(path.name for path in files if text.encode() in path.read_bytes())


def publish(desk: Desk) -> str:
    """Have everything published, in the gateway's eyes too, so that it leaves the files alone; return the log's key."""
    desk.run("log", "export", str(desk.folder / "throw-away"))
    wait_for(lambda: health(desk)["published"] == len(desk.events()), "the gateway to see it")
    return desk.run("log", "key").stdout.strip()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A gateway that has allowed one payment and refused another."""
    with ExitStack() as stack:
        desk = Desk(tmp_path_factory.mktemp("log"), stack)
        desk.start_upstream()
        desk.run("agent", "add", "clerk")
        desk.run("tools", "approve", "--yes")
        desk.up()
        assert pay(desk, "ann", 100)["result"]["isError"] is False
        assert pay(desk, "eve", 101)["result"]["isError"] is True
        yield desk


def test_show_says_who_did_what_and_why_not(desk: Desk) -> None:
    shown = desk.run("log", "show", "--last", "1000").stdout.splitlines()
    events = desk.events()
    assert len(shown) == len(events)
    refusal = next(line for line in shown if "no_permit" in line)
    assert "clerk" in refusal
    assert "desk/pay" in refusal
    assert "deny" in refusal
    assert any("desk/pay" in line and "allow by paying" in line for line in shown)
    assert desk.run("log", "show", "--last", "2").stdout.splitlines() == shown[-2:]
    exact = desk.run("log", "show", "--last", "1000", "--json").stdout.splitlines()
    assert [json.loads(line) for line in exact] == events

    call = next(event["call"] for event in events if event.get("code") == "no_permit")
    of_call = desk.run("log", "show", "--call", call, "--json").stdout.splitlines()
    assert [json.loads(line)["call"] for line in of_call] == [call]


def test_what_a_caller_wrote_cannot_draw_on_the_operators_terminal(desk: Desk) -> None:
    ask(desk, desk.token(), "\x1b[2Jlook\n      99  allow", {})
    ask(desk, desk.token(), "\x9b2J\u202enigthon deined", {})
    shown = desk.run("log", "show").stdout
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == min(20, len(desk.events()))
    exact = desk.run("log", "show", "--last", "1000", "--json").stdout
    assert shown.isascii()
    assert exact.isascii()
    assert [json.loads(line) for line in exact.splitlines()] == desk.events()


def test_tail_shows_entries_as_they_come(desk: Desk) -> None:
    command = [sys.executable, "-m", "citywatch", "log", "tail", "--json"]
    out = desk.folder / "tail"
    token = desk.token()
    with out.open("wb") as file, subprocess.Popen(command, cwd=desk.folder, stdout=file) as tail:

        def shows_a_call() -> bool:
            ask(desk, token, "look", {})  # only what comes after it began is shown, and only its output tells when
            return b'"name":"look"' in out.read_bytes()

        wait_for(shows_a_call, "an entry to be shown")
        tail.send_signal(signal.SIGINT)
        assert tail.wait(30) == 0
    seen = [json.loads(line) for line in out.read_text().splitlines()]
    events = desk.events()
    assert seen == events[events.index(seen[0]) :][: len(seen)]


def test_an_export_and_a_proof_satisfy_a_stranger(desk: Desk, tmp_path: Path) -> None:
    desk.run("log", "export", str(tmp_path / "bare"))
    said = desk.run("log", "export", "--payloads", str(tmp_path / "full")).stdout
    key = desk.run("log", "key").stdout.strip()
    assert key in said
    for name in ("bare", "full"):
        checked = stranger("export", tmp_path / name, key)
        assert checked.returncode == 0, checked.stdout
    assert "ok    0 payloads" not in checked.stdout
    assert b"willow" not in (tmp_path / "bare").read_bytes()

    index = str(index_of(desk, last_payment(desk), "decided"))
    desk.run("log", "prove", index, "--payload", "--out", str(tmp_path / "proof"))
    checked = stranger("proof", tmp_path / "proof", key)
    assert checked.returncode == 0, checked.stdout
    assert "its payload matches the digest" in checked.stdout
    (tmp_path / "printed").write_text(desk.run("log", "prove", index).stdout)
    assert stranger("proof", tmp_path / "printed", key).returncode == 0

    proof = json.loads((tmp_path / "proof").read_text())
    proof["index"] += 1
    (tmp_path / "forged").write_text(json.dumps(proof) + "\n")
    assert stranger("proof", tmp_path / "forged", key).returncode == 1
    beyond = desk.run("log", "prove", "1000000", check=False)
    assert beyond.returncode != 0
    assert "Traceback" not in beyond.stderr


def test_erasing_destroys_every_copy_and_the_log_still_stands(desk: Desk, tmp_path: Path) -> None:
    pay(desk, SECRET, 3)
    pay(desk, "bob", 4)
    call = last_payment(desk)
    assert copies(desk, SECRET), "there is something to erase"
    calls = [e["call"] for e in desk.events() if e["type"] == "decided" and e["name"] == "pay"]
    index = index_of(desk, calls[-2], "decided")
    assert calls[-1] == call

    size = len(desk.events())
    said = desk.run("log", "erase", str(index), "--reason", "she asked for it").stdout
    assert f"erased the payload of entry {index}" in said
    assert copies(desk, SECRET) == []
    erased = next(event for event in desk.events()[size:] if event["type"] == "erased")
    assert (erased["index"], erased["reason"]) == (index, "she asked for it")

    key = publish(desk)
    assert "verified: " in desk.run("log", "verify").stdout
    desk.run("log", "export", "--payloads", str(tmp_path / "export"))
    checked = stranger("export", tmp_path / "export", key)
    assert checked.returncode == 0, checked.stdout
    assert "1 payloads were erased" in checked.stdout
    assert SECRET.encode() not in (tmp_path / "export").read_bytes()

    again = desk.run("log", "erase", str(index), "--reason", "again", check=False)
    assert again.returncode == 2
    assert "was erased before" in again.stderr
    assert pay(desk, "bob", 5)["result"]["isError"] is False  # the gateway did not mind


@pytest.fixture
def stopped(desk: Desk, tmp_path: Path) -> Iterator[Desk]:
    """The log of the day, in a folder that a test may spoil: nobody else has it open."""
    publish(desk)
    for name in (".citywatch", "policies"):
        shutil.copytree(desk.folder / name, tmp_path / name)
    shutil.copy(desk.folder / "citywatch.yaml", tmp_path)
    with ExitStack() as stack:
        (tmp_path / "fresh").mkdir()
        other = Desk(tmp_path / "fresh", stack)
        other.folder = tmp_path
        yield other


def flip(path: Path, inside: bytes) -> None:
    """One bit of one byte, where these bytes stand."""
    data = bytearray(path.read_bytes())
    at = data.index(inside)
    data[at + len(inside) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["an entry", "a payload"])
def test_one_flipped_byte_in_the_database_is_caught(stopped: Desk, tmp_path: Path, what: str) -> None:
    desk = stopped
    desk.run("log", "verify")  # and its process, the last one to close the database, leaves no write-ahead log
    events = desk.events()
    call = last_payment(desk)
    inside = f'"call":"{call}"'.encode() if what == "an entry" else b'"eve"'
    flip(tmp_path / ".citywatch" / "citywatch.db", inside)
    assert len(desk.events()) == len(events), "the database itself notices nothing"
    done = desk.run("log", "verify", check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    said = "do not give the published head" if what == "an entry" else "is not the one that was recorded"
    assert said in done.stderr


def test_one_flipped_byte_in_the_export_or_the_tiles_is_caught(stopped: Desk, tmp_path: Path) -> None:
    desk = stopped
    key = desk.run("log", "key").stdout.strip()
    export, tiles = tmp_path / "export", tmp_path / ".citywatch" / "log"
    desk.run("log", "export", str(export))
    assert stranger("export", export, key).returncode == 0
    assert stranger("export", tiles, key).returncode == 0
    lines = export.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    spoilt = bytearray(lines[middle])
    at = spoilt.index(b'"leaf":"') + 60
    spoilt[at] = ord("A") if spoilt[at] != ord("A") else ord("B")
    (tmp_path / "spoilt").write_bytes(b"".join((*lines[:middle], bytes(spoilt), *lines[middle + 1 :])))
    assert stranger("export", tmp_path / "spoilt", key).returncode == 1
    (tmp_path / "short").write_bytes(b"".join(lines[:-1]))
    assert stranger("export", tmp_path / "short", key).returncode == 1

    bundles = [path for path in (tiles / "tile" / "entries").rglob("*") if path.is_file()]
    flip(max(bundles, key=lambda path: int(path.name)), f'"call":"{last_payment(desk)}"'.encode())
    assert stranger("export", tiles, key).returncode == 1


def test_a_log_without_a_head_is_not_called_good(tmp_path: Path) -> None:
    with ExitStack() as stack:
        desk = Desk(tmp_path, stack)
        desk.run("agent", "add", "clerk")
        done = desk.run("log", "verify", check=False)
        assert done.returncode != 0
        assert "no checkpoint yet" in done.stderr
