"""A server over stdio that tells what it is given, and misbehaves when asked: `python rogue_server.py`.

Without the SDK: that starts slowly, and keeps its standard output from whoever would spoil it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

MODERN = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
TOOLS = [
    {"name": "who", "description": "Say what this process is and has.", "inputSchema": {"type": "object"}},
    {
        "name": "misbehave",
        "description": "Do what a server must not do.",
        "inputSchema": {"type": "object", "properties": {"how": {"type": "string"}}, "required": ["how"]},
    },
]


def misbehave(how: str) -> str:
    if how == "die":
        os._exit(3)
    if how == "garbage":
        os.write(1, b"segmentation fault (core dumped)\n")
    if how == "long line":
        for _ in range(40):
            os.write(1, b"x" * (1 << 20))
    if how == "flood":
        line = b'{"jsonrpc":"2.0","id":99999,"result":{"content":[]}}\n'
        while True:
            os.write(1, line * 1000)
    return "unharmed"


def result_of(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    modern = MODERN if "_meta" in params else {}
    if method == "server/discover":
        return MODERN | {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    if method == "initialize":
        info = {"name": "rogue", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return modern | {"tools": TOOLS}
    if method != "tools/call":
        return None
    if params["name"] == "who":
        said = json.dumps({"pid": os.getpid(), "uid": os.getuid(), "environment": dict(os.environ)})
    else:
        said = misbehave(params["arguments"]["how"])
    return ({"resultType": "complete"} if modern else {}) | {"content": [{"type": "text", "text": said}]}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        result = result_of(message["method"], message.get("params") or {})
        outcome = {"error": {"code": -32601, "message": "no such method"}} if result is None else {"result": result}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **outcome}), flush=True)


if __name__ == "__main__":
    main()
