"""Text that people do not see and models read: zero-width, bidirectional and tag characters, comments, base64.

Decides that something is hidden; not that it is meant badly. Honest uses are let through: joiners in emoji, in Indic
scripts and in Persian, marks in text that runs from right to left, flags of regions, soft hyphens, an empty comment.
SPEC: UTS #51 (emoji and flags), UAX #9 (bidi), CVE-2021-42574 ("Trojan Source").
"""

from __future__ import annotations

import re

from citywatch.core.content.links import decoded, is_text
from citywatch.core.content.patterns import pattern
from citywatch.core.content.signals import Kind
from citywatch.core.content.tape import BEHIND, Detector, Found, run

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"
_RUN = 4
_ZERO_WIDTH = re.compile("[\u200b\u200c\u200d\u2060-\u2064\ufeff\u180e]{1,64}")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]{1,64}")
_TAGS = re.compile("[\U000e0000-\U000e007f]{1,64}")
_VARIATIONS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{1,64}")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
_FLAG, _CANCEL = "\U0001f3f4", "\U000e007f"
_WORD = re.compile(rb"[A-Za-z]{2}")


def zero_width(near: str, start: int, stop: int) -> Found | None:
    """Inside an ASCII word, where no script wants one, or several in a row, which can carry bits."""
    before, after = near[start - 1 : start], near[stop : stop + 1]
    inside = before.isascii() and before.isalnum() and after.isascii() and after.isalnum()
    return start, stop, 0.8 if inside or stop - start >= _RUN else 0


def bidirectional(near: str, start: int, stop: int) -> Found | None:
    """An override always; an embedding or isolate where nothing near runs from right to left."""
    override = any(one in "\u202d\u202e" for one in near[start:stop])
    if not override and _RIGHT_TO_LEFT.search(near):
        return start, stop, 0
    return start, stop, 0.9 if override else 0.6


def tags(near: str, start: int, stop: int) -> Found | None:
    """Tag characters are a copy of ASCII that nothing shows; flags of regions are their one honest use."""
    text = near[start:stop]
    if near[start - 1 : start] == _FLAG and text.endswith(_CANCEL) and len(text) <= 7:
        return start, stop, 0
    return start, stop, 1.0


def variations(near: str, start: int, stop: int) -> Found | None:
    """Two or more variation selectors in a row carry bytes; one says how the character before it looks."""
    return start, stop, 0.9 if stop - start >= 2 else 0


def comment(near: bytes, start: int, stop: int) -> Found | None:
    """An HTML comment with words in it: a page does not show it, and its source does."""
    close = near.find(b"-->", stop)
    end = close + 3 if close >= 0 else len(near)
    words = len(_WORD.findall(near[stop : close if close >= 0 else end]))
    return (start, end, 0.5) if words >= 3 else None


def encoded_text(near: bytes, start: int, stop: int) -> Found | None:
    """A run of base64 that says something in words."""
    end = run(near, start, _BASE64)
    return (start, end, 0.7) if is_text(decoded(near[start:end])) else None


HIDDEN = (
    Detector(Kind.HIDDEN, "zero-width", _ZERO_WIDTH, zero_width, BEHIND),
    Detector(Kind.HIDDEN, "bidi", _BIDI, bidirectional, BEHIND),
    Detector(Kind.HIDDEN, "tags", _TAGS, tags, BEHIND),
    Detector(Kind.HIDDEN, "variations", _VARIATIONS, variations, BEHIND),
)
"""Over the text as it came."""
CONCEALED = (
    Detector(Kind.HIDDEN, "comment", pattern(r"<!--"), comment, 2048),
    Detector(Kind.HIDDEN, "encoded-text", pattern(r"\b[A-Za-z0-9+/_-]{24}"), encoded_text, 4096, _BASE64),
)
"""Over the text as it is seen."""
