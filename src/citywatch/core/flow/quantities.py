"""Reads amounts and moments out of a text: numbers, money, dates, times, phone numbers, over the spaces inside them.

Decides how far such a value reaches and emits its tokens; what the notation means is said by `numbers` and `dates`.
INVARIANT: what was read as part of a value over spaces is not read again as a value of its own, except the groups of
`1 200` without a currency, which may as well be two numbers.
"""

from __future__ import annotations

import re

from citywatch.core.flow import dates, identifiers, numbers
from citywatch.core.flow.kinds import Kind, Token

CLEAR = frozenset(' \t\r\n\x0b\x0c\x1c\x1d\x1e\x1f"<>()[]{}|`,;')
"""What may stand beside a value; everything else would be part of it."""
PLAIN = r"[^\s\"<>()\[\]{}|`,;]"

_NEXT_CURRENCY = re.compile(
    r" ([A-Z]{3,4}|US\$|[$€£¥₹₩₽₺]|[Ee]uros?|[Dd]ollars?|[Pp]ounds?|[Yy]en)(?![\w$@/\\&=+-]|[.:'][\w])"
)
_LAST_CURRENCY = re.compile(r"(?:^|[\s\"(\[{,;:=|])([A-Z]{3,4}|US\$|[$€£¥₹₩₽₺]) \Z")
_CURRENCY_ENDS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ$€£¥₹₩₽₺")
_GROUPS = re.compile(r"[1-9][0-9]{0,2}(?: [0-9]{3})+(?:[.,][0-9]+)?(?![\w@/\\:=+&#%$-]|[.,'][\w])")
_LAST_MONTH = re.compile(r"(?:^|[^\w@/\\.-])([A-Za-z]{3,9})\.?[ -]\Z")
_AFTER_DAY = dates.MONTH_STARTS | {"of "}
_FIRST = frozenset("+0123456789")
_NEXT_HALF = re.compile(r" [ap]\.?m\b\.?(?![\w@/\\-])", re.IGNORECASE)
_NEXT_CLOCK = re.compile(rf" ([0-9]{{1,2}}:{PLAIN}++)")
_SPAN = re.compile(r"([0-9]{1,2}:[0-9]{2})-([0-9]{1,2}:[0-9]{2})")


