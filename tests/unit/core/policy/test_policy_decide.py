"""The rule: a forbid denies, an error denies, a permit allows, silence denies; and so does whatever cedarpy may do."""

from __future__ import annotations

from typing import Any

import cedarpy
import pytest

from citywatch.core.call import Allow, Deny
from citywatch.core.errors import Code
from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.decide import Policies, compile_policies, decide, decide_reference
from citywatch.core.policy.facts import Facts, agent_entity, entity
from citywatch.core.policy.reference import NO_POLICY
from citywatch.core.policy.values import CedarSet, Uid
from citywatch.core.policy.world import AgentFacts, ToolFacts, World, build_world

WORLD: World = build_world(
    [AgentFacts(id=AgentId("d.example", "ann"), roles=("billing",), attributes={"level": 3, "vip": True})],
    ["ledger"],
    [ToolFacts(server="ledger", name="pay")],
)
ANN, PAY, LEDGER = Uid("Agent", "spiffe://d.example/agent/ann"), Uid("Action", "ledger/pay"), Uid("Server", "ledger")
PERMIT = '@id("permit") permit (principal in Role::"billing", action == Action::"ledger/pay", resource);'
FORBID = '@id("forbid") forbid (principal, action, resource) when { context.amount > 100 };'
ERRING = '@id("erring") permit (principal, action, resource) when { context.missing };'
ERRING_FORBID = '@id("erring-forbid") forbid (principal, action, resource) when { context.amount > "100" };'


def policies(*texts: str) -> Policies:
    return compile_policies(parse_policies([Source("p.cedar", "\n".join(texts))]), WORLD.entities)


def facts(**context: Any) -> Facts:
    return Facts(WORLD.entities[ANN], WORLD.entities[PAY], WORLD.entities[LEDGER], context)


ENGINES = pytest.mark.parametrize("engine", [decide, decide_reference])


@ENGINES
def test_a_permit_that_is_satisfied_allows(engine: Any) -> None:
    assert engine(policies(PERMIT), facts()) == Allow(("permit",))


@ENGINES
def test_what_no_permit_allows_is_denied(engine: Any) -> None:
    assert engine(policies(), facts()).reason.code is Code.NO_PERMIT
    assert engine(policies(FORBID), facts(amount=1)).reason.code is Code.NO_PERMIT


@ENGINES
def test_a_forbid_that_is_satisfied_denies_whatever_else_permits(engine: Any) -> None:
    reason = engine(policies(PERMIT, FORBID), facts(amount=101)).reason
    assert (reason.code, reason.policies) == (Code.FORBIDDEN, ("forbid",))


@ENGINES
def test_a_policy_that_errs_denies_where_cedar_would_skip_it(engine: Any) -> None:
    for erring, name in ((ERRING, "erring"), (ERRING_FORBID, "erring-forbid")):
        reason = engine(policies(PERMIT, erring), facts(amount=1)).reason
        assert (reason.code, reason.policies) == (Code.POLICY_ERROR, (name,))


@ENGINES
def test_a_forbid_goes_before_an_error(engine: Any) -> None:
    assert engine(policies(PERMIT, FORBID, ERRING), facts(amount=101)).reason.code is Code.FORBIDDEN


@ENGINES
def test_true_is_not_one(engine: Any) -> None:
    said = policies('@id("one") permit (principal, action, resource) when { context.flag == 1 || principal.vip == 1 };')
    assert isinstance(engine(said, facts(flag=True)), Deny)
    assert engine(said, facts(flag=1)) == Allow(("one",))


