"""How a server of the desk is put on a loopback port, with a token that its callers must know.

Decides nothing about tools. INVARIANT: a request without the exact token reaches no tool.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.types import ASGIApp, Receive, Scope, Send


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """One connection for one tool call: committed when the call succeeds, rolled back when it raises."""
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.close()


def serve(build: Callable[[Path], MCPServer], token_variable: str, *, json_response: bool) -> None:
    """Serve on loopback until told to stop; the first line on stdout says where, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="the folder with the desk's databases")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    options = parser.parse_args()
    token = os.environ.get(token_variable, "")
    if not token:
        parser.error(f"set {token_variable}: a server of the desk never runs without a token")
    app = build(options.data).streamable_http_app(json_response=json_response)
    config = uvicorn.Config(
        guarded(app, token), log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="on"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        if options.with_parent:
            threading.Thread(target=_stop_with_parent, args=(server,), daemon=True).start()
        print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"}), flush=True)
        server.run(sockets=[listener])


def guarded(app: ASGIApp, token: str) -> ASGIApp:
    """The same application, for callers who know the token."""
    expected = f"Bearer {token}".encode()

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            if len(given) != 1 or not hmac.compare_digest(given[0], expected):
                headers = [(b"www-authenticate", b"Bearer"), (b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 401, "headers": headers})
                await send({"type": "http.response.body", "body": b""})
                return
        await app(scope, receive, send)

    return guard


def _stop_with_parent(server: uvicorn.Server) -> None:
    # Whoever started us holds the other end of this pipe; even a killed parent closes it, so no server is orphaned.
    sys.stdin.buffer.read()
    server.should_exit = True
