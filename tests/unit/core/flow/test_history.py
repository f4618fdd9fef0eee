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
