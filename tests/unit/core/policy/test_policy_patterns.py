"""`like`, exhaustively on short texts, and fast on long ones."""

from __future__ import annotations

from itertools import product

from cedarpy import pst

from citywatch.core.policy.patterns import matcher

PIECES: tuple[pst.PatternElem, ...] = (pst.Wildcard(), pst.Char("a"), pst.Char("b"), pst.Char("*"))
TEXTS = ["".join(letters) for size in range(5) for letters in product("ab*", repeat=size)]


def obvious(pattern: tuple[pst.PatternElem, ...], text: str) -> bool:
    """The definition: a wildcard takes any number of letters, a letter takes itself."""
    if not pattern:
        return not text
    first, rest = pattern[0], pattern[1:]
    if isinstance(first, pst.Wildcard):
        return any(obvious(rest, text[taken:]) for taken in range(len(text) + 1))
    return text[:1] == first.value and obvious(rest, text[1:])


def test_a_pattern_matches_exactly_what_the_definition_says() -> None:
    for size in range(5):
        for pattern in product(PIECES, repeat=size):
            matches = matcher(pattern)
            for text in TEXTS:
                assert matches(text) is obvious(pattern, text), (pattern, text)


def test_a_long_text_cannot_stop_the_gateway() -> None:
    # with a backtracking matcher this takes longer than anybody waits
    stars = tuple(element for _ in range(20) for element in (pst.Wildcard(), pst.Char("a")))
    assert not matcher((*stars, pst.Wildcard(), pst.Char("b")))("a" * 1_000_000)
    assert matcher((*stars, pst.Wildcard(), pst.Char("b"), pst.Wildcard()))("a" * 1_000_000 + "b")
