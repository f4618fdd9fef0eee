"""How a prompt and a reply are taken apart: what is kept, what label it has, how much of it at most."""

from __future__ import annotations

import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.flow.fields import MAX_LEAVES, Fields
from citywatch.core.flow.item import MAX_MARKS, MAX_NAMES, MAX_PROMPT, MAX_WHOLE, Item, Reading, read_prompt, read_reply
from citywatch.core.flow.phrases import find_lines, find_names
from citywatch.core.label import BOTTOM, Label, is_above
from citywatch.core.manifest import Output

SERVER = Label(frozenset(("server:bank",)), None)
OUTSIDE = Label(frozenset(("outside:bank/look",)), None)
EARLIER = Label(frozenset(("outside:mail/inbox",)), None)
TRUSTED, KEY = Output(trusted=True), Output(trusted=True, key=True)


def reply(value: Any, outputs: dict[str, Output] | None = None, shaped: Label = BOTTOM) -> Item:
    reading = Reading(source="bank/look", trusted=SERVER, untrusted=OUTSIDE, shaped=shaped, about=("Plan A",))
    return read_reply(Fields({} if outputs is None else outputs).walk(value), "d", reading, 0)


def test_a_prompt_is_its_principals_and_kept_as_text() -> None:
    item = read_prompt("Pay 100.50 to bob@x.example", "d", "alice", 7)
    assert item.label == Label(frozenset(("principal:alice",)), None)
    assert {mark[0] for mark in item.parts[0].marks} >= {"email", "number"}
    assert item.text == "Pay 100.50 to bob@x.example"
    assert len(read_prompt("x" * (2 * MAX_PROMPT), "d", "alice", 0).text) == MAX_PROMPT


def test_a_reply_is_labelled_by_its_fields_and_its_text_is_not_kept() -> None:
    assert reply({"a": "x"}).label == OUTSIDE
    assert reply({"a": "x"}, {"$": TRUSTED}).label == SERVER
    mixed = reply({"a": "x", "b": "y"}, {"$": TRUSTED, "$.b": Output()})
    assert mixed.label.origins == SERVER.origins | OUTSIDE.origins  # type: ignore[operator]
    assert mixed.text == ""
    assert mixed.about == ("plan a",)


def test_a_number_cannot_carry_an_instruction_and_text_can() -> None:
    outputs = {"$": TRUSTED, "$.b": Output()}
    assert reply({"a": "x", "b": 5}, outputs).label == SERVER
    assert is_above(reply({"a": "x", "b": "5"}, outputs).label, OUTSIDE)


def test_what_earlier_writes_brought_comes_back_with_all_but_the_servers_own_keys() -> None:
    item = reply({"id": "7", "name": "x"}, {"$": TRUSTED, "$.id": KEY}, EARLIER)
    assert {part.path: part.trusted for part in item.parts} == {"$.id": True, "$.name": False}
    assert is_above(item.label, EARLIER)


def test_a_walk_that_was_cut_has_the_label_of_third_party_text() -> None:
    item = reply(list(range(MAX_LEAVES + 1)), {"$": TRUSTED}, EARLIER)
    assert is_above(item.label, OUTSIDE)
    assert is_above(item.label, EARLIER)


def test_a_long_value_is_no_name_and_its_marks_are_bounded() -> None:
    item = reply({"a": "bob@x.example " * 20_000, "b": "eve@x.example"})
    assert sum(len(part.marks) for part in item.parts) <= MAX_MARKS + MAX_NAMES
    assert all(len(part.whole) <= MAX_WHOLE for part in item.parts)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_any_reply_is_an_item_that_comes_back_from_its_row(value: Any, trusted: bool) -> None:
    item = reply(value, {"$": TRUSTED} if trusted else None)
    assert msgspec.json.decode(msgspec.json.encode(item), type=Item) == item


@pytest.mark.parametrize("text", ["\u202e\u0000", "\u200b" * 5000, "%41" * 5000, "=" * 5000, "1." * 5000])
def test_hostile_text_is_taken_apart_like_any_other(text: str) -> None:
    assert reply({"a": text}).label == OUTSIDE


def test_names_of_a_strangers_text_are_kept_and_take_no_token_its_place() -> None:
    """People point at names; a text full of them must not push out the account that stands behind."""
    item = reply({"a": "Kim Larsen\n" * 20_000 + "4 Elm Street", "b": "eve@x.example"})
    marks = [mark for part in item.parts for mark in part.marks]
    assert ("email", "eve@x.example") in [mark[:2] for mark in marks]
    assert 0 < sum(mark[0] == "name" for mark in marks) <= MAX_NAMES
    lines = reply("Dear all,\n- Name: Kim Larsen\n4 Elm Street\n")
    assert {"kim larsen", "4 elm street"} <= {mark[1] for mark in lines.parts[0].marks if mark[0] == "name"}
    assert all(mark[0] != "name" for part in reply("Kim Larsen", outputs={"$": TRUSTED}).parts for mark in part.marks)


@given(st.text(st.sampled_from(string.ascii_letters + string.digits), max_size=80))
def test_one_plain_word_is_the_names_that_a_closer_look_finds_in_it(word: str) -> None:
    closely = [*find_lines(word, word, MAX_NAMES), *find_names(word, word, MAX_NAMES)]
    names = [mark for mark in reply(word).parts[0].marks if mark[0] == "name"]
    assert names == list(dict.fromkeys((str(one.kind), one.value, one.start, one.end) for one in closely))
