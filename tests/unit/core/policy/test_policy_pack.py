"""What ships with citywatch: the starter pack's policies, its table, and the frozen generator of the benchmark."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.decide import row
from bench.policies import calls, generate, requests
from citywatch.config.file import parse_settings
from citywatch.core.call import Allow
from citywatch.core.canonical import digest
from citywatch.core.manifest import SILENT
from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import Policy, Source, parse_policies
from citywatch.core.policy.check import check_policies
from citywatch.core.policy.decide import compile_policies, decide, decide_reference
from citywatch.core.policy.tables import parse_table, run_tables, untested
from citywatch.core.policy.world import AgentFacts, ToolFacts, World, build_world
from citywatch.starter.notes_server import TOOLS

PACK = resources.files("citywatch") / "policies"
"""Beside the code, so that it is in the wheel as well."""


def pack() -> list[Source]:
    found = [entry for entry in PACK.iterdir() if entry.name.endswith(".cedar")]
    assert found
    return [Source(entry.name, entry.read_text(encoding="utf-8")) for entry in sorted(found, key=lambda e: e.name)]


def starter(approved: bool) -> World:
    """The world of `citywatch init`, before and after the tools of the example server are approved."""
    text = (resources.files("citywatch") / "starter" / "citywatch.yaml").read_text(encoding="utf-8")
    settings = parse_settings(text, "/somewhere")
    schemas: dict[str, Any] = {tool["name"]: tool["inputSchema"] for tool in TOOLS} if approved else {}
    agents = [
        AgentFacts(id=AgentId(settings.trust_domain, agent.name), roles=agent.roles, attributes=agent.attributes)
        for agent in settings.agents.values()
    ]
    declared = settings.servers["notes"].tools
    names = sorted({*declared, *schemas})
    tools = [
        ToolFacts(server="notes", name=name, manifest=declared.get(name, SILENT), input_schema=schemas.get(name))
        for name in names
    ]
    return build_world(agents, settings.servers, tools)


def parsed(sources: list[Source]) -> tuple[Policy, ...]:
    return parse_policies(sources)


BOTH = pytest.mark.parametrize("approved", [False, True])


@BOTH
def test_the_pack_passes_its_own_check(approved: bool) -> None:
    assert check_policies(parsed(pack()), starter(approved)) == ()


@BOTH
def test_the_packs_table_passes_and_leaves_no_policy_out(approved: bool) -> None:
    world = starter(approved)
    policies = compile_policies(parsed(pack()), world.entities)
    assert policies.fallen_back == ()
    document = yaml.safe_load((PACK / "starter.test.yaml").read_text(encoding="utf-8"))
    outcomes = run_tables([parse_table("starter.test.yaml", document)], policies, world)
    assert [outcome for outcome in outcomes if not outcome.passed] == []
    assert untested(outcomes, policies) == ()


@BOTH
def test_what_the_packs_comments_suggest_is_sound(approved: bool) -> None:
    suggested = []
    for source in pack():
        blocks = re.findall(r"^// @id\(.*?;$", source.text, re.MULTILINE | re.DOTALL)
        suggested += [re.sub(r"^// ?", "", block, flags=re.MULTILINE) for block in blocks]
    assert len(suggested) == 4
    found = check_policies(parsed([*pack(), Source("suggested", "\n".join(suggested))]), starter(approved))
    # the example servers have no tool that takes an amount: that one is for those who have
    assert [mistake.policy for mistake in found] == ["no-large-amounts"]


def test_the_pack_lets_nobody_call_a_tool_without_a_role() -> None:
    world = starter(approved=True)
    policies = compile_policies(parsed(pack()), world.entities)
    for tool in TOOLS:
        case = {"agent": {"name": "eve"}, "call": f"notes/{tool['name']}", "expect": "deny"}
        case["arguments"] = dict.fromkeys(tool["inputSchema"]["properties"], "team@acme.example")
        (outcome,) = run_tables([parse_table("t", {"cases": [case]})], policies, world)
        assert outcome.got == "deny (no_permit)"


@pytest.mark.parametrize(
    ("count", "pinned"),
    [
        (10, "b7c4c74d5a98b1ecc2501042c852e158b2dc81416724468fa1255313af141b76"),
        (100, "60397083c83cad6b18b3d0312ee88d78b223b1c78bfd6d0caf597e282f5243ff"),
        (1000, "47fd93e3c971b1b93a07c0d99dca94ec6420388dbb42c400bd05e1ab09b7bdd6"),
    ],
)
def test_the_benchmarks_policies_are_frozen_and_compiled(count: int, pinned: str) -> None:
    generated = generate(count)
    assert digest(generated.text.encode()) == pinned
    assert generated.policies.fallen_back == ()
    unscoped = [policy for policy in generated.parsed if "(principal, action, resource)" in policy.text]
    assert len(unscoped) == count // 5
    assert all("when" in policy.text for policy in unscoped)


def test_the_benchmarks_policies_are_sound_and_its_calls_matter() -> None:
    generated = generate(100)
    assert check_policies(generated.parsed, generated.world) == ()
    asked = requests(generated, 300)
    decisions = [decide(generated.policies, facts) for facts in asked]
    assert decisions == [decide_reference(generated.policies, facts) for facts in asked]
    assert 60 < sum(isinstance(decision, Allow) for decision in decisions) < 240
    drawn = calls(generated, 300)
    assert len({repr(call) for call in drawn}) == 300
    assert drawn == calls(generate(100), 300)


def test_a_row_of_the_benchmark_has_its_fields() -> None:
    found = row("policy.p50_us.100", [3.0, 2.0, 4.0], "us", 10, "cedarpy", [30.0])
    assert found == {
        "name": "policy.p50_us.100",
        "value": 3.0,
        "unit": "us",
        "n": 10,
        "seed": 20_261_122,
        "against": "cedarpy",
        "ratio": 0.1,
        "spread": 0.667,
    }


def test_the_pack_stands_where_the_wheel_takes_it() -> None:
    assert Path(str(PACK)).name == "policies"
    assert {"plumbing.cedar", "tools.cedar", "starter.test.yaml"} <= {entry.name for entry in PACK.iterdir()}
