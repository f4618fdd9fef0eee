"""The items of one context, in order, and where each typed token and each short value stands in them.

Decides nothing; `provenance` asks. Only ever grows: an index over rows that never change. INVARIANTS: `1` in `100` is
not a sighting; a value that can be read in two ways is seen nowhere, for the tool may take the other reading; what one
question looks at is bounded, however much a context holds, and what is beyond the bound entitles to nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from citywatch.core.canonical import digest
from citywatch.core.flow.blob import BLOB, sent_blob
from citywatch.core.flow.fold import fold
from citywatch.core.flow.index import Index, index_text
from citywatch.core.flow.item import INJECTION, Item, Part
from citywatch.core.flow.prints import unpacked
from citywatch.core.flow.readings import Typed, Value, folded, typed
from citywatch.core.flow.tokens import Kind, looser_tokens

__all__ = ["History", "Prompt", "Sighting", "Value", "folded"]

ANCESTORS: Final = 3
"""How many records around a field may describe it."""
MAX_AROUND: Final = 64
"""Fields of one record that may describe it."""
MAX_SIGHTINGS: Final = 256
"""Places of one value that are looked at, the oldest first: what stands everywhere is described nowhere."""
AMBIGUOUS: Final = 2
_GLUED: Final = re.compile(r"(?<=[a-z0-9])\.(?=[A-Z][a-z]+\s)")
"""Where a sentence ends and the next one begins without a space: "our site www.x.example.They know"."""
MAX_PRINTS: Final = 1 << 16
"""Fingerprints of one context that are kept, the latest: of more than half a million letters."""


class Sighting(msgspec.Struct, frozen=True):
    """A value, whole, in a part of an item; `start` and `end` count characters of that part."""

    item: int
    part: int
    start: int
    end: int


class Prompt(msgspec.Struct, frozen=True):
    """A person's own words: whose, which item, folded, what they hold whole, and where each value stands first."""

    source: str
    item: int
    text: str
    held: Index
    first: Mapping[tuple[str, str], Sighting] = {}


class Heard:
    """What certain prompts say, as far as was found out: which words of a field, and which acts they ask for.

    A prompt never changes, so what was found out once stays true for as long as the same ones are asked.
    """

    __slots__ = ("acts", "words")

    def __init__(self) -> None:
        self.acts: dict[str, bool] = {}
        self.words: dict[str, tuple[str, ...]] = {}


