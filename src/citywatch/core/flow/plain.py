"""Values that are written plainly, read at once: JSON's own numbers, `2026-05-26`, an IBAN, `INV-0042`, one word.

Decides nothing of its own: of what it reads it says what `tokens.read_any` says, which takes three times as long, and
of everything else it says None. INVARIANT: a value that could be read in another way besides is not read here.
"""

from __future__ import annotations

import re
from typing import Final

from citywatch.core.flow import dates
from citywatch.core.flow.identifiers import IBAN_LENGTHS, is_iban
from citywatch.core.flow.kinds import Kind, Token
from citywatch.core.flow.numbers import CODES, normal_number, readings

MAX_WHOLE: Final = 10**15
MAX_WORD: Final = 256
MAX_ID: Final = 24
THOUSANDS: Final = 3
"""Digits behind a point that some read as a group: `1.125`."""
_ID: Final = re.compile(r"([A-Za-z]+)(?:[-_][A-Za-z0-9]+)*[-_][A-Za-z0-9]*[0-9]\Z")
_DAY: Final = re.compile(r"((?:19|20|21)[0-9]{2})-([0-9]{2})-([0-9]{2})\Z")
_IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}\Z")


def plain_number(value: int | float) -> tuple[Token, ...] | None:
    """A number without an exponent and without eight digits, which may be a day."""
    text = str(value)
    if isinstance(value, int):
        if not 0 <= value < MAX_WHOLE or len(text) == len("20260526"):
            return None
        return Token(Kind.NUMBER, text, 0, len(text)), Token(Kind.ID, text, 0, len(text))
    digits = text.removeprefix("-")
    if not digits.replace(".", "", 1).isdecimal():
        return None
    whole, _, part = digits.partition(".")
    if len(part) != THOUSANDS:
        form = text if part != "0" else whole if digits is text or whole == "0" else f"-{whole}"
        return (Token(Kind.NUMBER, form, 0, len(text)),)
    forms = dict.fromkeys(normal_number(*read, 0, digits is not text) for read in readings(digits))
    return tuple(Token(Kind.NUMBER, form, 0, len(text)) for form in forms)


def plain_text(text: str) -> tuple[Token, ...] | None:
    """One word of letters, a day, an IBAN, or a name that a machine gave: letters, then dashes, the last a digit."""
    length = len(text)
    if text.isalpha() and text.isascii() and length <= MAX_WORD:
        return (Token(Kind.NAME, text.lower(), 0, length),)
    if length == len("2026-05-26") and (hit := _DAY.match(text)):
        day = dates.date(int(hit[1]), int(hit[2]), int(hit[3]))
        return None if day is None else (Token(Kind.DATE, day, 0, length),)
    if length == IBAN_LENGTHS.get(text[:2]) and _IBAN.match(text):
        return (Token(Kind.IBAN, text, 0, length),) if is_iban(text) else None
    if length <= MAX_ID and (hit := _ID.match(text)):  # `EUR-5` is an amount
        return None if hit[1].upper() in CODES else (Token(Kind.ID, text, 0, length),)
    return None
