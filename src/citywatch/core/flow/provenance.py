"""Where a value comes from: the items of a context in which it stands whole, and whether a person named it.

Decides what was seen where; whether that entitles a value to steer an act is `enforce.steering`'s. One-sided: a value
counts as named or as linked only if a whole typed token, a whole phrase of a prompt or a whole field says so; whatever
merely overlaps, or is found nowhere, raises nothing.

INVARIANTS: `1` in `100` is not a sighting; a prompt counts only if its principal may steer the act; a record counts as
the one a person meant only if no other record carries the same words under the same name with another value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from citywatch.core.flow.derive import as_number
from citywatch.core.flow.fold import fold
from citywatch.core.flow.item import Item, Mark, Part
from citywatch.core.flow.tokens import find_tokens, whole_tokens

Value = str | int | float | bool
Steers = Callable[[str], bool]
"""Whether an item of this source may steer the act in question."""

LEAST_WORDS: Final = 3
"""Fewer characters than this name nothing: a status `ok`, a flag `a`."""
LEAST_DIGITS: Final = 4
COUNTED: Final = frozenset(("number", "money", "date", "time"))
"""Kinds whose readings are all there is to a value; words do not come into it."""
LEAST_MENTION: Final = 5
CALLED: Final[Mapping[str, tuple[str, ...]]] = {
    "email": ("email", "e-mail", "mail address", "contact"),
    "iban": ("iban", "account", "bank details", "payment details", "bill", "invoice"),
    "phone": ("phone", "number", "mobile", "contact"),
    "url": ("link", "url", "website", "page", "site"),
    "host": ("link", "url", "website", "page", "site"),
}
"""What people call a value of that kind."""
TELLING: Final = frozenset(("email", "url", "iban", "phone"))
"""The kinds of token that single a record out when a person wrote them."""
ANCESTORS: Final = 3


class Sighting(msgspec.Struct, frozen=True):
    """A value, whole, in a part of an item; `start` and `end` count characters of that part."""

    item: int
    part: int
    start: int
    end: int


class Index:
    """The items of one context, in order, and where each token and each short value stands. Only ever grows."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._tokens: dict[tuple[str, str], list[Sighting]] = {}
        self._wholes: dict[str, list[Sighting]] = {}
        self._prompts: list[int] = []

    def add(self, item: Item) -> None:
        number = len(self.items)
        self.items.append(item)
        if item.text:
            self._prompts.append(number)
        for at, part in enumerate(item.parts):
            if part.whole:
                self._wholes.setdefault(part.whole, []).append(Sighting(number, at, 0, len(part.whole)))
            for kind, value, start, end in part.marks:
                self._tokens.setdefault((kind, value), []).append(Sighting(number, at, start, end))

    def part(self, seen: Sighting) -> Part:
        return self.items[seen.item].parts[seen.part]

    def sightings(self, value: Value) -> list[Sighting]:
        """Everywhere this value stands whole, whatever notation it is in; the oldest first."""
        found = set(self._wholes.get(_folded(value), ()))
        for token in whole_tokens(value):
            found.update(self._tokens.get((str(token.kind), token.value), ()))
        return sorted(found, key=lambda seen: (seen.item, seen.part, seen.start))

    def named(self, value: Value, kinds: frozenset[str], noun: str, steers: Steers) -> Sighting | None:
        """Where a person who may steer the act wrote this value: as a whole token of these kinds, or as a phrase.

        A short number is the name of nothing by itself (a list in a prompt is numbered): it must stand behind `noun`,
        `id`, `no` or `#`.
        """
        words = _folded(value)
        short = words.isdigit() and len(words) < LEAST_DIGITS and not kinds & COUNTED
        marks = _wanted(value, kinds)
        for number in self._prompts:
            item = self.items[number]
            if not steers(item.source):
                continue
            if short:
                at = find_marked(words, noun, item.text)
            else:
                found = _all_marks(marks, item.parts[0].marks)
                if found is not None:
                    return Sighting(number, 0, *found)
                at = -1 if kinds & COUNTED else find_phrase(words, item.text)
            if at >= 0:
                return Sighting(number, 0, at, at + len(words))
        return None

    def linked(self, value: Value, steers: Steers) -> tuple[Sighting, str] | None:
        """A field in which the server vouches for this value, of the one record that a person described; and the words.

        "Delete the file 'plan.docx'": the record with that name has the id. Or a person's own words were looked up, and
        one record was found. Two records of one description and other ids are ambiguous, and count as none.
        """
        for seen in self.sightings(value):
            part = self.part(seen)
            if not part.trusted or part.record < 0:
                continue
            for other in self._around(seen.item, part):
                words = self._description(other, part, steers)
                if words is not None and self._only(other, part, words):
                    return seen, words
            asked = self._looked_up(self.items[seen.item], steers)
            if asked is not None:
                return seen, asked
        return None

    def endorsed(self, value: Value, kinds: frozenset[str], steers: Steers) -> tuple[Sighting, str] | None:
        """A source from which a person asked for such a value to be taken, and which holds just one of its kind.

        "Her e-mail is on www.dora.example": what that page says, if it says one address; and "the participants of the
        'Kick-off' event": the field of that name, of the one record so described.
        """
        for seen in self.sightings(value):
            item, part = self.items[seen.item], self.part(seen)
            for sentence in self._sentences(steers):
                source = next((one for one in item.about if find_phrase(one, sentence) >= 0), None)
                if source is not None and self._one_of_kind(item, seen, value, kinds, sentence):
                    return seen, source
                if part.record >= 0 and part.whole and _names_field(part.name, sentence):
                    for other in self._around(seen.item, part):
                        if find_phrase(other.whole, sentence) >= 0 and self._only(other, part, other.whole):
                            return seen, f"{part.name} of {other.whole}"
        return None

    def spoken(self, stem: str, steers: Steers) -> bool:
        """Whether a person's words hold a word that begins like this."""
        return any(re.search(rf"\b{re.escape(stem)}", text) is not None for text in self._texts(steers))

    def numbers(self, steers: Steers) -> tuple[list[Decimal], list[Decimal]]:
        """Amounts that people gave or whose record they described, and the percentages that they named."""
        given: list[Decimal] = []
        percents: list[Decimal] = []
        for number in self._prompts:
            item = self.items[number]
            if steers(item.source):
                given += _numbers(item.parts[0].marks)
                percents += [one for hit in _PERCENT.findall(item.text) if (one := as_number(hit)) is not None]
        for number, item in enumerate(self.items):
            for part in item.parts:
                found = _numbers(part.marks) if part.trusted and part.record >= 0 else []
                if found and any(self._mentioned(other, part, steers) for other in self._around(number, part)):
                    given += found
        return given, percents

    def _mentioned(self, other: Part, part: Part, steers: Steers) -> bool:
        """Whether a person said a word of this field, or all of it, and all records with it agree on the value."""
        words = [one for one in (other.whole, *other.whole.split()) if len(one) >= LEAST_MENTION and not one.isdigit()]
        said = [one for one in words if any(find_phrase(one, text) >= 0 for text in self._texts(steers))]
        return any(self._by_word(other.name, part.name, one) == {part.whole} for one in said)

    def _by_word(self, described: str, asked: str, word: str) -> set[str]:
        """What the fields `asked` hold of all records whose field `described` has this word."""
        return {
            one.whole
            for item in self.items
            for other in item.parts
            if other.name == described and other.record >= 0 and find_phrase(word, other.whole) >= 0
            for one in item.parts
            if one.record == other.record and one.name == asked
        }

    def _texts(self, steers: Steers) -> Iterator[str]:
        for number in self._prompts:
            if steers(self.items[number].source):
                yield self.items[number].text

    def _sentences(self, steers: Steers) -> Iterator[str]:
        for text in self._texts(steers):
            yield from _SENTENCE.split(text)

    def _looked_up(self, item: Item, steers: Steers) -> str | None:
        """What was asked for, if a person named all of it and exactly one record was found."""
        if item.parents.count(-1) != 1 or not item.about:
            return None
        for one in item.about:
            if not any(find_phrase(one, text) >= 0 for text in self._texts(steers)):
                return None
        return ", ".join(item.about)

    def _one_of_kind(self, item: Item, seen: Sighting, value: Value, kinds: frozenset[str], sentence: str) -> bool:
        for token in whole_tokens(value):
            kind = str(token.kind)
            if kind not in kinds or not any(find_phrase(word, sentence) >= 0 for word in CALLED.get(kind, ())):
                continue
            alike = {
                mark[1]
                for one in self.items
                if one.about == item.about
                for part in one.parts
                for mark in part.marks
                if mark[0] == kind
            }
            if alike == {token.value}:
                return True
        return False

    def _around(self, number: int, part: Part) -> Iterator[Part]:
        """The other fields of the record, then of the records around it."""
        item = self.items[number]
        record = part.record
        for _ in range(ANCESTORS):
            if record < 0:
                return
            yield from (other for other in item.parts if other.record == record and other.name != part.name)
            record = item.parents[record]

    def _description(self, other: Part, part: Part, steers: Steers) -> str | None:
        if len(other.whole) >= LEAST_WORDS and not other.whole.isdigit() and other.whole != part.whole:
            for number in self._prompts:
                if steers(self.items[number].source) and find_phrase(other.whole, self.items[number].text) >= 0:
                    return other.whole
        for kind, form, start, end in other.marks:
            if kind in TELLING and end - start == len(other.whole):
                for number in self._prompts:
                    prompt = self.items[number]
                    if steers(prompt.source) and any(mark[:2] == (kind, form) for mark in prompt.parts[0].marks):
                        return other.whole
        return None

    def _only(self, other: Part, part: Part, words: str) -> bool:
        """Whether every record with these words under that name has this very value in the field."""
        for seen in self._wholes.get(words, ()):
            twin = self.part(seen)
            if twin.name != other.name or twin.record < 0:
                continue
            fields = [
                one.whole for one in self.items[seen.item].parts if one.record == twin.record and one.name == part.name
            ]
            if fields and part.whole not in fields:
                return False
        return True


