"""The few steps between our process and an agent's program. Run as a script of its own, never imported.

Standard library only: it runs with our rights until it gives them up. The program becomes the child of a process that
is the first of a process namespace of its own: when that one ends, the kernel ends all that the program has started,
whatever it did to get away. INVARIANTS: every step works or the program does not run; after the account has changed
there is no way back; program and namespace end with `citywatch run`.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWPID = 0x20000000
libc = ctypes.CDLL(None, use_errno=True)


def main(order: dict[str, object]) -> None:
    end_with(int(str(order["parent"])))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group, and meant for the program
    if order["uid"] is not None:
        call(libc.unshare(CLONE_NEWPID), "this machine gives root no process namespace: unshare")
    alive, held = os.pipe()
    first = os.fork()
    if first:
        sys.exit(status_of(os.waitpid(first, 0)[1]))
    os.close(held)
    end_with(None)
    # From inside the namespace whoever is outside has no number: its end is the end of the pipe.
    if select.select([alive], [], [], 0)[0]:
        sys.exit(126)
    above = os.getpid()
    program = os.fork()
    if program:
        sys.exit(reap(program))
    os.close(alive)
    become(order, above)


def become(order: dict[str, object], above: int) -> None:
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o077)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its key is in its memory
        if order["uid"] is not None:
            uid = int(str(order["uid"]))
            # Groups first: without the user's rights they could not be given up any more.
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        call(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
        end_with(above)  # after the change of account, which forgets it
        os.chdir(str(order["folder"]))
        command = order["command"]
        environment = order["environment"]
        if not isinstance(command, list) or not isinstance(environment, dict):
            raise TypeError("no command")
        os.execve(command[0], command, environment)  # noqa: S606  # what was measured, and no shell
    except BaseException as failure:  # whatever it is, the program must not run
        print(f"citywatch: the program does not start: {type(failure).__name__}: {failure}", file=sys.stderr)
        os._exit(126)


def end_with(parent: int | None) -> None:
    call(libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")
    if parent is not None and os.getppid() != parent:
        raise OSError("`citywatch run` has ended")


def call(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def reap(program: int) -> int:
    """Wait for the program, and for whatever it left behind meanwhile; then end, and the namespace with us."""
    while True:
        pid, status = os.wait()
        if pid == program:
            return status_of(status)


def status_of(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        with open(int(sys.argv[1]), "rb") as file:  # no argument: those are shown to every user of the machine
            given = json.load(file)
        main(given)
    except OSError as failure:
        print(f"citywatch: the program does not start: {failure}", file=sys.stderr)
        sys.exit(126)
