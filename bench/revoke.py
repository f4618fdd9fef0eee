"""From a revocation to its effect, at three gateway processes under load with open streams.

One database, three gateways started by their own command line, a stub that answers calls and keeps streams open. An
honest agent calls at a fixed pace at each gateway. Every victim holds a stream at each gateway; one after the other
they are revoked, by a fourth process, which is this one. The clock starts before the revocation is committed and stops,
for each gateway, when the victim's stream was closed there for `agent_revoked`, and when a call of the victim's that
left as soon as the revocation had returned was refused there. Run it: `python -m bench.revoke`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.decide import row
from bench.gateway import META, POLICY, TOOL, free_port, headers_for, make, spawn

Rounds = list[list[float]]
GATEWAYS = 3
VICTIMS = 40
ROUNDS = 3
PACE_S = 0.01
"""Between two calls of the honest agent at one gateway."""
REPLY = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "ok"}], "resultType": "complete"}}
PROGRESS = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
TELLING = '@id("telling") permit(principal is Server, action in Action::"notify_agent", resource);\n'


async def stub(port: int) -> None:
    """Answers a call at once; one whose text is `hold` with a stream on which nothing more comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                body = await reader.readexactly(length)
                if b'"hold"' in body:
                    event = b"data: " + json.dumps(PROGRESS).encode() + b"\n\n"
                    kind = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                    writer.write(b"HTTP/1.1 200 OK\r\n" + kind + b"%x\r\n%b\r\n" % (len(event), event))
                    await reader.read()
                    return
                text = json.dumps(REPLY).encode()
                kind = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(text)
                writer.write(b"HTTP/1.1 200 OK\r\n" + kind + text)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


