"""A text's fingerprints: numbers that a copy of it shares, whole or in part, however it is dressed.

Decides which stretches of a text stand for it; what a shared one means is `enforce.carrying`'s. A text is folded to its
letters (case, look-alikes, digits that stand for letters, spaces, punctuation and whatever is not seen are gone), and
so is what it holds encoded; then the `GRAM` letters at each landmark are hashed. Landmarks are rare letters; where none
stands for `GAP` letters, commoner ones; where none of those either, every letter.

INVARIANTS
1. Local: a fingerprint depends on its own letters and on the `GAP` around, so two texts that share `REACH` letters in a
   row share one, wherever in them it stands.
2. Adding to a text at either end takes no fingerprint away.
3. Total and deterministic; work is linear in the text and in what it decodes to, which is bounded (`encodings`).

A fingerprint names fourteen letters and gives none of them back. It is no seal: who wants another text with the same
ones can make it, and is counted with those that carry it.
SPEC: Schleimer, Wilkerson, Aiken, "Winnowing", SIGMOD 2003: the guarantee; landmarks stand in for its least hash,
because a pattern finds them without a step of ours for each letter.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import Final

from citywatch.core.flow.encodings import decodings
from citywatch.core.flow.fold import fold

GRAM: Final = 14
"""Letters of one fingerprint: some three words. Fewer, and common turns of phrase are copies of each other."""
_HALF: Final = GRAM // 2
_SIZE: Final = 8
GAP: Final = 32
REACH: Final = GAP + GRAM - 1
"""Letters in a row that two texts cannot share without sharing a fingerprint."""
MAX_KEPT: Final = 2048
"""Fingerprints of one text that are kept, some forty thousand letters; of a longer one an even sample."""
LONG_WORD: Final = 24
"""A word as long as that may be an encoding."""
_ALIKE: Final = bytes.maketrans(b"0134578@$|!lABCDEFGHIJKLMNOPQRSTUVWXYZ", b"oieastbasiiiabcdefghijkimnopqrstuvwxyz")
_DROPPED: Final = bytes(one for one in range(128) if not chr(one).isalnum() and chr(one) not in "@$|!")
_LINE: Final = re.compile(r"[\r\n]+")
_ESCAPED: Final = re.compile(r"\\+[bfnrt]")
_HIGH: Final = bytes(range(0x80, 0xC0, 16))
_TIERS: Final = tuple(
    re.compile(b"[" + one + b"]")
    for one in (b"mwvk" + _HIGH, b"mwvkcgpb" + _HIGH, b"mwvkcgpbudfy92" + bytes(range(0x80, 0xC0, 4)))
)
"""What is a landmark: the first of these, and where none of it stands for `GAP` letters the next; then any letter."""


def fingerprints(text: str) -> frozenset[int]:
    """Those of a text and of what it holds encoded; none where it is too short to have any."""
    found = _of_letters(letters(text))
    if _may_hide(text):
        for one in dict.fromkeys((text, _LINE.sub(" ", text))):  # what stands below is no part of an encoding
            found = found.union(*(_of_letters(letters(hidden)) for hidden in decodings(one)))
    return found


def letters(text: str) -> bytes:
    """What is left of a text once its dress is taken off, as UTF-8."""
    if "\\" in text:  # lines end so in JSON within JSON
        text = _ESCAPED.sub(" ", text)
    # What `fold` does to ASCII beside, the table does too. A lone surrogate has no UTF-8: it is nothing that is seen
    seen = text.encode() if text.isascii() else fold(text).encode("utf-8", "ignore")
    return seen.translate(_ALIKE, _DROPPED)


def _of_letters(folded: bytes) -> frozenset[int]:
    end, crc = len(folded) - GRAM, binascii.crc32
    return frozenset(
        [
            crc(folded[at : at + _HALF]) << 32 | crc(folded[at + _HALF : at + GRAM])
            for at in _landmarks(folded)
            if at <= end
        ]
    )


def _landmarks(folded: bytes) -> list[int]:
    found: list[int] = []
    _mark(folded, 0, len(folded), 0, found)
    return found


def _mark(folded: bytes, start: int, end: int, tier: int, found: list[int]) -> None:
    """# INVARIANT: 1. Whoever sees `GAP` letters of a run without a landmark knows that it is one, wherever it ends."""
    if tier == len(_TIERS):
        found += range(start, end)
        return
    marks = [one.start() for one in _TIERS[tier].finditer(folded, start, end)]
    found += marks
    last = start - 1
    for at in (*marks, end):
        if at - last > GAP:
            _mark(folded, last + 1, at, tier + 1, found)
        last = at


def _may_hide(text: str) -> bool:
    """Whether a text can hold an encoding of a sentence: a very long word, escapes, or pairs all along."""
    if "%" in text or "\\" in text or "&#" in text or "=\n" in text or "=\r" in text:
        return True
    pairs = (text.count(" ") + text.count(":") + text.count("-")) * 7 > len(text) * 2
    return pairs or max(map(len, text.split()), default=0) >= LONG_WORD


def kept(found: Iterable[int], most: int = MAX_KEPT) -> tuple[int, ...]:
    """At most so many: the same ones of any two texts that have them, so that a sample still meets a sample."""
    return tuple(sorted(found)[:most])


def packed(found: Iterable[int]) -> bytes:
    """Fingerprints for a row; `unpacked` reads them."""
    return b"".join([one.to_bytes(_SIZE) for one in kept(found)])


def unpacked(row: bytes) -> tuple[int, ...]:
    """What `packed` wrote."""
    return tuple([int.from_bytes(row[at : at + _SIZE]) for at in range(0, len(row), _SIZE)])
