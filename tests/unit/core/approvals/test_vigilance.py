"""What the log says of approvers: how much they see, whether their yes counts, and whether they drift."""

from __future__ import annotations

from random import Random

import pytest

from citywatch.core import events
from citywatch.core.approvals.seal import Kind, seal
from citywatch.core.approvals.signal import sensitivity, wilson
from citywatch.core.approvals.vigilance import DRIFT_ERROR, SHIFT_MS
from tests.unit.core.approvals.watched import (
    MINUTE,
    SALT,
    answered,
    asked,
    decided,
    expired,
    opened,
    story,
    unsealed,
    watched,
)

CANARY, CLEAN, CALL = Kind.CANARY, Kind.CLEAN, Kind.CALL


def many(who: str, kind: Kind, answers: str, name: str = "t") -> list[events.Event]:
    """One story for each letter, y for a yes."""
    return [
        event
        for number, letter in enumerate(answers)
        for event in story(who, f"{name}{kind.value}{number}", kind, letter == "y", at=number * MINUTE)
    ]


def test_rates_are_counted_from_what_was_sealed_and_unsealed() -> None:
    found = watched([*many("otto", CANARY, "nnnny"), *many("otto", CLEAN, "yyyn"), *many("otto", CALL, "yyyyyn")])
    rates = found.rates("otto")
    assert (rates.answered, rates.approved, rates.targets, rates.hits) == (15, 5, 5, 4)
    assert (rates.clean, rates.false_denials) == (4, 1)
    assert rates.detects == wilson(4, 5)
    assert (rates.sensitivity, rates.criterion) == sensitivity((4, 5), (1, 4))
    assert rates.pace == 0.5
    assert rates.waited == MINUTE + 10_000
    assert found.people() == ("otto",)


def test_classes_of_tickets_are_counted_apart() -> None:
    found = watched(
        [*story("otto", "one", CANARY, False, category="money"), *story("otto", "two", CANARY, True, category="mail")]
    )
    assert found.categories("otto") == ("mail", "money")
    assert [found.rates("otto", one).hits for one in ("money", "mail")] == [1, 0]


@pytest.mark.parametrize("what", ["kind", "category", "salt", "never sealed"])
def test_what_was_not_sealed_so_does_not_count(what: str) -> None:
    """INVARIANT: 1. Nobody turns a call into a canary after the answer."""
    begun = [] if what == "never sealed" else opened("otto", "t", CALL if what == "kind" else CANARY, 0)
    said = unsealed("t", CANARY, "mail" if what == "category" else "money", bytes(16) if what == "salt" else SALT)
    found = watched([*begun, answered("otto", "t", False, 1), said])
    assert found.rates("otto").targets == 0


def test_the_first_seal_and_the_first_answer_are_those_that_count() -> None:
    again = events.TicketSealed(
        at=9,
        replica="r",
        ticket="t",
        by="otto",
        seal=seal("t", CANARY, "money", SALT),
        category="money",
        asked=0,
        reading_ms=1,
    )
    found = watched([*opened("otto", "t", CALL, 0), answered("otto", "t", True, 1), again, unsealed("t", CANARY)])
    assert found.rates("otto").targets == 0
    found = watched(
        [
            *opened("otto", "t", CANARY, 0),
            answered("otto", "t", True, 1),
            answered("otto", "t", False, 2),
            unsealed("t", CANARY),
        ]
    )
    assert (found.rates("otto").targets, found.rates("otto").hits) == (1, 0)


def test_who_approves_what_was_made_up_to_be_denied_loses_their_weight() -> None:
    """INVARIANT: 2. Three misses could be bad luck: with four it is known."""
    assert watched(many("otto", CANARY, "yyy")).counts("otto")
    found = watched([*many("otto", CANARY, "yyyy"), *many("pia", CANARY, "nnnn", "p")])
    assert not found.counts("otto")
    assert found.counts("pia")
    assert found.counts("nobody")


def test_calls_take_no_weight_however_they_are_answered() -> None:
    """INVARIANT: 5."""
    assert watched(many("otto", CALL, "y" * 200)).counts("otto")


