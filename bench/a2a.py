"""What one A2A message costs on its way through the gateway, and what it waits longer than at an `a2a-sdk` server.

One gateway process started by its own command line, everything on: JWT-SVIDs (verified once for each connection), a
policy that reads the message, principals and so the flow of labels, the scan of what comes back, both entries of each
message committed and the first one synced. Every message and every reply has words of its own.

`a2a.cpu_us` is user and system time of the gateway's process, its threads and chores included, by message, before a
stub; its ratio is to that of an `a2a-sdk` server, asked directly by the same clients in the same rounds. Some agents
speak at once, each one message at a time. `alone` is one agent, whose every message waits for a sync of its own; `mtls`
is over TLS with a certificate of each agent; `granted` names a task with a budget and shows its grant.
`a2a.added_p50_ms` is the median through the gateway less the median direct, by turns, same client, same connection
kept, before a server of `a2a-sdk`. Run it: `python -m bench.a2a`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench.decide import row
from bench.gateway import free_port, make, pem, spawn

AGENTS, ROUNDS, EACH, ALONE, TIMED = 16, 5, 100, 300, 200
WARM = 40
PEER = "a2a_sdk.cpu_us"
DOMAIN = "bench.example"
POLICY = """
@id("talk") permit(
  principal in Role::"bench", action in [Action::"send_message", Action::"peer_task"], resource is Peer
) when { context.params != "nothing" } unless { context.name == "refund" };
"""
TICKS = os.sysconf("SC_CLK_TCK")
SAID = "Is order {0} paid? What is still owed for it?"
HEARD = "Order {0} was paid on Monday, and nothing more is owed."


class Peer(asyncio.Protocol):
    """A stub that answers each message at once, with words that it never said before."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = int(self.buffer[:end].lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self.buffer) < end + 4 + length:
            return
        self.buffer = b""
        Peer.count += 1
        told = {"messageId": f"r{Peer.count}", "role": "ROLE_AGENT", "parts": [{"text": HEARD.format(Peer.count)}]}
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": {"message": told}})
        kind = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(b"HTTP/1.1 200 OK\r\n" + kind + body)  # type: ignore[attr-defined]


async def stub(port: int) -> None:
    """The stub, until it is ended."""
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def sdk_server(port: int) -> None:
    """An agent of `a2a-sdk` that answers each message with one."""
    import uvicorn
    from a2a.helpers.proto_helpers import new_text_message
    from a2a.server.agent_execution import AgentExecutor, RequestContext
    from a2a.server.events import EventQueue
    from a2a.server.request_handlers import DefaultRequestHandlerV2
    from a2a.server.routes import create_jsonrpc_routes
    from a2a.server.tasks import InMemoryTaskStore
    from a2a.types import AgentCapabilities, AgentCard, AgentInterface, Role
    from starlette.applications import Starlette

    class Answering(AgentExecutor):
        count = 0

        async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
            self.count += 1
            await event_queue.enqueue_event(new_text_message(HEARD.format(self.count), role=Role.ROLE_AGENT))

        async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
            raise NotImplementedError

    where = AgentInterface(url=f"http://127.0.0.1:{port}/a2a", protocol_binding="JSONRPC", protocol_version="1.0")
    card = AgentCard(
        name="sdk",
        description="Answers.",
        version="1.0.0",
        capabilities=AgentCapabilities(),
        supported_interfaces=[where],
    )
    handler = DefaultRequestHandlerV2(agent_executor=Answering(), task_store=InMemoryTaskStore(), agent_card=card)
    routes = create_jsonrpc_routes(handler, "/a2a")
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="error")