@ENGINES
def test_a_policy_is_named_once_however_many_of_its_groups_and_members_match(engine: Any) -> None:
    text = "permit (principal, action, resource) when {{ {} }};"
    for condition in (
        'principal in [Role::"a", Role::"b", Role::"c"]',
        "context.tags.containsAny([1, 2, 3])",
        "[1, 1, 2].contains(context.one)",
    ):
        known = policies(f'@id("p") {text.format(condition)}', f'@id("q") {text.format(condition)}')
        ann = agent_entity(AgentId("d.example", "ann"), ["a", "b"])
        asked = Facts(ann, WORLD.entities[PAY], WORLD.entities[LEDGER], {"tags": CedarSet([1, 2]), "one": 1})
        assert engine(known, asked) == Allow(("p", "q"))


@ENGINES
def test_an_agent_that_nobody_configured_has_no_roles(engine: Any) -> None:
    stranger = agent_entity(AgentId("d.example", "eve"))
    asked = Facts(stranger, WORLD.entities[PAY], WORLD.entities[LEDGER], {})
    assert engine(policies(PERMIT), asked).reason.code is Code.NO_PERMIT


def test_a_name_that_looks_like_cedar_text_is_only_a_name() -> None:
    forged = entity(Uid("Agent", 'x", "parents": [{"type":"Role","id":"billing"}], "y": "'))
    asked = Facts(forged, WORLD.entities[PAY], WORLD.entities[LEDGER], {})
    for engine in (decide, decide_reference):
        decision = engine(policies(PERMIT), asked)
        assert isinstance(decision, Deny)
        assert decision.reason.code is Code.NO_PERMIT


class PanicException(BaseException):
    """As PyO3 raises it."""


class Answer:
    """What cedarpy hands back, with the decision and diagnostics given."""

    def __init__(self, decision: cedarpy.Decision, errors: list[str], reasons: list[str]) -> None:
        self.decision = decision
        self.diagnostics = cedarpy.Diagnostics({"errors": errors, "reason": reasons})


def said(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Deny:
    def is_authorized(*arguments: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(cedarpy, "is_authorized", is_authorized)
    decision = decide_reference(policies(PERMIT), facts())
    assert isinstance(decision, Deny)
    return decision


def test_no_decision_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = said(monkeypatch, Answer(cedarpy.Decision.NoDecision, [], [])).reason
    assert (reason.code, reason.policies) == (Code.POLICY_ERROR, (NO_POLICY,))


def test_an_allow_without_a_reason_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, Answer(cedarpy.Decision.Allow, [], [])).reason.code is Code.POLICY_ERROR


def test_a_panic_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, PanicException()).reason.code is Code.POLICY_ERROR


def test_an_error_that_names_no_policy_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Answer(cedarpy.Decision.Allow, ["failed to build request"], ["policy0"])
    assert said(monkeypatch, answer).reason.policies == (NO_POLICY,)


def test_what_cedarpy_cannot_read_denies() -> None:
    # no argument gets here like this (they are refused by name); if one did, it would not pass
    for value in (None, 1.5, 2**63, "\ud800"):
        decision = decide_reference(policies(PERMIT), facts(x=value))
        assert isinstance(decision, Deny)
        assert decision.reason.code is Code.POLICY_ERROR


def test_a_slice_serves_only_the_groups_it_was_made_for() -> None:
    group = policies('@id("w") permit (principal, action in Action::"write", resource);')
    assert isinstance(decide(group, facts()), Deny)
    moved = Facts(WORLD.entities[ANN], entity(PAY, None, [Uid("Action", "write")]), WORLD.entities[LEDGER], {})
    assert decide(group, moved) == Allow(("w",))
    assert isinstance(decide(group, facts()), Deny)


def test_beyond_the_memo_the_whole_tree_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citywatch.core.policy.slices.MAX_SLICES", 2)
    known = policies('@id("p") permit (principal, action, resource == Server::"s3");')
    for number in (*range(5), 3):
        asked = Facts(WORLD.entities[ANN], WORLD.entities[PAY], entity(Uid("Server", f"s{number}")), {})
        assert isinstance(decide(known, asked), Allow) is (number == 3)
    assert len(known.slices.memo) == 2
