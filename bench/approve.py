"""From a person's yes, given in another process, to the reply of the call that waited for it.

A gateway process started by its own command line, a stub that answers calls, and an agent that calls a tool about which
a person is asked: it asks for the ticket over the gateway's own route, as `citywatch.sdk` does, and sends the call once
more when that says so. Who approves is a third process, which opened the same state folder, as the console and
`citywatch tickets` do. The clock starts before the approval is committed and stops when the agent holds the tool's
reply: the commit (synced), the gateway's noticing, the second judgement (synced), the stub and the way back are in it.
Others wait at the same time for answers that nobody gives. Run it: `python -m bench.approve`.
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
from bench.gateway import META, free_port, headers_for, make, spawn
from bench.revoke import percentile

ROUNDS = 3
ANSWERS = 70
BYSTANDERS = 20
"""Agents that wait meanwhile."""
POLICY = '@id("pay") permit(principal in Role::"bench", action == Action::"stub/pay", resource);\n'
TOOL = {
    "name": "pay",
    "description": "Pays.",
    "inputSchema": {"type": "object", "properties": {"to": {"type": "string"}, "amount": {"type": "integer"}}},
}
PARAMETERS = {"to": {"type": "string", "role": "destination"}, "amount": {"type": "integer", "role": "amount"}}


class Agent:
    """One kept-alive connection of one agent to the gateway."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token

    async def open(self) -> Agent:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def post(self, path: str, headers: dict[str, str], value: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(value)
        head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        start = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n{head}content-length: {len(body)}\r\n\r\n"
        self.writer.write((start + body).encode())
        shown = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(shown.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found: dict[str, Any] = json.loads(await self.reader.readexactly(length))
        return found

    async def pay(self, amount: int) -> dict[str, Any]:
        params = {"name": "pay", "arguments": {"to": "eve", "amount": amount}, "_meta": META}
        headers = headers_for(self.token) | {"Mcp-Name": "pay"}
        told = await self.post(
            "/mcp/stub", headers, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        )
        found: dict[str, Any] = told["result"]
        return found

    async def ticket(self, amount: int) -> str:
        """Make the call that a person is asked about; the ticket."""
        told = await self.pay(amount)
        if told["_meta"]["citywatch/code"] != "approval_required":
            raise SystemExit(f"nobody was asked: {told}")
        return str(told["_meta"]["citywatch/ticket"])

    async def waited(self, ticket: str) -> str:
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        told = await self.post("/citywatch/ticket", headers, {"ticket": ticket, "wait_ms": 20_000})
        return str(told["state"])

    async def let_through(self, ticket: str, amount: int) -> float:
        """When the reply of the call is here that waits for this ticket; any other end ends the run."""
        while (state := await self.waited(ticket)) == "pending":
            pass
        told = await self.pay(amount)
        if state != "approved" or told["content"][0]["text"] != "ok":
            raise SystemExit(f"the call was {state} and got {told}")
        return time.monotonic()


async def set_up(folder: Path, port: int, upstream: int) -> dict[str, str]:
    """A folder with a configuration; a token for each agent."""
    from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
    from citywatch.core.wire.mcp import Definition
    from citywatch.main.assembly import open_city
    from citywatch.main.place import read_place
    from citywatch.service.tools import approve, compare

    names = ["payer", *(f"bystander-{number}" for number in range(BYSTANDERS))]
    (folder / "policies").mkdir()
    (folder / "policies" / "pay.cedar").write_text(POLICY)
    tools = {"pay": {"effect": "irreversible", "parameters": PARAMETERS}}
    config = {
        "trust_domain": "bench.example",
        "listen": [f"http://127.0.0.1:{port}"],
        "agents": {name: {"roles": ["bench"]} for name in names},
        "principals": {"alice": {"may": ["stub/*"]}},
        "servers": {"stub": {"url": f"http://127.0.0.1:{upstream}/mcp", "tools": tools}},
    }
    (folder / "citywatch.yaml").write_text(json.dumps(config))
    tokens = {}
    async with open_city(read_place(folder / "citywatch.yaml")) as city:
        offered = Definition(kind="tool", name="pay", value=TOOL)
        await approve(city.store, city.clock, city.replica.name, compare("stub", [offered], []), "bench")
        for name in names:
            key = open_key(SecretDirectory(make(folder / name)), "key.pem", KeyKind.P256)
            await city.admin.add_agent(name, key.public, "bench")
            tokens[name] = (await city.issuer.token(name)).value.decode()
    return tokens


async def approver(file: Path) -> None:
    """Approve each ticket that is named on a line; say when that began."""
    from citywatch.main.assembly import open_city
    from citywatch.main.place import read_place
    from citywatch.service.tickets import Tickets

    async with open_city(read_place(file)) as city:
        tickets = Tickets(store=city.store, clock=city.clock, replica=city.replica.name, named=False)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            began = time.monotonic()
            await tickets.answer(line.strip(), True, "bench", "bench", principal="alice")
            print(began, flush=True)


async def measure(folder: Path, port: int, tokens: dict[str, str]) -> list[list[float]]:
    """Milliseconds from the approval to the reply, by round."""
    idle = [await Agent(port, token).open() for name, token in tokens.items() if name != "payer"]
    waits = [asyncio.ensure_future(one.waited(await one.ticket(1))) for one in idle]
    command = [sys.executable, "-m", "bench.approve", "approver", str(folder / "citywatch.yaml")]
    person = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    if person.stdin is None or person.stdout is None:
        raise SystemExit("the approver has no pipes")
    await person.stdout.readline()
    agent = await Agent(port, tokens["payer"]).open()
    rounds: list[list[float]] = []
    try:
        for number in range(ROUNDS):
            rounds.append([])
            for amount in range(number * ANSWERS, (number + 1) * ANSWERS):
                ticket = await agent.ticket(amount)
                reply = asyncio.ensure_future(agent.let_through(ticket, amount))
                await asyncio.sleep(0.01 + amount % 7 / 1000)  # it waits by now, at no fixed point between two looks
                person.stdin.write(f"{ticket}\n".encode())
                began = float(await person.stdout.readline())
                async with asyncio.timeout(30):
                    rounds[-1].append(1000 * (await reply - began))
    finally:
        person.stdin.close()
        await person.wait()
        for wait in waits:
            wait.cancel()
    return rounds


def run() -> list[dict[str, Any]]:
    """All rows."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        os.chmod(name, 0o700)
        folder, port, upstream = Path(name), free_port(), free_port()
        tokens = asyncio.run(set_up(folder, port, upstream))
        spawn(stack, folder, [sys.executable, "-m", "bench.revoke", "stub", str(upstream)], upstream)
        spawn(stack, folder, [sys.executable, "-m", "citywatch", "up"], port)
        rounds = asyncio.run(measure(folder, port, tokens))
    n = sum(map(len, rounds))
    return [
        row("approve.p99_ms", [percentile(one, 0.99) for one in rounds], "ms", n),
        row("approve.p50_ms", [percentile(one, 0.5) for one in rounds], "ms", n),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["approver"]:
        asyncio.run(approver(Path(sys.argv[2])))
    else:
        for found in run():
            print(found)
