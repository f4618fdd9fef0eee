"""Which process is on the other end of a Unix socket, as the kernel says.

Decides whether a connection is of the program that we started: its account, and that it descends from it.
INVARIANTS: the process is held (pidfd) while it is looked at, so that a number which was given to another process in
the meantime is refused; where the kernel does not say, the answer is no.
SPEC: unix(7) SO_PEERCRED, SO_PEERPIDFD (Linux 6.5); pidfd_open(2); proc_pid_stat(5).
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from citywatch.core.errors import Code, Refused

SO_PEERPIDFD: Final = 77
MAX_GENERATIONS: Final = 256
_CREDENTIALS: Final = struct.Struct("3i")


def check_peer(connection: socket.socket, uid: int, ancestor: int) -> int:
    """Return the number of the process on the other end: one of the account `uid`, below the process `ancestor`.

    1. the account is the program's · 2. the process that connected is held, and lives · 3. it descends from the one
    that we started · 4. it still lives: what was read in 3 is of this process and of none that came after it.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, theirs = (int(one) for one in _CREDENTIALS.unpack(raw)[:2])
    if theirs != uid:  # 1
        raise Refused(Code.CREDENTIAL_UNTRUSTED, f"a process of the user {theirs} asked for this program's papers")
    with _held(connection, pid) as is_alive:  # 2
        if not descends(pid, ancestor):  # 3
            raise Refused(Code.CREDENTIAL_UNTRUSTED, f"the process {pid} is not of this program")
        if not is_alive():  # 4
            raise Refused(Code.CREDENTIAL_UNTRUSTED, "the process that asked is gone")
    return pid


def descends(pid: int, ancestor: int) -> bool:
    """Whether the process is `ancestor` or below it."""
    for _ in range(MAX_GENERATIONS):
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
        pid = _parent(pid)
    return False


@contextmanager
def _held(connection: socket.socket, pid: int) -> Iterator[Callable[[], bool]]:
    descriptor = _pidfd(connection, pid)
    try:
        yield lambda: _lives(descriptor)
    finally:
        os.close(descriptor)


def _pidfd(connection: socket.socket, pid: int) -> int:
    """The process that connected. An older kernel has only its number, which may be another's by now: that one has to
    be of the same account and descend from the same program, and this is all that is known of it then."""
    try:
        descriptor = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            raise Refused(Code.CREDENTIAL_UNTRUSTED, "the process that asked is gone") from None
    return int(descriptor)


def _lives(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)  # readable once the process has ended
    return not poll.poll(0)


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])  # a program's name may hold anything, also `) `