class History:
    """All that one context has received."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.prompts: list[Prompt] = []
        self.advised: list[Item] = []
        self._tokens: dict[tuple[str, str], list[Sighting]] = {}
        self._wholes: dict[str, list[Sighting]] = {}
        self._records: dict[tuple[int, int], list[Part]] = {}
        self._fields: dict[str, list[tuple[int, Part]]] = {}
        self._held: dict[tuple[tuple[str, ...], str], set[str]] = {}
        self._over: list[str] = []
        self._asked: tuple[int, ...] = ()
        self._heard = Heard()
        self._blobs = False
        self._indexed = 0
        self.received: dict[int, None] = {}
        """Fingerprints of what third parties can have written, the latest last."""
        self.vouched: set[int] = set()
        """Those of what people said and servers vouch for."""
        self.foreign = False
        """Whether anything here stands in a field that no server vouches for."""
        self._amounts: list[tuple[int, Part]] = []

    def add(self, item: Item) -> None:
        """One item more. Where its values stand is found out once somebody asks: of who only speaks, never."""
        number = len(self.items)
        self.items.append(item)
        self._over.append(digest(f"{self._over[-1] if self._over else ''}\n{item.digest}".encode()))
        self._print(item)
        if item.advice:
            self.advised.append(item)
        if item.text:
            first: dict[tuple[str, str], Sighting] = {}
            for kind, value, start, end in item.parts[0].marks:
                first.setdefault((kind, value), Sighting(number, 0, start, end))
            words = fold(_GLUED.sub(";", item.text))
            self.prompts.append(Prompt(item.source, number, words, index_text(item.text), first))
        self.foreign = self.foreign or not all(part.trusted for part in item.parts)

    def _index(self) -> None:
        """Find out where the values of the items stand of which nobody asked before."""
        while self._indexed < len(self.items):
            self._index_item(self._indexed, self.items[self._indexed])
            self._indexed += 1

    def _index_item(self, number: int, item: Item) -> None:
        for at, part in enumerate(item.parts):
            if part.whole:
                self._wholes.setdefault(part.whole, []).append(Sighting(number, at, 0, len(part.whole)))
            for kind, value, start, end in part.marks:
                self._blobs = self._blobs or kind == BLOB
                self._tokens.setdefault((kind, value), []).append(Sighting(number, at, start, end))
                held = self._held.setdefault((item.about, kind), set())
                if len(held) < AMBIGUOUS:
                    held.add(value)
            if part.record >= 0:
                self._records.setdefault((number, part.record), []).append(part)
                self._fields.setdefault(part.name, []).append((number, part))
                if part.trusted and any(mark[0] == Kind.NUMBER for mark in part.marks):
                    self._amounts.append((number, part))

    @property
    def amounts(self) -> list[tuple[int, Part]]:
        """Numbers that a server vouches for, in records, with their item."""
        if self._indexed < len(self.items):
            self._index()
        return self._amounts

    def _print(self, item: Item) -> None:
        if item.own:
            self.vouched.update(unpacked(item.own))
        if item.prints:
            for one in unpacked(item.prints):
                self.received.pop(one, None)
                self.received[one] = None
            for one in list(itertools.islice(self.received, max(0, len(self.received) - MAX_PRINTS))):
                del self.received[one]

    def over(self, count: int) -> str | None:
        """One digest over the first so many items, each of which it rests on; None over none."""
        return self._over[count - 1] if count > 0 else None

    def part(self, seen: Sighting) -> Part:
        return self.items[seen.item].parts[seen.part]

    def flagged(self, seen: Sighting) -> bool:
        """Whether that stands in, or within one window of, what a scan said reads like an injection."""
        found = self.items[seen.item].advice
        return any(one.kind == INJECTION and one.meets(seen.part, seen.start, seen.end) for one in found)

    def flagged_only(self, value: Value | Typed) -> bool:
        """Whether a value stands in such words, and nowhere else."""
        seen = self.sightings(value) if self.advised else []
        return bool(seen) and all(self.flagged(one) for one in seen)

    def loud(self) -> bool:
        """Whether anything that a third party can have written reads like an injection."""
        return any(one.kind == INJECTION for item in self.advised if not item.text for one in item.advice)

    def wholes(self, words: str) -> list[Sighting]:
        """The parts that are these (folded) words and nothing else."""
        if self._indexed < len(self.items):
            self._index()
        return self._wholes.get(words, [])

    def blobs(self, value: Value) -> list[Sighting]:
        """Everywhere that these bytes came along, if the value is bytes that are no text, as they came."""
        if self._indexed < len(self.items):
            self._index()
        sent = sent_blob(value) if self._blobs else None
        if sent is None:
            return []
        digest, media = sent
        return [seen for seen in self._tokens.get((BLOB, digest), ()) if media in (None, self.part(seen).name)]

    def sightings(self, value: Value | Typed) -> list[Sighting]:
        """Everywhere this value stands whole, whatever notation it is in; the oldest first."""
        if self._indexed < len(self.items):
            self._index()
        read = typed(value)
        # The first of each list: all are in this order, and a value that stands in every item must not cost that many.
        found = {*self.wholes(read.folded)[:MAX_SIGHTINGS], *self.blobs(read.value)[:MAX_SIGHTINGS]}
        readings: dict[str, set[str]] = {}
        for token in read.exact:
            readings.setdefault(str(token.kind), set()).add(token.value)
        for kind, forms in readings.items():
            if len(forms) == 1:
                found.update(self._tokens.get((kind, next(iter(forms))), [])[:MAX_SIGHTINGS])
        for one in read.exact:
            if one.kind is Kind.URL:  # an address is quoted without its scheme too
                for looser in looser_tokens(one):
                    found.update(self._tokens.get((str(looser.kind), looser.value), [])[:MAX_SIGHTINGS])
        return sorted(found, key=lambda seen: (seen.item, seen.part, seen.start, seen.end))[:MAX_SIGHTINGS]

    def record(self, number: int, record: int) -> list[Part]:
        """All fields of one record of an item."""
        if self._indexed < len(self.items):
            self._index()
        return self._records.get((number, record), [])

    def fields(self, name: str) -> list[tuple[int, Part]]:
        """All fields of that name, in records, with their item."""
        if self._indexed < len(self.items):
            self._index()
        return self._fields.get(name, [])

    def heard(self, prompts: tuple[int, ...]) -> Heard:
        """What is known of what these prompts say, and is to be remembered with it."""
        if self._asked != prompts:
            self._asked, self._heard = prompts, Heard()
        return self._heard

    def only(self, about: tuple[str, ...], kind: str) -> str | None:
        """The one value of a kind in everything that came back when this was asked for; None if there are others."""
        if self._indexed < len(self.items):
            self._index()
        held = self._held.get((about, kind), set())
        return next(iter(held)) if len(held) == 1 else None

    def around(self, number: int, part: Part) -> Iterator[Part]:
        """The other fields of a part's record, then of the records around it."""
        record = part.record if part.name else -1  # a member's name is in a list, and described by nothing (`holders`)
        for _ in range(ANCESTORS):
            if record < 0:
                return
            others = (other for other in self.record(number, record) if other.name and other.name != part.name)
            yield from itertools.islice(others, MAX_AROUND)
            record = self.items[number].parents[record]

    def is_within(self, part: Part, outer: Sighting, number: int) -> bool:
        """Whether a part of an item is in a record that is in the one of another part, near enough to be described."""
        if number != outer.item:
            return False
        record, around = part.record, self.part(outer).record
        for _ in range(ANCESTORS - 1):
            record = self.items[number].parents[record] if record >= 0 else -1
            if record == around:
                return record >= 0
        return False

    def told(self, seen: Sighting) -> str:
        """Where that is, for people."""
        return f"{self.items[seen.item].source} {self.part(seen).path}[{seen.start}:{seen.end}]"
