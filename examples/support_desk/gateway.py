"""citywatch in front of the desk, driven as its operator would: by its own commands, in a folder of its own.

Decides nothing, imports nothing of citywatch: what it knows of it is what the commands print.
INVARIANT: no secret passes through a command line or a file that this module writes.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.support_desk.agent import Http, Place
from examples.support_desk.services import ROOT, Desk, documents_command, token_variable

HERE = Path(__file__).resolve().parent
PORTS = {"crm": 9001, "ledger": 9002, "tickets": 9003}
AGENT = "support"
VERIFIER = ROOT / "spec" / "verify_log.py"


class CommandFailed(Exception):
    """A command ended badly; the message is what it printed."""


@dataclass(frozen=True)
class Ran:
    """A command that ended: the words as a person would type them, what it printed, how it ended."""

    words: tuple[str, ...]
    output: str
    code: int


class Gateway:
    """One folder with `citywatch.yaml`, policies and state, and the commands run in it. `show` is told of each."""

    def __init__(self, folder: Path, desk: Desk, show: Callable[[Ran], None]) -> None:
        self.folder = folder
        self._show = show
        self._environment = {**os.environ, **{token_variable(name): token for name, token in desk.tokens.items()}}
        self.port = _free_port()
        folder.mkdir(parents=True)
        shutil.copytree(HERE / "policies", folder / "policies")
        (folder / "citywatch.yaml").write_text(filled((HERE / "citywatch.yaml").read_text(), desk, self.port))

    def run(self, *words: str, expect: int = 0, shown: bool = True) -> Ran:
        """Run one command of citywatch; raises `CommandFailed` unless it ends with `expect`."""
        return self.execute(("citywatch", *words), (sys.executable, "-m", "citywatch", *words), expect, shown)

    def verify(self, export: str, expect: int = 0) -> Ran:
        """Run the independent verifier: one file, with no access to citywatch's code."""
        words = ("python", "spec/verify_log.py", "export", export)
        return self.execute(words, (sys.executable, "-I", str(VERIFIER), "export", export), expect, True)

    def execute(self, words: tuple[str, ...], command: tuple[str, ...], expect: int, shown: bool) -> Ran:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        ran = Ran(words, done.stdout, done.returncode)
        if shown:
            self._show(ran)
        if done.returncode != expect:
            raise CommandFailed(f"`{' '.join(words)}` ended with {done.returncode}:\n{done.stdout}")
        return ran

    @contextmanager
    def up(self) -> Iterator[None]:
        """The gateway serving inside the block; told to drain at its end."""
        output = self.folder / "up.log"
        with output.open("wb") as log:
            process = subprocess.Popen(
                (sys.executable, "-m", "citywatch", "up"),
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                self._await_port(process, output)
                yield
            finally:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def places(self, token: str) -> Mapping[str, Place]:
        """The same servers as the agent reaches them now: by its own identity, with no server's token."""
        headers = {"Authorization": f"Bearer {token}"}
        return {
            name: Http(f"http://127.0.0.1:{self.port}/mcp/{name}", headers) for name in (*sorted(PORTS), "documents")
        }

    def _await_port(self, process: subprocess.Popen[bytes], output: Path) -> None:
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise CommandFailed(f"`citywatch up` did not open its port:\n{output.read_text(errors='replace')}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def filled(text: str, desk: Desk, port: int) -> str:
    """The example's file with the ports and paths of this run; everything else stays as it is written."""
    changes = {f"http://127.0.0.1:{PORTS[name]}/mcp": url for name, url in desk.urls.items()}
    changes["http://127.0.0.1:8460"] = f"http://127.0.0.1:{port}"
    changes["[python, -m, examples.support_desk.servers.documents, --data, examples/support_desk]"] = _yaml_list(
        documents_command(desk.data)
    )
    changes["cwd: ../.."] = f"cwd: {_yaml_text(str(ROOT))}"
    for old, new in changes.items():
        if text.count(old) != 1:
            raise CommandFailed(f"citywatch.yaml should hold `{old}` once")
        text = text.replace(old, new)
    return text


def _yaml_list(words: list[str]) -> str:
    return f"[{', '.join(_yaml_text(word) for word in words)}]"


def _yaml_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
