"""The few steps between our process and a program that may be hostile. Run as a script of its own, never imported.

Standard library only, and little of it: it runs with our rights until it gives them up. What to run comes over the
descriptor named on the command line; the same descriptor says what went wrong, or closes when the program runs.
INVARIANTS: every step works or the program does not run; after the account has changed there is no way back; the
program dies with the gateway.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def main(descriptor: int) -> None:
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    try:
        with channel.makefile("rb") as file:
            order = json.load(file)
        os.umask(0o077)
        # Python ignores these for itself, and what is ignored stays ignored in what is executed.
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        for name, wanted in order["limits"].items():
            _limit(getattr(resource, name), wanted)
        if order["uid"] is not None:
            # Groups first: without the user's rights they could not be given up any more.
            os.setgroups([])
            os.setresgid(order["gid"], order["gid"], order["gid"])
            os.setresuid(order["uid"], order["uid"], order["uid"])
        if sys.platform.startswith("linux"):
            _bind_to_parent(order["parent"])
        os.chdir(order["cwd"])
        os.execve(order["program"], order["argv"], order["env"])  # noqa: S606  # the operator's command, and no shell
    except BaseException as failure:  # whatever it is, the program must not run
        channel.sendall(f"{type(failure).__name__}: {failure}"[:500].encode("utf-8", "replace"))
        os._exit(126)


def _limit(kind: int, wanted: int) -> None:
    _, most = resource.getrlimit(kind)
    bound = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(kind, (bound, bound))


def _bind_to_parent(parent: int) -> None:
    """No program on the disk gives more rights (setuid), and the end of the gateway is the end of the program.

    After the change of account, which would forget the second.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_PDEATHSIG, int(signal.SIGKILL))):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        raise OSError("the gateway has ended")


if __name__ == "__main__":
    main(int(sys.argv[1]))
