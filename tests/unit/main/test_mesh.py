"""What `check` and `reach` say of agents that speak to each other, over a real store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from citywatch.core.enforce.mesh import edges
from citywatch.core.manifest import Peer
from citywatch.main.mesh import told
from tests.unit.core.enforce.test_mesh import rules
from tests.unit.main.test_tasks import CONFIG, here, run

__all__ = ["here"]
PEERS = """\
peers:
  billing: {url: 'http://127.0.0.1:1/a2a', callers: [clerk], agent: payer, skills: [invoice, refund]}
  stock: {url: 'http://127.0.0.1:1/a2a', callers: [payer, clerk]}
  back: {url: 'http://127.0.0.1:1/a2a', callers: [payer], agent: clerk}
"""
POLICY = """
@id("clerk") permit(principal == Agent::"spiffe://city.example/agent/clerk", action, resource is Peer)
unless { context.name == "refund" };
@id("look") permit(principal == Agent::"spiffe://city.example/agent/clerk", action == Action::"bank/look", resource);
@id("payer") permit(principal == Agent::"spiffe://city.example/agent/payer", action, resource)
unless { resource == Peer::"stock" };
"""


@pytest.fixture
def mesh(here: Path) -> Path:
    config = CONFIG.replace("agents: {clerk: {}}", "agents: {clerk: {}, payer: {}}")
    (here / "citywatch.yaml").write_text(config + PEERS)
    (here / "policies" / "all.cedar").write_text(POLICY)
    assert run("agent", "add", "payer").exit_code == 0
    return here


def test_check_says_who_may_speak_to_whom_and_where_it_leads_back(mesh: Path) -> None:
    said = run("check").output
    assert "speak           clerk to billing: invoice, refund\n" in said
    assert "speak           payer to back\n" in said
    assert "WARNING         the card of billing is not approved" in said
    assert "circle          clerk -> payer -> clerk: it ends after 8 messages (`max_hops`); none is" in said


def test_check_tells_of_callers_and_peers_that_are_of_no_use() -> None:
    found = rules(
        billing=Peer(callers=("anna", "cleo"), agent="dora"),
        stock=Peer(callers=("bert",)),
        bert=Peer(callers=("anna",)),
    )
    lines = list(told(found, {"billing", "stock", "bert"}))
    assert lines == [
        "speak           anna to bert",
        "speak           anna to billing",
        "WARNING         bert is named beside `peers.stock`, and no policy could let it say a word there",
        "WARNING         cleo is named beside `peers.billing`, and no policy could let it say a word there",
        "WARNING         nobody may speak to stock",
        "WARNING         `peers.bert` has an agent's name and does not say `agent: bert`:",
        "                what it hears is not followed, and circles through it are not counted",
    ]
    assert len(edges(found)) == 2


def test_a_hijacked_clerk_reaches_what_those_can_that_listen_to_it(mesh: Path) -> None:
    said = run("reach", "clerk", "--json")
    found = json.loads(said.output)
    own = {(row["act"], row["conditional"]) for row in found["rows"] if row["argument"] == "message"}
    assert own == {("billing/invoice", False), ("billing/refund", True), ("stock SendMessage", False)}
    assert not any(row["act"].startswith("bank/pay") for row in found["rows"])
    (through,) = found["through"]
    assert through["path"] == ["clerk", "payer"]
    acts = {row["act"] for row in through["rows"]}
    assert {"bank/look", "back SendMessage"} <= acts
    assert "stock SendMessage" in acts, "a condition may let it through: too much is named, never too little"
    assert found["count"] == len(found["rows"]) + len(through["rows"])
    assert "through clerk -> payer, " in run("reach", "clerk").output


def test_with_words_of_a_person_what_is_reached_through_others_is_reached_with_them(mesh: Path) -> None:
    found = json.loads(run("reach", "clerk", "--as", "alice", "--task", "Pay bob", "--json").output)
    (through,) = found["through"]
    assert ("bank/pay", "entitled") in {(row["act"], row["way"]) for row in through["rows"]}


def test_the_number_counts_what_is_reached_through_others(mesh: Path) -> None:
    count = json.loads(run("reach", "clerk", "--json").output)["count"]
    assert run("reach", "clerk", "--max", str(count)).exit_code == 0
    assert run("reach", "clerk", "--max", str(count - 1)).exit_code == 1


def test_whoever_is_not_registered_is_not_there_to_be_spoken_to(mesh: Path) -> None:
    file = mesh / "citywatch.yaml"
    file.write_text(
        file.read_text().replace("agent: payer", "agent: ghost").replace("payer: {}", "payer: {}, ghost: {}")
    )
    assert "through" not in json.loads(run("reach", "clerk", "--json").output)
