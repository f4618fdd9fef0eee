"""What is quick and what is remembered say what the slow and the forgetful say, of any value."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from citywatch.core.enforce.steering import OUTBOUND
from citywatch.core.flow.fold import fold
from citywatch.core.flow.index import Index, index_text, met
from citywatch.core.flow.mentions import find_said, whole_words
from citywatch.core.flow.readings import MAX_KEPT, MAX_LENGTH, Readings, Typed, Value, folded, typed
from citywatch.core.flow.tokens import (
    exact_tokens,
    find_links,
    find_tokens,
    looser_tokens,
    parted_tokens,
    read_any,
    read_chunk,
    split_tokens,
)

CHUNK = "0123456789abxyEURMTZeINV.-+:/\\@=&_#%$~*'!?^"
chunks = st.text(st.sampled_from(CHUNK), min_size=1, max_size=24)
LEADING = (
    "http://evil.example", "//x.com", "evil.example.", "fe80::1", "[::1]", "http:\\\\x.com",
    "GB29 NWBK 6016 1331 9268 19", "mailto:a@b.co", "10.0.0.1", "x.com:80/a", "(www.x.com)", "١٠.0.0.1", "x。com",
    "x。com/a", "DE89370400440532013000",
)  # fmt: skip
written = st.one_of(
    chunks,
    st.from_regex(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{10,20}", fullmatch=True),
    st.from_regex(r"[A-Za-z]{1,5}[-_]{1,2}[A-Za-z0-9_-]{0,20}[0-9]{1,3}", fullmatch=True),
    st.from_regex(r"(20[0-9]{2}[-/.]?[0-9]{2}[-/.]?[0-9]{2})([T_][0-9:]{1,8}(Z|[+-][0-9]{2})?)?", fullmatch=True),
    st.from_regex(r"[+-]?[0-9]{1,5}([.,][0-9]{1,4})?(k|M|EUR|%|e[0-9])?", fullmatch=True),
    st.from_regex(r"(https?://|//|mailto:)?[a-z0-9@.]{1,12}(/[a-z.?=&]{0,8})?", fullmatch=True),
)
numbers = st.builds(lambda whole, places: whole / 10**places, st.integers(-(10**9), 10**9), st.integers(0, 5))
values = st.one_of(written, st.text(max_size=20), st.integers(), st.floats(), st.booleans())


@given(written)
@example("abc.")
@example(".")
@example("1.")
@example("EUR1,5")
@example("DE89370400440532013000")
@example("May")
@example("it's")
@example("a.b.")
def test_a_value_of_one_chunk_is_read_as_any_other(text: str) -> None:
    assert read_chunk(text) == read_any(text)


@given(written | st.integers() | st.integers(0, 10**16) | numbers | st.floats(allow_nan=False, allow_infinity=False))
@example("EUR")
@example("EUR-5")
@example("inv-0042")
@example("a--1")
@example("May-26")
@example("f-12345678")
@example("DE-93")
@example("x-01HZXK4M7Q8V9W0XYZ12345678")
@example("2026-02-29")
@example("2026-02-28")
@example("GB29NWBK60161331926819")
@example("GB29NWBK60161331926818")
@example(20260526)
@example(1.125)
@example(-0.0)
@example(1e-7)
def test_a_value_that_is_written_plainly_is_read_as_any_other(value: Value) -> None:
    assert exact_tokens(value) == read_any(str(value))


@given(
    st.lists(st.one_of(written, st.sampled_from(LEADING), st.text(max_size=8)), max_size=6), st.sampled_from(" ,;|.()")
)
@example(["GB29 NWBK 6016 1331 9268 19"], " ")
@example(["see plan.docx"], " ")
@example(["no link at all. None: not one / two"], " ")
def test_no_link_is_passed_over_where_links_alone_are_looked_for(pieces: list[str], between: str) -> None:
    text = between.join(pieces)
    found = find_tokens(text, names=False)
    assert find_links(text) in ((), found)
    if any(token.kind in OUTBOUND for token in found):
        assert find_links(text) == found


@given(
    st.lists(st.text(max_size=6) | st.sampled_from(["file", "13", "ab", "ª", "٣x", "_"]), max_size=6),
    st.text(max_size=1),
)
@example(["plan", "b"], "_")
@example(["plan", "b"], "-")
def test_a_word_stands_in_a_text_exactly_if_it_is_one_of_its_words(pieces: list[str], between: str) -> None:
    text = fold(between.join(pieces))
    asked = {*pieces, *text.split(), *whole_words(text), *(one[:-1] for one in pieces)}
    for word in (one for one in asked if one.isalnum()):
        assert (word in whole_words(text)) is (find_said(word, text) >= 0)


@given(values)
def test_what_is_remembered_of_a_value_is_what_it_is(value: Value) -> None:
    memory = Readings()
    for _ in range(2):
        one = memory.of(value)
        assert repr(one.value) == repr(value)
        assert (one.folded, one.exact) == (folded(value), exact_tokens(value))
        assert [token for ways, _ in one.ways for token in ways] == [
            token for exact in exact_tokens(value) for token in (exact, *looser_tokens(exact))
        ]
        assert memory.of(value) is one or len(repr(value)) > MAX_LENGTH
        assert typed(one) is one
        assert one.normal == Typed(value).normal


@given(values, st.lists(values, max_size=4), values)
def test_a_value_is_met_in_a_text_whether_it_was_read_before_or_not(
    value: Value, others: list[Value], more: Value
) -> None:
    held: Index = index_text(" ".join(str(one) for one in (*others, value, more)))
    memory = Readings()
    assert met(value, held) == met(memory.of(value), held) == met(memory.of(value), held)
    if isinstance(value, str):
        assert split_tokens(value) == parted_tokens(Typed(value).exact)


@pytest.mark.parametrize("alike", [(True, 1, 1.0, "1", "True", "1.0"), (0.0, -0.0, 0, False, "0"), (10**15, 1e15)])
def test_values_that_python_takes_for_equal_are_read_apart(alike: tuple[Value, ...]) -> None:
    memory = Readings()
    for _ in range(2):
        for value in alike:
            one = memory.of(value)
            assert type(one.value) is type(value)
            assert (one.folded, one.exact) == (folded(value), exact_tokens(value))


def test_a_memory_is_bounded_in_values_and_in_characters() -> None:
    memory = Readings()
    first = memory.of("v-0")
    for number in range(MAX_KEPT):
        memory.of(f"v-{number}")
    assert memory.of("v-0") is first
    memory.of("one more")
    assert memory.of("v-0") is not first
    assert memory.of("x" * MAX_LENGTH) is memory.of("x" * MAX_LENGTH)
    assert memory.of("x" * (MAX_LENGTH + 1)) is not memory.of("x" * (MAX_LENGTH + 1))
    assert memory.of(2**2000) is not memory.of(2**2000)
    assert memory.of(math.nan).exact == ()
