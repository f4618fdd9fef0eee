"""Programs of Python without the price of their start: forked from one process that has imported what they import.

What runs is a process of its own in all that a test looks at: its folder, environment, descriptors, signals, exit code
and end. Only what the kernel noted of its first start (`/proc/PID/cmdline` and `environ`) is that of the one process.
INVARIANT: that process has no thread, no loop and no socket but its parent's, and does nothing but fork; so a child
begins as a fresh interpreter does, with more in `sys.modules`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, Self, TypeAlias

IMPORTED = ("citywatch.main", "citywatch.adapters", "citywatch.service", "mcp.server.mcpserver", "uvicorn", "uvloop")
"""What most of them need, with all that is below it."""
MAX_TOLD = 1 << 17
Running: TypeAlias = "Process | subprocess.Popen[bytes]"


class Process:
    """A running program; as much of `subprocess.Popen` as tests ask for."""

    def __init__(self, command: Sequence[str], pid: int, life: socket.socket, stdout: IO[str] | None) -> None:
        self.args, self.pid, self.stdout = list(command), pid, stdout
        self.returncode: int | None = None
        self._life = life

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.stdout is not None:
            self.stdout.close()
        self.wait()

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._life], [], [], timeout)[0]:
            self.returncode = int(self._life.recv(64))
            self._life.close()
        return self.returncode


def can(command: Sequence[str]) -> bool:
    """Whether a command is one that can be forked."""
    python, first, *_ = command
    return python == sys.executable and (first == "-m" or not first.startswith("-"))


def start(
    command: Sequence[str],
    *,
    cwd: Path,
    stdin: IO[Any] | None = None,
    stdout: int | IO[Any] = 1,
    stderr: int | IO[Any] = 2,
    env: Mapping[str, str] | None = None,
) -> Process:
    """Start `python -m MODULE…` or `python SCRIPT…`; without more nothing stands in its standard input."""
    assert can(command), f"{command}: no program of this Python, or with options of its own"
    words = command[1:]
    with ExitStack() as stack:
        out: IO[str] | None = None
        if stdout == subprocess.PIPE:
            reading, writing = os.pipe()
            out, stdout = os.fdopen(reading), stack.enter_context(os.fdopen(writing, "wb"))
        stdin = stdin or stack.enter_context(Path(os.devnull).open("rb"))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.callback(theirs.close)
        told = json.dumps({"words": words, "cwd": str(cwd), "env": dict(os.environ if env is None else env)}).encode()
        assert len(told) <= MAX_TOLD
        said = _number(stdout)
        streams = [theirs.fileno(), stdin.fileno(), said, said if stderr == subprocess.STDOUT else _number(stderr)]
        socket.send_fds(_forking(os.getpid()), [told], streams)
    return Process(command, int(ours.recv(64)), ours, out)


def run(
    command: Sequence[str], *, cwd: Path, timeout: float, stdin: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one to its end; what it said."""
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        told.write(stdin.encode())
        told.seek(0)
        process = start(command, cwd=cwd, stdin=told, stdout=out, stderr=err, env=env)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(process.args, code, out.read().decode(), err.read().decode())


def _number(stream: int | IO[Any]) -> int:
    return stream if isinstance(stream, int) else stream.fileno()


@cache
def _forking(parent: int) -> socket.socket:
    """The one process of this process of the tests; it ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd="/", stdin=subprocess.DEVNULL)

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# -- in the one process -----------------------------------------------------------------------------------------------


def serve(parent: socket.socket) -> Callable[[], None] | None:
    """Fork whatever the parent asks for, and tell it of each end; returns in the children, with what they are to do."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGINT)}
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's end is ours
    signal.set_wakeup_fd(writing)
    living: dict[int, socket.socket] = {}
    while True:
        ready = select.select([parent.fileno(), reading], [], [])[0]
        if reading in ready:
            os.read(reading, 4096)
            _bury(living)
        if parent.fileno() not in ready:
            continue
        message, streams, _, _ = socket.recv_fds(parent, MAX_TOLD, 4)
        if not message:
            return None
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            for held in (reading, writing, parent.detach(), *(one.detach() for one in living.values()), streams[0]):
                os.close(held)
            return partial(become, json.loads(message), streams[1:])
        for stream in streams[1:]:
            os.close(stream)
        living[child] = socket.socket(fileno=streams[0])
        living[child].send(str(child).encode())


def _bury(living: dict[int, socket.socket]) -> None:
    while living:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        with living.pop(child) as life:
            life.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(told: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Be the program that was asked for."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        if stream > 2:
            os.close(stream)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["env"])
    first, *rest = told["words"]
    if first == "-m":
        sys.path[0] = told["cwd"]
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(first).parent)
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


def _import_all() -> None:
    for name in IMPORTED:
        module = importlib.import_module(name)
        for below in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}.") if "citywatch" in name else ():
            importlib.import_module(below.name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _import_all()
    work = serve(socket.socket(fileno=int(sys.argv[1])))
    if work is not None:
        work()
