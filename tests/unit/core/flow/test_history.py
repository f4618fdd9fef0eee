"""Where a value stands in a context: whole, in any notation, and nowhere if it can be read in two ways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.flow.fields import Fields
from citywatch.core.flow.history import ANCESTORS, MAX_AROUND, MAX_SIGHTINGS, History
from citywatch.core.flow.item import Item, Reading, read_prompt, read_reply
from citywatch.core.label import BOTTOM, Label
from citywatch.core.manifest import Output

READING = Reading(
    source="bank/look",
    trusted=Label(frozenset(("server:bank",)), None),
    untrusted=Label(frozenset(("outside:bank/look",)), None),
    shaped=BOTTOM,
)


def reply(value: Any, **outputs: Output) -> Item:
    return read_reply(Fields(outputs or {"$": Output(trusted=True)}).walk(value), "d", READING, 0)


def history(*items: Item) -> History:
    found = History()
    for item in items:
        found.add(item)
    return found


def test_a_value_is_seen_in_another_notation_of_it() -> None:
    (seen,) = history(reply({"amount": "1,200.00 EUR"})).sightings("€1200")
    assert seen.end > seen.start


@pytest.mark.parametrize("text", ["100", "21", "x1", "1.5", "GB29NWBK60161331926819"])
def test_a_part_of_a_longer_value_is_no_sighting(text: str) -> None:
    assert not history(reply({"note": f"see {text}"})).sightings(1)


def test_a_value_that_can_be_read_in_two_ways_is_seen_nowhere() -> None:
    here = history(reply({"due": "on 2024-04-03"}))
    assert here.sightings("2024-04-03")
    assert not here.sightings("03/04/2024")


def test_the_oldest_sighting_comes_first_and_no_more_than_are_looked_at() -> None:
    here = history(*(reply({"id": "INV-0042"}) for _ in range(2 * MAX_SIGHTINGS)))
    seen = here.sightings("INV-0042")
    assert [one.item for one in seen] == list(range(MAX_SIGHTINGS))


def test_what_may_describe_a_field_is_bounded() -> None:
    wide = {f"k{n}": "v" for n in range(200)}
    item = reply({**wide, "in": {**wide, "in": {**wide, "in": {**wide, "in": {**wide, "id": "INV-0042"}}}}})
    here = history(item)
    (part,) = [one for one in item.parts if one.name == "id"]
    assert len(list(here.around(0, part))) == ANCESTORS * MAX_AROUND


def test_only_a_single_value_of_a_kind_is_the_one_that_was_asked_for() -> None:
    one, other = reply({"mail": "bob@x.example"}), reply({"mail": "eve@x.example"})
    assert history(one, one).only((), "email") == "bob@x.example"
    assert history(one, other).only((), "email") is None
    assert history(one).only(("else",), "email") is None


@given(st.text(max_size=30))
def test_a_prompt_is_found_in_its_own_words(words: str) -> None:
    here = history(read_prompt(f"say {words}", "d", "alice", 0))
    assert here.prompts[0].source == "principal:alice"
    here.sightings(words)  # any text, and no error


ITEMS = st.dictionaries(
    st.sampled_from(["id", "note", "sum"]),
    st.sampled_from(["INV-0042", "see 12 EUR", "Kim Larsen", 12, 7.5, True]) | st.just({"id": "INV-7", "sum": 3}),
    max_size=3,
)


@given(st.lists(st.tuples(ITEMS, st.booleans()), max_size=6))
def test_what_is_indexed_late_is_found_as_if_it_had_been_at_once(told: list[tuple[Any, bool]]) -> None:
    """An index is made when somebody asks: whether they asked after each item or after all must not show."""
    early, late = History(), History()
    for value, ask in told:
        early.add(reply(value))
        late.add(reply(value))
        assert early.amounts is not None
        if ask:
            late.sightings("INV-0042")
    assert late.foreign == early.foreign
    assert late.fields("sum") == early.fields("sum")
    assert late.amounts == early.amounts
    assert late.only((), "number") == early.only((), "number")
    for value in ("INV-0042", "12 EUR", "Kim Larsen", 12, 7.5):
        assert late.sightings(value) == early.sightings(value)
        assert late.wholes(str(value).lower()) == early.wholes(str(value).lower())
    assert [late.record(number, 0) for number in range(len(told))] == [
        early.record(number, 0) for number in range(len(told))
    ]
