"""A sealed text opens as what it was, beside what it was sealed about, and nothing else opens at all."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from citywatch.adapters.keys import GenerationSealer


def sealer(active: int = 1, believed: frozenset[int] = frozenset({1})) -> GenerationSealer:
    return GenerationSealer(lambda: active, lambda: believed, lambda number: bytes([number]) * 32)


@given(text=st.binary(max_size=300), about=st.binary(max_size=300))
def test_what_was_sealed_opens_as_it_was(text: bytes, about: bytes) -> None:
    assert sealer().open(sealer().seal(text, about), about) == text


@given(text=st.binary(max_size=60), about=st.binary(max_size=60), other=st.binary(max_size=60))
def test_nothing_opens_beside_something_else(text: bytes, about: bytes, other: bytes) -> None:
    assume(about != other)
    assert sealer().open(sealer().seal(text, about), other) is None


@given(text=st.binary(max_size=60), at=st.integers(min_value=0), letter=st.characters())
def test_no_letter_can_be_changed(text: bytes, at: int, letter: str) -> None:
    sealed = sealer().seal(text, b"about")
    place = at % len(sealed)
    changed = sealed[:place] + letter + sealed[place + 1 :]
    assume(changed != sealed)
    assert sealer(believed=frozenset(range(1, 200))).open(changed, b"about") is None


@given(sealed=st.text(max_size=200) | st.from_regex(r"[0-9]{1,12}\.[A-Za-z0-9_=-]{0,90}", fullmatch=True))
def test_no_text_that_was_not_sealed_here_opens_or_breaks_anything(sealed: str) -> None:
    assert sealer().open(sealed, b"about") is None


@given(text=st.binary(max_size=60))
def test_under_a_key_that_counts_no_more_nothing_opens(text: bytes) -> None:
    sealed = sealer().seal(text, b"about")
    assert sealer(2, frozenset({1, 2})).open(sealed, b"about") == text
    assert sealer(2, frozenset({2})).open(sealed, b"about") is None


@given(text=st.binary(min_size=8, max_size=60))  # shorter ones stand anywhere by chance
def test_no_text_is_sealed_twice_alike_or_stands_in_what_is_handed_out(text: bytes) -> None:
    first, second = sealer().seal(text, b"about"), sealer().seal(text, b"about")
    assert first != second
    assert text.hex() not in first
