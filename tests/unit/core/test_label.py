"""What labels let through and what they stop, how they are written, and what is not a label."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from citywatch.core.errors import Malformed
from citywatch.core.label import (
    BOTTOM,
    MAX_ORIGINS,
    MAX_READERS,
    TOP,
    Label,
    Origin,
    Shaper,
    format_label,
    format_origin,
    is_above,
    join,
    join_all,
    may_flow,
    parse_label,
    parse_origin,
)

STAFF = frozenset({"alice", "bob"})
SECRET = Label(frozenset({"server:bank"}), STAFF)


def test_a_secret_goes_to_its_readers_and_to_nobody_else() -> None:
    assert may_flow(SECRET, frozenset({"alice"}))
    assert may_flow(SECRET, STAFF)
    assert not may_flow(SECRET, STAFF | {"mallory"})
    assert not may_flow(SECRET, None)


def test_what_everybody_may_see_goes_to_anybody_and_what_nobody_may_see_to_nobody() -> None:
    assert may_flow(BOTTOM, None)
    assert may_flow(BOTTOM, STAFF)
    assert not may_flow(TOP, frozenset({"alice"}))
    assert not may_flow(TOP, None)


@pytest.mark.parametrize("label", [BOTTOM, SECRET, TOP])
def test_an_audience_that_nobody_named_is_refused(label: Label) -> None:
    assert not may_flow(label, frozenset())


def test_a_join_keeps_every_origin_and_only_the_common_readers() -> None:
    mail = Label(frozenset({"outside:mail/read"}), frozenset({"bob", "carol"}))
    assert join(SECRET, mail) == Label(frozenset({"server:bank", "outside:mail/read"}), frozenset({"bob"}))
    assert join(SECRET, Label(None, None)) == Label(None, STAFF)


def test_a_join_of_nothing_claims_nothing() -> None:
    assert join_all([]) == BOTTOM


def test_one_origin_too_many_could_be_anybody_and_one_reader_too_many_is_nobody() -> None:
    origins = [Label(frozenset({f"outside:{n}"}), None) for n in range(MAX_ORIGINS + 1)]
    assert join_all(origins[:-1]).origins is not None
    assert join_all(origins).origins is None
    readers = frozenset(map(str, range(MAX_READERS + 1)))
    assert Label(frozenset(), readers).readers == frozenset()
    assert not may_flow(Label(frozenset(), readers), frozenset({"1"}))


def test_the_bound_also_holds_for_what_is_decoded() -> None:
    written = msgspec.json.encode({"origins": [str(n) for n in range(MAX_ORIGINS + 1)], "readers": None})
    assert msgspec.json.decode(written, type=Label) == Label(None, None)


def test_labels_that_say_different_things_are_not_above_each_other() -> None:
    other = Label(frozenset({"principal:alice"}), STAFF)
    assert not is_above(SECRET, other)
    assert not is_above(other, SECRET)
    assert is_above(TOP, SECRET)
    assert is_above(SECRET, BOTTOM)


def test_a_label_is_written_in_one_way() -> None:
    label = Label(frozenset({"server:b", "principal:a"}), None)
    assert format_label(label) == {"origins": ["principal:a", "server:b"], "readers": None}
    assert format_label(TOP) == {"origins": None, "readers": []}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"origins": []},
        {"origins": [], "readers": [], "more": 1},
        {"origins": "server:bank", "readers": None},
        {"origins": [1], "readers": None},
        {"origins": ["bank"], "readers": None},
        {"origins": [], "readers": [""]},
        {"origins": [], "readers": {}},
    ],
)
def test_what_is_not_exactly_a_label_is_malformed(value: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        parse_label(value)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("principal:alice", Origin(Shaper.PRINCIPAL, "alice")),
        ("server:bank", Origin(Shaper.SERVER, "bank")),
        ("outside:mail/read_inbox", Origin(Shaper.OUTSIDE, "mail/read_inbox")),
        ("agent:spiffe://a.example/agent/x", Origin(Shaper.AGENT, "spiffe://a.example/agent/x")),
    ],
)
def test_an_origin_is_read_and_written(text: str, origin: Origin) -> None:
    assert parse_origin(text) == origin
    assert format_origin(origin) == text


@pytest.mark.parametrize("text", ["", "alice", "principal:", "user:alice", "PRINCIPAL:a", "server:a b", "server:a\n"])
def test_another_text_is_no_origin(text: str) -> None:
    with pytest.raises(Malformed):
        parse_origin(text)
