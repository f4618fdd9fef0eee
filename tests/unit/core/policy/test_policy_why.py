"""A decision in words: the policies that spoke, the condition that failed, and the values it saw."""

from __future__ import annotations

from typing import Any

from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.decide import compile_policies
from citywatch.core.policy.facts import Facts
from citywatch.core.policy.values import Uid
from citywatch.core.policy.why import explain
from citywatch.core.policy.world import AgentFacts, ToolFacts, build_world

ANN = AgentFacts(id=AgentId("d.example", "ann"), roles=("billing",))
WORLD = build_world([ANN], ["ledger"], [ToolFacts(server="ledger", name="pay")])
SMALL = (
    '@id("small") permit (principal in Role::"billing", action == Action::"ledger/pay", resource)\n'
    "when { context.args.amount <= 5000 } unless { context.args has hold && context.args.hold };\n"
)
OTHER = '@id("other") permit (principal in Role::"reader", action, resource);\n'
STOP = '@id("stop") forbid (principal, action, resource) when { context.args.amount > 1000000 };\n'
BAD = '@id("bad") forbid (principal, action, resource) when { context.args.nothing == 1 };\n'


def why(*texts: str, **arguments: Any) -> list[str]:
    policies = compile_policies(parse_policies([Source("p.cedar", "".join(texts))]), WORLD.entities)
    ann, pay = WORLD.agents[0], WORLD.entities[Uid("Action", "ledger/pay")]
    facts = Facts(ann, pay, WORLD.entities[Uid("Server", "ledger")], {"args": arguments})
    return list(explain(policies, facts))


def test_an_allowed_call_names_the_permit_and_each_condition() -> None:
    assert why(SMALL, OTHER, amount=100) == [
        'Agent::"spiffe://d.example/agent/ann" may do Action::"ledger/pay" on Server::"ledger"',
        "  these policies permit it:",
        "  small (p.cedar:1)",
        '    true   action == Action::"ledger/pay"',
        '    true   principal in Role::"billing"   (principal is Agent::"spiffe://d.example/agent/ann")',
        "    true   context.args.amount <= 5000   (context.args.amount is 100)",
        "    true   !(context.args has hold && context.args.hold)   (context.args is {amount: 100}; "
        "context.args.hold is missing)",
    ]


def test_a_denied_call_names_the_nearest_permits_and_what_stopped_them() -> None:
    lines = why(SMALL, OTHER, STOP, amount=9000)
    assert lines[0].endswith('may not do Action::"ledger/pay" on Server::"ledger"')
    assert lines[1:6] == [
        "  no policy permits it",
        "  the permits that came closest:",
        "  small (p.cedar:1)",
        "    false  context.args.amount <= 5000: context.args.amount is 9000",
        "  other (p.cedar:3)",
    ]


def test_a_forbidden_call_names_the_forbid() -> None:
    lines = why(SMALL, STOP, amount=2_000_000)
    assert "  these policies forbid it:" in lines
    assert "    true   context.args.amount > 1000000   (context.args.amount is 2000000)" in lines


def test_an_error_is_told_with_its_reason() -> None:
    lines = why(SMALL, BAD, amount=1)
    assert "  these policies cannot be evaluated, and what cannot be evaluated denies:" in lines
    assert any(line.startswith("    error: there is no attribute `nothing`") for line in lines)


def test_without_any_permit_it_says_so() -> None:
    assert why(STOP, amount=1)[-1] == "  there is no permit at all"


def test_a_long_argument_is_shortened_and_quoted() -> None:
    lines = why('@id("memo") permit (principal, action, resource) when { context.args.memo == "x" };', memo='a"\n' * 99)
    assert "..." in lines[-1]
    assert "\n" not in lines[-1]
