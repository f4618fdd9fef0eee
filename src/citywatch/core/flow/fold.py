"""What a text says once its dress is taken off: for finding overlap (`fold`), for scanning, and for saying who poses.

Decides which characters are one to a reader (`fold`), and which are word, digit, space or edge to the scanners
(`scannable`). Does not decide that two values are equal: a look-alike address is *another* address, so nothing here may
raise a value; `fold` only ever helps to find taint.

INVARIANTS: `fold` is idempotent and total; `scannable` keeps the length, so positions in it are positions in the text;
a character that is not seen (zero-width, control, combining, unassigned) is part of the word it stands in, never an
edge: otherwise `al<U+200B>ice` would hold a whole `ice`. Work is linear: a normaliser sorts combining marks by
insertion, in quadratic time, so runs of marks are cut first (UAX 15, stream-safe text).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

MAX_MARKS = 30
"""Combining marks in a row that are kept; UAX 15 §13 says that no language needs more."""

_ODD = re.compile(r"[^\t-\r\x1c-\x7e]+")
_LONG_RUN = re.compile(rf"[^\x00-\x7f]{{{MAX_MARKS + 1},}}")
_UNSEEN = "ª"  # a letter that no number, date or ASCII name has
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_ALIKE = {
    "а": "a", "е": "e", "о": "o", "р": "p", "с": "c", "у": "y", "х": "x", "і": "i", "ј": "j", "ѕ": "s", "һ": "h",
    "ԁ": "d", "ԛ": "q", "ԝ": "w", "ɡ": "g", "в": "b", "к": "k", "м": "m", "н": "h", "т": "t", "г": "r", "ӏ": "l",
    "α": "a", "ε": "e", "ι": "i", "κ": "k", "ν": "v", "ο": "o", "ρ": "p", "τ": "t", "υ": "u", "χ": "x", "γ": "y",
    "β": "b", "η": "n", "μ": "u", "ω": "w", "ı": "i", "ɩ": "i", "ʏ": "y", "ʀ": "r", "ʙ": "b", "ɢ": "g", "ʜ": "h",
    "ɪ": "i", "ʟ": "l", "ɴ": "n", "ᴀ": "a", "ᴄ": "c", "ᴅ": "d", "ᴇ": "e", "ᴊ": "j", "ᴋ": "k", "ᴍ": "m", "ᴏ": "o",
    "ᴘ": "p", "ᴛ": "t", "ᴜ": "u", "ᴠ": "v", "ᴡ": "w", "ᴢ": "z", "օ": "o", "ս": "u", "հ": "h", "ո": "n", "զ": "q",
    "ց": "g", "ⅼ": "l", "ǀ": "l", "∕": "/", "⁄": "/", "․": ".", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-",
    "−": "-", "ʼ": "'", "‘": "'", "’": "'", "“": '"', "”": '"', "ʹ": "'", "∶": ":", "ꓸ": ".", "。": ".",
}  # fmt: skip
_QUOTES = {"‘": "'", "’": "'", "‚": "'", "‛": "'", "ʼ": "'"}


def fold(text: str) -> str:
    """Reduce a text to what a reader sees: NFKC, case, look-alikes, spaces; nothing that cannot be seen remains."""
    if text.isascii():
        if text.isprintable():
            return " ".join(text.lower().split())
        return " ".join((_CONTROLS.sub("", text) if _CONTROLS.search(text) else text).lower().split())
    for _ in range(8):  # one rule's output can be another's input; a few rounds reach the end
        folded = _fold_once(text)
        if folded == text:
            break
        text = folded
    return text


_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]+")


def _fold_once(text: str) -> str:
    seen = normalised("NFKC", normalised("NFKC", text).casefold())
    return " ".join(seen.translate(_Folded()).split())


class _Folded(dict[int, str]):
    """What each character becomes, worked out when it is first met; lives as long as one text."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        kept = _ALIKE.get(char, char)
        if kept == char and not char.isspace() and unicodedata.category(char)[0] == "C" and code not in _KEPT:
            kept = ""
        elif 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF or code in (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5):
            kept = ""  # variation selectors and fillers are seen no more than controls
        self[code] = kept
        return kept


_KEPT = range(0xD800, 0xF900)  # lone surrogates and private use: something is shown there


def normalised(form: Literal["NFC", "NFKC"], text: str) -> str:
    """A Unicode normal form, in linear time for any text."""
    if text.isascii():
        return text
    return unicodedata.normalize(form, _LONG_RUN.sub(_calmed, text))


def _calmed(run: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for char in run[0]:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= MAX_MARKS:
            kept.append(char)
    return "".join(kept)


def scannable(text: str) -> str:
    """Write a text in the characters that the scanners know, each at its place.

    Decimal digits of any script become ASCII digits, spaces a space, dashes `-`, quotes `"` or `'`, full-width
    punctuation ASCII; other punctuation and symbols become `;`, an edge; what is not seen becomes part of its word.
    Letters and currency signs stay what they are.
    """
    if (text.isascii() and text.isprintable()) or not _ODD.search(text):
        return text
    shapes = _Shapes()
    return _ODD.sub(lambda run: run[0].translate(shapes), text)


class _Shapes(dict[int, str]):
    """What each character is to the scanners, worked out when it is first met; lives as long as one text."""

    def __missing__(self, code: int) -> str:
        self[code] = shape = _shape(chr(code))
        return shape


def _shape(char: str) -> str:
    kind = unicodedata.category(char)
    if kind == "Nd":
        return str(unicodedata.decimal(char))
    if kind[0] == "Z" or char.isspace():
        return " "
    if kind[0] in "CM":
        return _UNSEEN
    if char in _QUOTES:
        return _QUOTES[char]
    if kind[0] in "LN" or kind == "Sc":
        return char
    if "\uff01" <= char <= "\uff5e":
        return chr(ord(char) - 0xFEE0)
    if kind == "Pd" or char == "−":
        return "-"
    return '"' if kind in ("Pi", "Pf") or char == "„" else ";"


def looks_like(text: str) -> str | None:
    """What a person would read, if a text poses as ASCII: `аlice@x.com` with a Cyrillic letter, or a hidden one.

    None if the text is what it looks like: ASCII, or openly in another script.
    """
    if text.isascii() and not _CONTROLS.search(text):
        return None
    read = fold(text)
    return read if read.isascii() and any(char in _LATIN for char in read) else None
