"""A folder with `citywatch.yaml`, policies and state, and citywatch's own commands run in it, as an operator would.

Decides nothing, imports nothing of citywatch: what it knows of it is what the commands print.
INVARIANT: no secret passes through a command line or a file that this module writes.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from examples.support_desk.services import ROOT

VERIFIER = ROOT / "spec" / "verify_log.py"
Filter = Callable[[str], str]
Show = Callable[[tuple[str, ...], str], None]
Output = int | IO[bytes]


class CommandFailed(Exception):
    """A command ended badly; the message is what it printed."""


class Station:
    """`show` is told of each command that is run, and of what it printed."""

    def __init__(self, folder: Path, port: int, environment: Mapping[str, str], show: Show) -> None:
        self.folder = folder
        self.port = port
        self._environment = dict(environment)
        self._show = show

    def run(self, *words: str, show: Filter | None = None, shown: bool = True) -> str:
        """Run one command of citywatch and return what it printed; `show` cuts what a person is shown of it."""
        command = (sys.executable, "-m", "citywatch", *words)
        return self._execute(("citywatch", *words), command, 0, show or _as_it_is if shown else None)

    def verify(self, export: str, key: str, expect: int = 0) -> str:
        """Run the independent verifier, one file that sees nothing of citywatch, by the key that it is given."""
        command = (sys.executable, "-I", str(VERIFIER), "export", export, "--key", key)
        words = ("python", "spec/verify_log.py", *command[3:-1], f"{key[:34]}…")
        return self._execute(words, command, expect, _as_it_is)

    def decision(self, call: str) -> dict[str, Any]:
        """What the log has on one call: the decision with its code and policies."""
        entries = [
            json.loads(line)
            for line in self.run("log", "show", "--call", call, "--json", shown=False).split("\n")
            if line
        ]
        return next((entry for entry in entries if entry["type"] == "decided"), {})

    def _execute(self, words: tuple[str, ...], command: tuple[str, ...], expect: int, show: Filter | None) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        if show is not None:
            self._show(words, show(done.stdout.replace(f"{self.folder}/", "")))
        if done.returncode != expect:
            raise CommandFailed(f"`{' '.join(words)}` ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    @contextmanager
    def up(self) -> Iterator[None]:
        """The gateway serving inside the block; told to drain at its end."""
        output = self.folder / "up.log"
        with output.open("wb") as log, self._running("up", stdout=log, stderr=subprocess.STDOUT) as process:
            self._await_port(process, output)
            yield

    @contextmanager
    def console(self) -> Iterator[str]:
        """The console serving inside the block: the link into it, which is good once and stands in no file."""
        output = self.folder / "console.log"
        with output.open("wb") as log, self._running("console", stdout=subprocess.PIPE, stderr=log) as process:
            assert process.stdout is not None
            link = ""
            for line in process.stdout:
                words = line.decode().split()
                if words[:2] == ["sign", "in"]:
                    link = words[2]
                if words == ["ready"]:
                    break
            else:
                raise CommandFailed(f"`citywatch console` did not start:\n{output.read_text(errors='replace')}")
            yield link

    @contextmanager
    def _running(self, *words: str, stdout: Output, stderr: Output) -> Iterator[subprocess.Popen[bytes]]:
        """A command of citywatch that stays, until the block ends."""
        process = subprocess.Popen(
            (sys.executable, "-m", "citywatch", *words),
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _await_port(self, process: subprocess.Popen[bytes], output: Path) -> None:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise CommandFailed(f"`citywatch up` did not open its port:\n{output.read_text(errors='replace')}")


def _as_it_is(output: str) -> str:
    return output


def free_port() -> int:
    """A port that is ours until this process ends: bound and never listening, it goes to nobody else by chance."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the gateway does: so it may listen there
    held.bind(("127.0.0.1", 0))
    port = int(held.getsockname()[1])
    held.detach()
    return port
