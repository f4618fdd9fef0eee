"""The mesh, running: its tool servers in one process, each agent in one of its own, citywatch in front of them all.

Decides nothing. The same processes are asked twice: wired to each other's addresses, and wired to the gateway.
INVARIANTS: no process outlives the block that started it; no secret passes through a command line.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from a2a.client import ClientConfig, create_client
from a2a.helpers.proto_helpers import get_message_text, new_text_message
from a2a.types import Role, SendMessageRequest

from citywatch.sdk import Chain
from citywatch.sdk.hooks.a2a import carrying
from examples.mesh.agent import card
from examples.mesh.cast import CAST
from examples.mesh.serving import BUILD
from examples.support_desk.services import ROOT
from examples.support_desk.station import CommandFailed, Show, Station, free_port

HERE = Path(__file__).resolve().parent
DOMAIN = "mesh.example"
FIRST_SERVER, FIRST_PEER = 9101, 9201
PEERS = ("router", "reception", "technical", "billing", "processing")


@dataclass(frozen=True)
class Mesh:
    """Where servers and agents are, and what their callers must know; `proven` is where agents are reached under their
    papers. `directory` lists the agents that say they are colleagues: anybody can have their address entered."""

    data: Path
    servers: Mapping[str, str]
    agents: Mapping[str, str]
    proven: Mapping[str, str]
    tokens: Mapping[str, str] = field(repr=False)
    stack: ExitStack = field(repr=False)
    processes: Mapping[str, int] = field(repr=False)
    directory: list[str] = field(default_factory=list)

    def wire(
        self, run: str, city: City | None, agents: Collection[str], systems: Mapping[str, str] | None = None
    ) -> None:
        """Tell every agent how to reach tools and peers from now on: at their addresses, or through the gateway.

        They know those of their colleagues who are among `agents`.
        """
        folder = self.data / "wiring"
        folder.mkdir(exist_ok=True)
        for name, part in CAST.items():
            peers = [one for one in part.peers if one in agents]
            told: dict[str, Any] = {"run": run, "system": (systems or {}).get(name, part.system), "peers": peers}
            if city is None:
                reached = {one: {"url": self.servers[one], "token": self.tokens[one]} for one in part.servers}
                tokens = {url: self.tokens[one] for one, url in self.agents.items()}
                told |= {"gateway": None, "servers": reached, "tokens": tokens, "directory": self.directory}
            else:
                told |= {"gateway": city.papers(name), "servers": part.servers}
            (folder / f"{name}.json").write_text(json.dumps(told))

    def transcripts(self, run: str) -> list[dict[str, Any]]:
        """What each agent did, in the order in which they were done with it."""
        path = self.data / "transcripts.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [one for one in map(json.loads, lines) if one["run"] == run]

    async def ask(self, agent: str, words: str, chain: Chain | None = None) -> str:
        """What a person says to an agent, over a session of their own; `chain` is what they let it do."""
        headers = {"Authorization": f"Bearer {self.tokens[agent]}"}
        async with httpx.AsyncClient(headers=headers, timeout=120, trust_env=False) as http:
            config = ClientConfig(streaming=False, httpx_client=http)
            client = await create_client(card(agent, self.agents[agent]), config, [carrying(handed=chain)])
            request = SendMessageRequest(message=new_text_message(words, role=Role.ROLE_USER))
            told = [one async for one in client.send_message(request)]
        return get_message_text(told[0].message)

    def stop(self, agent: str) -> int:
        """Have an agent's process end, and nobody listen where it proved itself any more; that port."""
        os.kill(self.processes[agent], signal.SIGTERM)
        port = int(self.proven[agent].rpartition(":")[2])
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return port
            time.sleep(0.02)
        raise CommandFailed(f"the agent {agent} did not stop")

    @contextmanager
    def impostor(self, port: int = 0, papers: Path | None = None, version: str = "9.0.0") -> Iterator[str]:
        """Somebody else's agent, which says that it is `processing`: where it is, inside the block.

        At a port of its own it serves in plain, else over TLS: under these papers, or under some that it made itself.
        """
        command = ["-m", "examples.mesh.impostor", "--data", str(self.data), "--port", str(port), "--version", version]
        command += [] if papers is None else ["--papers", str(papers)]
        with ExitStack() as stack:
            yield str(_said(_start(stack, command, {}), "the impostor")["url"])


