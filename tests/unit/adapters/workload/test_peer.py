"""Who is on the other end of the socket: the program that was started, and nobody else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from citywatch.adapters.workload import peer
from citywatch.adapters.workload.peer import check_peer, descends
from citywatch.core.errors import Refused

CALLER = """
import os, socket, sys
path, uid, way = sys.argv[1:]
if int(uid) != os.getuid():
    os.setuid(int(uid))
if way == "child" and os.fork():
    os.wait(); sys.exit()
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
if way == "gone":
    held = os.fork()
    if held:
        os._exit(0)
connection.recv(1)
"""


@contextmanager
def called(folder: Path, uid: int, way: str = "plain") -> Iterator[tuple[socket.socket, int]]:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o777)
        folder.chmod(0o755)
        process = subprocess.Popen([sys.executable, "-I", "-S", "-c", CALLER, str(path), str(uid), way])
        connection, _ = listener.accept()
        if way == "gone":
            process.wait()
        try:
            with connection:
                yield connection, process.pid
        finally:
            process.wait()


@pytest.fixture(params=[True, False], ids=["peerpidfd", "older-kernel"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(peer, "SO_PEERPIDFD", 0x7FFF)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("way", ["plain", "child"])
def test_the_program_and_what_it_starts_are_let_in(tmp_path: Path, way: str) -> None:
    with called(tmp_path, os.getuid(), way) as (connection, started):
        found = check_peer(connection, os.getuid(), started)
        assert (found == started) == (way == "plain")


@pytest.mark.usefixtures("kernel")
def test_a_process_that_the_program_did_not_start_is_refused(tmp_path: Path) -> None:
    waits = [sys.executable, "-I", "-S", "-c", "input()"]
    with (
        called(tmp_path, os.getuid()) as (connection, _),
        subprocess.Popen(waits, stdin=subprocess.PIPE) as other,
    ):
        with pytest.raises(Refused, match="is not of this program"):
            check_peer(connection, os.getuid(), other.pid)
        other.communicate(b"\n")


@pytest.mark.usefixtures("kernel")
def test_another_account_is_refused_whatever_it_descends_from(tmp_path: Path) -> None:
    with called(tmp_path, os.getuid()) as (connection, started), pytest.raises(Refused, match="a process of the user"):
        check_peer(connection, os.getuid() + 1, started)


@pytest.mark.usefixtures("kernel")
def test_a_process_that_is_gone_is_refused_though_its_connection_lives_on(tmp_path: Path) -> None:
    with called(tmp_path, os.getuid(), "gone") as (connection, _), pytest.raises(Refused):
        check_peer(connection, os.getuid(), os.getpid())


def test_a_number_that_was_given_to_another_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that connected has ended, and one of the same program has its number: only the handle tells."""
    with called(tmp_path, os.getuid(), "gone") as (connection, _):
        monkeypatch.setattr(peer, "descends", lambda pid, ancestor: True)
        with pytest.raises(Refused, match="the process that asked is gone"):
            check_peer(connection, os.getuid(), os.getpid())


def test_ancestry_ends_at_the_first_process() -> None:
    assert descends(os.getpid(), os.getppid())
    assert descends(os.getpid(), os.getpid())
    assert not descends(os.getppid(), os.getpid())
    assert not descends(1, os.getpid())
    assert not descends(2**22 + 1, os.getpid())
