"""A resource server that takes its own authorization server's tokens alone: the gateway asks that one for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from citywatch.core.delegation.grant import parse_link
from tests.e2e.gateway.desk import HERE, Desk, listens, wait_for
from tests.e2e.gateway.test_access_tokens import HELPER, POLICY, who
from tests.ports import free_port


class Bank(Desk):
    """A desk with a server `ledger`, an authorization server of the ledger's own, and a gateway that it knows."""

    def __init__(self, folder: Path, stack: ExitStack, grant: str) -> None:
        super().__init__(folder, stack)
        self.ledger_port, self.as_port = free_port(), free_port()
        self.issuer, self.lender = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.as_port}"
        at = f"http://127.0.0.1:{self.ledger_port}/mcp"
        file = folder / "citywatch.yaml"
        file.write_text(
            file.read_text().replace(
                "agents:\n", f"issuer: {self.issuer}\nagents:\n  helper: {{delegated_only: true}}\n"
            )
            + f"  ledger:\n    url: {at}\n    tools: {{whoami: {{effect: read}}}}\n    credential:\n      exchange:\n"
            f"        resource: {at}\n        scopes: [mcp]\n        at:\n          issuer: {self.lender}\n"
            f"          token_endpoint: {self.lender}/token\n          client_id: gateway-at-the-ledger\n"
            f"          grant: {grant}\nprincipals:\n  alice: {{may: ['*']}}\n"
        )
        (folder / "policies" / "ledger.cedar").write_text(POLICY.partition('@id("going")')[0])

    def start(self) -> None:
        self.start_upstream()
        lends, serves = str(HERE / "authorization_server.py"), str(HERE / "resource_server.py")
        self._spawn([sys.executable, lends, str(self.as_port), self.issuer, str(self.folder)])
        self._spawn([sys.executable, serves, str(self.ledger_port), self.lender, str(self.folder)])
        for port in (self.as_port, self.ledger_port):
            wait_for(lambda port=port: listens(port), "a server")  # type: ignore[misc]
        self.run("agent", "add", "clerk")
        added = self.run("agent", "add", "helper").stdout
        self.thumb = added.partition("(key ")[2].partition(")")[0]
        self.up()
        self.run("tools", "approve", "--yes")

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def chained(self, prompt: str) -> tuple[dict[str, Any], str]:
        """What a helper shows for a task of Alice's, and its papers."""
        self.run("task", "start", "clerk", "--as", "alice", "--grant", "c.json", prompt)
        to = ("--to", HELPER, "--thumb", self.thumb, "--folder", "agents/clerk", "--out", "h.json")
        self.run("grant", "hand-on", "c.json", *to, "--for", "10m", "--depth", "0")
        chain = json.loads((self.folder / "h.json").read_text())
        return {"citywatch/task": parse_link(chain[0]).grant.task, "citywatch/chain": chain}, self.run(
            "agent", "token", "helper"
        ).stdout.strip()


@pytest.fixture(params=["token_exchange", "jwt_bearer"])
def bank(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bank]:
    with ExitStack() as stack:
        bank = Bank(tmp_path, stack, request.param)
        bank.start()
        yield bank


def test_the_server_sees_who_acts_for_whom_in_a_token_of_its_own_authorization_server(bank: Bank) -> None:
    shown, helper = bank.chained("Look")
    before = len(bank.lines("asked"))
    status, seen = who(bank.port, "/mcp/ledger", helper, shown)
    assert status == 200, seen
    assert seen["iss"] == bank.lender
    assert seen["sub"] == "principal:alice"
    assert seen["act"] == {"sub": HELPER, "act": {"sub": "spiffe://t.example/agent/clerk"}}
    # Kept for this agent, chain and server, and for nobody else
    assert who(bank.port, "/mcp/ledger", helper, shown)[0] == 200
    assert len(bank.lines("asked")) == before + 1
    status, seen = who(bank.port, "/mcp/ledger", bank.token(), {})
    assert (status, seen["sub"]) == (200, "spiffe://t.example/agent/clerk")
    assert len(bank.lines("asked")) == before + 2
    # What agents hold was shown to no server, and what servers were shown stands in no log
    told = (bank.folder / "up.log").read_text() + json.dumps(bank.events())
    for token in bank.lines("seen"):
        assert token not in (helper, bank.token())
        assert token not in told
    # A revocation drops what was lent
    bank.run("agent", "revoke", "helper", "--reason", "turned")
    assert who(bank.port, "/mcp/ledger", helper, shown)[1] == "agent_revoked"
    clerk = bank.token()

    def asked_anew() -> bool:
        assert who(bank.port, "/mcp/ledger", clerk, {})[0] == 200
        return len(bank.lines("asked")) == before + 3

    wait_for(asked_anew, "the gateway to hear of it")


@pytest.mark.parametrize("trick", ["resource", "redirect", "echo"])
def test_what_the_authorization_server_may_not_do_reaches_nobody(bank: Bank, trick: str) -> None:
    (bank.folder / "mischief").write_text(trick)
    before = bank.lines("seen")
    assert who(bank.port, "/mcp/ledger", bank.token(), {})[1] == "upstream_unavailable"
    assert bank.lines("seen") == before
    assert "/elsewhere" not in bank.lines("asked")
    (bank.folder / "mischief").unlink()
    assert who(bank.port, "/mcp/ledger", bank.token(), {})[0] == 200  # what failed was kept for nobody
