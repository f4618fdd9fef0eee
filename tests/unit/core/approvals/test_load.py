"""Nobody is given more than their budget and one burst, and part of the burst is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.load import HOUR_MS, Load


def desk(per_hour: int) -> Load:
    load = Load()
    load.comes("otto", per_hour, 0)
    return load


def taken(load: Load, fair: bool, now: int) -> int:
    count = 0
    while count < 100 and load.may("otto", fair, now):
        load.given("otto", now)
        count += 1
    return count


def test_a_burst_then_evenly_and_most_of_the_burst_is_kept() -> None:
    load = desk(12)
    assert taken(load, False, 0) == 1  # of four, two thirds are kept
    assert taken(load, True, 0) == 3
    assert taken(load, True, HOUR_MS // 12 - 1) == 0
    assert taken(load, True, HOUR_MS // 12) == 1


@given(st.integers(1, 60), st.lists(st.integers(0, HOUR_MS // 7), max_size=60), st.booleans())
def test_within_any_hour_nobody_is_given_more_than_the_budget_and_one_burst(
    per_hour: int, steps: list[int], fair: bool
) -> None:
    """INVARIANT: 1."""
    load, now, times = desk(per_hour), 0, []
    for step in steps:
        now += step
        times += [now] * taken(load, fair, now)
    for begin in times:
        within = [one for one in times if begin <= one < begin + HOUR_MS]
        assert len(within) <= per_hour + max(2, per_hour // 3)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """INVARIANT: 3."""
    load = desk(12)
    taken(load, True, HOUR_MS)
    assert taken(load, True, 0) == 0
    assert taken(load, True, HOUR_MS) == 0
    assert taken(load, True, HOUR_MS + HOUR_MS // 12) == 1


def test_who_is_not_there_is_asked_nothing_and_comes_back_with_what_was_left() -> None:
    load = desk(12)
    assert not load.may("nobody", True, 0)
    assert taken(load, True, 0) == 4
    load.goes("otto")
    assert not load.may("otto", True, HOUR_MS)
    assert (load.capacity, list(load.there())) == (0, [])
    load.comes("otto", 12, HOUR_MS)
    assert load.capacity == 12
