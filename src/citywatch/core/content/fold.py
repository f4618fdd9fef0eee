"""Text as a reader's eye has it: what cannot be seen is taken out, letters in fancy dress are put in plain.

Decides which characters are invisible and which are dressed-up ASCII (full width, mathematical, circled), so that
`ig\u200bnore` and `ｉｇｎｏｒｅ` are found as what they say. Does not map look-alikes of other scripts: that would
change honest Russian and Greek. INVARIANTS: one character becomes one or none; what becomes of it depends on it alone.
"""

from __future__ import annotations

import re
import unicodedata

ZERO_WIDTH = "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff\u180e\u00ad\u034f\u115f\u1160\u3164"
BIDI = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
INVISIBLE = re.compile(f"[{ZERO_WIDTH}{BIDI}\ufe00-\ufe0f\U000e0000-\U000e01ef]+")
_DRESSED = {
    code: plain
    for block in ((0xFF01, 0xFF5F), (0x1D400, 0x1D800), (0x2460, 0x24EA), (0x2100, 0x2139))
    for code in range(*block)
    if len(plain := unicodedata.normalize("NFKC", chr(code))) == 1 and plain.isascii()
}
_DRESSES = re.compile("[\uff01-\uff5e\U0001d400-\U0001d7ff\u2460-\u24e9\u2100-\u2138]")
_SURROGATE = re.compile("[\ud800-\udfff]")

Drop = tuple[int, int]
"""From this offset of the folded text on, so many characters have been taken out."""


def encodable(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which no encoding has."""
    return text if text.isascii() or not _SURROGATE.search(text) else _SURROGATE.sub("\ufffd", text)


def fold(text: str, room: int) -> tuple[str, list[Drop]]:
    """The text as it is seen, and where something was taken out: at most `room` characters, the first ones."""
    if text.isascii():
        return text, []
    if _DRESSES.search(text):
        text = text.translate(_DRESSED)
    drops: list[Drop] = []
    parts: list[str] = []
    at = gone = 0
    for match in INVISIBLE.finditer(text):
        start, end = match.start(), min(match.end(), match.start() + room - gone)
        if start == end:
            break
        parts.append(text[at:start])
        drops.append((start - gone, gone + end - start))
        at, gone = end, gone + end - start
    return ("".join((*parts, text[at:])), drops) if drops else (text, drops)