class Quantities:
    """Reads one text. `raw` is the text, `scan` what the scanners see, place by place the same; `found` the tokens.

    In all methods `start` and `end` are the places of a chunk, and nothing before `low` belongs to it any more.
    """

    __slots__ = ("found", "grouped", "raw", "scan")

    def __init__(self, raw: str, scan: str, found: list[Token]) -> None:
        self.raw, self.scan, self.found = raw, scan, found
        self.grouped = 0

    def add(self, kind: Kind, value: str, start: int, end: int) -> None:
        self.found.append(Token(kind, value, start, end))

    def trimmed(self, start: int, end: int) -> tuple[int, int]:
        """Without the punctuation around a value: `'a@b.c'.`, `**1200**`, `Alice's`."""
        scan = self.scan
        starred = scan[start] == "*"
        end = start + len(scan[start:end].rstrip(".:!?'*" if starred else ".:!?'"))
        if scan.endswith("'s", start, end):
            end -= 2
        while start < end and (scan[start] == "'" or (scan[start] == "*" and scan[end : end + 1] == "*")):
            start += 1
        return start, end

    def quantity(self, text: str, start: int, end: int, low: int) -> int:
        """Read a chunk that begins or ends like an amount; return where it ended, or 0 if it is none."""
        scan, first = self.scan, text[0]
        if len(text) >= 10 and text[4] in "-/." and (hit := dates.ISO.fullmatch(text)) and (day := dates.of_iso(hit)):
            return self.instant(hit, day, start, end) or self.clock_or_day(text, start, end)
        if first in _FIRST:  # no phone number and no day of a month begins otherwise
            if (first in "+0" or len(text) > 8 or scan[start - 1 : start] == "(") and (
                after := self.phone(text, start, end, low)
            ):
                return after
            if (len(text) <= 4 or "-" in text[1:3]) and (after := self.named_date(text, start, end, low)):
                return after
            if text.isdecimal():
                return self.whole_number(text, start, end, low)
        if hit := numbers.NUMBER.fullmatch(text):
            forms, code = numbers.read_number(hit)
            if forms:
                after = self.number(forms, code, code is None and hit["after"] is None, text, start, end, low)
                for day in dates.slashed(text) if first.isdecimal() else ():
                    self.add(Kind.DATE, day, start, end)
                return after
        return self.moment(text, start, end) if first.isdecimal() else 0

    def whole_number(self, text: str, start: int, end: int, low: int) -> int:
        """Digits alone: a number, an identifier, perhaps an hour, or a day as `20240526`."""
        form = text if text[0] != "0" and len(text) < 20 else numbers.normal_number(text, "", 0, False)
        after = self.number((form,), None, True, text, start, end, low)
        if len(text) == 8 and (day := self._iso(text)):
            self.add(Kind.DATE, day, start, end)
        elif len(text) <= 2 and self.scan.startswith(" ", end) and (half := _NEXT_HALF.match(self.scan, end)):
            self.clock(start, half.end())
        return after

    def moment(self, text: str, start: int, end: int) -> int:
        """A date, a time of day, or both as an instant."""
        hit = dates.ISO.fullmatch(text)
        if hit and (day := dates.of_iso(hit)) and (after := self.instant(hit, day, start, end)):
            return after
        return self.clock_or_day(text, start, end)

    def clock_or_day(self, text: str, start: int, end: int) -> int:
        """A day between slashes, or a time of day."""
        days = list(dates.slashed(text)) if len(text) <= 10 else []
        for day in days:
            self.add(Kind.DATE, day, start, end)
        half = _NEXT_HALF.match(self.scan, end)
        return end if days else self.clock(start, half.end() if half else end)

    def number(
        self, forms: tuple[str, ...], code: str | None, bare: bool, text: str, start: int, end: int, low: int
    ) -> int:
        """A number alone, in groups over spaces, or with a currency beside it; money is its number too."""
        first, last = start, end
        if bare:
            joined, last = self._grouped(text, start, end)
            code, first, last = self._currency(start, last, low)
            if code is not None:
                forms = joined or forms
            else:
                for form in joined:
                    self.add(Kind.NUMBER, form, start, last)
                last = end
        for form in forms:
            if code is not None:
                self.add(Kind.MONEY, f"{code} {form}", first, last)
            self.add(Kind.NUMBER, form, first, last)
        if code is None and text.isdecimal():
            self.add(Kind.ID, text, start, end)
        return last

    def _grouped(self, text: str, start: int, end: int) -> tuple[tuple[str, ...], int]:
        """`1 200`: the forms of the groups together, and their end; beside a currency they are nothing else."""
        scan = self.scan
        if len(text) > 3 or start < self.grouped or not scan.startswith(" ", end) or not text.isdecimal():
            return (), end
        if not (groups := _GROUPS.match(scan, start, start + 64)):
            return (), end
        self.grouped = groups.end()
        return tuple(numbers.normal_number(*read, 0, False) for read in numbers.readings(groups[0])), groups.end()

    def _currency(self, start: int, end: int, low: int) -> tuple[str | None, int, int]:
        """The currency after or before a number, over one space, and where the two begin and end."""
        scan = self.scan
        if scan.startswith(" ", end) and (mark := _NEXT_CURRENCY.match(scan, end, end + 12)):
            code = numbers.currency(mark[1])
            if code:
                return code, start, mark.end()
        if start < 2 or scan[start - 1] != " " or scan[start - 2] not in _CURRENCY_ENDS:
            return None, start, end
        if mark := _LAST_CURRENCY.search(scan, max(low, start - 6), start):
            code = numbers.currency(mark[1])
            if code:
                return code, mark.start(1), end
        return None, start, end

    def named_date(self, text: str, start: int, end: int, low: int) -> int:
        """`May 26th` if a month stands before the chunk, `26 May` if one stands after."""
        scan = self.scan
        if start > low + 3 and scan[start - 1] in " -" and (scan[start - 2].isalpha() or scan[start - 2] == "."):
            last = _LAST_MONTH.search(scan, max(low, start - 12), start)
            if last and last[1].lower() in dates.MONTHS:
                hit = dates.MONTH_DAY.match(scan, last.start(1), start + 24)
                if hit and (day := dates.named(hit)):
                    self.add(Kind.DATE, day, hit.start(), hit.end())
                    return hit.end()
        if "-" not in text and scan[end + 1 : end + 4].lower() not in _AFTER_DAY:
            return 0
        hit = dates.DAY_MONTH.match(scan, start, start + 40)
        if hit and (day := dates.named(hit)):
            self.add(Kind.DATE, day, start, hit.end())
            return hit.end()
        return 0

    def _iso(self, text: str) -> str | None:
        hit = dates.ISO.fullmatch(text)
        return dates.of_iso(hit) if hit else None

    def instant(self, hit: re.Match[str], day: str, start: int, end: int) -> int:
        """An ISO date, alone or with a time after `T` or a space: then the instant, its date and its time."""
        head, tail = start + hit.end("day"), end
        time: str | None = None
        if hit["time"] is not None:
            time, begin = dates.clock(hit["time"], compact=True), start + hit.start("time")
            if time is None:
                return 0
        elif (later := _NEXT_CLOCK.match(self.scan, end, end + 40)) and self.scan[later.end() : later.end() + 1] != ":":
            begin, tail = self.trimmed(later.start(1), later.end())
            time = None if _SPAN.fullmatch(self.scan, begin, tail) else dates.clock(self.scan[begin:tail])
        self.add(Kind.DATE, day, start, head)
        if time is None:
            return head
        self.add(Kind.DATE, f"{day}T{time}", start, tail)
        self.add(Kind.TIME, time, begin, tail)
        return tail

    def clock(self, start: int, end: int) -> int:
        """A time of day; a span of two is two times (`09:00-10:00` is no zone ten hours west)."""
        if span := _SPAN.fullmatch(self.scan, start, end):
            ends = [(dates.clock(span[n]), span.start(n), span.end(n)) for n in (1, 2)]
        else:
            ends = [(dates.clock(self.scan[start:end]), start, end)]
        for time, begin, stop in ends:
            if time:
                self.add(Kind.TIME, time, begin, stop)
        return end if ends[0][0] else 0

    def phone(self, text: str, start: int, end: int, low: int) -> int:
        """A phone number over spaces and brackets, written as one: see `identifiers.read_phone`."""
        scan = self.scan
        opened = text[0] != "+" and start > low and scan[start - 1] == "(" and scan[end : end + 1] == ")"
        dressed = opened or text[0] == "+" or text[:2] == "00"
        if not dressed and (len(text) <= 8 or text.count("-") + text.count(".") < 2):
            return 0
        begin = start - opened
        if opened and scan[max(low, begin - 3) : begin].strip(" ").startswith("+"):
            return 0
        if self._iso(text) or next(dates.slashed(text), None):
            return 0
        found = identifiers.read_phone(scan, begin)
        if not found or found[1] < end + 2 * opened or not self.ends(found[1]):
            return 0  # digits in brackets alone are an aside
        self.add(Kind.PHONE, found[0], begin, found[1])
        if text[0] == "+" and text[1:].isdecimal() and found[1] == end:
            self.add(Kind.NUMBER, numbers.normal_number(text[1:], "", 0, False), start, end)
        return found[1]

    def ends(self, place: int) -> bool:
        """Does a value that was read over spaces end here, but for punctuation?"""
        rest = self.scan[place : place + 8].lstrip(".:!?'*")
        return not rest or rest[0] in CLEAR
