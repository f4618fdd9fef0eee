"""Text made to be slow: for each scanner, twice the text takes about twice the time.

Times are compared with each other and never with a clock on the wall, and the best of several is taken, so a slow
machine is no finding; four times the time for twice the text, again and again, is.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from citywatch.core.flow.encodings import decodings
from citywatch.core.flow.fold import fold, looks_like, scannable
from citywatch.core.flow.index import index_text, met
from citywatch.core.flow.phrases import find_phrase, words
from citywatch.core.flow.tokens import find_tokens, whole_tokens

HOSTILE = (
    "1", "a@", "http://", "%25", "a\u0301\u0316", "\u0316\u0301", "1,", "1.", "1-", "1 ", "111 ", "a.", "a/", '"', "'",
    "http://a)", ")", "A ", "A", "+1 ", "a=1&", "1:", "May 1 ", "GB29 ", "\u200b", "QUJD", "A" * 60 + "\n", "68 ", "*",
    "\ud800", "€", "EUR ", "'s", "-", "@", "\\", "xn--", "http://a/%2e/", "ab", "00 ", "(1) ", "1a ", "'a' ", "#a-",
    "=", "&#49;", "\\x41", "a:", "ʼ", "١", "０", "．", "–", "1\u00a0", "9" * 40 + ".", "1e9", ".1", "//",
    "/../", "[1", "{",
)  # fmt: skip
SIZE = 1 << 12


def best(function: Callable[[str], object], text: str) -> float:
    taken = []
    for _ in range(3):
        before = time.process_time()
        function(text)
        taken.append(time.process_time() - before)
    return min(taken)


def grows_too_fast(function: Callable[[str], object], unit: str) -> bool:
    short, long = unit * (SIZE // len(unit)), unit * (4 * SIZE // len(unit))
    # Four times the text: linear is 4, quadratic 16. What takes next to no time has no shape.
    return best(function, long) > 0.01 + 9 * best(function, short)


SCANNERS: tuple[Callable[[str], object], ...] = (
    find_tokens, words, fold, scannable, looks_like, decodings, whole_tokens, index_text,
    lambda text: met(text, index_text(text)), lambda text: find_phrase("1 1", text),
)  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_time_grows_with_the_text_and_not_faster(unit: str) -> None:
    for scanner in SCANNERS:
        assert not all(grows_too_fast(scanner, unit) for _ in range(3)), scanner


@pytest.mark.parametrize("ending", ["x", "\u0301", "@", "%"])
def test_a_long_run_that_fails_at_its_end_is_read_once(ending: str) -> None:
    for unit in ("1", "a", "ab", "68 ", "A" * 60 + "\n", "a.", "1,", "A "):
        for scanner in (find_tokens, words, decodings):
            assert not all(
                grows_too_fast(lambda text, run=scanner: run(text + ending), unit)  # type: ignore[misc]
                for _ in range(3)
            )


def test_a_normaliser_that_sorts_by_insertion_never_gets_a_long_run() -> None:
    text = "a" + "\u0316\u0301" * 50_000
    assert len(fold(text)) < 100