class Caller:
    """One kept-alive connection of one agent to one gateway."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token, self.number = port, token, 0

    async def open(self) -> Caller:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    def send(self, text: str) -> None:
        self.number += 1
        params = {"name": "echo", "arguments": {"n": self.number, "text": text}, "_meta": META | {"progressToken": 1}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        head = "".join(f"{name}: {value}\r\n" for name, value in headers_for(self.token).items())
        start = f"POST /mcp/stub HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n{head}content-length: {len(body)}\r\n\r\n"
        self.writer.write((start + body).encode())

    async def ask(self, text: str) -> bytes:
        """The body of a whole reply."""
        self.send(text)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        return await self.reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))

    async def hold(self) -> None:
        """Open a stream, and wait for its first message."""
        self.send("hold")
        seen = b""
        while b"notifications/progress" not in seen:
            seen += await self._more()

    async def _more(self) -> bytes:
        more = await self.reader.read(65536)
        if not more:
            raise SystemExit("a gateway closed a stream that was in good standing")
        return more

    async def closed(self) -> float:
        """When the stream was ended for the revocation."""
        seen = b""
        while b"agent_revoked" not in seen:
            seen += await self._more()
        return time.monotonic()

    async def refused(self) -> float:
        """When a call was refused; one that goes through ends the run."""
        if b"agent_revoked" not in (answer := await self.ask("late")):
            raise SystemExit(f"a call that left after the revocation was not refused: {answer[:200]!r}")
        return time.monotonic()


async def set_up(folder: Path, ports: list[int], upstream: int) -> dict[str, str]:
    """A folder with a configuration for each gateway; a token for each agent."""
    from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
    from citywatch.core.wire.mcp import Definition
    from citywatch.main.assembly import open_city
    from citywatch.main.place import read_place
    from citywatch.service.tools import approve, compare

    names = ["loader", *(f"victim-{number}" for number in range(VICTIMS * ROUNDS))]
    (folder / "policies").mkdir()
    (folder / "policies" / "echo.cedar").write_text(POLICY + TELLING)
    for number, port in enumerate(ports):
        config = {
            "trust_domain": "bench.example",
            "listen": [f"http://127.0.0.1:{port}"],
            "agents": {name: {"roles": ["bench"]} for name in names},
            "servers": {"stub": {"url": f"http://127.0.0.1:{upstream}/mcp", "tools": {"echo": {"effect": "read"}}}},
            "limits": {"connections": 4096},
        }
        (folder / f"{number}.yaml").write_text(json.dumps(config))
    tokens = {}
    async with open_city(read_place(folder / "0.yaml")) as city:
        offered = Definition(kind="tool", name="echo", value=TOOL)
        await approve(city.store, city.clock, city.replica.name, compare("stub", [offered], []), "bench")
        for name in names:
            key = open_key(SecretDirectory(make(folder / name)), "key.pem", KeyKind.P256)
            await city.admin.add_agent(name, key.public, "bench")
            tokens[name] = (await city.issuer.token(name)).value.decode()
    return tokens


async def load(caller: Caller, answered: list[int]) -> None:
    """An honest agent at its pace; a refusal ends the run."""
    while True:
        if b'"ok"' not in (answer := await caller.ask("hello")):
            raise SystemExit(f"an honest call was refused: {answer[:200]!r}")
        answered[0] += 1
        await asyncio.sleep(PACE_S)


async def measure(
    folder: Path, ports: list[int], tokens: dict[str, str]
) -> tuple[list[list[float]], list[list[float]]]:
    """Milliseconds to a closed stream and to a refused call, by round."""
    from citywatch.main.assembly import open_city
    from citywatch.main.place import read_place

    answered = [0]
    loads = [asyncio.ensure_future(load(await Caller(port, tokens["loader"]).open(), answered)) for port in ports]
    streams: Rounds = []
    calls: Rounds = []
    async with open_city(read_place(folder / "0.yaml")) as city:
        for number in range(ROUNDS):
            victims = [f"victim-{one}" for one in range(number * VICTIMS, (number + 1) * VICTIMS)]
            holding = {}
            for name in victims:
                both = [
                    (await Caller(port, tokens[name]).open(), await Caller(port, tokens[name]).open()) for port in ports
                ]
                await asyncio.gather(*(held.hold() for held, _ in both), *(late.ask("early") for _, late in both))
                holding[name] = both
            streams.append([])
            calls.append([])
            for name in victims:
                ends = [asyncio.ensure_future(held.closed()) for held, _ in holding[name]]
                await asyncio.sleep(0.02)
                began = time.monotonic()
                await city.admin.revoke_agent(name, "bench", "bench")
                refusals = [asyncio.ensure_future(late.refused()) for _, late in holding[name]]
                async with asyncio.timeout(30):
                    streams[-1] += [(1000 * (end - began)) for end in await asyncio.gather(*ends)]
                    calls[-1] += [(1000 * (end - began)) for end in await asyncio.gather(*refusals)]
            if any(one.done() for one in loads) or not answered[0]:
                raise SystemExit("there was no load")
    for one in loads:
        one.cancel()
    print(f"revoke: {answered[0]} honest calls meanwhile", file=sys.stderr)
    return streams, calls


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def run() -> list[dict[str, Any]]:
    """All rows."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        os.chmod(name, 0o700)
        folder, upstream = Path(name), free_port()
        ports = [free_port() for _ in range(GATEWAYS)]
        tokens = asyncio.run(set_up(folder, ports, upstream))
        spawn(stack, folder, [sys.executable, "-m", "bench.revoke", "stub", str(upstream)], upstream)
        for number, port in enumerate(ports):
            spawn(stack, folder, [sys.executable, "-m", "citywatch", "-c", f"{number}.yaml", "up"], port)
        streams, calls = asyncio.run(measure(folder, ports, tokens))
    n = sum(map(len, streams))
    both = [one + other for one, other in zip(streams, calls, strict=True)]
    return [
        row("revoke.p99_ms", [percentile(one, 0.99) for one in both], "ms", 2 * n),
        row("revoke.p50_ms", [percentile(one, 0.5) for one in both], "ms", 2 * n),
        row("revoke.stream_p99_ms", [percentile(one, 0.99) for one in streams], "ms", n),
        row("revoke.call_p99_ms", [percentile(one, 0.99) for one in calls], "ms", n),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["stub"]:
        asyncio.run(stub(int(sys.argv[2])))
    else:
        for found in run():
            print(found)
