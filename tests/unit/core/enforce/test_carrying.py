"""What counts as carried on, and by whom; the sequence is in tests/simulation/test_worm.py."""

from __future__ import annotations

from typing import Any

import msgspec

from citywatch.core.enforce.carrying import (
    FRESH_MS,
    LEAST,
    MAX_CARRIERS,
    MAX_FOLLOWED,
    MAX_PROBED,
    MAX_WRITTEN,
    NOTHING,
    WINDOW_MS,
    Carried,
    is_over,
    looked_up,
    print_key,
    said_in,
    spread_of,
)
from citywatch.core.flow.history import History

NOW = 10 * WINDOW_MS
SOME = tuple(range(1, LEAST + 1))


def history(received: Any = (), vouched: Any = ()) -> History:
    found = History()
    found.received, found.vouched = dict.fromkeys(received), set(vouched)
    return found


def by(prints: Any, **agents: int) -> dict[tuple[str, str], Carried]:
    return {print_key(one): Carried(agents) for one in prints}


def test_what_came_from_outside_is_carried_on_by_whoever_sends_it() -> None:
    found = spread_of(SOME, history(SOME), {}, "a", NOW)
    assert found.carriers == ("a",)
    assert found.rows == by(SOME, a=NOW)


def test_what_another_agent_carried_on_has_come_from_outside_whatever_way_it_came() -> None:
    found = spread_of(SOME, history(), by(SOME, b=NOW), "a", NOW)
    assert found.carriers == ("b", "a")


def test_an_agents_own_words_count_for_nobody() -> None:
    assert spread_of(SOME, history(), {}, "a", NOW) == NOTHING
    assert spread_of(SOME, history(), by(SOME, a=NOW), "a", NOW) == NOTHING


def test_fewer_than_make_a_copy_are_none() -> None:
    assert spread_of(SOME[1:], history(SOME), {}, "a", NOW) == NOTHING
    mixed = by(SOME[1:], b=NOW) | by(SOME[:1], c=NOW)
    assert spread_of(SOME, history(SOME), mixed, "a", NOW).carriers == ("a",), "nor are those that others carried on"
    assert looked_up(SOME[1:], history(SOME)) == ()


def test_the_window_has_its_edge_within() -> None:
    rows = by(SOME, b=NOW - WINDOW_MS)
    assert spread_of(SOME, history(SOME), rows, "a", NOW).count == 2
    assert spread_of(SOME, history(SOME), rows, "a", NOW + 1).count == 1
    assert not is_over(Carried({"b": NOW - WINDOW_MS}), NOW)
    assert is_over(Carried({"b": NOW - WINDOW_MS}), NOW + 1)


def test_who_carried_it_on_a_moment_ago_is_not_written_again() -> None:
    assert spread_of(SOME, history(SOME), by(SOME, a=NOW), "a", NOW + FRESH_MS - 1).rows == {}
    assert spread_of(SOME, history(SOME), by(SOME, a=NOW), "a", NOW + FRESH_MS).rows == by(SOME, a=NOW + FRESH_MS)


def test_those_who_were_there_longest_ago_make_room() -> None:
    crowd = {f"b{number:02}": NOW - number for number in range(MAX_CARRIERS)}
    rows = {print_key(one): Carried(crowd) for one in SOME}
    found = spread_of(SOME, history(SOME), rows, "a", NOW)
    assert found.count == MAX_CARRIERS + 1
    (row, *_) = found.rows.values()
    assert len(row.agents) == MAX_CARRIERS
    assert f"b{MAX_CARRIERS - 1:02}" not in row.agents
    assert "a" in row.agents


def test_what_came_from_outside_is_looked_up_before_what_came_from_nowhere() -> None:
    came, rest = range(0, 2 * MAX_FOLLOWED, 2), range(1, 2 * MAX_FOLLOWED, 2)
    found = looked_up((*rest, *came), history(came))
    assert len(found) == MAX_FOLLOWED + MAX_PROBED
    assert found[:MAX_FOLLOWED] == tuple(came)
    assert found[MAX_FOLLOWED:] == tuple(rest)[:MAX_PROBED]
    assert looked_up((*rest, *came), history(came, vouched=came)) == tuple(rest)[:MAX_PROBED]


def test_of_very_much_the_rows_of_what_others_carried_on_come_first() -> None:
    """New text beside a copy does not keep the copy out of the rows."""
    much, copy = range(3 * MAX_WRITTEN), range(3 * MAX_WRITTEN, 3 * MAX_WRITTEN + LEAST)
    found = spread_of((*much, *copy), history((*much, *copy)), by(copy, b=NOW), "a", NOW)
    assert len(found.rows) == MAX_WRITTEN
    assert {print_key(one) for one in copy} <= found.rows.keys() & set(found.rests_on)
    assert spread_of(copy, history(copy), found.rows, "c", NOW).carriers == ("a", "b", "c")


def test_all_words_of_a_value_are_read_in_order_and_names_last() -> None:
    value = {"parts": [{"text": "one"}, {"text": "two", "n": 3}], "metadata": {"x": ["three", None, True]}}
    assert said_in(value).split("\n")[:3] == ["one", "two", "three"]
    assert {"parts", "text", "metadata"} <= set(said_in(value).split("\n")[3:])
    deep: Any = "bottom"
    for _ in range(5_000):
        deep = [deep]
    assert said_in(deep) == "bottom"


def test_a_row_is_read_as_it_was_written() -> None:
    row = Carried({"a": 1})
    assert msgspec.json.decode(msgspec.json.encode(row), type=Carried) == row
