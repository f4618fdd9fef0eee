"""Whole policies, compiled and by cedarpy: the same decision, the same policies named, whatever was generated.

Several policies of a set begin with the same conditions, so that the tree shares them. It is asserted that the author
leaves nothing out: a node or operator that a later cedarpy adds fails `test_everything_cedar_has_was_generated`.
"""

from __future__ import annotations

from random import Random
from typing import Any, get_args

import pytest
from cedarpy import pst
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.call import Allow, Deny
from citywatch.core.errors import Code
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.decide import Policies, compile_policies, decide, decide_reference
from citywatch.core.policy.facts import Facts
from citywatch.core.policy.values import MAX_LONG, CedarSet, Datetime, Decimal, Duration, Ip
from tests.differential.policy_author import ACTIONS, AGENTS, KNOWN, SERVERS, Author

OUTCOMES: dict[str, int] = {}


def agree(chance: Random, count: int, requests: int) -> None:
    author = Author(chance)
    pool = [author.of("bool", 2) for _ in range(5)]
    texts = [author.policy(f"p{n}", pool) for n in range(count)]
    policies = compile_policies(parse_policies([Source("generated", "\n".join(texts))]), KNOWN)
    assert policies.fallen_back == ()
    alone = compile_policies(parse_policies([Source("generated", texts[0])]), KNOWN)
    for _ in range(requests):
        facts = author.facts()
        for each in (policies, alone):
            hold(each, facts)


def hold(policies: Policies, facts: Facts) -> None:
    compiled = decide(policies, facts)
    assert compiled == decide_reference(policies, facts), (facts, [policy.text for policy in policies.policies])
    outcome = "allow" if isinstance(compiled, Allow) else compiled.reason.code.value
    OUTCOMES[outcome] = OUTCOMES.get(outcome, 0) + 1


@settings(max_examples=100)
@given(st.randoms(use_true_random=False))
def test_the_engines_agree_on_any_policies(chance: Random) -> None:
    agree(chance, count=3, requests=2)


def test_the_engines_agree_on_thousands_of_policies() -> None:
    OUTCOMES.clear()
    for seed in range(1000):
        agree(Random(seed), count=4, requests=3)
    # a comparison that only ever saw errors would compare nothing
    total = sum(OUTCOMES.values())
    for outcome in ("allow", Code.FORBIDDEN, Code.POLICY_ERROR, Code.NO_PERMIT):
        assert OUTCOMES.get(str(outcome), 0) > total / 25, OUTCOMES


CONSTANTS = (
    *("true", "1", '"a"', 'Role::"staff"', "[1]", '["a", "b"]', '[Role::"staff", Role::"admin"]', "[]", "{a: 1}"),
    *('decimal("1.5")', 'datetime("2026-11-22")', 'duration("1h")', 'ip("10.0.0.0/8")', 'decimal("no")'),
)
INFIX = ("==", "!=", "<", "<=", ">", ">=", "in", "&&", "||")
METHODS = (
    *("contains", "containsAll", "containsAny", "isInRange", "offset", "durationSince", "hasTag"),
    *("lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"),
)
VALUES = (
    *(True, 1, 2, "a", AGENTS[0], SERVERS[0], CedarSet([1]), CedarSet(["a", "b", "c"]), {"a": 1}),
    *(CedarSet(["a"]), CedarSet([])),
    *(
        Decimal(15_000),
        Decimal(1),
        Datetime(0),
        Datetime(MAX_LONG),
        Duration(0),
        Duration(3_600_000),
        Ip(4, 10 << 24, 8),
    ),
)


@pytest.mark.parametrize("constant", CONSTANTS)
def test_a_constant_on_either_side_is_asked_about_as_cedar_asks(constant: str) -> None:
    # these are the conditions that the tree turns into look-ups: each operator, with constants of every type
    conditions = [f"context.x {sign} {constant}" for sign in INFIX] + [f"{constant} {sign} context.x" for sign in INFIX]
    conditions += [f"context.x.{name}({constant})" for name in METHODS]
    conditions += [f"{constant}.{name}(context.x)" for name in METHODS]
    conditions += ['context.x like "a*"', 'context.x like "*a"', "context.x has a", "context.x is Agent", "!context.x"]
    for condition in conditions:
        text = f"permit (principal, action, resource) when {{ {condition} }};"
        policies = compile_policies(parse_policies([Source("constant", text)]), KNOWN)
        for value in VALUES:
            hold(policies, Facts(KNOWN[AGENTS[0]], KNOWN[ACTIONS[0]], KNOWN[SERVERS[0]], {"x": value}))


def test_everything_cedar_has_was_generated() -> None:
    seen: set[str] = set()
    for seed in range(400):
        author = Author(Random(seed))
        author.policy("p", [author.of("bool", 3)])
        seen |= author.seen
    kinds = {kind.__name__ for union in UNIONS for kind in get_args(union)}
    words = {word for closed in CLOSED for word in get_args(closed)}
    assert (kinds | words) - seen == {"Slot"}, "a template is refused before it is compiled; nothing else is left out"


UNIONS = (pst.Expr, pst.PrincipalOrResourceConstraint, pst.ActionConstraint, pst.Clause, pst.PatternElem)
CLOSED = (pst.UnaryOpName, pst.BinaryOpName, pst.VarName, pst.Effect)


def test_what_the_compiler_does_not_know_goes_to_cedarpy() -> None:
    long = " || ".join(f"context.n == {n}" for n in range(150))  # more than the hundred levels of the typed tree
    text = f'@id("long") permit(principal, action, resource) when {{ {long} }};\n'
    text += '@id("stop") forbid(principal, action, resource) when { context.n == 7 };\n'
    text += f'@id("deep") forbid(principal, action, resource) unless {{ {long} || context.missing }};'
    policies = compile_policies(parse_policies([Source("fallback", text)]), KNOWN)
    assert policies.fallen_back == ("deep", "long")

    def ask(n: Any) -> Any:
        facts = Facts(KNOWN[AGENTS[0]], KNOWN[ACTIONS[0]], KNOWN[SERVERS[0]], {"n": n})
        assert decide(policies, facts) == decide_reference(policies, facts)
        return decide(policies, facts)

    assert ask(3) == Allow(("long",))
    assert ask(7).reason.policies == ("stop",)
    assert ask(999).reason.policies == ("deep",)
    assert isinstance(ask(True), Deny)
    assert ask(True).reason.code is Code.POLICY_ERROR