class Speaker:
    """One kept-alive connection of one agent."""

    def __init__(self, port: int, path: str, headers: dict[str, str], metadata: dict[str, Any]) -> None:
        self.port, self.metadata, self.number = port, metadata, 0
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\na2a-version: 1.0\r\n{lines}"

    async def open(self, tls: ssl.SSLContext | None = None) -> Speaker:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname="localhost" if tls is not None else None
        )
        return self

    async def say(self) -> float:
        """Milliseconds until a message was answered; anything but the peer's answer ends the run."""
        self.number += 1
        message = {"messageId": f"m{self.number}", "role": "ROLE_USER", "parts": [{"text": SAID.format(self.number)}]}
        params = {"message": message, **({"metadata": self.metadata} if self.metadata else {})}
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params})
        kind = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        began = time.perf_counter()
        self.writer.write((self.head + kind).encode() + body)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        answer = await self.reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        taken = 1000 * (time.perf_counter() - began)
        if b"nothing more is owed" not in answer:
            raise SystemExit(f"unexpected answer: {answer[:300]!r}")
        return taken

    async def talk(self, times: int) -> list[float]:
        return [await self.say() for _ in range(times)]


class Town:
    """A folder with a gateway, the peers behind it, and agents with papers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.http, self.https, self.stub, self.sdk = free_port(), free_port(), free_port(), free_port()
        self.names = [f"speaker-{number}" for number in range(AGENTS)]
        self.tokens: dict[str, str] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        asyncio.run(self._set_up())
        spawn(stack, folder, [sys.executable, "-m", "bench.a2a", "stub", str(self.stub)], self.stub)
        self.has_sdk = importlib.util.find_spec("a2a") is not None
        if self.has_sdk:
            self.peer = spawn(stack, folder, [sys.executable, "-m", "bench.a2a", "sdk", str(self.sdk)], self.sdk)
        self.gateway = spawn(stack, folder, [sys.executable, "-m", "citywatch", "up"], self.http)

    async def _set_up(self) -> None:
        from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
        from citywatch.core.delegation.caveats import ANYTHING
        from citywatch.main.assembly import load_rules, open_city
        from citywatch.main.grants import grants_of
        from citywatch.main.place import read_place
        from citywatch.service.authority import p256
        from citywatch.service.tasks import Tasks

        (self.folder / "policies").mkdir()
        (self.folder / "policies" / "talk.cedar").write_text(POLICY)
        config = {
            "trust_domain": DOMAIN,
            "listen": [f"http://127.0.0.1:{self.http}", f"https://127.0.0.1:{self.https}"],
            "agents": {name: {"roles": ["bench"]} for name in self.names},
            "servers": {},
            "principals": {"anna": {"may": ["*"]}},
            "peers": {
                "stub": {"url": f"http://127.0.0.1:{self.stub}/a2a", "callers": self.names},
                "sdk": {"url": f"http://127.0.0.1:{self.sdk}/a2a", "callers": self.names},
            },
        }
        (self.folder / "citywatch.yaml").write_text(json.dumps(config))
        place = read_place(self.folder / "citywatch.yaml")
        async with open_city(place) as city:
            rules, grants = await load_rules(place.settings, city.store), grants_of(city)
            tasks = Tasks(
                store=city.store, clock=city.clock, chance=city.chance, replica=city.replica.name, rules=rules
            )
            for name in self.names:
                secrets = SecretDirectory(make(self.folder / name))
                key = open_key(secrets, "key.pem", KeyKind.P256)
                await city.admin.add_agent(name, key.public, "bench")
                self.tokens[name] = (await city.issuer.token(name)).value.decode()
                certificate = await city.issuer.certificate(name, p256(key.public))
                (self.folder / name / "cert.pem").write_text(pem(certificate.value))
                task = await tasks.start("anna", name, "Ask what is owed.", "bench", calls=1_000_000)
                link = await grants.root(task, ANYTHING, 3_600_000, 1, "bench")
                self.tasks[name] = {"citywatch/task": task, "citywatch/chain": [link]}

    async def speaker(self, name: str, peer: str = "stub", *, tls: bool = False, granted: bool = False) -> Speaker:
        metadata = self.tasks[name] if granted else {}
        if not tls:
            headers = {"authorization": f"Bearer {self.tokens[name]}"}
            return await Speaker(self.http, f"/a2a/{peer}", headers, metadata).open()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.folder / name / "cert.pem", self.folder / name / "key.pem")
        return await Speaker(self.https, f"/a2a/{peer}", {}, metadata).open(context)

    async def direct(self, _: str) -> Speaker:
        """A connection to the server of `a2a-sdk` itself."""
        return await Speaker(self.sdk, "/a2a", {}, {}).open()


def spent(process: subprocess.Popen[bytes]) -> float:
    """Seconds of user and system time of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


