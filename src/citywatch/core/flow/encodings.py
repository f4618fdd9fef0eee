"""What a text may hide: base64, hexadecimal, escapes, and characters between the characters.

Decides which decodings are plausible texts; says nothing about what they mean. They are for finding taint: a decoding
too many taints too much, and raises nothing. INVARIANTS: total, deterministic; at most `MAX_DEPTH` layers, `MAX_TEXTS`
texts and `MAX_CHARS` characters, whatever comes in; work is linear in that. Reversal, ciphers and compression are not
undone.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

MAX_DEPTH = 3
MAX_TEXTS = 64
MAX_CHARS = 1 << 20

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{60,}+\r?\n)++[A-Za-z0-9+/_-]*+={0,2}|[A-Za-z0-9+/_-]{6,}+={0,2}")
_HEX = re.compile(r"(?<![0-9a-zA-Z])(?:0x)?((?:[0-9a-fA-F]{2}){3,}+)(?![0-9a-zA-Z])")
_HEX_PAIRS = re.compile(r"(?<![0-9a-zA-Z])[0-9a-fA-F]{2}([ :-])(?=[0-9a-fA-F]{2}\1)(?:[0-9a-fA-F]{2}\b\1?+)++")
_PERCENT = re.compile("%[0-9a-fA-F]{2}")
_QUOTED = re.compile(r"=[0-9A-F]{2}|=\r?\n")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|&#([0-9]{1,7});|&#[xX]([0-9a-fA-F]{1,6});")
_UNSEEN = re.compile(r"[^\t-\r\x20-\x7e]")
_URLSAFE = str.maketrans("-_", "+/", "\r\n")


def decodings(text: str) -> tuple[str, ...]:
    """Every plausible text that this one holds encoded, layer under layer; the text itself is not among them."""
    found: dict[str, None] = {}
    layer, room = [text[:MAX_CHARS]], MAX_CHARS
    for _ in range(MAX_DEPTH):
        following: list[str] = []
        for one in layer:
            for decoded in _decoded_once(one):
                if decoded == text or decoded in found:
                    continue
                room -= len(decoded)
                if room < 0 or len(found) >= MAX_TEXTS:
                    return tuple(found)
                found[decoded] = None
                following.append(decoded)
        layer = following
    return tuple(found)


def _decoded_once(text: str) -> Iterator[str]:
    if _UNSEEN.search(text) and (seen := _only_seen(text)) != text:
        yield seen
    yield from _together(_base64(hit[0]) for hit in _BASE64.finditer(text))
    yield from _together(_hex(hit[1]) for hit in _HEX.finditer(text))
    yield from _together(_hex(re.sub("[ :-]", "", hit[0])) for hit in _HEX_PAIRS.finditer(text))
    if _PERCENT.search(text):
        yield unquote(text, errors="replace")
    if _QUOTED.search(text):
        yield unquote(_QUOTED.sub(_as_percent, text.replace("%", "%25")), errors="replace")
    if _ESCAPED.search(text):
        yield _ESCAPED.sub(_unescape, text)


def _together(pieces: Iterator[str | None]) -> Iterator[str]:
    """One text for all that was hidden in the same way, so that their number is bounded."""
    kept = [piece for piece in pieces if piece]
    if kept:
        yield "\n".join(kept)


def _base64(text: str) -> str | None:
    """Both alphabets, padded or not."""
    plain = text.translate(_URLSAFE).rstrip("=")
    if len(plain) % 4 == 1:
        return None
    try:
        return _plausible(base64.b64decode(plain + "=" * (-len(plain) % 4)))
    except binascii.Error:
        return None


def _hex(text: str) -> str | None:
    return _plausible(bytes.fromhex(text))


def _plausible(data: bytes) -> str | None:
    """Text, if the bytes are UTF-8 and nothing in them is a control."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if text.isascii():
        return text if not _UNSEEN.search(text) else None
    odd = {char for char in text if not char.isprintable() and not char.isspace()}
    return text if not odd - {"\u200b", "\u200c", "\u200d", "\ufeff"} else None


def _as_percent(hit: re.Match[str]) -> str:
    return "%" + hit[0][1:] if len(hit[0]) == 3 and "\n" not in hit[0] else ""


def _unescape(hit: re.Match[str]) -> str:
    digits = hit[1] or hit[2] or hit[4]
    code = int(digits, 16) if digits else int(hit[3])
    return chr(code) if code <= 0x10FFFF else hit[0]


def _only_seen(text: str) -> str:
    """Without zero-width characters, controls, soft hyphens, and variation selectors."""
    hidden = {
        ord(char): None
        for char in set(_UNSEEN.findall(text))
        if (unicodedata.category(char) in ("Cf", "Cc") and not char.isspace())
        or "\ufe00" <= char <= "\ufe0f"
        or char == "\u034f"
    }
    return text.translate(hidden) if hidden else text
