"""A server on the official SDK, over its pipes or over HTTP: `python sdk_server.py stdio | http PORT`."""

from __future__ import annotations

import sys
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

server = MCPServer("contract", instructions="Be brief.", log_level="ERROR")


class Choice(BaseModel):
    account: str


@server.tool()
async def add(one: int, other: int) -> int:
    """Add two numbers."""
    return one + other


@server.tool()
async def count(to: int, context: Context[Any, Any]) -> str:
    """Count, reporting progress."""
    for number in range(to):
        await context.report_progress(number, to)
    return "done"


@server.tool()
async def ask(context: Context[Any, Any]) -> str:
    """Ask the agent's user for an account."""
    answer = await context.elicit("which account?", Choice)
    return f"{answer.action}: {answer.data.account if answer.action == 'accept' else ''}"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(sys.argv[2]))
