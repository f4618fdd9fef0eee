"""Bindings, statements and quorums against their definition."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.binding import changed, plain, ticket_digest
from citywatch.core.approvals.quorum import tally
from citywatch.core.approvals.statement import (
    Statement,
    challenge_of,
    format_statements,
    parse_statement,
    parse_statements,
    set_of,
    statement_bytes,
)
from citywatch.core.approvals.statement import format_statement as written
from citywatch.core.approvals.ticket import Illegal, State, Step, Vote, after
from citywatch.core.call import Bound
from citywatch.core.label import Label
from spec import approvals as law

TEXT = st.text(max_size=12).filter(lambda one: not any("\ud800" <= char <= "\udfff" for char in one))
ORIGINS = ("principal:alice", "principal:eve", "server:bank", "outside:mail/inbox", "agent:spiffe://a/agent/b")
LABELS = st.builds(
    Label,
    st.none() | st.frozensets(st.sampled_from(ORIGINS), max_size=4),
    st.none() | st.frozensets(st.sampled_from(("person:a", "person:b", "agent:c")), max_size=3),
)
BOUNDS = st.builds(
    Bound,
    agent=st.sampled_from(("a", "b")),
    server=st.just("bank"),
    tool=TEXT,
    effect=st.sampled_from(("write", "irreversible")),
    pin=st.sampled_from(("p", "q")),
    arguments=st.sampled_from(("x", "y")),
    names=st.lists(st.tuples(TEXT, st.just("destination"), TEXT), max_size=2).map(tuple),
    labels=st.lists(st.tuples(st.sampled_from(("to", "amount")), LABELS), max_size=2).map(tuple),
    chain=st.lists(TEXT, max_size=2).map(tuple),
    policies=st.lists(TEXT, max_size=2).map(tuple),
    code=st.just("approval_required"),
    task=TEXT,
    discloses=st.booleans(),
)
HEX = st.binary(min_size=16, max_size=16).map(bytes.hex)
STATEMENTS = st.builds(
    Statement,
    domain=TEXT,
    ticket=HEX,
    digest=HEX,
    document=HEX,
    decision=st.sampled_from(("approve", "deny")),
    approver=TEXT,
    principal=TEXT,
    reason=TEXT,
    hold_ms=st.integers(0, 86_400_000),
    acknowledged=st.lists(TEXT, max_size=3).map(tuple),
    expires=st.integers(0, 2**53 - 1),
    nonce=HEX,
)
STEERING = {"principal:alice"}


def may_steer(origin: str) -> bool:
    return origin in STEERING or origin.startswith("server:")


@given(BOUNDS, HEX, HEX, st.integers(0, 2**53 - 1))
def test_a_digest_is_the_one_by_definition(bound: Bound, ticket: str, salt: str, expires: int) -> None:
    assert ticket_digest(bound, ticket, salt, expires) == law.ticket_digest(plain(bound), ticket, salt, expires)


@given(BOUNDS, BOUNDS, st.data())
def test_a_yes_covers_what_it_covers_by_definition(then: Bound, other: Bound, data: st.DataObject) -> None:
    kept = data.draw(st.frozensets(st.sampled_from([*Bound.__struct_fields__])))
    now = msgspec.structs.replace(other, **{name: getattr(then, name) for name in kept})
    assert (changed(then, now, may_steer) == "") is law.covers(plain(then), plain(now), STEERING)
    assert changed(then, then, may_steer) == ""


@given(STATEMENTS)
def test_a_statement_has_one_form_and_that_is_signed(statement: Statement) -> None:
    members: dict[str, Any] = msgspec.to_builtins(statement)
    assert statement_bytes(statement) == law.signed_bytes(members)
    assert parse_statement(written(statement)) == statement
    assert law.challenge(members) == urlsafe_b64encode(challenge_of(statement)).rstrip(b"=").decode()


@given(st.lists(STATEMENTS, min_size=2, max_size=4, unique_by=lambda one: one.ticket))
def test_a_set_has_one_form_and_that_is_signed(some: list[Statement]) -> None:
    statements = [msgspec.structs.replace(one, domain="a", approver="anna", decision="approve") for one in some]
    batch = set_of(statements)
    members: dict[str, Any] = json.loads(written(batch))
    assert members == law.set_of([json.loads(written(one)) for one in statements])
    assert statement_bytes(batch) == law.set_bytes(members)
    assert law.set_challenge(members) == urlsafe_b64encode(challenge_of(batch)).rstrip(b"=").decode()
    assert all(batch.holds(one) for one in statements)
    assert not any(batch.holds(msgspec.structs.replace(one, reason=f"{one.reason}.")) for one in statements)
    assert set_of(statements[::-1]) == batch
    assert parse_statements(format_statements(statements)) == parse_statements(format_statements(statements[::-1]))
    assert set(parse_statements(format_statements(statements))) == set(statements)


VOTES = st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(-50, 150)), max_size=6)


@given(VOTES, st.integers(0, 4), st.lists(st.integers(-50, 150), max_size=4), st.booleans())
def test_votes_come_to_what_they_come_to_by_definition(
    votes: list[tuple[str, bool, int]], need: int, left: list[int], one_denies: bool
) -> None:
    said = [Vote(person=person, yes=yes, at=0, weight=weight) for person, yes, weight in votes]
    assert tally(said, need, left, one_denies=one_denies).verdict == law.verdict(votes, need, left, one_denies)


@given(st.sampled_from([*State]), st.sampled_from([*Step]))
def test_a_ticket_takes_the_steps_that_there_are_by_definition(state: State, step: Step) -> None:
    found = after(state, step)
    assert (None if isinstance(found, Illegal) else found.value) == law.STEPS.get(f"{state.value} {step.value}")
