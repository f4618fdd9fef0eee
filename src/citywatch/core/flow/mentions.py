"""Where words stand whole in what people said, both folded; a short number only behind a word that makes it a name.

Decides nothing. INVARIANTS: no letter or digit touches either end of what is found; what is said as a name is no piece
of a longer one: `old-plan.docx` says no `plan.docx`, and `www.good-bank.example` no `bank.example`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

LEAST_WORDS: Final = 3
"""Fewer characters than this name nothing: a status `ok`, a flag `a`."""
_SEPARATORS: Final = re.compile(r"[-_.\s]+")
_ENDING: Final = re.compile(r"\.[a-z0-9]{1,5}\Z")
_SCHEME: Final = re.compile(r"\Ahttps?://")
_JOINS: Final = frozenset("-_.@/\\")
"""Signs that make one name of what stands on both sides of them, if no space does."""
_RUN: Final = re.compile(r"(?<![^\W_][-_.@/\\])(?<![^\W_])[^\W_]++(?![-_.@/\\][^\W_])")


def find_phrase(words: str, text: str) -> int:
    """Where `words` stand whole in `text`, both folded: no letter or digit touches either end; -1 if nowhere."""
    return next(_places(words, text), -1)


def find_said(words: str, text: str) -> int:
    """Where `words` stand as a name of their own: no sign joins them to more of one. For what lets something pass;
    what takes a way away is looked for by `find_phrase`, which finds more."""
    for at in _places(words, text):
        end = at + len(words)
        before = at > 1 and words[0].isalnum() and text[at - 1] in _JOINS and text[at - 2].isalnum()
        after = words[-1].isalnum() and text[end : end + 1] in _JOINS and text[end + 1 : end + 2].isalnum()
        if not (before or after):
            return at
    return -1


def _places(words: str, text: str) -> Iterator[int]:
    at = text.find(words) if len(words) >= LEAST_WORDS else -1
    while at >= 0:
        end = at + len(words)
        before = at == 0 or not (text[at - 1].isalnum() and words[0].isalnum())
        after = end == len(text) or not (text[end].isalnum() and words[-1].isalnum())
        if before and after:
            yield at
        at = text.find(words, at + 1)


def bare(words: str) -> str:
    """An address as people write it: without its scheme, and without a slash at its end. All else as it is."""
    return _SCHEME.sub("", words).rstrip("/")


def spoken_form(name: str) -> str:
    """A file's name as people say it, its words apart and without its ending; empty if it is no more than one word."""
    spoken = _SEPARATORS.sub(" ", _ENDING.sub("", name)).strip()
    return spoken if " " in spoken and spoken != name else ""


def without(name: str, text: str) -> str:
    """A text without a name that was said in it, as it is written and as it is spoken."""
    for form in (name, spoken_form(name)):
        text = text.replace(form, " ") if form else text
    return text


def whole_words(text: str) -> frozenset[str]:
    """The words of letters and digits alone that `find_said` finds in a text."""
    return frozenset(one for one in _RUN.findall(text) if len(one) >= LEAST_WORDS)


def find_marked(digits: str, noun: str, text: str) -> int:
    """Where a short number stands behind a word that makes it a name: `file 13`, `id: '13'`, `#13`; -1 if nowhere."""
    word = rf"|{re.escape(noun)}" if noun else ""
    hit = re.search(rf"(?:#|\b(?:id|ids|no|nr|number{word})\b\W{{1,3}}){digits}\b", text)
    return -1 if hit is None else hit.end() - len(digits)
