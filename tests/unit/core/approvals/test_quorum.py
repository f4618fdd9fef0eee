"""One person is one vote, a no decides where it is to, and nobody waits for what cannot come."""

from __future__ import annotations

import pytest

from citywatch.core.approvals.quorum import Verdict, tally
from citywatch.core.approvals.ticket import Vote


def votes(*said: str) -> list[Vote]:
    return [Vote(person=one[1:], yes=one[0] == "+", at=0) for one in said]


@pytest.mark.parametrize(
    ("said", "need", "left", "verdict"),
    [
        (("+anna",), 1, (), Verdict.YES),
        (("+anna",), 2, (100,), Verdict.OPEN),
        (("+anna", "+anna"), 2, (100,), Verdict.OPEN),
        (("+anna", "+ben"), 2, (), Verdict.YES),
        (("+anna", "-ben"), 2, (100,), Verdict.NO),
        (("-anna", "+anna"), 1, (), Verdict.NO),
        (("+anna",), 2, (), Verdict.NO),
        ((), 1, (), Verdict.NO),
        ((), 0, (100,), Verdict.OPEN),
    ],
)
def test_votes_are_counted_by_person(said: tuple[str, ...], need: int, left: tuple[int, ...], verdict: Verdict) -> None:
    assert tally(votes(*said), need, left, one_denies=True).verdict is verdict


def test_without_one_denies_a_no_decides_once_a_yes_is_out_of_reach() -> None:
    assert tally(votes("-a", "+b"), 2, (100,), one_denies=False).verdict is Verdict.OPEN
    assert tally(votes("-a", "+b", "+c"), 2, (), one_denies=False).verdict is Verdict.YES
    assert tally(votes("-a", "-b"), 2, (100,), one_denies=False).verdict is Verdict.NO


def test_who_is_trusted_less_counts_for_less_and_nobody_for_more_than_one() -> None:
    half = Vote(person="a", yes=True, at=0, weight=50)
    assert tally([half], 1, (100,), one_denies=True).verdict is Verdict.OPEN
    assert tally([half], 1, (40,), one_denies=True).verdict is Verdict.NO
    heavy = Vote(person="a", yes=True, at=0, weight=900)
    assert tally([heavy], 2, (100,), one_denies=True).have == 100


@pytest.mark.parametrize("deputy_first", [True, False])
def test_whoever_is_away_and_who_stands_in_for_them_are_one(deputy_first: bool) -> None:
    own, deputy = Vote(person="anna", yes=True, at=0), Vote(person="ben", place="anna", yes=True, at=0)
    both = [deputy, own] if deputy_first else [own, deputy]
    assert tally(both, 2, (100,), one_denies=True).verdict is Verdict.OPEN
    assert tally([*both, Vote(person="cara", yes=True, at=0)], 2, (), one_denies=True).verdict is Verdict.YES
