"""A resource server of other people's making behind the gateway: it takes the gateway's tokens, and nobody else's."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.gateway.desk import HERE, Desk, listens, wait_for
from tests.fault.test_killed_gateway import MODERN
from tests.ports import free_port

POLICY = """
@id("asking") permit(principal is Agent, action == Action::"ledger/whoami", resource);
@id("going") permit(principal is Agent, action == Action::"oauth:token", resource == Resource::"depot")
unless { context.scopes.contains("more") };
"""
HELPER = "spiffe://t.example/agent/helper"


class Bank(Desk):
    """A desk with a resource server, `ledger`, beside a server that takes no tokens."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(folder, stack)
        self.ledger_port, self.depot_port = free_port(), free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        at = f"http://127.0.0.1:{self.ledger_port}/mcp"
        file = folder / "citywatch.yaml"
        file.write_text(
            file.read_text().replace(
                "agents:\n", f"issuer: {self.issuer}\nagents:\n  helper: {{delegated_only: true}}\n"
            )
            + f"  ledger:\n    url: {at}\n    credential: {{exchange: {{resource: '{at}', scopes: [mcp]}}}}\n"
            + "    tools: {whoami: {effect: read}}\n"
            + "principals:\n  alice: {may: ['*']}\n"
            + f"resources:\n  depot: {{resource: 'http://127.0.0.1:{self.depot_port}/mcp', scopes: [mcp, more]}}\n"
        )
        (folder / "policies" / "ledger.cedar").write_text(POLICY)

    def start_ledger(self, says: str = "", port: int = 0) -> Any:
        if says:
            (self.folder / "resource").write_text(says)
        script, port = str(HERE / "resource_server.py"), port or self.ledger_port
        process = self._spawn([sys.executable, script, str(port), self.issuer, str(self.folder)])
        wait_for(lambda: listens(port), "the resource server")
        return process

    def seen(self) -> list[str]:
        path = self.folder / "seen"
        return path.read_text().split() if path.exists() else []

    def at(self, path: str) -> Any:
        with urllib.request.urlopen(self.issuer + path, timeout=30) as response:
            return json.load(response)


