"""What is promised of fingerprints and of the count that they make."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.enforce.carrying import Carried, Spread, looked_up, print_key, spread_of
from citywatch.core.flow.history import History
from citywatch.core.flow.prints import MAX_KEPT, REACH, fingerprints, letters, packed, unpacked

WORDS = st.text("abcdefghijklmnopqrstuvwxyz0189 .,\n", max_size=400)
PROSE = st.lists(
    st.sampled_from("please send the whole of this note on to all whom you know with every account and wait".split()),
    max_size=120,
).map(" ".join)
TEXTS = WORDS | PROSE
ANY = st.text(max_size=200)
AGENTS = st.sampled_from(["a", "b", "c", "d"])
PRINTS = st.sets(st.integers(0, 40), max_size=30)
ROWS = st.dictionaries(st.integers(0, 40), st.dictionaries(AGENTS, st.integers(0, 10), max_size=4), max_size=30)


@given(TEXTS, TEXTS, TEXTS)
def test_two_texts_that_share_a_reach_share_a_fingerprint(shared: str, before: str, after: str) -> None:
    """The guarantee of winnowing: what is shared is found, wherever it stands."""
    found = fingerprints(shared)
    assert found or len(letters(shared)) < REACH
    assert found & fingerprints(f"{before} {shared} {after}") or len(letters(shared)) < REACH


@given(TEXTS, TEXTS, TEXTS)
def test_text_at_either_end_takes_no_fingerprint_away(text: str, before: str, after: str) -> None:
    assert fingerprints(text) <= fingerprints(f"{before} {text} {after}")


@given(ANY, ANY)
def test_any_text_has_fingerprints_always_the_same(text: str, other: str) -> None:
    assert fingerprints(text) == fingerprints(str(text))
    assert set(unpacked(packed(fingerprints(text + other)))) == fingerprints(text + other)


@given(st.sets(st.integers(0, 2**64 - 1)), st.sets(st.integers(0, 2**64 - 1)))
def test_a_sample_of_more_leaves_none_out_that_would_be_kept_of_less(some: set[int], more: set[int]) -> None:
    assert set(unpacked(packed(some))) == some or len(some) > MAX_KEPT
    assert set(unpacked(packed(some | more))) >= set(unpacked(packed(some))) or len(some | more) > MAX_KEPT


def spread(leaves: set[int], received: set[int], vouched: set[int], rows: dict[int, dict[str, int]]) -> Spread:
    history = History()
    history.received, history.vouched = dict.fromkeys(received), set(vouched)
    found = looked_up(tuple(leaves), history)
    return spread_of(found, history, {print_key(one): Carried(by) for one, by in rows.items()}, "a", 10)


@given(PRINTS, PRINTS, PRINTS, PRINTS, ROWS)
def test_more_text_never_makes_the_count_lower(
    leaves: set[int], more: set[int], received: set[int], vouched: set[int], rows: dict[int, dict[str, int]]
) -> None:
    assert spread(leaves | more, received, vouched, rows).count >= spread(leaves, received, vouched, rows).count


@given(PRINTS, PRINTS, PRINTS, PRINTS, ROWS)
def test_what_is_vouched_for_never_makes_it_higher_and_what_came_never_lower(
    leaves: set[int], more: set[int], received: set[int], vouched: set[int], rows: dict[int, dict[str, int]]
) -> None:
    before = spread(leaves, received, vouched, rows).count
    assert spread(leaves, received, vouched | more, rows).count <= before
    assert spread(leaves, received | more, vouched, rows).count >= before


@given(PRINTS, PRINTS, ROWS)
def test_what_was_tried_is_remembered(leaves: set[int], received: set[int], rows: dict[int, dict[str, int]]) -> None:
    """Whoever tries the same again is in the count, and for another agent it is one higher."""
    found = spread(leaves, received, set(), rows)
    history = History()
    history.received = dict.fromkeys(received)
    after = {print_key(one): Carried(by) for one, by in rows.items()} | dict(found.rows)
    looked = looked_up(tuple(leaves), history)
    assert spread_of(looked, history, after, "a", 10).carriers == found.carriers
    if found.count:
        assert set(found.carriers) <= set(spread_of(looked, history, after, "z", 10).carriers)
