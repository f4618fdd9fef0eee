"""All tool servers of the mesh in one process, each on a port of its own with a token of its own.

Decides nothing about tools. INVARIANT: a server without a token is not started; a request without it reaches no tool.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import MCPServer

from examples.mesh.servers import accounts, invoices, notes, records
from examples.support_desk.servers import crm, ledger, tickets
from examples.support_desk.servers.serving import guarded

BUILD: Mapping[str, Callable[[Path], MCPServer]] = {
    "accounts": accounts.build,
    "crm": crm.build,
    "invoices": invoices.build,
    "ledger": ledger.build,
    "notes": notes.build,
    "records": records.build,
    "tickets": tickets.build,
}


async def serve(data: Path, tokens: Mapping[str, str], listeners: Mapping[str, socket.socket]) -> None:
    """Until standard input ends: whoever started us holds its other end."""
    servers = {}
    for name, build in BUILD.items():
        app = guarded(build(data).streamable_http_app(json_response=True), tokens[name])
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="on")
        servers[name] = uvicorn.Server(config)
    threading.Thread(target=_stop_with_parent, args=(list(servers.values()),), daemon=True).start()
    await asyncio.gather(*(one.serve(sockets=[listeners[name]]) for name, one in servers.items()))


def _stop_with_parent(servers: list[uvicorn.Server]) -> None:
    sys.stdin.buffer.read()
    for one in servers:
        one.should_exit = True
