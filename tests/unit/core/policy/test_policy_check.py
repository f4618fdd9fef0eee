"""What `citywatch policy check` finds: each kind of mistake in one policy, and none in its sound twin."""

from __future__ import annotations

import pytest

from citywatch.core.call import Effect
from citywatch.core.manifest import Parameter, ParameterType, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.check import check_policies
from citywatch.core.policy.world import AgentFacts, ToolFacts, World, build_world

TRANSFER = {
    "type": "object",
    "properties": {
        "amount": {"type": "number"},
        "to": {"type": "string"},
        "memo": {"type": "string"},
        "dry": {"type": "boolean"},
        "payer": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
    "required": ["amount", "to"],
}
WORLD: World = build_world(
    [
        AgentFacts(id=AgentId("d.example", "ann"), roles=("billing",), attributes={"team": "ops", "level": 3}),
        AgentFacts(id=AgentId("d.example", "bob"), roles=("reader",), attributes={"team": "law", "tags": ("a",)}),
    ],
    ["ledger", "crm"],
    [
        ToolFacts(
            server="ledger",
            name="transfer",
            manifest=ToolManifest(parameters={"amount": Parameter(type=ParameterType.MONEY)}),
            input_schema=TRANSFER,
        ),
        ToolFacts(
            server="crm", name="find", manifest=ToolManifest(effect=Effect.READ), input_schema={"properties": {}}
        ),
    ],
)
PAY = 'action == Action::"ledger/transfer", resource == Server::"ledger"'


def check(text: str) -> list[str]:
    found = check_policies(parse_policies([Source("p.cedar", text)]), WORLD)
    return [mistake.message for mistake in found]


@pytest.mark.parametrize(
    "policy",
    [
        f'permit (principal in Role::"billing", {PAY}) when {{ context.args.amount <= 10000 }};',
        f'permit (principal, {PAY}) when {{ context.args has memo && context.args.memo like "*x*" }};',
        "forbid (principal, action, resource) when { context has args && context.args has amount && "
        "context.args.amount > 10 };",
        'forbid (principal in Role::"billing", action, resource) when { principal in Role::"reader" };',
        'permit (principal, action == Action::"mcp:resources/read", resource) when { context.name like "file:*" };',
        'permit (principal == Server::"crm", action in Action::"ask_agent", resource in Role::"reader");',
        "forbid (principal is Agent, action, resource) when { principal has level && principal.level > 99 };",
        'permit (principal, action in Action::"read", resource) when { context.time > datetime("2026-01-01") };',
        "permit (principal, action, resource) when { context.now > 5 };",
        f"permit (principal, {PAY}) when {{ context.args has payer.name }};",
    ],
)
def test_a_sound_policy_passes(policy: str) -> None:
    assert check(policy) == []


MANY = f"permit (principal, action, resource) when {{ {' || '.join(f'context.now == {n}' for n in range(150))} }};"


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ('permit (principal in Role::"biling", action, resource);', 'did you mean `Role::"billing"`?'),
        (
            'permit (principal == Agent::"ann", action, resource);',
            'did you mean `Agent::"spiffe://d.example/agent/ann"`?',
        ),
        (
            'permit (principal, action == Action::"ledger/tranfer", resource);',
            'did you mean `Action::"ledger/transfer"`?',
        ),
        ('permit (principal, action, resource == Server::"leger");', 'did you mean `Server::"ledger"`?'),
        ('permit (principal, action, resource) when { principal in Role::"zzz" };', "no such role is configured"),
        ("permit (principal is User, action, resource);", "unrecognized entity type `User`"),
        (
            f"permit (principal, {PAY}) when {{ context.args has amout && context.args.amout <= 5 }};",
            "reads `context.args.amout`, which no call that it covers has; did you mean `amount`?",
        ),
        (
            "forbid (principal, action, resource) when { context has args && context.args has iban };",
            "reads `context.args.iban`, which no call that it covers has",
        ),
        (
            'forbid (principal, action, resource) when { principal has temn && principal.temn == "ops" };',
            "reads `principal.temn`, which no call that it covers has; did you mean `team`?",
        ),
        (
            'permit (principal, action in Action::"list", resource) when { context has args && context.args has to };',
            "reads `context.args`, which no call that it covers has",
        ),
        (
            'permit (principal, action == Action::"ledger/transfer", resource == Server::"crm");',
            'no request can match it: `resource == Server::"crm"` is never true where it applies',
        ),
        (
            'permit (principal, action, resource == Server::"crm") when { action == Action::"ledger/transfer" };',
            "is never true where it applies",
        ),
        ("permit (principal, action, resource) when { false };", "no request can match it: `false`"),
        ('permit (principal, action, resource) when { 1 == "x" };', "no request can match it"),
        ("permit (principal, action, resource) unless { true || context.now > 1 };", "no request can match it"),
        (f"permit (principal, {PAY}) unless {{ context.args has to }};", "no request can match it"),
        (
            f"permit (principal, {PAY}) when {{ (if context.args has to then false else true) }};",
            "no request can match it",
        ),
        (
            'permit (principal is Server, action in Action::"call_tool", resource);',
            "unable to find an applicable action",
        ),
        (f'permit (principal, {PAY}) when {{ context.args.memo == "x" }};', "optional attribute `args.memo`"),
        (f'permit (principal, {PAY}) when {{ context.args.amount == "5" }};', ""),
        (
            "permit (principal, action, resource) when { "
            + " || ".join(f"context.now == {n}" for n in range(150))
            + " };",
            "nested deeper than a hundred levels",
        ),
    ],
)
def test_a_policy_that_can_do_nothing_fails_with_what_to_write_instead(policy: str, complaint: str) -> None:
    (message,) = check(policy)
    assert complaint in message


def test_all_mistakes_are_reported_with_file_line_and_policy() -> None:
    text = '@id("a") permit (principal in Role::"x", action, resource);\n\n'
    text += "forbid (principal, action, resource) when { false };"
    found = check_policies(parse_policies([Source("p.cedar", text)]), WORLD)
    assert [(mistake.file, mistake.line, mistake.policy) for mistake in found] == [
        ("p.cedar", 1, "a"),
        ("p.cedar", 3, "p.cedar:3"),
    ]


def test_a_check_of_nothing_fails() -> None:
    assert "no policy" in check_policies((), WORLD)[0].message
    empty = build_world([], ["crm"], [])
    one = parse_policies([Source("p", "permit (principal, action, resource);")])
    assert "no agent" in check_policies(one, empty)[0].message
