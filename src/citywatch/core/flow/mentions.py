"""Where words stand whole in what people said, both folded; a short number only behind a word that makes it a name.

Decides nothing. INVARIANT: no letter or digit touches either end of what is found.
"""

from __future__ import annotations

import re
from typing import Final

LEAST_WORDS: Final = 3
"""Fewer characters than this name nothing: a status `ok`, a flag `a`."""
_SCHEME: Final = re.compile(r"\Ahttps?://")
_RUN: Final = re.compile(r"[^\W_]+")


def find_phrase(words: str, text: str) -> int:
    """Where `words` stand whole in `text`, both folded: no letter or digit touches either end; -1 if nowhere."""
    if len(words) < LEAST_WORDS:
        return -1
    at = text.find(words)
    while at >= 0:
        end = at + len(words)
        before = at == 0 or not (text[at - 1].isalnum() and words[0].isalnum())
        after = end == len(text) or not (text[end].isalnum() and words[-1].isalnum())
        if before and after:
            return at
        at = text.find(words, at + 1)
    return -1


def bare(words: str) -> str:
    """An address as people write it: without its scheme, and without a slash at its end. All else as it is."""
    return _SCHEME.sub("", words).rstrip("/")


def whole_words(text: str) -> frozenset[str]:
    """The words of letters and digits alone that `find_phrase` finds in a text."""
    return frozenset(one for one in _RUN.findall(text) if len(one) >= LEAST_WORDS)


def find_marked(digits: str, noun: str, text: str) -> int:
    """Where a short number stands behind a word that makes it a name: `file 13`, `id: '13'`, `#13`; -1 if nowhere."""
    word = rf"|{re.escape(noun)}" if noun else ""
    hit = re.search(rf"(?:#|\b(?:id|ids|no|nr|number{word})\b\W{{1,3}}){digits}\b", text)
    return -1 if hit is None else hit.end() - len(digits)
