"""A small MCP server to try citywatch with: notes in memory, and a tool that sends one away (it only prints it).

    python3 notes_server.py [PORT] [--open]

It needs nothing but Python and serves MCP 2025-11-25 on http://127.0.0.1:9001/mcp; another PORT may be given, 0 takes a
free one. Whoever asks has to show the token in the file `notes.token`, which it writes when there is none: the gateway
reads it there, agents must not. With --open it serves whoever reaches it, as many servers do.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = Path("notes.token")
NOTES = {"plan": "1. put a watch before the tools  2. see it refuse  3. hand the log to somebody else"}
TEXT = {"type": "string"}


def tool(name: str, description: str, **parameters: dict[str, str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": parameters, "required": sorted(parameters), "additionalProperties": False}
    return {"name": name, "description": description, "inputSchema": schema}


TOOLS = [
    tool("list_notes", "The titles of all notes."),
    tool("read_note", "Read one note.", title=TEXT),
    tool("write_note", "Write one note.", title=TEXT, text=TEXT),
    tool("send_note", "Send a note to an e-mail address.", title=TEXT, to=TEXT),
]


def call(name: str, arguments: dict[str, str]) -> str:
    """Run one tool; a `KeyError` means that there is no such tool, argument or note."""
    if name == "list_notes":
        return "\n".join(sorted(NOTES))
    if name == "read_note":
        return NOTES[arguments["title"]]
    if name == "write_note":
        NOTES[arguments["title"]] = arguments["text"]
        return "written"
    if name == "send_note":
        print(f"sent `{arguments['title']}` to {arguments['to']}: {NOTES[arguments['title']]}", flush=True)
        return "sent"
    raise KeyError(name)


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The result of one request; a `LookupError` for a method that this server does not have."""
    if method == "initialize":
        about = {"name": "notes", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        try:
            text, failed = call(params["name"], params.get("arguments") or {}), False
        except KeyError as missing:
            text, failed = f"there is no {missing}", True
        return {"content": [{"type": "text", "text": text}], "isError": failed}
    raise LookupError(method)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    token: str | None = None  # None: whoever reaches it

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        shown = self.headers["Authorization"] or ""
        if self.token and not hmac.compare_digest(shown.encode(), f"Bearer {self.token}".encode()):
            refusal = {"code": -32001, "message": "this server wants its token, and you have none"}
            self._send(401, json.dumps({"jsonrpc": "2.0", "id": None, "error": refusal}).encode())
            return
        message = json.loads(body)
        if "id" not in message:
            self._send(202, b"")
            return
        reply = {"jsonrpc": "2.0", "id": message["id"]}
        try:
            reply["result"] = answer(message["method"], message.get("params") or {})
        except LookupError:
            reply["error"] = {"code": -32601, "message": "no such method"}
        self._send(200, json.dumps(reply).encode())

    def do_GET(self) -> None:
        self._send(405, b"")

    do_DELETE = do_GET

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing per request; a note that leaves is printed by the tool."""


def read_token() -> str:
    """The token that callers have to show; drawn when the server starts for the first time."""
    if not TOKEN.exists():
        with os.fdopen(os.open(TOKEN, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    return TOKEN.read_text(encoding="ascii").strip()


if __name__ == "__main__":
    ports = [int(word) for word in sys.argv[1:] if word != "--open"]
    token = read_token()
    Handler.token = None if "--open" in sys.argv else token
    server = ThreadingHTTPServer(("127.0.0.1", ports[0] if ports else 9001), Handler)
    served = "" if Handler.token else ", for whoever reaches it"
    print(f"notes on http://127.0.0.1:{server.server_port}/mcp{served}", flush=True)
    server.serve_forever()
