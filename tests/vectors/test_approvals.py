"""Examples of bindings, statements and votes with their verdicts: ours, and those of the definition."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest

from citywatch.core.approvals.binding import changed, plain, ticket_digest
from citywatch.core.approvals.quorum import tally
from citywatch.core.approvals.statement import Statement, StatementSet, challenge_of, verify_statement
from citywatch.core.approvals.ticket import Vote
from citywatch.core.call import Bound
from citywatch.core.errors import Malformed
from citywatch.core.label import parse_label
from citywatch.core.signature import parse_b64url, parse_ed25519_key
from spec import approvals as law

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "spec/vectors/approvals.json").read_text("utf-8"))
KEY = bytes.fromhex(VECTORS["key"]["public"])
STEERING = set(VECTORS["steering"])


def bound_of(told: dict[str, Any]) -> Bound:
    labels = tuple((path, parse_label(label)) for path, label in told["labels"])
    bound = msgspec.structs.replace(msgspec.convert({**told, "labels": []}, Bound), labels=labels)
    assert plain(bound) == told
    return bound


def test_the_digest_is_the_one() -> None:
    told = VECTORS["ticket"]
    found = ticket_digest(bound_of(told["bound"]), told["ticket"], told["salt"], told["expires"])
    assert found == told["digest"] == law.ticket_digest(told["bound"], told["ticket"], told["salt"], told["expires"])


@pytest.mark.parametrize("case", VECTORS["covers"], ids=lambda one: one["case"])
def test_a_yes_covers_what_the_examples_say(case: dict[str, Any]) -> None:
    then = VECTORS["ticket"]["bound"]
    why = changed(bound_of(then), bound_of(case["now"]), lambda one: one in STEERING or one.startswith("server:"))
    assert (why == "") is case["covers"] is law.covers(then, case["now"], STEERING)


@pytest.mark.parametrize("case", VECTORS["statements"], ids=lambda one: one["case"])
def test_a_statement_is_signed_where_the_examples_say(case: dict[str, Any]) -> None:
    statement = msgspec.convert(case["statement"], Statement)
    signature = parse_b64url(case["signature"])
    try:
        ours = verify_statement(statement, signature, parse_ed25519_key(KEY)) == statement
    except Malformed:
        ours = False
    assert ours is case["signed"] is law.is_signed(case["statement"], signature, KEY)
    shown = urlsafe_b64encode(challenge_of(statement)).rstrip(b"=").decode()
    assert shown == case["challenge"] == law.challenge(case["statement"])


@pytest.mark.parametrize("case", VECTORS["sets"], ids=lambda one: one["case"])
def test_an_answer_is_signed_in_a_set_where_the_examples_say(case: dict[str, Any]) -> None:
    statement, batch = msgspec.convert(case["statement"], Statement), msgspec.convert(case["set"], StatementSet)
    signature = parse_b64url(case["signature"])
    try:
        ours = verify_statement(batch, signature, parse_ed25519_key(KEY)).holds(statement)
    except Malformed:
        ours = False
    assert ours is case["signed"] is law.is_signed_in_a_set(case["statement"], case["set"], signature, KEY)
    shown = urlsafe_b64encode(challenge_of(batch)).rstrip(b"=").decode()
    assert shown == case["challenge"] == law.set_challenge(case["set"])


@pytest.mark.parametrize("case", VECTORS["votes"], ids=lambda one: one["case"])
def test_votes_come_to_what_the_examples_say(case: dict[str, Any]) -> None:
    said = [Vote(person=person, yes=yes, at=0, weight=weight) for person, yes, weight in case["votes"]]
    found = tally(said, case["need"], case["left"], one_denies=case["one_denies"]).verdict
    told = law.verdict([tuple(one) for one in case["votes"]], case["need"], case["left"], case["one_denies"])
    assert found.value == told == case["verdict"]
