"""What the injection model sees of a text: windows of words, each word a few hashed features.

Decides how text becomes numbers, for training and for inference alike (`tools/train_content.py` uses this module, so
that the two cannot drift apart). A word is a run of letters or digits, cut at `LONGEST`, or a run of the signs that
wrappers are made of. A feature is a word, a pair of neighbours, or four bytes of a word with its edges; its slot is the
CRC-32 of it. Digits all count as the same one: numbers are never learnt. A feature counts once in each half of a
window, so that a list that repeats itself is not taken for emphasis.

INVARIANTS: a window's features depend on its words alone; a window is two halves and the pair between them, and each
half is shared with the next window, so work is linear in words however windows overlap.
"""

from __future__ import annotations

import re
from binascii import crc32
from collections.abc import Iterator
from itertools import pairwise

WINDOW = 60
STRIDE = 30
LONGEST = 24
GRAM = 4
WORD = re.compile(r"[^\W\d_]{1,24}|\d{1,24}|[!<>#*|=\[\]{}~^-]{2,8}|[<>:?!]")
PLAIN = re.compile(r"[A-Za-z]{1,24}|[0-9]{1,24}|[!<>#*|=\[\]{}~^-]{2,8}|[<>:?!]")
"""The same of a text in ASCII, which needs no tables to be looked up."""


def plain(word: str) -> bytes:
    """A word as it is hashed."""
    return b"0" if word[0].isdigit() else word.lower().encode("utf-8", "replace")


def spelling(word: bytes) -> list[int]:
    """Hashes of the word itself and of its four-byte pieces, edges marked."""
    edged = b"^" + word + b"$"
    return [crc32(word), *[crc32(edged[at : at + GRAM], 1) for at in range(len(edged) - GRAM + 1)]]


def pair(first: bytes, second: bytes) -> int:
    """The hash of two neighbours."""
    return crc32(second, begin_pair(first))


def begin_pair(first: bytes) -> int:
    """Half of that, so that it is done once for each word."""
    return crc32(first, 2)


def spans(count: int, closed: bool, again: bool = False) -> Iterator[tuple[int, int]]:
    """The windows over so many words: each `STRIDE` further on, and what is left over once the text has ended.

    `again`: the first `STRIDE` words have been in an earlier window.
    """
    at = 0
    while at + WINDOW <= count:
        yield at, at + WINDOW
        at += STRIDE
    covered = at - STRIDE + WINDOW if at else STRIDE if again else 0
    if closed and covered < count:
        yield at, count


def features(words: list[bytes]) -> list[int]:
    """All hashes of one window: of each half the distinct words and pairs, and the pair where the halves meet."""
    first, second = words[:STRIDE], words[STRIDE:]
    found = [code for half in (first, second) for word in dict.fromkeys(half) for code in spelling(word)]
    found += [code for half in (first, second) for code in {pair(*two) for two in pairwise(half)}]
    return found + ([pair(first[-1], second[0])] if second else [])
