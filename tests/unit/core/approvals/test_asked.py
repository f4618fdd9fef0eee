"""What is at stake in a question, and which questions are the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.asked import MAX_LOSS, fold_of, loss, template_of
from citywatch.core.call import Effect
from tests.unit.core.approvals.asking import ask

SIZES = st.integers(-3, 30)


@given(st.sampled_from(list(Effect)), SIZES, SIZES, SIZES, SIZES, st.booleans())
def test_a_stake_is_between_its_bounds_and_evidence_only_adds(
    effect: Effect, impact: int, untrusted: int, told: int, novelty: int, discloses: bool
) -> None:
    """INVARIANT: 1, 2."""
    facts: dict[str, Any] = {"effect": effect, "impact": impact, "discloses": discloses}
    one = loss(ask("x", untrusted=untrusted, told=told, **facts), novelty)
    assert 1 <= one <= MAX_LOSS
    assert loss(ask("x", untrusted=untrusted + 1, told=told, **facts), novelty) >= one
    assert loss(ask("x", untrusted=untrusted, told=told + 1, **facts), novelty) >= one
    assert loss(ask("x", untrusted=untrusted, told=told, **facts), novelty + 1) >= one


def test_what_discloses_cannot_be_taken_back() -> None:
    assert loss(ask("x", effect=Effect.READ, discloses=True)) == loss(ask("x", effect=Effect.IRREVERSIBLE))
    assert ask("x", effect=Effect.READ, discloses=True).risky
    assert ask("x", effect=Effect.IRREVERSIBLE, untrusted=1).risky
    assert not ask("x", effect=Effect.IRREVERSIBLE).risky
    assert not ask("x", effect=Effect.WRITE, untrusted=3).risky


def test_a_template_is_of_names_and_kinds_and_of_no_value() -> None:
    """INVARIANT: 3."""
    one = template_of("bank/send", {"to": "DE1", "amount": 5, "notes": ["a"], "more": {"x": True, "y": None}})
    assert one == template_of("bank/send", {"amount": 7.5, "to": "FR2", "more": {"y": None, "x": False}, "notes": []})
    others: list[tuple[str, dict[str, Any]]] = [
        ("bank/close", {"to": "DE1", "amount": 5, "notes": ["a"], "more": {"x": True, "y": None}}),
        ("bank/send", {"to": "DE1", "amount": "5", "notes": ["a"], "more": {"x": True, "y": None}}),
        ("bank/send", {"to": "DE1", "amount": 5, "notes": ["a"], "more": {"x": True, "y": 1}}),
        ("bank/send", {"to": "DE1", "amount": 5, "notes": "a", "more": {"x": True, "y": None}}),
        ("bank/send", {"to": "DE1", "amount": 5, "notes": ["a"], "more": {}}),
    ]
    assert all(template_of(*other) != one for other in others)


@pytest.mark.parametrize("name", ["agent", "act", "template", "resource"])
def test_another_agent_act_template_or_resource_is_another_question(name: str) -> None:
    changed: dict[str, Any] = {"resource": "r", name: "other"}
    assert fold_of(ask("x", resource="r")) == fold_of(ask("y", resource="r", root="ben", exact="other"))
    assert fold_of(ask("x", resource="r")) != fold_of(ask("y", **changed))
