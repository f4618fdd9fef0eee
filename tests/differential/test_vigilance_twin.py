"""What the fold says of approvers against what is counted from the log's JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core import events
from citywatch.core.approvals.seal import Kind
from spec import approvers
from spec import vigilance as law
from tests.unit.core.approvals.watched import answered, asked, decided, expired, opened, unsealed, watched

PEOPLE = ("otto", "pia")


def log(chance: Random, tickets: int) -> list[events.Event]:
    """Tickets that one or two people answer, in any order, some of them unsealed wrongly or never, some escapes."""
    some: list[events.Event] = []
    lax = {who: chance.random() for who in PEOPLE}
    for number in range(tickets):
        name, kind = f"t{number}", chance.choice([Kind.CANARY, Kind.CANARY, Kind.CLEAN, Kind.CALL])
        if kind is Kind.CALL:
            some.append(asked(name, number))
        if kind is Kind.CALL and chance.random() < 0.4:
            for who in chance.sample(PEOPLE, chance.choice((0, 1, 2))):
                some += opened(who, name, kind, number)
                some += [answered(who, name, True, number)] if chance.random() < 0.2 else []
            some.append(expired(name, number + 3, chance.choice(("pending", "pending", "approved"))))
            continue
        for who in chance.sample(PEOPLE, chance.choice((1, 1, 2))):
            some += opened(who, name, kind, number)
            some.append(answered(who, name, chance.random() < lax[who], number + 1))
        if kind is Kind.CALL and chance.random() < 0.5:
            some.append(decided(PEOPLE[0], name, True, number + 2))
        if chance.random() < 0.9:
            some.append(unsealed(name, kind if chance.random() < 0.9 else chance.choice(list(Kind))))
        if chance.random() < 0.1:
            some.append(events.ApprovalReversed(at=0, replica="r", ticket=name, by="x", reason="y"))
        if chance.random() < 0.1:
            some.append(unsealed(name, kind))
            some.append(answered(chance.choice(PEOPLE), name, True, number + 2))
    return some


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_fold_says_what_the_log_says(chance: Random) -> None:
    agree(chance, 25)


def test_and_it_was_not_for_want_of_people_who_lost_their_weight() -> None:
    assert sum(agree(Random(seed), 40) for seed in range(25)) > 10


def agree(chance: Random, tickets: int) -> int:
    """Compare both; how many had no weight at the end."""
    some = log(chance, tickets)
    entries = [json.loads(msgspec.json.encode(one)) for one in some]
    found = watched(some)
    waits, told = found.waits(), law.waits(entries)
    assert {name: getattr(waits, name) for name in told} == told
    lost = 0
    for who in PEOPLE:
        rates, counted = found.rates(who), law.counts(entries, who)
        assert {name: getattr(rates, name) for name in counted} == counted
        assert found.counts(who) is law.weight(entries, who)
        lost += not found.counts(who)
    return lost


def test_anybody_can_run_it_on_a_log(tmp_path: Path) -> None:
    some = log(Random(1), 20)
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"\n".join(msgspec.json.encode(one) for one in some))
    run = subprocess.run(
        [sys.executable, "-m", "spec.vigilance", str(file)], capture_output=True, text=True, check=True
    )
    assert [json.loads(line)["who"] for line in run.stdout.splitlines()] == list(PEOPLE)


def test_the_model_of_approvers_has_the_anchors_of_the_literature() -> None:
    """7 % missed at 50 %, 30 % at 1 %, and 93 % of what is honest approved."""
    found = approvers.read()
    assert found.misses(0.5) == pytest.approx(0.07)
    assert found.misses(0.01) == pytest.approx(0.30)
    assert 1 - found.false_denials(0.01) == pytest.approx(0.93)
    assert found.misses(0.0001) == found.misses(0.001) < 0.5
    assert found.lapses(30) == 0
    assert found.lapses(120) == pytest.approx(0.5)


def test_a_simulated_approver_errs_as_often_as_the_model_says() -> None:
    found, chance = approvers.read(), Random(3)
    rare = [approvers.Approver(found, chance).answers(True, 0, chance.gauss(0, 1), told=False) for _ in range(4_000)]
    assert sum(rare) / 4_000 == pytest.approx(0.30, abs=0.025)
    drilled = approvers.Approver(found, chance)
    for number in range(200):
        drilled.answers(number % 2 == 0, number * 3600.0, 0, told=True)
    assert drilled.prevalence == pytest.approx(0.5, abs=0.02)
    busy = [approvers.Approver(found, chance, yes_man=True).answers(True, 0, 0, told=True) for _ in range(5)]
    assert all(busy)
