"""Where the words of one text stand whole in another: what a value such as `Hawaii Trip` or `general` needs.

Decides where words begin and end, strictly: what is joined by a sign without a space is one word (`general-purpose`,
`/home/general`, `general@x.com`), so that `general` is whole in none of these; punctuation between words counts, case
and the width of spaces do not. A final `'s` and a mention's `#` or `@` are no part of their word. Look-alikes and
unseen characters stay: they make another word.

INVARIANT: a phrase is whole in a text exactly if its words, as a list, are in the text's words, as a list. Linear.
"""

from __future__ import annotations

import re

from citywatch.core.flow.fold import normalised, scannable
from citywatch.core.flow.kinds import Kind, Token

MAX_PHRASE = 256
MAX_PLACES = 16

_BODY = r"\w++(?:[@/\\.\-:+=&#%~$*',?!]++\w++)*+[/\\@*+=$%~]*+"
_MENTION = r"[@#](?=\w++(?:-\w++)*+(?![@/\\]|[@/\\.:+=&#%~$*',\-]++\w))"
_WORD = re.compile(rf"{_BODY}|{_MENTION}|[@#/\\.~$%+=&*\-]++(?:{_BODY})?+|[^\s\w]")
_NAME = re.compile(
    r"[A-ZÀ-ÖØ-ÞΑ-ΩА-Я][\w'&-]*+(?:[./@:+#][\w'&-]++)*+"
    r"(?: (?:(?:of|the|de|van|von|da) )?+[A-ZÀ-ÖØ-ÞΑ-ΩА-Я][\w'&-]*+(?:[./@:+#][\w'&-]++)*+)*+"
)
_QUOTED = re.compile(r'"([^"\n]{1,120})"|`([^`\n]{1,120})`' + r"|(?<![\w'])'([^'\n]{1,120})'(?!\w)")
_QUOTES = re.compile(r"[\"`']")
_LINE = re.compile(
    r"(?:^|(?<=\n))[ \t]*+(?:[-*\u2022][ \t]+|[0-9]{1,3}[.)][ \t]+)?+(?:[A-Za-z][A-Za-z -]{0,30}:[ \t]+)?+"
    r"([^\s:][^\n:]{0,62}[^\s:]|[^\s:])[ \t]*+(?=\n|$)"
)
_LETTER = re.compile(r"[^\W\d_]")
_OPEN = frozenset(" \t\r\n\x0b\x0c\"'`<>()[]{}|,;*:=-")
_GOES_ON = frozenset("/\\@*=~$%^#_+&")


def words(text: str) -> str:
    """The words and signs of a text, in lower case, each between single spaces; the first and last are spaces."""
    scan = scannable(text)
    if scan is text:
        pieces = [piece if piece.isalnum() else " ".join(_WORD.findall(piece)) for piece in text.lower().split()]
    else:
        pieces = [_piece(text[hit.start() : hit.end()], hit[0]) for hit in _WORD.finditer(scan)]
    return f" {' '.join(pieces)} ".replace("'s ", " 's ")


def _piece(written: str, seen: str) -> str:
    """A sign as the scanner sees it (all quotes are one), a word as it is written."""
    if len(seen) == 1 and seen != ";" and not seen.isalnum():
        return seen
    return normalised("NFC", written).lower()


def phrase(value: str) -> str | None:
    """The normal form of a value as a phrase; None if it is too long for one, has no letter, or begins to be a URL."""
    # Almost any sign may stand in a URL, so the borders of words are no borders there.
    if len(value) > MAX_PHRASE or "://" in value or not _LETTER.search(value):
        return None
    if value.isascii() and value.isalnum():  # one plain word
        return value.lower()
    return words(value).strip(" ") or None


def holds(spaced: str, normal: str) -> bool:
    """Is the phrase whole in a text, given as `words(text)` and `phrase(value)`?"""
    return f" {normal} " in spaced


def find_phrase(value: str, text: str) -> tuple[tuple[int, int], ...]:
    """Where a phrase stands whole in a text: up to `MAX_PLACES` spans, for a person to read."""
    normal = phrase(value)
    if normal is None:
        return ()
    scan = scannable(text)
    spans: list[tuple[int, int]] = []
    for hit in _WORD.finditer(scan):
        start, end = hit.span()
        if end - start > 2 and hit[0][-2:] in ("'s", "'S"):
            spans += [(start, end - 2), (end - 2, end)]
        else:
            spans.append((start, end))
    pieces = words(text)
    count = normal.count(" ") + 1
    found: list[tuple[int, int]] = []
    seen = place = 0
    while len(found) < MAX_PLACES and (at := pieces.find(f" {normal} ", place)) >= 0:
        seen += pieces.count(" ", place, at)
        found.append((spans[seen][0], spans[seen + count - 1][1]))
        place = at
        seen, place = seen + 1, at + 1
    return tuple(found)


def find_lines(text: str, scan: str, limit: int) -> list[Token]:
    """What stands on a line of its own, or behind a label there, in a few words: `4 Elm Street`, `Name: Kim Larsen`."""
    found: list[Token] = []
    # A text of one line has one place where a line begins: the others need not be tried
    for hit in _LINE.finditer(scan) if "\n" in scan else (_LINE.match(scan),):
        if hit is None:
            break
        if len(found) >= limit:
            return found
        start, end = hit.span(1)
        if normal := phrase(text[start:end].rstrip(" \t,.;!")):
            found.append(Token(Kind.NAME, normal, start, end))
    return found


def find_names(text: str, scan: str, limit: int) -> list[Token]:
    """What looks like a name by itself: quoted phrases, and runs of capitalised words. For people and known sets."""
    found: list[Token] = []
    for hit in _QUOTED.finditer(scan) if _QUOTES.search(scan) else ():
        start, end = hit.span(hit.lastindex or 0)
        if len(found) >= limit:
            return found
        if normal := phrase(text[start:end]):
            found.append(Token(Kind.NAME, normal, start, end))
    for hit in _NAME.finditer(scan):
        start, end = hit.span()
        if len(found) >= limit:
            return found
        if end - start > MAX_PHRASE or (start and scan[start - 1] not in _OPEN) or scan[end : end + 1] in _GOES_ON:
            continue
        if scan.endswith("'s", start, end):
            end -= 2
        while scan[end - 1] in "'-&":
            end -= 1
        simple = scan[start:end]
        if simple.isascii() and simple.replace(" ", "").isalnum():
            found.append(Token(Kind.NAME, simple.lower(), start, end))
        elif normal := phrase(text[start:end]):
            found.append(Token(Kind.NAME, normal, start, end))
    return found