class City(Station):
    """The gateway's folder. Everybody's papers are in it as well: on one machine, for one demo."""

    def __init__(self, folder: Path, mesh: Mesh, show: Show) -> None:
        held = {f"{name.upper()}_TOKEN": token for name, token in mesh.tokens.items()}
        super().__init__(folder, free_port(), {**os.environ, **held}, show)
        self.tls_port = free_port()
        self._holders: dict[str, tuple[str, str]] = {}
        self._data = mesh.data
        folder.mkdir(parents=True)
        shutil.copytree(HERE / "policies", folder / "policies")
        (folder / "citywatch.yaml").write_text(filled(mesh, self.port, self.tls_port))

    def admit(self) -> None:
        """Give every agent papers of its own, and approve what they and the servers offer."""
        said = self.run("agent", "add", *PEERS, shown=False)
        found = re.findall(r"added (\S+) \(key (\S+)\)", said)
        self._holders = {agent.rpartition("/")[2]: (agent, key) for agent, key in found}
        self.run("agent", "certificate", *PEERS, shown=False)
        (self._data / "papers").mkdir(exist_ok=True)
        for name in PEERS:
            told = self._data / "papers" / f"{name}.new"
            told.write_text(str(self.folder / "agents" / name))
            told.rename(told.with_suffix(""))  # whoever looks sees all of it
        self.run("tools", "approve", "--yes", shown=False)

    def papers(self, name: str) -> dict[str, Any]:
        """What an agent's program is told of the gateway: where it is, its own papers, and its colleagues' names."""
        folder = str(self.folder / "agents" / name)
        return {"url": f"https://127.0.0.1:{self.tls_port}", "folder": folder, "holders": self._holders}

    @contextmanager
    def console(self) -> Iterator[str]:
        """The console serving inside the block, at a port of its own."""
        with (self.folder / "citywatch.yaml").open("a") as file:
            file.write(f"\nconsole: {{listen: '127.0.0.1:{free_port()}'}}\n")
        with super().console() as link:
            yield link

    def task(self, agent: str, principal: str, words: str, left: Mapping[str, Any]) -> Chain:
        """Start a task in somebody's name, with a grant that leaves no more than `left`."""
        (self.folder / "left.json").write_text(json.dumps(left))
        options = ("--as", principal, "--grant", "chain.json", "--caveats", "left.json", "--for", "10m")
        self.run("task", "start", agent, *options, "--depth", "4", words)
        return Chain.load(self.folder / "chain.json")


@contextmanager
def open_mesh(data: Path, agents: Collection[str] = PEERS) -> Iterator[Mesh]:
    """Servers and agents over the databases in `data`, up and answering inside the block."""
    tokens = {name: secrets.token_urlsafe(24) for name in (*BUILD, *PEERS)}
    held = {"MESH_TOKENS": json.dumps({name: tokens[name] for name in (*BUILD, *agents)})}
    with ExitStack() as stack:
        process = _start(stack, ["-m", "examples.mesh.processes", "--data", str(data), *agents], held)
        told = _said(process, "the mesh")
        places: dict[str, str] = told["agents"]
        listed = list(places.values())
        yield Mesh(data, told["servers"], places, told["proven"], tokens, stack, told["processes"], listed)


def filled(mesh: Mesh, port: int, tls_port: int) -> str:
    """The example's file with the ports of this run; everything else stays as it is written."""
    text = (HERE / "citywatch.yaml").read_text()
    changes = {f"http://127.0.0.1:{FIRST_SERVER + at}/mcp": mesh.servers[one] for at, one in enumerate(sorted(BUILD))}
    for at, name in enumerate(PEERS):
        url = mesh.proven.get(name, f"https://127.0.0.1:{free_port()}")
        changes[f"https://127.0.0.1:{FIRST_PEER + at}/"] = f"{url}/"
    changes["http://127.0.0.1:8460"] = f"http://127.0.0.1:{port}"
    changes["https://127.0.0.1:8461"] = f"https://127.0.0.1:{tls_port}"
    for old, new in changes.items():
        if old not in text:
            raise CommandFailed(f"citywatch.yaml should hold `{old}`")
        text = text.replace(old, new)
    return text


def _start(stack: ExitStack, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    stack.callback(_end, process)
    return process


def _said(process: subprocess.Popen[bytes], what: str) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise CommandFailed(f"{what} did not start")
    told: dict[str, Any] = json.loads(line)
    return told


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