Opening = Callable[[str], Awaitable[Speaker]]


async def cpu(process: subprocess.Popen[bytes], names: list[str], opening: Opening, each: int) -> float:
    """Microseconds of a process by message, once its connections are warm."""
    speakers = [await opening(name) for name in names]  # anew each time: an unused connection is closed
    await asyncio.gather(*(one.talk(WARM) for one in speakers))
    before = spent(process)
    await asyncio.gather(*(one.talk(each) for one in speakers))
    taken = 1e6 * (spent(process) - before) / (each * len(speakers))
    for one in speakers:
        one.writer.close()
    return taken


async def added(town: Town) -> tuple[list[float], list[float]]:
    """Median milliseconds through the gateway and direct, by turns."""
    ours = await town.speaker(town.names[0], "sdk")
    direct = await town.direct("")
    await asyncio.gather(ours.talk(WARM), direct.talk(WARM))
    both: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        pairs = [(await ours.say(), await direct.say()) for _ in range(TIMED)]
        for which in range(2):
            both[which].append(sorted(pair[which] for pair in pairs)[TIMED // 2])
    return both


async def measure(town: Town) -> list[dict[str, Any]]:
    """All rows, each kind once in every round: a slower minute of the machine is slower for all."""
    kinds: dict[str, tuple[subprocess.Popen[bytes], list[str], Opening, int]] = {
        "a2a.cpu_us": (town.gateway, town.names, town.speaker, EACH),
        "a2a.alone_cpu_us": (town.gateway, town.names[:1], town.speaker, ALONE),
        "a2a.mtls_cpu_us": (town.gateway, town.names, partial(town.speaker, tls=True), EACH),
        "a2a.granted_cpu_us": (town.gateway, town.names, partial(town.speaker, granted=True), EACH),
    }
    if town.has_sdk:
        kinds[PEER] = (town.peer, town.names, town.direct, EACH // 4)
    rounds = [{name: await cpu(*kind) for name, kind in kinds.items()} for _ in range(ROUNDS)]
    found = {name: [one[name] for one in rounds] for name in kinds}
    floor = found.get(PEER)
    against = PEER if floor else ""
    rows = [
        row(name, found[name], "us", ROUNDS * each * len(names), *(("",) if name == PEER else (against, floor)))
        for name, (_, names, _, each) in kinds.items()
    ]
    if not town.has_sdk:
        print("bench.a2a: nothing added was measured, for want of a2a-sdk (`make test` installs it)")
        return rows
    ours, alone = await added(town)
    more = [one - other for one, other in zip(ours, alone, strict=True)]
    return [
        *rows,
        row("a2a.added_p50_ms", more, "ms", TIMED * ROUNDS, "a2a-sdk direct"),
        row("a2a.alone_p50_ms", ours, "ms", TIMED * ROUNDS, "a2a-sdk direct", alone),
    ]


def run() -> list[dict[str, Any]]:
    """All rows."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        os.chmod(name, 0o700)
        return asyncio.run(measure(Town(Path(name), stack)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["stub"]:
        asyncio.run(stub(int(sys.argv[2])))
    elif sys.argv[1:2] == ["sdk"]:
        sdk_server(int(sys.argv[2]))
    else:
        for found in run():
            print(found)
