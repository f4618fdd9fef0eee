"""An agent that signs its messages, and one that is vouched for, at a real gateway, over the command line."""

from __future__ import annotations

import http.client
import json
import os
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from citywatch.adapters.keys import KeyKind, SecretDirectory, load_key
from citywatch.core.http_signature import Head
from citywatch.core.identity.vc import parse_multikey, verify_proof
from citywatch.service.signing import sign_message
from tests.e2e.gateway.desk import Desk
from tests.signed import Sent

ONLY_VOUCHED = """
@id("as-accepted") forbid(principal is Agent, action in Action::"read", resource)
unless { principal has credential && principal.credential has model && principal.credential.model == "m-1" };
"""


def signed(desk: Desk, token: bytes, server: str = "desk") -> Sent:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"name": "look", "arguments": {}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = Head(
        method="POST",
        target=f"/mcp/{server}".encode(),
        secure=False,
        headers=[
            (b"host", f"127.0.0.1:{desk.port}".encode()),
            (b"accept", b"application/json, text/event-stream"),
            (b"content-type", b"application/json"),
            (b"mcp-protocol-version", b"2026-07-28"),
            (b"mcp-method", b"tools/call"),
            (b"mcp-name", b"look"),
        ],
    )
    key = load_key(SecretDirectory(desk.folder / "agents" / "clerk"), "key.pem", KeyKind.P256)
    added = sign_message(head, body, token, key, now=int(time.time() * 1000), nonce=os.urandom(16).hex())
    return Sent(msgspec.structs.replace(head, headers=[*head.headers, *added]), body)


def post(desk: Desk, sent: Sent) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", desk.port, timeout=30)
    try:
        headers = {name.decode(): value.decode() for name, value in sent.head.headers}
        connection.request("POST", sent.head.target.decode(), sent.body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_a_signed_message_is_taken_once_and_a_claim_decides(tmp_path: Path) -> None:
    with ExitStack() as stack:
        desk = Desk(tmp_path, stack)
        (tmp_path / "policies" / "vouched.cedar").write_text(ONLY_VOUCHED)
        prompt = tmp_path / "prompt.md"
        prompt.write_text("You keep the desk.")
        desk.start_upstream()
        desk.run("agent", "add", "clerk")
        desk.run("tools", "approve", "--yes")
        desk.up()
        token = desk.run("agent", "token", "clerk", "--kind", "wit").stdout.strip().encode()

        status, told = post(desk, signed(desk, token))
        assert status == 200, told
        assert "forbidden" in told, "nobody vouches for the clerk"

        document = json.loads(
            desk.run(
                "agent", "credential", "clerk", "--owner", "Desk", "--model", "m-1", "--prompt", str(prompt)
            ).stdout
        )
        method = document["proof"]["verificationMethod"]
        verify_proof(document, method, parse_multikey(method.partition("#")[2]))
        assert document["credentialSubject"]["prompt"].startswith("sha256:")

        sent = signed(desk, token)
        status, told = post(desk, sent)
        assert (status, "forbidden" in told) == (200, False), told
        status, told = post(desk, sent)
        assert (status, "credential_expired" in told) == (401, True), told

        desk.run("agent", "credential", "clerk", "--owner", "Desk", "--model", "m-2")
        assert "forbidden" in post(desk, signed(desk, token))[1]
        (tmp_path / "brought.json").write_text(json.dumps(document))
        issuer, key = document["issuer"], method.partition("#")[2]
        brought = ("--from", "brought.json", "--issuer", issuer, "--issuer-key")
        desk.run("agent", "credential", "clerk", *brought, key)
        assert "forbidden" not in post(desk, signed(desk, token))[1]
        refused = desk.run("agent", "credential", "clerk", *brought, "z6Mk", check=False)
        assert refused.returncode != 0
        assert desk.run("agent", "credential", "clerk", *brought[:2], check=False).returncode == 2
        assert desk.run("agent", "credential", "clerk", check=False).returncode == 2
        desk.run("agent", "credential", "clerk", "--withdraw")
        assert "forbidden" in post(desk, signed(desk, token))[1]

        kinds = [event["type"] for event in desk.events()]
        assert kinds.count("agent_vouched") == 4
        assert {event["kind"] for event in desk.events() if event["type"] == "credential_issued"} == {"wit"}
