"""A yes takes the time and the care that reading takes; a no takes neither."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.reading import (
    LEAST_MS,
    MOST_MS,
    accepted_from,
    count_words,
    dwell_ms,
    lacks_reason,
    layout,
)
from spec.approvers import read

COUNTS = st.integers(0, 2_000)


@given(COUNTS, COUNTS)
def test_the_least_time_grows_with_what_there_is_to_read(words: int, values: int) -> None:
    """INVARIANT: 1."""
    assert LEAST_MS <= dwell_ms(words, values) <= MOST_MS
    assert dwell_ms(words + 10, values) >= dwell_ms(words, values)
    assert dwell_ms(words, values + 1) >= dwell_ms(words, values)
    assert dwell_ms(60, 5) > dwell_ms(30, 5) > dwell_ms(30, 2)
    assert accepted_from(1_000, words, values) == 1_000 + dwell_ms(words, values)


@given(COUNTS, COUNTS)
def test_who_reads_all_of_it_waits_for_nothing(words: int, values: int) -> None:
    """INVARIANT: 2."""
    assert dwell_ms(words, values) <= 1_000 * read().seconds(words, values)


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 9))
def test_the_parts_stand_in_an_order_of_the_nonce_and_the_reader_alone(nonce: str, person: str, size: int) -> None:
    """INVARIANT: 3."""
    parts = tuple(range(size))
    assert sorted(layout(parts, nonce, person)) == list(parts)
    assert layout(parts, nonce, person)[:1] == parts[:1]
    assert layout(parts, nonce, person) == layout(parts, nonce, person)
    assert layout(["agent's words"] * size, nonce, person) == ("agent's words",) * size


def test_the_order_varies_from_ticket_to_ticket_and_from_reader_to_reader() -> None:
    assert len({layout("!abcd", str(nonce), "anna") for nonce in range(400)}) == 24
    assert len({layout("!abcd", "one", str(person)) for person in range(400)}) == 24


@pytest.mark.parametrize("reason", ["", "ok", "yes yes", "aaaaaaaaaaaa", " . . . . . . . ."])
def test_a_yes_to_what_nobody_entitled_needs_words_of_its_own(reason: str) -> None:
    """INVARIANT: 4."""
    assert lacks_reason(1, reason)
    assert not lacks_reason(0, reason)
    assert not lacks_reason(3, "called the supplier on their known number")


def test_a_long_run_counts_as_the_words_that_it_hides() -> None:
    assert count_words("three short words") == 3
    assert count_words("x" * 1_200) == 101
    assert count_words("") == 0
