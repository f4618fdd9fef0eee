"""The gateway beside fastmcp's proxy, which forwards and decides nothing: one stub server, one load, one run.

The stub is a server on the official SDK (a proxy must be able to greet it); the load are four SDK clients of the
stateless revision, each on one kept-alive connection. Run it: `python -m bench.fastmcp`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

from bench.decide import row
from bench.gateway import free_port, spawn

ROUNDS = 3
SECONDS = 4.0
CLIENTS = 4

STUB = """
import sys
from mcp.server.mcpserver import MCPServer
server = MCPServer("stub")
@server.tool()
def echo(n: int) -> str:
    return "ok"
server.run(transport="streamable-http", port=int(sys.argv[1]), stateless_http=True, json_response=True)
"""
PROXY = """
import sys
from fastmcp.server import create_proxy
create_proxy(sys.argv[2]).run(
    transport="http", host="127.0.0.1", port=int(sys.argv[1]), path="/mcp", stateless_http=True, json_response=True
)
"""


async def calls_per_second(url: str, token: str) -> float:
    """How many tool calls the clients get answered in `SECONDS`; any failure ends the run."""
    import httpx2
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(CLIENTS):
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=60))
            transport = streamable_http_client(url, http_client=http)
            clients.append(await stack.enter_async_context(Client(transport)))
        end = time.perf_counter() + SECONDS
        counts = await asyncio.gather(*(_load(client, end, number) for number, client in enumerate(clients)))
    return sum(counts) / SECONDS


async def _load(client: Any, end: float, seed: int) -> int:
    count = 0
    while time.perf_counter() < end:
        result = await client.call_tool("echo", {"n": seed * 10_000_000 + count})
        if result.is_error:
            raise SystemExit(f"a call failed: {result}")
        count += 1
    return count


def run() -> list[dict[str, Any]]:
    """The rows; empty, with a word why, where fastmcp lacks."""
    if importlib.util.find_spec("fastmcp") is None:
        print("bench.fastmcp: not measured, for want of fastmcp (`make bench` installs it)")
        return []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o700)
        stub, proxy, gateway = free_port(), free_port(), free_port()
        upstream = f"http://127.0.0.1:{stub}/mcp"
        (folder / "stub.py").write_text(STUB)
        (folder / "proxy.py").write_text(PROXY)
        (folder / "policies").mkdir()
        (folder / "policies" / "echo.cedar").write_text(
            '@id("all") permit(principal in Role::"bench", action, resource);'
        )
        config = {
            "trust_domain": "bench.example",
            "listen": [f"http://127.0.0.1:{gateway}"],
            "agents": {"loader": {"roles": ["bench"]}},
            "servers": {"stub": {"url": upstream, "tools": {"echo": {"effect": "read"}}}},
        }
        (folder / "citywatch.yaml").write_text(json.dumps(config))
        spawn(stack, folder, [sys.executable, "stub.py", str(stub)], stub)
        spawn(stack, folder, [sys.executable, "proxy.py", str(proxy), upstream], proxy)
        for arguments in (["agent", "add", "loader"], ["tools", "approve", "--yes"]):
            citywatch(folder, *arguments)
        token = citywatch(folder, "agent", "token", "loader").strip()
        spawn(stack, folder, [sys.executable, "-m", "citywatch", "up"], gateway)
        ours, theirs, direct = [], [], []
        for _ in range(ROUNDS):
            ours.append(asyncio.run(calls_per_second(f"http://127.0.0.1:{gateway}/mcp/stub", token)))
            theirs.append(asyncio.run(calls_per_second(f"http://127.0.0.1:{proxy}/mcp", "")))
            direct.append(asyncio.run(calls_per_second(upstream, "")))
    number = int(sum(ours) * SECONDS)
    return [
        row("gateway.vs_fastmcp", ours, "1/s", number, "fastmcp.rps", theirs),
        row("fastmcp.rps", theirs, "1/s", int(sum(theirs) * SECONDS), "sdk.direct_rps", direct),
        row("sdk.direct_rps", direct, "1/s", int(sum(direct) * SECONDS)),
    ]


def citywatch(folder: Path, *arguments: str) -> str:
    import subprocess

    command = [sys.executable, "-m", "citywatch", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    for found in run():
        print(found)
