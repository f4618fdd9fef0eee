"""What exists for policies, and the Cedar schema that follows from it."""

from __future__ import annotations

import cedarpy
import pytest

from citywatch.core.call import Direction, Effect
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.manifest import SILENT, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.policy.facts import (
    NAMED,
    agent_entity,
    method_action,
    method_actions,
    method_context,
    tool_action,
    tool_context,
)
from citywatch.core.policy.values import CedarSet, Datetime, Uid
from citywatch.core.policy.world import AgentFacts, ToolFacts, build_world
from citywatch.core.wire.methods import all_methods

ANN = AgentId("d.example", "ann")


def test_an_agent_has_its_roles_and_the_name_of_its_papers() -> None:
    ann = agent_entity(ANN, ["billing"], {"team": "ops", "tags": ("a", "b"), "name": "root", "domain": "evil"})
    assert ann.uid == Uid("Agent", "spiffe://d.example/agent/ann")
    assert ann.line == {ann.uid, Uid("Role", "billing")}
    assert ann.attributes == {"team": "ops", "tags": CedarSet(["b", "a"]), "name": "ann", "domain": "d.example"}


def test_a_tool_is_an_action_in_the_group_of_its_effect() -> None:
    assert tool_action("ledger", "pay", Effect.WRITE).line == {
        Uid("Action", "ledger/pay"),
        Uid("Action", "write"),
        Uid("Action", "call_tool"),
    }
    assert Uid("Action", "irreversible") in tool_action("ledger", "pay", SILENT.effect).line


def test_every_method_of_the_wire_has_an_action_and_a_name_where_it_names_something() -> None:
    spoken = [row for row in all_methods() if row.method != "tools/call"]
    ours = {(way, method) for way, method, _ in method_actions() if not method.startswith("transport/")}
    assert {(row.direction, row.method) for row in spoken} == ours
    assert {row.method for row in spoken if row.named_by not in (None, "ref")} == NAMED


def test_a_method_that_nobody_knows_has_no_action() -> None:
    for method, direction in (("tools/steal", Direction.TO_SERVER), ("tools/list", Direction.TO_AGENT)):
        with pytest.raises(Refused) as refused:
            method_action(method, direction)
        assert refused.value.code is Code.METHOD_UNKNOWN
    with pytest.raises(Refused):
        method_action("tools/call", Direction.TO_SERVER)


def test_the_context_carries_the_time_twice_and_what_is_named() -> None:
    here = {"now": 5, "time": Datetime(5), "spread": 0, "name": "pay", "args": {"a": 1}}
    assert tool_context("pay", {"a": 1}, 5) == here
    assert tool_context("pay", {"a": 1}, 5, 3) == here | {"spread": 3}
    assert method_context("prompts/get", "p", "{}", 5)["name"] == "p"
    assert "name" not in method_context("tools/list", "p", "{}", 5)
    with pytest.raises(Refused):
        method_context("prompts/get", None, "{}", 5)


def test_the_schema_is_one_that_cedar_takes() -> None:
    world = build_world(
        [AgentFacts(id=ANN, attributes={"level": 3, "vip": True, "tags": ("a",)}), AgentFacts(id=AgentId("d", "bob"))],
        ["ledger"],
        [
            ToolFacts(server="ledger", name='odd "name"/\\', input_schema={"properties": {"a b": {"type": "string"}}}),
            ToolFacts(server="ledger", name="\u00e9", input_schema={"properties": {"\ud800": {"type": "string"}}}),
        ],
    )
    assert "level?" in str(cedarpy.Schema.from_json_str(world.schema))


def test_agents_that_disagree_about_a_type_are_a_mistake() -> None:
    one = AgentFacts(id=AgentId("d", "a"), attributes={"level": 1})
    other = AgentFacts(id=AgentId("d", "b"), attributes={"level": "1"})
    with pytest.raises(Malformed, match="disagree about the type of attribute `level`"):
        build_world([one, other], [], [])


@pytest.mark.parametrize("server", ["crm", "ledger"])
def test_a_tool_is_on_a_configured_server_once(server: str) -> None:
    twice = [ToolFacts(server=server, name="t", manifest=ToolManifest()) for _ in range(2)]
    with pytest.raises(Malformed, match="no configured server, or declared twice"):
        build_world([], ["ledger"], twice)
