"""A gateway as its users have it: a folder, the command line, real processes on loopback."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from tests import forked
from tests.ports import free_port

HERE = Path(__file__).parent
DEADLINE_S = 120.0

CONFIG = """
trust_domain: t.example
listen: ["http://127.0.0.1:{port}"]
agents:
  clerk:
    roles: [payer]
servers:
  desk:
    url: http://127.0.0.1:{upstream}/mcp
    tools:
      look: {{effect: read}}
      count: {{effect: read}}
      nap: {{effect: write}}
      pay: {{effect: irreversible}}
"""
POLICY = """
@id("plumbing") permit(principal is Agent, action in [Action::"session", Action::"list", Action::"notify"], resource);
@id("reading") permit(principal, action in [Action::"read", Action::"read_resource", Action::"get_prompt"], resource);
@id("napping") permit(principal in Role::"payer", action == Action::"desk/nap", resource);
@id("paying") permit(principal in Role::"payer", action == Action::"desk/pay", resource)
when { context.args.amount <= 100 };
@id("telling") permit(principal is Server, action in Action::"notify_agent", resource);
"""


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll for something that another process does; there is no event to wait on."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        return bool(response.status == 200)
    return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Desk:
    """One folder with a configuration, one upstream server, one gateway that can be killed and started again."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.port, self.upstream_port = free_port(), free_port()
        self._stack = stack
        self.process: forked.Running | None = None
        (folder / "policies").mkdir()
        (folder / "policies" / "desk.cedar").write_text(POLICY)
        (folder / "citywatch.yaml").write_text(CONFIG.format(port=self.port, upstream=self.upstream_port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp/desk"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command of the command line, as a user types it in this folder."""
        command = [sys.executable, "-m", "citywatch", *arguments]
        done = forked.run(command, cwd=self.folder, timeout=DEADLINE_S)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def start_upstream(self) -> forked.Running:
        process = self._spawn([sys.executable, str(HERE / "desk_server.py"), str(self.upstream_port), str(self.folder)])
        wait_for(lambda: listens(self.upstream_port), "the upstream server")
        return process

    def up(self, command: list[str] | None = None, *, afresh: bool = False) -> forked.Running:
        """Start the gateway; it answers, and has said what it says at its start."""
        command = command or [sys.executable, "-m", "citywatch", "up"]
        log = self._log_of(command)
        before = log.stat().st_size if log.exists() else 0
        process = self.process = self._spawn(command, afresh=afresh)
        wait_for(
            lambda: process.poll() is not None or b"ready\n" in log.read_bytes()[before:],
            "the gateway to be ready",
        )
        assert process.returncode is None, f"the gateway ended with {process.returncode}: {log.read_text()}"
        wait_for(lambda: answers(f"http://127.0.0.1:{self.port}/citywatch/health"), "the gateway to answer")
        return process

    def down(self) -> None:
        """Stop the gateway as an operator does; nothing happens if it is dead already."""
        if self.process is not None:
            _end(self.process)

    def events(self) -> list[dict[str, Any]]:
        """Every leaf of the log, read from the database by nothing of ours."""
        with closing(sqlite3.connect(self.folder / ".citywatch" / "citywatch.db")) as database:
            return [json.loads(leaf) for (leaf,) in database.execute("SELECT leaf FROM entry ORDER BY idx")]

    def token(self) -> str:
        return self.run("agent", "token", "clerk").stdout.strip()

    def ledger(self) -> list[str]:
        path = self.folder / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def _log_of(self, command: list[str]) -> Path:
        return self.folder / f"{Path(command[-1]).name}.log"

    def _spawn(self, command: list[str], cwd: Path | None = None, *, afresh: bool = False) -> forked.Running:
        """`afresh`: for whoever reads what the kernel knows of it."""
        log = self._stack.enter_context(self._log_of(command).open("ab"))
        where = cwd or self.folder
        process: forked.Running
        if afresh or not forked.can(command):
            process = subprocess.Popen(command, cwd=where, stdout=log, stderr=log)
        else:
            process = forked.start(command, cwd=where, stdout=log, stderr=log)
        self._stack.callback(_end, process)
        return process


def _end(process: forked.Running) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DEADLINE_S)  # killed in the middle of its leave, a gateway would be another test's crash
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