_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|\n")
_PERCENT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%")


def _numbers(marks: Iterable[Mark]) -> list[Decimal]:
    return [one for mark in marks if mark[0] == "number" and (one := as_number(mark[1])) is not None]


def _names_field(name: str, sentence: str) -> bool:
    """Whether people's words say the name of a field, in the singular or the plural."""
    words = name.strip("_").replace("_", " ").lower()
    return len(words) >= LEAST_MENTION and any(
        find_phrase(one, sentence) >= 0 for one in (words, words.removesuffix("s"), f"{words}s")
    )


def find_marked(digits: str, noun: str, text: str) -> int:
    """Where a short number stands behind a word that makes it a name: `file 13`, `id: '13'`, `#13`; -1 if nowhere."""
    word = rf"|{re.escape(noun)}" if noun else ""
    hit = re.search(rf"(?:#|\b(?:id|ids|no|nr|number{word})\b\W{{1,3}}){digits}\b", text)
    return -1 if hit is None else hit.end() - len(digits)


def _wanted(value: Value, kinds: frozenset[str]) -> tuple[frozenset[tuple[str, str]], ...]:
    """What must be found for the value to be: one reading of the whole of it; of an instant, its day."""
    whole = tuple(frozenset(((str(one.kind), one.value),)) for one in whole_tokens(value) if one.kind in kinds)
    if "time" not in kinds or not isinstance(value, str):
        return whole
    inside = {(str(one.kind), one.value) for one in find_tokens(value, names=False)}
    days = [mark for mark in inside if mark[0] == "date" and "T" not in mark[1]]
    times = [mark for mark in inside if mark[0] == "time"]
    near = [
        ("date", f"--{form[5:]}") for _, form in days if len(form) == len("2024-05-26")
    ]  # people leave the year out
    return (*whole, *(frozenset((day,)) for day in (*days, *near)), *(frozenset((one,)) for one in times if not days))


def _all_marks(wanted: tuple[frozenset[tuple[str, str]], ...], marks: Iterable[Mark]) -> tuple[int, int] | None:
    """The place of the first mark of a set that is there in full."""
    places = {(kind, form): (start, end) for kind, form, start, end in reversed(tuple(marks))}
    for together in wanted:
        if together <= places.keys():
            return min(places[one] for one in together)
    return None


def find_phrase(words: str, text: str) -> int:
    """Where `words` stand whole in `text`, both folded: no letter or digit touches either end; -1 if nowhere."""
    if len(words) < LEAST_WORDS:
        return -1
    at = text.find(words)
    while at >= 0:
        end = at + len(words)
        before = at == 0 or not (text[at - 1].isalnum() and words[0].isalnum())
        after = end == len(text) or not (text[end].isalnum() and words[-1].isalnum())
        if before and after:
            return at
        at = text.find(words, at + 1)
    return -1


def _folded(value: Value) -> str:
    return fold(value) if isinstance(value, str) else str(value)
