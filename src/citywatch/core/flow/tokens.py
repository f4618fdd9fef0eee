"""Typed tokens: which values a text holds whole, in one normal form whatever the notation.

Decides where a value begins and ends, and what it can be read as. Does not decide what it is good for (`provenance`),
and does not look into encodings (`encodings`) or for free phrases (`phrases`).

INVARIANTS: no token is a part of a longer value of its own kind: `1` is not whole in `100`, `a@b.c` not in `xa@b.com`,
a host not in a longer host, a path not in a longer path. (The host of a URL, the number of an amount of money, the date
and the time of an instant are values of other kinds, and meet.) Any text gives tokens and never an error; work is
linear; at most `MAX_CHARS` characters and `MAX_CHUNKS` chunks are read and `MAX_TOKENS` tokens returned: past that
nothing is found, and what is not found raises nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from citywatch.core.flow import dates
from citywatch.core.flow.encodings import decodings
from citywatch.core.flow.fold import fold, looks_like, scannable
from citywatch.core.flow.kinds import Kind, Token
from citywatch.core.flow.phrases import find_names, phrase
from citywatch.core.flow.plain import plain_number, plain_text
from citywatch.core.flow.quantities import PLAIN
from citywatch.core.flow.scanner import MAX_CHUNK, Scanner

__all__ = [
    "MAX_CHARS",
    "MAX_CHUNK",
    "MAX_CHUNKS",
    "MAX_TOKENS",
    "Kind",
    "Token",
    "decodings",
    "exact_tokens",
    "find_links",
    "find_tokens",
    "fold",
    "is_looser",
    "is_vague",
    "looks_like",
    "looser_tokens",
    "parted_tokens",
    "split_tokens",
    "whole_tokens",
]

MAX_CHARS = 1 << 20
MAX_CHUNKS = 50_000
MAX_TOKENS = 50_000
_CHUNK = re.compile(rf"[!#$%&'*+\-./0-9:=?@A-Z\\^_a-z~]{{1,{MAX_CHUNK}}}\Z")
"""ASCII that stands between no two chunks (`scanner`): the scanners see such a text as it is."""
_LEADS = re.compile(rf"[./\\:@0-9](?:(?<=[./\\:@]){PLAIN}|(?<=[A-Za-z]{{2}}[0-9])[0-9])")
"""In each host and URL a dot, a colon or a slash is followed by more of it; each IBAN begins like this."""
_BEGINS = re.compile(r"[0-9@/\\.]")
_LOOSE = frozenset((Kind.DATE, Kind.TIME, Kind.URL))
_CUT = 64  # a token that ends this near the end of what is read may go on behind it


def find_tokens(text: str, *, names: bool = True) -> tuple[Token, ...]:
    """All values that stand whole in a text, in the order of their places; with `names`, what looks like a name too."""
    if not names and text.isascii() and not _BEGINS.search(text):
        return ()
    scan = scannable(text[:MAX_CHARS])
    found: list[Token] = []
    Scanner(text, scan, found).run(MAX_CHUNKS, MAX_TOKENS)
    if names:
        found += find_names(text, scan, MAX_TOKENS - len(found))
    if len(text) > MAX_CHARS:
        found = [token for token in found if token.end < MAX_CHARS - _CUT]
    found.sort(key=_place)
    return tuple(found[:MAX_TOKENS])


def find_links(text: str) -> tuple[Token, ...]:
    """What `find_tokens` finds where there can be a host, a URL or an IBAN; nothing where there can be none."""
    return find_tokens(text, names=False) if not text.isascii() or _LEADS.search(text) else ()


def _place(token: Token) -> tuple[int, int]:
    return token.start, token.end


def is_vague(token: Token) -> bool:
    """Does a reading leave out what another value of its kind has: a year, a zone?"""
    return is_looser(token) or (token.kind is Kind.TIME and dates.without_zone(token.value) == token.value)


def is_looser(token: Token) -> bool:
    """Does a token say less than a full value: a date without a year, in a text or of a value?"""
    return token.value.startswith("--")


def whole_tokens(value: str | int | float | bool) -> tuple[Token, ...]:
    """The readings of an argument as one value, spans in its text; none if it is not one value.

    With what a vaguer text would say of it (`looser_tokens`). Where a kind has several readings, the tool takes one
    that we do not know: `index.met` asks that all of them are met.
    """
    found = exact_tokens(value)
    loose = [looser for token in found if token.kind in _LOOSE for looser in looser_tokens(token)]
    return tuple(dict.fromkeys([*found, *loose])) if loose else found


def exact_tokens(value: str | int | float | bool) -> tuple[Token, ...]:
    """The full readings of an argument as one value, or as a phrase if it has none."""
    if isinstance(value, bool):
        return ()
    if isinstance(value, str):
        plain, text = plain_text(value), value
    elif value.bit_length() > 1024 if isinstance(value, int) else not math.isfinite(value):
        return ()
    else:
        plain, text = plain_number(value), str(value)
    if plain is not None:
        return plain
    return read_chunk(text) if _CHUNK.match(text) else read_any(text)


def read_any(text: str) -> tuple[Token, ...]:
    """The readings of a text of any form: those values in it that are all of it."""
    start = len(text) - len(text.lstrip())
    end = len(text.rstrip())
    if not start < end <= MAX_CHUNK + start:
        return ()
    found = [token for token in find_tokens(text, names=False) if token.start == start and token.end == end]
    return _or_phrase(found, text, start, end)


def read_chunk(text: str) -> tuple[Token, ...]:
    """The same as `read_any`, faster, of a text that is one chunk: most values of most calls are."""
    found: list[Token] = []
    end = len(text)
    begun = _BEGINS.search(text)
    if begun and (begun.end() < end or text[-1] != "."):  # a dot at the end of a word begins nothing
        Scanner(text, text, found).chunk(0, end, 0)
    return _or_phrase([token for token in found if token.start == 0 and token.end == end], text, 0, end)


def _or_phrase(found: list[Token], text: str, start: int, end: int) -> tuple[Token, ...]:
    if not found and (normal := phrase(text[start:end])):
        return (Token(Kind.NAME, normal, start, end),)
    return tuple(found) if len(found) < 2 else tuple(dict.fromkeys(found))


def looser_tokens(token: Token) -> tuple[Token, ...]:
    """What a text says that leaves something out which the value has: the year, the zone, the scheme."""
    kind, value = token.kind, token.value
    if kind not in _LOOSE:
        return ()
    if kind is Kind.DATE and "T" not in value and not is_looser(token):
        value = "-" + value[4:]
    elif kind is Kind.TIME:
        value = dates.without_zone(value)
    elif kind is Kind.URL and value.startswith(("http://", "https://")):
        value = value[value.index("//") :]
    return () if value == token.value else (Token(kind, value, token.start, token.end),)


def split_tokens(value: str) -> tuple[tuple[Token, ...], ...]:
    """Ways in which a text can say an instant in parts that all have to be met: its date, and its time.

    `2024-05-26T17:00` is also said by `May 26th` and `5pm`. Each of the parts alone says too little.
    """
    return parted_tokens(exact_tokens(value))


def parted_tokens(readings: Iterable[Token]) -> tuple[tuple[Token, ...], ...]:
    """The same of a value whose full readings these are."""
    ways: list[tuple[Token, ...]] = []
    for token in readings:
        if token.kind is Kind.DATE and "T" in token.value:
            day, _, time = token.value.partition("T")
            days = [day, "-" + day[4:]]
            times = dict.fromkeys([time, dates.without_zone(time)])
            ways += [
                (Token(Kind.DATE, one, token.start, token.end), Token(Kind.TIME, other, token.start, token.end))
                for one in days
                for other in times
            ]
    return tuple(ways)
