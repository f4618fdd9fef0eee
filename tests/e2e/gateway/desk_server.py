"""A small MCP server on the official SDK, for tests: `python desk_server.py PORT FOLDER` or, without a port, stdio."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer

folder = Path(sys.argv[-1])
server = MCPServer("desk", instructions="Pay only what is owed.")


described = folder / "description"


@server.tool(description=described.read_text() if described.exists() else "Look something up.")
def look(what: str = "all") -> str:
    return f"looked at {what}"


@server.tool()
def pay(to: str, amount: int) -> str:
    """Pay money."""
    with (folder / "ledger").open("a") as ledger:
        ledger.write(f"{to} {amount}\n")
    return "paid"


@server.tool()
async def count(upto: int, context: Context) -> str:
    """Count, and say how far."""
    for step in range(upto):
        await context.report_progress(step, upto)
    return "counted"


@server.tool()
async def nap(seconds: float, context: Context) -> str:
    """Sleep before answering, until somebody leaves a file `wake` at the latest."""
    (folder / "napping").touch()
    await context.report_progress(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (folder / "wake").exists():
        await asyncio.sleep(0.02)
    return "awake"


@server.resource("desk://note")
def note() -> str:
    """A note."""
    return "a note"


@server.prompt()
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Greet {name}."


if __name__ == "__main__":
    if len(sys.argv) == 3:
        server.run(transport="streamable-http", port=int(sys.argv[1]))
    else:
        server.run(transport="stdio")