def who(port: int, path: str, token: str, meta: dict[str, Any]) -> tuple[int, Any]:
    """The status and what the server said of the caller, or the code of a refusal."""
    own = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "whoami",
    }
    params = {"name": "whoami", "arguments": {}, "_meta": own | meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    response = httpx2.post(f"http://127.0.0.1:{port}{path}", json=message, headers=headers, timeout=30)
    text = response.text
    if response.status_code == 401:
        return 401, response.headers.get("www-authenticate")
    answer = json.loads(text if text.startswith("{") else text.partition("data: ")[2])
    if "error" in answer:
        return response.status_code, answer["error"]["data"]["code"]
    said = answer["result"]
    return response.status_code, said.get("_meta", {}).get("citywatch/code") or json.loads(said["content"][0]["text"])


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    with ExitStack() as stack:
        yield Bank(tmp_path, stack)


def test_a_server_that_says_it_is_another_resource_is_not_surveyed(bank: Bank) -> None:
    bank.start_upstream()
    bank.start_ledger(says="https://elsewhere.example/mcp")
    bank.up()
    refused = bank.run("tools", "approve", "ledger", "--yes", check=False)
    assert refused.returncode == 1
    assert "ledger: not surveyed" in refused.stderr
    assert bank.seen() == []  # it was shown no token, of this audience or of the one that it would like


def test_a_resource_server_takes_our_tokens_and_no_others(bank: Bank) -> None:
    bank.start_upstream()
    bank.start_ledger()
    bank.run("agent", "add", "clerk")
    added = bank.run("agent", "add", "helper").stdout
    thumb = re.search(r"\(key (\S+)\)", added)
    assert thumb is not None
    bank.up()
    bank.run("tools", "approve", "--yes")
    assert bank.at("/.well-known/oauth-authorization-server")["jwks_uri"] == f"{bank.issuer}/oauth/jwks"

    bank.run("task", "start", "clerk", "--as", "alice", "--grant", "c.json", "Look")
    to = ("--to", HELPER, "--thumb", thumb[1], "--folder", "agents/clerk", "--out", "h.json")
    bank.run("grant", "hand-on", "c.json", *to, "--for", "10m", "--depth", "0")
    chain = json.loads((bank.folder / "h.json").read_text())
    task = json.loads(_payload(chain[0]))["task"]
    shown = {"citywatch/task": task, "citywatch/chain": chain}
    helper, clerk = bank.run("agent", "token", "helper").stdout.strip(), bank.token()

    status, seen = who(bank.port, "/mcp/ledger", helper, shown)
    assert status == 200
    assert seen["sub"] == "principal:alice"
    assert seen["act"] == {"sub": HELPER, "act": {"sub": "spiffe://t.example/agent/clerk"}}
    assert seen["scope"] == "mcp tool:whoami"
    assert (seen["iss"], seen["aud"]) == (bank.issuer, f"http://127.0.0.1:{bank.ledger_port}/mcp")
    assert any(event["type"] == "decided" and event["call"] == seen["txn"] for event in bank.events())

    # What agents hold opens nothing at the server itself, and what is refused here is never seen there
    before = bank.seen()
    for stolen in (helper, clerk, chain[-1]):
        status, told = who(bank.ledger_port, "/mcp", stolen, {})
        assert status == 401
        assert "resource_metadata" in str(told)
    assert who(bank.port, "/mcp/ledger", helper, {})[1] == "chain_missing"
    assert who(bank.port, "/mcp/ledger", clerk, shown)[1] == "chain_not_held"
    through = before
    assert bank.seen()[len(before) :] == [helper, clerk, chain[-1]]  # shown by us, in this test, and by nobody else
    for one in through:
        assert one not in (helper, clerk)
        assert not any(part in one for link in chain for part in link.split("."))

    # A new generation signs: tokens of both are taken, and the old key is gone with its generation
    kids = {key["kid"] for key in bank.at("/oauth/jwks")["keys"]}
    bank.run("authority", "rotate", "--now")
    wait_for(lambda: len(bank.at("/oauth/jwks")["keys"]) == 2, "the next key to be published")
    bank.run("authority", "rotate", "--now")
    bank.run("authority", "rotate", "--now")
    wait_for(lambda: len(bank.at("/oauth/jwks")["keys"]) == 1, "the old key to be gone")
    assert {key["kid"] for key in bank.at("/oauth/jwks")["keys"]}.isdisjoint(kids)
    assert who(bank.ledger_port, "/mcp", through[-1], {})[0] == 401
    assert who(bank.port, "/mcp/ledger", bank.run("agent", "token", "helper").stdout.strip(), shown)[0] == 200


def test_an_agent_goes_to_a_resource_server_with_a_token_for_it_and_nobody_else_does(bank: Bank) -> None:
    bank.start_ledger(port=bank.depot_port)
    bank.run("agent", "add", "clerk")
    bank.run("agent", "add", "helper")
    bank.up()
    bank.run("task", "start", "clerk", "--as", "alice", "--grant", "c.json", "Look")
    chain = json.loads((bank.folder / "c.json").read_text())
    clerk, helper = bank.token(), bank.run("agent", "token", "helper").stdout.strip()
    metadata = bank.at("/.well-known/oauth-authorization-server")
    depot = f"http://127.0.0.1:{bank.depot_port}/mcp"

    def asks(token: str | None, **changes: str) -> httpx2.Response:
        form = {
            "grant_type": metadata["grant_types_supported"][0],
            "subject_token": ",".join(chain),
            "subject_token_type": "urn:citywatch:params:oauth:token-type:grant-chain",
            "resource": depot,
            "scope": "mcp",
            **changes,
        }
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx2.post(metadata["token_endpoint"], data=form, headers=headers, timeout=30)

    given = asks(clerk)
    assert given.status_code == 200, given.text
    assert given.headers["cache-control"] == "no-store"
    told = given.json()
    assert (told["token_type"], told["scope"]) == ("DPoP", "mcp")
    status, seen = who(bank.depot_port, "/mcp", told["access_token"], {})
    assert status == 200
    assert (seen["sub"], seen["act"]) == ("principal:alice", {"sub": "spiffe://t.example/agent/clerk"})
    issued = [one for one in bank.events() if one["type"] == "credential_issued" and one["kind"] == "access"]
    assert [one["call"] for one in issued] == [seen["txn"]]

    jwt = {"actor_token_type": "urn:ietf:params:oauth:token-type:jwt"}
    for token, changes, status, error, code in (
        (None, {}, 401, "invalid_client", "credential_missing"),
        ("no.good.token", {}, 401, "invalid_client", "credential_malformed"),
        (helper, {}, 400, "invalid_request", "chain_not_held"),
        (helper, {**jwt, "actor_token": clerk}, 400, "invalid_request", "actor_mismatch"),
        (clerk, {**jwt, "actor_token": helper}, 400, "invalid_request", "actor_mismatch"),
        (clerk, {"scope": "mcp more"}, 400, "invalid_target", "no_permit"),
        (clerk, {"resource": f"http://127.0.0.1:{bank.ledger_port}/mcp"}, 400, "invalid_target", "server_unknown"),
        (told["access_token"], {}, 401, "invalid_client", "credential_malformed"),
    ):
        refused = asks(token, **changes)
        answer = refused.json()
        assert (refused.status_code, answer["error"], answer["citywatch_code"]) == (status, error, code)
    assert who(bank.port, "/mcp/depot", clerk, {})[1] == "server_unknown"


def _payload(link: str) -> bytes:
    from citywatch.core.signature import parse_b64url

    return parse_b64url(link.split(".")[0])