def test_an_exercise_gives_it_back_and_denying_everything_does_not() -> None:
    """INVARIANT: 3."""
    lost = many("otto", CANARY, "yyyy")
    passed = [*many("otto", CANARY, "nnnn", "x"), *many("otto", CLEAN, "yyyn", "x")]
    assert not watched([*lost, *passed[:-3]]).counts("otto")
    assert watched([*lost, *passed]).counts("otto")
    denied = [*many("otto", CANARY, "nnnn", "x"), *many("otto", CLEAN, "nnnn", "x")]
    assert not watched([*lost, *denied]).counts("otto")
    few = [*many("otto", CANARY, "nnn", "x"), *many("otto", CLEAN, "yyyyy", "x")]
    assert not watched([*lost, *few]).counts("otto")
    assert watched(
        [
            *lost,
            *denied,
            *[one for each in (many("otto", CANARY, "nnnn", "z"), many("otto", CLEAN, "yyyy", "z")) for one in each],
        ]
    ).counts("otto")


def test_what_was_approved_and_taken_back_later_is_an_escape() -> None:
    back = events.ApprovalReversed(at=9, replica="r", ticket="tcall0", by="pia", reason="a fraud")
    assert watched([*many("otto", CALL, "yy"), back]).rates("otto").escapes == 1
    assert watched([*many("otto", CALL, "ny"), back]).rates("otto").escapes == 0


def test_a_drift_within_a_shift_is_found_and_another_shift_is_another() -> None:
    found = watched(many("otto", CALL, "n" * 12 + "y" * 12))
    drift = found.drift("otto")
    assert (drift.first, drift.second, drift.found) == ((0, 12), (12, 12), True)
    later = story("otto", "later", CALL, True, at=24 * MINUTE + 2 * SHIFT_MS)
    assert watched([*many("otto", CALL, "n" * 12 + "y" * 12), *later]).drift("otto").second == (1, 1)
    assert not watched(many("otto", CANARY, "n" * 12 + "y" * 12)).drift("otto").found, "what is made up is no drift"


def test_where_there_is_no_drift_one_is_found_no_more_often_than_is_said() -> None:
    chance, wrong, shifts = Random(5), 0, 600
    for _ in range(shifts):
        letters = "".join("y" if chance.random() < 0.9 else "n" for _ in range(40))
        wrong += watched(many("otto", CALL, letters)).drift("otto").found
    assert wrong <= 2 * DRIFT_ERROR * shifts


def test_agreement_is_over_the_tickets_that_several_answered() -> None:
    both: list[events.Event] = []
    for number, (one, other) in enumerate([(True, True), (True, False), (False, False), (True, True)]):
        both += [*opened("otto", f"t{number}", CALL, 0), *opened("pia", f"t{number}", CALL, 0)]
        both += [answered("otto", f"t{number}", one, 5), answered("pia", f"t{number}", other, 6)]
    found = watched([*both, *many("otto", CALL, "yy", "alone")])
    kappa, pairs = found.agreement("otto", "pia")
    assert kappa == pytest.approx(0.5)
    assert pairs == 4
    assert found.reliability() == pytest.approx(1 - 0.25 / (30 / 56))
    assert found.agreement("otto", "nobody") == (None, 0)


def test_an_operators_answer_counts_and_what_several_came_to_is_nobodys() -> None:
    found = watched(
        [decided("root", "alone", True, 5), answered("otto", "t", True, 6), decided("otto, pia", "t", True, 7)]
    )
    assert found.people() == ("otto", "root")


def test_other_entries_say_nothing_of_anybody() -> None:
    found = watched([events.Stopped(at=0, replica="r"), unsealed("never", CALL)])
    assert found.people() == ()
    assert found.rates("otto").detects == (0.0, 1.0)


def test_what_expired_counts_against_who_had_opened_it_and_gave_no_answer() -> None:
    """INVARIANT: 6. Of two who opened it one had answered; what nobody opened counts against nobody."""
    found = watched(
        [
            asked("t", 0),
            asked("u", 0),
            asked("v", 0),
            *opened("otto", "t", CALL, 1),
            *opened("pia", "t", CALL, 1),
            answered("pia", "t", True, 2),
            expired("t", 9),
            expired("t", 9),
            expired("u", 9),
            answered("otto", "v", True, 3 * MINUTE),
            decided("otto", "v", True, 3 * MINUTE),
            expired("v", 9 * MINUTE, "approved"),
        ]
    )
    assert [found.rates(who).expired for who in ("otto", "pia")] == [1, 0]
    assert found.rates("otto", "money").expired == 1
    assert found.categories("otto") == ("", "money")
    waits = found.waits()
    assert (waits.asked, waits.answered, waits.expired, waits.unopened) == (3, 1, 2, 1)
    assert (waits.median, waits.most) == (3 * MINUTE, 3 * MINUTE)
    assert watched([]).waits().median is None
