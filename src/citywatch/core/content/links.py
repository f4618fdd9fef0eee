"""Links that carry data out: whoever loads one tells its host what stands in it.

Decides that a URL holds more than it needs to name a page: an address, a secret, a text (plain, percent-encoded or in
base64), a long value that reads like encoded data, or a place left for the model to fill in. An image is loaded without
anybody's click, so it needs less. Does not decide whether the host is a known party (provenance does), and says nothing
of a link that carries data in a way that looks like an ordinary name.
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from citywatch.core.content.patterns import pattern
from citywatch.core.content.signals import Kind
from citywatch.core.content.tape import Detector, Found

AHEAD = 2048
_ENDS = b" \t\r\n\"'<>`|\\^"
_IN_URL = bytes(one for one in range(33, 256) if one not in _ENDS)
_ENDS_SENTENCE = b").,;:!?]*"
_PARTS = re.compile(rb"[/?&#=;]")
_WORDS = re.compile(rb"[A-Za-z]{2,20}[ +_,.:;\n-]{1,3}(?=[A-Za-z])")
_ADDRESS = re.compile(rb"[A-Za-z0-9._+-]{1,32}@[A-Za-z0-9-]{1,32}\.[A-Za-z]")
_OPEN = re.compile(rb"\{[^{}]{0,40}\}|\[[A-Za-z_ ]{3,40}\]|%7B|\$\{|<[A-Za-z_ ]{3,40}>", re.IGNORECASE)
_PLAIN = re.compile(rb"[A-Za-z0-9+/_=-]{24,}\Z")
_HEX = re.compile(rb"[0-9a-fA-F-]+\Z")
LONG = 64


def carries(near: bytes, start: int, stop: int) -> Found | None:
    """A link with data behind its host."""
    rest = near[start:]
    url = rest[: len(rest) - len(rest.lstrip(_IN_URL))].rstrip(_ENDS_SENTENCE)
    if url.endswith(b"}") and b"{" not in url:
        url = url.rstrip(b"}").rstrip(_ENDS_SENTENCE)
    host_end = min((at for one in (b"/", b"?", b"#") if (at := url.find(one, stop - start)) >= 0), default=len(url))
    host, behind = url[stop - start : host_end], url[host_end:]
    image = near[max(0, start - 2) : start] == b"](" and b"![" in near[max(0, start - 72) : start]
    score = max((_data(part) for part in _parts(host, behind)), default=0.0)
    if image and b"=" in behind:
        score = max(score, 0.6)
    return start, start + len(url), score


def _parts(host: bytes, behind: bytes) -> list[bytes]:
    return [part for part in (*host.split(b"."), *_PARTS.split(behind)[:64]) if len(part) > 3]


def _data(part: bytes) -> float:
    """How much one part of a URL looks like data that were put in."""
    if _OPEN.match(part):
        return 0.8
    text = unquote_to_bytes(part)
    if b"@" in text and _ADDRESS.search(text):
        return 0.8
    spaced = part.count(b"+") + part.count(b"%20")
    if spaced >= 7 or (spaced >= 3 and len(text) > LONG):
        return 0.5
    if not _PLAIN.match(text):
        return 0.0
    if is_text(decoded(text)):
        return 0.9
    mixed = not _HEX.match(text) and b"-" not in text and any(48 <= one <= 57 for one in text)
    return 0.5 if len(text) >= LONG and mixed else 0.0


def decoded(text: bytes) -> bytes:
    """What base64 (of either alphabet) hides, or nothing."""
    usable = text.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    usable = usable[: len(usable) - (len(usable) % 4 == 1)]
    try:
        return base64.b64decode(usable + b"=" * (-len(usable) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def is_text(value: bytes) -> bool:
    """Would a person read this: several words with nothing between them that no text has?"""
    if len(value) < 12 or len(value.translate(None, _READABLE)) > len(value) // 50:
        return False
    return len(_WORDS.findall(value[:400])) >= 2


_READABLE = bytes(range(32, 127)) + b"\n\r\t"

LINKS = (Detector(Kind.LINK, "link-data", pattern(r"(?i:\bhttps?)://"), carries, AHEAD, _IN_URL),)
