"""What the kernel sees of a call: the log reaches the disk before a payment leaves, and a look waits for no disk."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.gateway.desk import Desk, wait_for
from tests.fault.test_killed_gateway import ask

STRACE = shutil.which("strace")
CALLS = 5


def between(trace: str, marker: str, upstream: int) -> list[str] | None:
    """The lines from the arrival of a call with this marker to its departure to the server; None if it is not whole."""
    lines, there = trace.splitlines(), f"->127.0.0.1:{upstream}"
    arrived = next((n for n, line in enumerate(lines) if marker in line and there not in line), None)
    left = next((n for n, line in enumerate(lines) if marker in line and there in line), None)
    if arrived is None or left is None:
        return None
    assert arrived < left
    return lines[arrived:left]


def passage(trace: Path, marker: str, upstream: int) -> list[str]:
    wait_for(lambda: between(trace.read_text(errors="replace"), marker, upstream) is not None, "the trace of a call")
    return between(trace.read_text(errors="replace"), marker, upstream) or []


def synced(lines: list[str]) -> bool:
    """Whether a sync of the log's file, begun here, has ended here."""
    begun: set[str] = set()
    for line in lines:
        thread = line.split()[0]
        if "fdatasync(" in line and "-wal>" in line:
            if re.search(r"= 0$", line):
                return True
            begun.add(thread)
        elif "fdatasync resumed" in line and thread in begun and re.search(r"= 0$", line):
            return True
    return False


def test_a_payment_leaves_after_a_sync_of_the_log_and_a_look_waits_for_none(ready_desk: Desk) -> None:
    if STRACE is None:
        pytest.skip("strace is not installed (apt install strace)")
    desk = ready_desk
    token = desk.token()
    trace = desk.folder / "trace"
    # -D: the gateway stays our child, and strace is the one that is out of the way.
    watched = "trace=fdatasync,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg"
    options = ["-D", "-f", "-yy", "-s", "8192", "-e", watched, "-o", str(trace)]
    desk.up([STRACE, *options, sys.executable, "-m", "citywatch", "up"])
    found: dict[str, list[bool]] = {"pay": [], "look": []}
    for number in range(CALLS * 10):
        for tool, marker in (("pay", f"payee-{number}"), ("look", f"thing-{number}")):
            arguments = {"to": marker, "amount": 1} if tool == "pay" else {"what": marker}
            assert ask(desk, token, tool, arguments) is not None
            found[tool].append(synced(passage(trace, marker, desk.upstream_port)))
        if number >= CALLS - 1 and not all(found["look"]):
            break  # the publisher syncs now and then, on a slow machine during many of these
    assert set(found["pay"]) == {True}
    assert not all(found["look"]), "the publisher syncs now and then, but not for each of these"
