"""Handles end to end: the SDK's client, a gateway process, a server on the SDK, and a reader over HTTP."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.gateway.desk import Desk

HANDLE = re.compile(r"cw:[a-z2-7]{26}-[0-9]+")
CONFIG = """
trust_domain: t.example
listen: ["http://127.0.0.1:{port}"]
agents:
  clerk: {{roles: [payer]}}
principals:
  alice: {{may: ["desk/*"]}}
reader: {{url: "http://127.0.0.1:{reader}/v1", model: tiny, credential: {{file: reader.key}}}}
servers:
  desk:
    url: http://127.0.0.1:{upstream}/mcp
    tools:
      look: {{effect: read, output: {{"$": {{label: untrusted, handle: true}}}}}}
      pay:
        effect: write
        parameters: {{to: {{role: content}}, amount: {{role: amount}}}}
"""
POLICY = """
@id("all") permit(principal is Agent, action, resource);
"""


@contextmanager
def reader(answer: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """An OpenAI-compatible endpoint that always says the same; its port, and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append({"path": self.path, "authorization": self.headers["authorization"], **body})
            said = json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@asynccontextmanager
async def client(desk: Desk, server: str, mode: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {desk.token()}"}
    url = f"http://127.0.0.1:{desk.port}/mcp/{server}"
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as connected,
    ):
        yield connected


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_text_goes_where_it_belongs_and_no_model_reads_it(new_desk: Desk, mode: str) -> None:
    desk = new_desk
    with reader("4711") as (port, asked):
        config = CONFIG.format(port=desk.port, upstream=desk.upstream_port, reader=port)
        (desk.folder / "citywatch.yaml").write_text(config)
        (desk.folder / "policies" / "desk.cedar").write_text(POLICY)
        (desk.folder / "reader.key").write_text("sk-reader\n")
        desk.start_upstream()
        desk.run("agent", "add", "clerk")
        desk.run("tools", "approve", "--yes")
        desk.up()
        desk.run("task", "start", "clerk", "--as", "alice", "Pay what invoice 4711 is about, 5")
        async with client(desk, "desk", mode) as agent:
            looked = await agent.call_tool("look", {"what": "invoice 4711"})
            shown = json.dumps(looked.structured_content) + looked.content[0].text  # type: ignore[union-attr]
            assert "looked at" not in shown
            handle = HANDLE.findall(shown)[0]
            assert not (await agent.call_tool("pay", {"to": f"of {handle}", "amount": 5})).is_error
            made_up = await agent.call_tool("pay", {"to": "cw:" + "a" * 26 + "-0", "amount": 5})
            assert (made_up.meta or {})["citywatch/code"] == "handle_unknown"
        assert desk.ledger() == ["of looked at invoice 4711 5"]
        async with client(desk, "citywatch", mode) as agent:
            assert {one.name for one in (await agent.list_tools()).tools} == {"ask", "derive", "list_values"}
            question = {"text": handle, "question": "Which invoice?", "type": "number"}
            answer = await agent.call_tool("ask", question)
            assert answer.structured_content == {"found": True, "answer": 4711}
    assert (asked[0]["path"], asked[0]["authorization"]) == ("/v1/chat/completions", "Bearer sk-reader")
    assert "looked at invoice 4711" in asked[0]["messages"][1]["content"]
    assert "tools" not in asked[0]
    given = next(one for one in desk.events() if one["type"] == "settled" and one["handles"])
    assert handle.startswith(f"cw:{given['shelf']}-")
