"""Starting a program that may be hostile: as another user, with nothing of ours in its hands.

Decides whether a program may be started at all. INVARIANTS: it runs under another account than ours, never root, unless
the operator wrote `unsafe_same_user`; it gets the configured environment and no more, no descriptor but its three
pipes, bounds on what it uses, a session and a process group of its own; what is private to us is closed to its account
when it starts.
Not decided: what that account may reach elsewhere on the machine or the network; that is the operator's.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from citywatch.adapters.upstream.settings import StdioServer
from citywatch.core.errors import Code, Malformed, Unavailable


class Account(msgspec.Struct, frozen=True):
    """The user and group ids that a program gets."""

    uid: int
    gid: int


def account_of(server: StdioServer, our_uid: int) -> Account | None:
    """Under which account the program runs; None for our own, if the operator accepted that. Raises `Unavailable`."""
    if server.user is None:
        if not server.unsafe_same_user:
            raise _cannot(server, "it names no `user` and `unsafe_same_user` is not set")
        return None
    if server.unsafe_same_user:
        raise _cannot(server, "it names a `user` and sets `unsafe_same_user`")
    try:
        entry = pwd.getpwuid(int(server.user)) if server.user.isdigit() else pwd.getpwnam(server.user)
    except (KeyError, OverflowError):
        raise _cannot(server, f"there is no user `{server.user}`") from None
    if entry.pw_uid == 0 or entry.pw_gid == 0:
        raise _cannot(server, f"`{server.user}` is root or of root's group, which is no sandbox")
    if entry.pw_uid == our_uid:
        raise _cannot(server, f"`{server.user}` is the gateway's own user, which is no sandbox")
    if our_uid != 0:
        raise _cannot(server, f"only root can start a program as `{server.user}`")
    return Account(entry.pw_uid, entry.pw_gid)


def check_apart(servers: Iterable[StdioServer]) -> None:
    """Raise `Malformed` if two servers' programs would get one account, under whatever names.

    The kernel keeps users apart, not the programs of one user: they read each other's environment and take each other's
    pipes.
    """
    first: dict[int, str] = {}
    for server in servers:
        try:
            account = account_of(server, 0)
        except Unavailable:
            continue  # it will not start
        if account is not None and (other := first.setdefault(account.uid, server.name)) != server.name:
            raise Malformed(f"the programs of `{other}` and `{server.name}` have one user: give each one of its own")


def check_private(server: StdioServer, account: Account | None) -> None:
    """Raise `Unavailable` unless each of our private paths is closed to the program's account."""
    if account is None:
        return
    for path in server.private:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        except OSError as failure:
            raise _cannot(server, f"`{path}` cannot be checked: {type(failure).__name__}") from None
        # Stricter than need be: a closed directory above would do as well, but it can be opened later on.
        if status.st_uid == account.uid or stat.S_IMODE(status.st_mode) & 0o077:
            raise _cannot(server, f"`{path}` is open to other users; make it `chmod go-rwx`")


def start(server: StdioServer) -> subprocess.Popen[bytes]:
    """Start the program; return once it runs. Blocks for some ten milliseconds: call it in a thread.

    `launch.py` gives up rights in a process of its own: code of ours between fork and exec is unsafe where there are
    threads, and limits set from outside come late and need rights that a container may not have.
    """
    account = account_of(server, os.geteuid())
    check_private(server, account)
    if not Path(server.cwd).is_absolute():
        raise _cannot(server, "its `cwd` is not an absolute path")
    # A name with a slash is found from the program's own directory, as a shell in that directory would.
    name = server.command[0]
    program = shutil.which(
        str(Path(server.cwd, name)) if os.sep in name else name, path=server.env.get("PATH", os.defpath)
    )
    if program is None:
        raise _cannot(server, f"there is no program `{name}`")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            process = subprocess.Popen(  # noqa: S603  # our own script
                (sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py")), str(theirs.fileno())),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                close_fds=True,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                env={},
                start_new_session=True,
            )
        except OSError as failure:
            raise _cannot(server, f"it does not start: {type(failure).__name__}") from None
        theirs.close()
        complaint = _order(ours, program, server, account)
    if complaint:
        stop(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()
        raise _cannot(server, f"it does not start: {complaint}")
    return process


def _order(channel: socket.socket, program: str, server: StdioServer, account: Account | None) -> str:
    """Say what to run; return what went wrong, nothing when the program runs."""
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": server.files,
        # Data, not address space: some runtimes reserve terabytes that they never touch.
        "RLIMIT_DATA": server.memory,
    }
    if account is not None:
        # Counted for the whole account, so on ours it would stop the operator's other programs.
        limits["RLIMIT_NPROC"] = server.processes
    order = {
        "program": program,
        "argv": server.command,
        "env": dict(server.env),
        "cwd": server.cwd,
        "uid": None if account is None else account.uid,
        "gid": None if account is None else account.gid,
        "limits": limits,
        "parent": os.getpid(),
    }
    try:
        channel.sendall(json.dumps(order).encode())
        channel.shutdown(socket.SHUT_WR)
        with channel.makefile("rb") as file:
            complaint = file.read(500)
    except OSError as failure:
        return type(failure).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in complaint.decode("utf-8", "replace"))


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and its whole process group. Its children that left the group are beyond our reach."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _cannot(server: StdioServer, why: str) -> Unavailable:
    # What is wrong tells paths and accounts of this machine: it is no business of the agent that asked.
    told = f"`{server.name}` is not started"
    return Unavailable(Code.UPSTREAM_UNAVAILABLE, told, operator=f"{told}: {why}")
