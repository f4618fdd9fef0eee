"""Starts and stops the desk's three HTTP servers, each its own process on a free loopback port.

Decides nothing. INVARIANT: no server outlives the block that started it, not even if this process is killed.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mcp import StdioServerParameters

from examples.support_desk.agent import Http, Place

ROOT = Path(__file__).resolve().parents[2]
HTTP_SERVERS = ("crm", "ledger", "tickets")


@dataclass(frozen=True)
class Desk:
    """Where the servers are, and the tokens that open them."""

    data: Path
    urls: dict[str, str]
    tokens: dict[str, str] = field(repr=False)
    processes: list[subprocess.Popen[bytes]] = field(repr=False)

    def bare(self) -> dict[str, Place]:
        """The servers as an agent reaches them with nothing in between: it must hold every token itself."""
        places: dict[str, Place] = {
            name: Http(url, {"Authorization": f"Bearer {self.tokens[name]}"}) for name, url in self.urls.items()
        }
        places["documents"] = StdioServerParameters(
            command=sys.executable, args=documents_command(self.data)[1:], env={"PYTHONPATH": str(ROOT)}
        )
        return places


def token_variable(server: str) -> str:
    return f"{server.upper()}_TOKEN"


def documents_command(data: Path) -> list[str]:
    """How the documents server is started; it speaks over its standard input and output."""
    return [sys.executable, "-m", "examples.support_desk.servers.documents", "--data", str(data)]


@contextmanager
def open_desk(data: Path) -> Iterator[Desk]:
    """The three servers over the databases in `data`, up and answering inside the block."""
    tokens = {name: secrets.token_urlsafe(24) for name in HTTP_SERVERS}
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in HTTP_SERVERS:
            running[name] = _start(name, data, tokens[name])
        urls = {name: _url(name, process) for name, process in running.items()}
        yield Desk(data, urls, tokens, list(running.values()))
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            _reap(process)


def _start(name: str, data: Path, token: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"examples.support_desk.servers.{name}", "--data", str(data), "--with-parent"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), token_variable(name): token}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _url(name: str, process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the {name} server did not start")
    return str(json.loads(line)["url"])


def _reap(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
