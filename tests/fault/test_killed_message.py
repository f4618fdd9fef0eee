"""A real gateway killed by SIGKILL while a message waits for a person: no ticket is lost, and none is sent on twice."""

from __future__ import annotations

import json
import signal
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway.desk import Desk
from tests.fault.test_killed_wait import UNDECIDED

ASKING = """
principals: {{alice: {{may: ['*']}}}}
temporal_rules: rules
peers:
  billing: {{url: 'http://127.0.0.1:{port}/a2a', callers: [clerk]}}
"""
RULES = 'ask talk per agent when server is "billing" and effect is "irreversible";\n'
POLICY = '@id("t") permit(principal, action == Action::"a2a:SendMessage", resource == Peer::"billing");\n'
STEPS = ("before the decision commits", "after the decision commits", "after forwarding", "after the reply commits")


class Billing(BaseHTTPRequestHandler):
    """Says yes to everything, and counts it."""

    heard: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.heard.append(body["params"]["message"]["messageId"])
        told = {"messageId": "r", "role": "ROLE_AGENT", "parts": [{"text": "done"}]}
        answer = json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": {"message": told}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: Any) -> None:
        """What it is asked stands in `heard`."""


class Asking:
    """The desk where a person is asked about each message to billing."""

    def __init__(self, desk: Desk, heard: list[str]) -> None:
        self.desk, self.heard = desk, heard

    def say(self, token: str, name: str, task: str = "") -> dict[str, Any] | None:
        """Say something to billing; None if the gateway died under it."""
        message = {"messageId": name, "role": "ROLE_USER", "parts": [{"text": "pay eve"}]}
        message |= {"taskId": task} if task else {}
        params = {"message": message, "configuration": {"returnImmediately": True}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}).encode()
        headers = {"Authorization": f"Bearer {token}", "A2A-Version": "1.0", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.desk.port}/a2a/billing", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                found: dict[str, Any] = json.loads(response.read())
        except (urllib.error.URLError, HTTPException, OSError):
            return None
        return found

    def begin(self, token: str, name: str) -> tuple[str, str]:
        told = self.say(token, name)
        assert told is not None
        task = told["result"]["task"]
        assert task["status"]["state"] == "TASK_STATE_AUTH_REQUIRED"
        return task["id"], task["metadata"]["citywatch/ticket"]

    def approve(self, ticket: str) -> None:
        self.desk.run("tickets", "approve", ticket, "--as", "alice", "--reason", "known")


@pytest.fixture
def asking(ready_desk: Desk) -> Iterator[Asking]:
    heard: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Billing,), {"heard": heard}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file, rules = ready_desk.folder / "citywatch.yaml", ready_desk.folder / "policies" / "talk.cedar"
    plain = file.read_text()
    file.write_text(plain + ASKING.format(port=server.server_port))
    (ready_desk.folder / "rules").write_text(RULES)
    rules.write_text(POLICY)
    yield Asking(ready_desk, heard)
    ready_desk.down()
    file.write_text(plain)
    rules.unlink()
    server.shutdown()
    server.server_close()


def went_through(told: dict[str, Any] | None) -> bool:
    return told is not None and "message" in told.get("result", {})


@pytest.mark.parametrize("step", STEPS)
def test_a_message_outlives_the_gateway_and_goes_on_at_most_once_wherever_it_dies(asking: Asking, step: str) -> None:
    desk, name = asking.desk, step.replace(" ", "-")
    token, process = desk.token(), desk.up()
    task, ticket = asking.begin(token, name)
    process.kill()
    process.wait()
    asking.approve(ticket)
    process = desk.up([sys.executable, str(Path(__file__).parent / "doomed.py"), step])
    (desk.folder / "armed").touch()
    asking.say(token, name, task)
    assert process.wait(30) == -signal.SIGKILL
    (desk.folder / "armed").unlink()
    moved = asking.heard.count(name)
    assert moved <= (step not in UNDECIDED)

    desk.up()
    later = [asking.say(token, name, task) for _ in range(3)]
    assert [went_through(one) for one in later] == [step in UNDECIDED, False, False]
    assert asking.heard.count(name) == (1 if step in UNDECIDED else moved)
    again = asking.say(token, name)
    assert again is not None
    assert again["result"]["task"]["id"] != task, "who says it again is asked about anew"
    desk.run("log", "verify")
