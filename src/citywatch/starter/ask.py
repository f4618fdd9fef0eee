"""Call one tool of an MCP server, as an agent would: a stand-in to try citywatch with. Nothing but Python is needed.

    python3 ask.py URL                      the tools that the server offers
    python3 ask.py URL TOOL name=value ...  call one of them

A token in the variable CITYWATCH_TOKEN is sent along. Exit code 1 if the call failed or was refused.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener


def ask(url: str, method: str, params: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    """Send one request and return its JSON-RPC answer, be it a result or an error."""
    if not url.startswith(("http://", "https://")):
        raise SystemExit(f"`{url}` is not an http address")
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    direct = build_opener(ProxyHandler({}))
    try:
        with direct.open(Request(url, body, headers), timeout=30) as reply:  # noqa: S310 (checked above)
            answer: dict[str, Any] = json.load(reply)
    except HTTPError as refused:
        answer = json.load(refused)
    return answer


def main(words: list[str]) -> int:
    url, tool, arguments = words[0], words[1:2], dict(word.split("=", 1) for word in words[2:])
    token = os.environ.get("CITYWATCH_TOKEN")
    if not tool:
        answer = ask(url, "tools/list", {}, token)
    else:
        answer = ask(url, "tools/call", {"name": tool[0], "arguments": arguments}, token)
    if "error" in answer:
        print(answer["error"]["message"])
        return 1
    result = answer["result"]
    for line in result.get("tools") or result["content"]:
        print(f"{line['name']}: {line['description']}" if "name" in line else line["text"])
    return 1 if result.get("isError") else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__)
        sys.exit(2)
    sys.exit(main(sys.argv[1:]))
