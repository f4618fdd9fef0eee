"""The items of one context, in order, and where each typed token and each short value stands in them.

Decides nothing; `provenance` asks. Only ever grows: an index over rows that never change. INVARIANTS: `1` in `100` is
not a sighting; a value that can be read in two ways is seen nowhere, for the tool may take the other reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from citywatch.core.flow.fold import fold
from citywatch.core.flow.index import Index, index_text
from citywatch.core.flow.item import Item, Part
from citywatch.core.flow.tokens import exact_tokens

Value = str | int | float | bool
ANCESTORS: Final = 3
"""How many records around a field may describe it."""


class Sighting(msgspec.Struct, frozen=True):
    """A value, whole, in a part of an item; `start` and `end` count characters of that part."""

    item: int
    part: int
    start: int
    end: int


class Prompt(msgspec.Struct, frozen=True):
    """A person's own words: whose, which item, folded, and what they hold whole."""

    source: str
    item: int
    text: str
    held: Index


class History:
    """All that one context has received."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.prompts: list[Prompt] = []
        self.advised: list[Item] = []
        self._tokens: dict[tuple[str, str], list[Sighting]] = {}
        self._wholes: dict[str, list[Sighting]] = {}

    def add(self, item: Item) -> None:
        number = len(self.items)
        self.items.append(item)
        if item.advice:
            self.advised.append(item)
        if item.text:
            self.prompts.append(Prompt(item.source, number, fold(item.text), index_text(item.text)))
        for at, part in enumerate(item.parts):
            if part.whole:
                self._wholes.setdefault(part.whole, []).append(Sighting(number, at, 0, len(part.whole)))
            for kind, value, start, end in part.marks:
                self._tokens.setdefault((kind, value), []).append(Sighting(number, at, start, end))

    def part(self, seen: Sighting) -> Part:
        return self.items[seen.item].parts[seen.part]

    def wholes(self, words: str) -> list[Sighting]:
        """The parts that are these (folded) words and nothing else."""
        return self._wholes.get(words, [])

    def sightings(self, value: Value) -> list[Sighting]:
        """Everywhere this value stands whole, whatever notation it is in; the oldest first."""
        found = set(self.wholes(folded(value)))
        readings: dict[str, set[str]] = {}
        for token in exact_tokens(value):
            readings.setdefault(str(token.kind), set()).add(token.value)
        for kind, forms in readings.items():
            if len(forms) == 1:
                found.update(self._tokens.get((kind, next(iter(forms))), ()))
        return sorted(found, key=lambda seen: (seen.item, seen.part, seen.start))

    def around(self, number: int, part: Part) -> Iterator[Part]:
        """The other fields of a part's record, then of the records around it."""
        item = self.items[number]
        record = part.record
        for _ in range(ANCESTORS):
            if record < 0:
                return
            yield from (other for other in item.parts if other.record == record and other.name != part.name)
            record = item.parents[record]

    def told(self, seen: Sighting) -> str:
        """Where that is, for people."""
        return f"{self.items[seen.item].source} {self.part(seen).path}[{seen.start}:{seen.end}]"


def folded(value: Value) -> str:
    return fold(value) if isinstance(value, str) else str(value)
