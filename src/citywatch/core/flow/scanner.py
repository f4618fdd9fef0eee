"""Reads a text chunk by chunk: decides of each what kinds of value it is as a whole, and cuts up what is none.

A *chunk* is what stands between spaces, quotes, brackets, `,` `;` `|`, and holds a digit, `@`, `/`, `\\` or an inner
dot. A value is a whole chunk without the punctuation at its ends, or several chunks that are written as one value; a
chunk that is nothing is cut at `=`, `&`, `:` and `,`, and its pieces are read. INVARIANTS: each chunk is read once, so
work is linear; a chunk that is longer than `MAX_CHUNK` is no value.
"""

from __future__ import annotations

import re

from citywatch.core.flow import addresses, identifiers
from citywatch.core.flow.kinds import Kind
from citywatch.core.flow.quantities import CLEAR, PLAIN, Quantities

MAX_CHUNK = 2048

_CHUNK = re.compile(rf"[0-9@/\\.]{PLAIN}*+(?:(?<=[0-9]),(?=[0-9]){PLAIN}*+)*+")
_HEAD = re.compile(rf"{PLAIN}*+")
_URL_END = re.compile(r"[^\s\"<>`{}|^]*+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}\Z")
_WORD = re.compile(r"\w")
_PIECES = re.compile(r"[^=&:,]++")
_CUTS = re.compile(r"[=&:,]")
_TRAILING = frozenset(".:!?'*s")
_PAIRS = (("(", ")"), ("[", "]"))
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}")
_QUANTITY = frozenset("0123456789+-.$€£¥₹₩₽₺")
_AMOUNT_END = _QUANTITY | frozenset("kKMn")
_FILE = re.compile(r"[\w.+~-]*[\w~-]\.[A-Za-z0-9]{1,8}")


