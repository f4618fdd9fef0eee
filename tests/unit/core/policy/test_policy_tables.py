"""Tables beside the policies: they are read strictly, run against the real rule, and a run of nothing fails."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from citywatch.core.errors import Malformed
from citywatch.core.manifest import Parameter, ParameterType, Peer, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import PolicyMistakes, Source, parse_policies
from citywatch.core.policy.decide import compile_policies
from citywatch.core.policy.tables import Outcome, parse_table, run_tables, untested
from citywatch.core.policy.world import AgentFacts, ToolFacts, build_world

WORLD = build_world(
    [AgentFacts(id=AgentId("d.example", "ann"), roles=("billing",))],
    ["ledger"],
    [
        ToolFacts(
            server="ledger",
            name="pay",
            manifest=ToolManifest(parameters={"amount": Parameter(type=ParameterType.MONEY)}),
            input_schema={"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]},
        )
    ],
)
POLICIES = compile_policies(
    parse_policies(
        [
            Source(
                "p.cedar",
                '@id("small") permit (principal in Role::"billing", action == Action::"ledger/pay", resource)'
                " when { context.args.amount <= 5000 };\n"
                '@id("night") forbid (principal, action in Action::"irreversible", resource)'
                ' when { context.time.toTime() < duration("6h") };\n'
                '@id("unused") permit (principal == Server::"ledger", action in Action::"ask_agent", resource);\n'
                '@id("reads") permit (principal, action in Action::"read_resource", resource)'
                ' when { context.name == "a:b" };',
            )
        ]
    ),
    WORLD.entities,
)


def run(**case: Any) -> Outcome:
    (outcome,) = run_tables([parse_table("t.yaml", {"cases": [case]})], POLICIES, WORLD)
    return outcome


PAY = {"agent": "ann", "call": "ledger/pay", "arguments": {"amount": 50.00}}


def test_a_case_passes_if_the_decision_is_the_one_expected() -> None:
    assert run(**PAY, expect="allow", by=["small"], case="a small payment").passed
    assert run(**PAY, expect="deny", code="forbidden", by=["night"], now="2026-01-01T03:00:00Z").passed


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"expect": "deny"}, "allow by small"),
        ({"by": ["night"]}, "allow by small"),
        ({"by": []}, "allow by small"),
        ({"arguments": {"amount": 50.01}}, "deny (no_permit)"),
        ({"arguments": {"amount": 0.001}}, "deny (argument_unsupported): `amount`: at most 2 digits after the point"),
        ({"arguments": {}}, "deny (argument_unsupported): `amount`: required, and missing or null"),
        ({"agent": {"name": "eve"}}, "deny (no_permit)"),
        ({"now": yaml.safe_load("2026-01-01T05:59:00")}, "deny (forbidden) by night"),
        ({"now": 1_767_229_200_000}, "deny (forbidden) by night"),
        ({"expect": "deny", "code": "no_permit", "now": "2026-01-01T03:00:00Z"}, "deny (forbidden) by night"),
        ({"agent": "bob"}, "`bob` is no configured agent: write its name, or {name: …, roles: […]}"),
        ({"call": "ledger/steal"}, "`ledger/steal` is no tool that is approved or declared"),
        ({"call": "mcp:tools/list"}, "`` is no configured server: name one as `server:`"),
        ({"call": "mcp:tools/steal", "server": "ledger"}, "deny (method_unknown): `tools/steal` is no method"),
        ({"now": "yesterday"}, "`yesterday` is not a datetime"),
    ],
)
def test_a_case_fails_otherwise_and_says_what_came_instead(change: dict[str, Any], got: str) -> None:
    outcome = run(**{**PAY, "expect": "allow", "now": "2026-01-01T12:00:00Z", **change})
    assert not outcome.passed
    assert outcome.got.startswith(got)


def test_methods_in_both_directions_can_be_tried() -> None:
    read = {"agent": "ann", "call": "mcp:resources/read", "server": "ledger", "now": "2026-01-01T12:00:00Z"}
    assert run(**read, name="a:b", expect="allow", by=["reads"]).passed
    assert run(**read, name="c:d", expect="deny").passed
    assert run(agent="ann", call="to_agent:roots/list", server="ledger", expect="allow", by=["unused"]).passed


def test_a_failed_case_comes_with_its_reasons() -> None:
    outcome = run(**{**PAY, "arguments": {"amount": 51}}, expect="allow", now="2026-01-01T12:00:00Z")
    assert any("context.args.amount <= 5000" in line and "context.args.amount is 5100" in line for line in outcome.why)


def test_policies_that_no_case_named_are_told() -> None:
    table = parse_table("t", {"cases": [{**PAY, "expect": "allow", "now": "2026-01-01T12:00:00Z"}]})
    assert untested(run_tables([table], POLICIES, WORLD), POLICIES) == ("night", "reads", "unused")


EMPTY: tuple[Any, ...] = (None, [], {}, {"cases": []}, {"cases": None}, {"case": [PAY]}, {"cases": [PAY], "x": 1})


@pytest.mark.parametrize("document", EMPTY)
def test_a_table_without_cases_fails(document: Any) -> None:
    with pytest.raises(PolicyMistakes, match="at least one case"):
        parse_table("t.yaml", document)


def test_a_run_without_tables_says_so() -> None:
    with pytest.raises(Malformed, match="no table of cases"):
        run_tables([], POLICIES, WORLD)


def test_all_mistakes_of_a_table_are_reported() -> None:
    good = {**PAY, "expect": "allow"}
    cases = [{**good, "expect": "alow"}, good, {**good, "arguments": 5}, {"x": 1}]
    with pytest.raises(PolicyMistakes) as raised:
        parse_table("t.yaml", {"cases": cases})
    assert [mistake.policy for mistake in raised.value.mistakes] == ["case 1", "case 3", "case 4"]
    with pytest.raises(PolicyMistakes, match="unknown field `exepct`"):
        parse_table("t.yaml", {"cases": [{**PAY, "expect": "allow", "exepct": "deny"}]})


MESH = build_world(
    [AgentFacts(id=AgentId("d.example", name)) for name in ("ann", "bob")],
    ["ledger"],
    [],
    {"billing": Peer(callers=("ann",), skills=("invoice", "refund")), "stock": Peer(callers=("ann", "bob"))},
)
SPEAKING = compile_policies(
    parse_policies(
        [
            Source(
                "p.cedar",
                '@id("talk") permit (principal, action == Action::"a2a:SendMessage", resource is Peer)'
                ' when { !(context.params like "*secret*") } unless { context.name == "refund" };\n'
                '@id("look") permit (principal, action == Action::"a2a:GetTask", resource)'
                ' when { context.name == "t1" };',
            )
        ]
    ),
    MESH.entities,
)


@pytest.mark.parametrize(
    ("case", "got"),
    [
        ({"agent": "ann", "peer": "billing", "skill": "invoice"}, "allow by talk"),
        ({"agent": "ann", "peer": "billing", "skill": "refund"}, "deny (no_permit)"),
        ({"agent": "ann", "peer": "billing"}, "deny (no_permit): `billing` is asked for invoice, refund alone"),
        ({"agent": "bob", "peer": "billing", "skill": "invoice"}, "deny (server_unknown): `bob` is not named beside"),
        ({"agent": {"name": "eve"}, "peer": "stock"}, "deny (server_unknown): `eve` is not named beside `stock`"),
        ({"agent": "bob", "peer": "stock"}, "allow by talk"),
        ({"agent": "bob", "peer": "stock", "arguments": {"message": {"parts": [{"text": "a secret"}]}}}, "deny"),
        ({"agent": "bob", "peer": "stock", "call": "a2a:GetTask", "name": "t1"}, "allow by look"),
        ({"agent": "bob", "peer": "stock", "call": "a2a:GetTask", "name": "t2"}, "deny (no_permit)"),
        ({"agent": "bob", "peer": "stock", "call": "a2a:SendStreamingMessage"}, "deny (no_permit)"),
        ({"agent": "bob", "peer": "stok"}, "`stok` is no configured peer"),
        ({"agent": "bob", "peer": "stock", "server": "ledger"}, "a message goes to a `peer`: leave `server` out"),
        ({"agent": "bob", "peer": "stock", "call": "a2a:Shout"}, "`a2a:Shout` is no way to speak to an agent: one of"),
        ({"agent": "bob", "peer": "stock", "call": "ledger/pay"}, "`ledger/pay` is no way to speak to an agent"),
        ({"agent": "bob", "peer": "stock", "call": "a2a:GetTask", "skill": "x"}, "`a2a:GetTask` is for no skill"),
        ({"agent": "bob", "call": "ledger/pay", "skill": "x"}, "a `skill` is what a message is for: name its `peer`"),
        ({"agent": "bob"}, "a case says what is called"),
    ],
)
def test_a_case_can_be_a_message_to_an_agent(case: dict[str, Any], got: str) -> None:
    expected = "allow" if got.startswith("allow") else "deny"
    (outcome,) = run_tables([parse_table("t.yaml", {"cases": [{**case, "expect": expected}]})], SPEAKING, MESH)
    assert outcome.got.startswith(got)
    assert outcome.passed == got.startswith(("allow", "deny"))