class Scanner(Quantities):
    """Reads one text: every kind of value."""

    __slots__ = ()

    def run(self, most_chunks: int, most_tokens: int) -> None:
        """Read the text from its beginning, within these bounds."""
        scan, found = self.scan, self.found
        search, place, low = _CHUNK.search, 0, 0
        while most_chunks and len(found) < most_tokens and (hit := search(scan, place)):
            start, end = hit.span()
            place = end
            if end - start == 1 and scan[start] == ".":
                continue
            if start > low and scan[start - 1] not in CLEAR:
                start = max(low, start - len(_HEAD.match(scan[low:start][::-1])[0]))  # type: ignore[index]
            place = low = max(end, self.chunk(start, end, low))
            most_chunks -= 1

    def chunk(self, start: int, end: int, low: int) -> int:
        """Read the chunk at these places; return where the next one may begin."""
        scan = self.scan
        if end - start > MAX_CHUNK:
            return end
        text = scan[start:end]
        if text[-1] in _TRAILING or text[0] in "'*" or "//" in text:
            if (mark := text.find("://")) > 0:
                return self.url(start, end, start + mark)
            start, end = self.trimmed(start, end)
            if start >= end:
                return end
            text = scan[start:end]
        if after := self.read(text, start, end, low):
            return after
        after = end
        if _CUTS.search(text):
            for piece in _PIECES.finditer(scan, start, end):
                head, tail = piece.span()
                if (head, tail) != (start, end) and self._apart(head - 1, start) and self._apart(tail, start):
                    head, tail = self.trimmed(head, tail)
                    after = max(after, self.read(scan[head:tail], head, tail, low) if head < tail else 0)
        return after

    def _apart(self, place: int, start: int) -> bool:
        """May a chunk be cut here? Not at a colon between digits: `1:100` is one thing."""
        scan = self.scan
        around = scan[place - 1 : place] + scan[place + 1 : place + 2] if place > start else ""
        return scan[place : place + 1] != ":" or not around.isdigit()

    def read(self, text: str, start: int, end: int, low: int) -> int:
        """Read one trimmed chunk; return where it ended, or 0 if it is nothing."""
        if "@" in text:
            return self.email(start, end)
        first = text[0]
        if (first in _QUANTITY or text[-1] in _AMOUNT_END) and (after := self.quantity(text, start, end, low)):
            return after
        if "/" in text or "\\" in text:
            return self.path(text, start, end)
        if "." in text and self.dotted(text, start, end):
            return end
        return self.identifier(text, start, end)

    # Addresses.

    def url(self, start: int, end: int, mark: int) -> int:
        scan = self.scan
        stop = _URL_END.match(scan, mark).end()  # type: ignore[union-attr]
        if stop - start > MAX_CHUNK:
            return max(end, stop)
        place = stop
        excess = {close: scan.count(close, mark, stop) - scan.count(opener, mark, stop) for opener, close in _PAIRS}
        while stop > mark + 3 and ((last := scan[stop - 1]) in ".,;:!?'*" or excess.get(last, 0) > 0):
            excess[last] = excess.get(last, 0) - 1
            stop -= 1
        scheme = _SCHEME.search(scan, max(start, mark - 32), mark)
        if not scheme or stop <= mark + 3 or (scheme.start() > start and scan[scheme.start() - 1] not in "=:'*&"):
            return place
        value, host = addresses.normal_url(self.raw[scheme.start() : stop])
        self.add(Kind.URL, value, scheme.start(), stop)
        if host:
            self._host_of(host, mark + 3, stop)
        return place

    def _host_of(self, host: str, start: int, stop: int) -> None:
        authority = re.split(r"[/?#]", self.scan[start:stop], maxsplit=1)[0]
        begin = start + authority.rfind("@") + 1
        last = start + len(authority)
        colon = self.scan.rfind(":", begin, last)
        if colon > self.scan.rfind("]", begin, last):
            last = colon
        self.add(Kind.HOST, host, begin, last)

    def email(self, start: int, end: int) -> int:
        raw = self.raw
        if raw[start : start + 7].lower() == "mailto:":
            start += 7
            query = self.scan.find("?", start, end)
            end = query if query > 0 else end
        if self.scan[start:end].count("@") != 1:
            return end if "/" not in raw[start:end] else self.path(self.scan[start:end], start, end)
        at = self.scan.find("@", start, end)
        address = addresses.normal_email(raw[start:at] + "@" + raw[at + 1 : end])
        if address is None:
            return 0
        self.add(Kind.EMAIL, address, start, end)
        return end

    def dotted(self, text: str, start: int, end: int) -> bool:
        """A host with or without a port, an IPv4 address, a file's name."""
        name, colon, port = text.partition(":")
        if colon and not (port.isdigit() and len(port) <= 5):
            return False
        tail = end - len(colon + port)
        host: str | None = None
        if addresses.is_named_host(name):
            host = addresses.normal_host(self.raw[start:tail])
        elif name.count(".") == 3 and name.replace(".", "").isdecimal():
            host = addresses.normal_host(name)
        if host:
            self.add(Kind.HOST, host, start, tail)
            self.add(Kind.URL, f"//{host}{colon}{port.lstrip('0')}/", start, end)
        file = not colon and _FILE.fullmatch(text) and not text[text.rfind(".") + 1 :].isdecimal()
        if file and (path := identifiers.normal_path(self.raw[start:end])):
            self.add(Kind.PATH, path, start, end)
        return bool(host or file)

    # Names that machines give.

    def path(self, text: str, start: int, end: int) -> int:
        head, slash, _ = text.partition("/")
        if slash and head and "\\" not in text and addresses.is_named_host(head.partition(":")[0]):
            value, host = addresses.normal_url("//" + self.raw[start:end])
            if host:
                self.add(Kind.URL, value, start, end)
                self._host_of(host, start, end)
        if "=" in text or "&" in text or "?" in text:
            return end if slash and text[0] == "/" else 0
        if _WORD.search(text) and (path := identifiers.normal_path(self.raw[start:end])):
            self.add(Kind.PATH, path, start, end)
        return end

    def identifier(self, text: str, start: int, end: int) -> int:
        scan = self.scan
        if text[:2].isalpha() and text[2:4].isdecimal() and (found := identifiers.read_iban(scan, start)):
            value, stop = found
            if stop >= end and self.ends(stop):
                self.add(Kind.IBAN, value, start, stop)
                return stop
        if text.count(":") >= 2:
            if _MAC.fullmatch(text):
                self.add(Kind.ID, text.lower().replace("-", ":"), start, end)
                return end
            if host := addresses.normal_host(f"[{text}]"):
                self.add(Kind.HOST, host, start, end)
                return end
        if ":" in text and "urn:uuid:" not in text.lower():
            return 0
        if value_ := identifiers.normal_id(self.raw[start:end] if text[0] != "#" else "#" + self.raw[start + 1 : end]):
            self.add(Kind.ID, value_, start, end)
            return end
        return 0
