"""Who supplied a value: a person in so many words, a record that a person described, a source that they named for it.

Decides what the people who may steer an act have said of a value; whether that lets it through is `enforce.steering`'s.
One-sided: only a whole typed token, a whole phrase of a prompt or a whole field raises; whatever merely overlaps, or is
found nowhere, raises nothing.

INVARIANTS
1. A prompt counts only if its principal may steer the act.
2. A record counts as the one a person meant only if no other record carries the same words under the same name with
   another value.
3. A named source supplies a value only if it holds exactly one of its kind: an attacker's own makes it ambiguous.
4. A source is named only if a person said all that was asked of it; a record counts only if a server vouches for
   something in it: a stranger's page that looks like a record is none.
5. What was looked up links the one record that was found to an act only if it is the name of something, and stands
   where the person asked for the act: any word of a prompt finds something.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Final

from citywatch.core.flow.acts import asks_for_anything, hands_over, mentions, speaks_of, speaks_of_all
from citywatch.core.flow.derive import as_number
from citywatch.core.flow.extremes import SUPERLATIVES, is_extreme
from citywatch.core.flow.history import History, Prompt, Sighting, Value
from citywatch.core.flow.index import met
from citywatch.core.flow.item import Item, Mark, Part
from citywatch.core.flow.mentions import (
    LEAST_WORDS,
    bare,
    find_marked,
    find_phrase,
    find_said,
    whole_words,
    without,
)
from citywatch.core.flow.readings import Typed, typed
from citywatch.core.flow.tokens import Kind, Token, find_tokens, parted_tokens
from citywatch.core.flow.whom import NO_NOUNS, leaves_open, proper_part, speaks_of_several

LEAST_DIGITS: Final = 4
LEAST_MENTION: Final = 5
COUNTED: Final = frozenset((Kind.NUMBER, Kind.MONEY, Kind.DATE, Kind.TIME))
"""Kinds whose readings are all there is to a value; words do not come into it."""
CALLED: Final[Mapping[str, tuple[str, ...]]] = {
    Kind.EMAIL: ("email", "e-mail", "mail address", "contact"),
    Kind.IBAN: ("iban", "account", "bank details", "payment details", "bill", "invoice"),
    Kind.PHONE: ("phone", "number", "mobile", "contact"),
    Kind.URL: ("link", "url", "website", "page", "site"),
    Kind.HOST: ("link", "url", "website", "page", "site"),
}
"""What people call a value of that kind."""
_ADDRESSES: Final = frozenset((Kind.URL, Kind.HOST))
_LINKS: Final = ("link", "links", "url", "urls")
TELLING: Final = frozenset((Kind.EMAIL, Kind.URL, Kind.IBAN, Kind.PHONE))
"""The kinds of token that single a record out when a person wrote them."""
_NAME, _DATE = Kind.NAME, Kind.DATE  # bound once: up to Python 3.11 each look-up runs code of the class
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|\n")
_PERCENT: Final = re.compile(r"(?<![0-9.])([0-9]{1,15}(?:\.[0-9]{1,15})?) ?%")
MAX_TWINS: Final = 4096
"""Fields of one name, or of one value, that are compared: of more, no one is the one that a person meant."""
MAX_SENTENCES: Final = 512


class Provenance:
    """One context's history, asked about one act. `steers` says whether an item of that source may steer it.

    `counts` says of a prompt whether it still does.
    """

    def __init__(self, history: History, steers: Callable[[str], bool], counts: Callable[[Item], bool]) -> None:
        self._history = history
        self.prompts = [
            prompt
            for prompt in history.prompts
            if steers(prompt.source) and counts(history.items[prompt.item])  # INVARIANT: 1
        ]
        """What the people who may steer the act said, as far as it counts."""
        self._known: dict[str, bool] = {}
        self._heard = history.heard(tuple([prompt.item for prompt in self.prompts]))
        self._values: dict[tuple[str, str, str], set[str]] = {}
        self._asking: dict[str, list[str]] = {}

    @cached_property
    def sentences(self) -> list[str]:
        return list(itertools.islice(self._split(), MAX_SENTENCES))

    @cached_property
    def _superlatives(self) -> list[str]:
        return [one for one in SUPERLATIVES if self._said(one)]

    @cached_property
    def _names(self) -> set[str]:
        texts = (self._history.items[prompt.item].text for prompt in self.prompts)
        return {token.value for text in texts for token in find_tokens(text)}

    @cached_property
    def _proper(self) -> list[str]:
        """What people wrote as a name: the names of files, of days and of months, and words at the head aside."""
        texts = [self._history.items[prompt.item].text for prompt in self.prompts]
        names = {token.value for text in texts for token in find_tokens(text) if token.kind is Kind.NAME}
        return sorted(filter(None, map(proper_part, names)))

    def named(self, value: Value | Typed, kinds: frozenset[str], path: str) -> Sighting | None:
        """Where a person wrote this value: as a whole token of these kinds, or as a phrase; of an instant, its day.

        A short number is the name of nothing by itself (a list in a prompt is numbered): it must stand behind `id`,
        `no`, `#`, or the noun with which the argument's path begins.
        """
        read = typed(value)
        words, counted = read.folded, not kinds.isdisjoint(COUNTED)
        if words.isdigit() and len(words) < LEAST_DIGITS and not counted:
            noun = path.partition("[")[0].partition(".")[0].partition("_")[0].lower()
            marked = ((prompt, find_marked(words, noun, prompt.text)) for prompt in self.prompts)
            return next((Sighting(one.item, 0, at, at + len(words)) for one, at in marked if at >= 0), None)
        for prompt in self.prompts:
            for form in (read,) if _DATE not in kinds else _forms(read):
                found = met(form, prompt.held)
                for token in found:
                    if token.kind in kinds or (token.kind is _NAME and not counted):
                        return self._place(prompt, found, words)
            if not counted and (at := find_said(words, prompt.text)) >= 0:
                return Sighting(prompt.item, 0, at, at + len(words))
        return None

    def named_at(self, value: Typed, kinds: frozenset[str], path: str) -> str | None:
        """Where that is, for people; what these prompts say of a value is looked for once (`Typed.said`)."""
        said = value.said(self._heard)
        found: str | None = said.get(kinds, "")
        if found == "":
            seen = self.named(value, kinds, path)
            found = None if seen is None else self._history.told(seen)
            if len(value.folded) >= LEAST_DIGITS or not value.folded.isdigit():  # or it depends on the path
                said[kinds] = found
        return found

    def linked(self, value: Value | Typed, act: str | None = None) -> tuple[Sighting, str] | None:
        """A field in which the server vouches for this value, of the one record that a person described; and the words.

        "Delete the file 'plan.docx'": the record with that name has the id. Or a person's own words were looked up, and
        one record was found; or they said "the largest", and this one is. Two records of one description and other ids
        are ambiguous, and count as none. What was looked up for an `act` (that cannot be taken back) must stand where
        the person asked for it.
        """
        for seen in self._history.sightings(value):
            part = self._history.part(seen)
            if not part.trusted or part.record < 0:
                continue
            for other in self._history.around(seen.item, part):
                if self._describes(other, part) and self.only(other, part):
                    return seen, other.whole
            item = self._history.items[seen.item]
            asked = self._looked_up(item, act) or next(
                (one for one in self._superlatives if is_extreme(one, item, part)), None
            )
            if asked is not None:
                return seen, asked
        return None

    def endorsed(self, value: Value | Typed, kinds: frozenset[str]) -> tuple[Sighting, str] | None:
        """A source from which a person asked for such a value to be taken, and which holds just one of its kind.

        "Her e-mail is on www.dora.example": what that page says, if it says one address; and "the participants of the
        'Kick-off' event": the field of that name, of the one record so described.
        """
        for seen in self._history.sightings(value):
            item, part = self._history.items[seen.item], self._history.part(seen)
            for sentence in self.sentences:
                # INVARIANT: 4. All that was asked for, or a hijacked agent would add a word of the prompt to a question
                # of its own and call the answer the source that was named.
                named = bool(item.about) and all(find_said(bare(one), sentence) >= 0 for one in item.about)
                if named and self._one_of_kind(item, value, kinds, sentence):
                    return seen, ", ".join(item.about)
                if not self._vouched(seen.item, part) or not _names_field(part.name, sentence):
                    continue
                for other in self._history.around(seen.item, part):
                    if find_said(other.whole, sentence) >= 0 and self.only(other, part):
                        return seen, f"{part.name} of {other.whole}"
        return None

    def wrote(self, kind: str, value: str) -> bool:
        """Whether a person wrote this typed value."""
        return any((kind, value) in prompt.held.tokens for prompt in self.prompts)

    def speak_of(self, act: str) -> bool:
        """Whether a person's words ask for what a tool of this name does."""
        spoken = self._heard.acts.get(act)
        if spoken is None:
            spoken = self._heard.acts[act] = any(speaks_of(act, prompt.text) for prompt in self.prompts)
        return spoken

    def asks_for_anything(self, item: int) -> bool:
        """Whether the person's words that are this item ask for something, in verbs that are known here."""
        return any(asks_for_anything(prompt.text) for prompt in self.prompts if prompt.item == item)

    def leave_open(self, act: str, kinds: Sequence[str], aside: str = "") -> bool:
        """Whether a person asked for an act and left open to whom: they called nobody by name, or not the only one.

        They spoke of several, or of some one by what such are called (`kinds`). `aside` is what it is about, and says
        nothing of people: "send the team meeting minutes to Bob" calls Bob, and nobody else.
        """
        asked = [without(aside, one) for one in self.where_asked(act)]
        nouns = [kind for kind in kinds if kind not in NO_NOUNS]  # an argument that is called `to` leaves nobody open
        open_ = any(leaves_open(one) or any(mentions(one, kind) for kind in nouns) for one in asked)
        return open_ or not self.names_said(act, aside)

    def names_said(self, act: str, aside: str = "") -> list[str]:
        """Who and what a person called by a proper name where they asked for an act."""
        said = "\n".join(without(aside, one) for one in self.where_asked(act))  # no name has a line's end in it
        return [one for one in self._proper if find_phrase(one, said) >= 0]

    def asking(self, act: str, kinds: Sequence[str] = ()) -> list[str]:
        """The sentences that say to whom: those that ask for an act or lead up to it, and those with one of `kinds`."""
        called = [one for one in self.sentences if any(mentions(one, kind) for kind in kinds)]
        return [one for one in (*self.where_asked(act), *called) if not speaks_of_several(one)]

    def hand_over(self) -> bool:
        """Whether a person left it to a text which acts there are."""
        return any(hands_over(prompt.text) for prompt in self.prompts)

    def speak_of_all(self, act: str) -> bool:
        """Whether a person's words ask for it and say what it is done to."""
        return any(speaks_of_all(act, prompt.text) for prompt in self.prompts)

    def numbers(self) -> tuple[list[Decimal], list[Decimal]]:
        """Amounts that people gave or whose record they spoke of, and the percentages that they gave."""
        given: list[Decimal] = []
        percents: list[Decimal] = []
        for prompt in self.prompts:
            given += _numbers(self._history.items[prompt.item].parts[0].marks)
            percents += [one for hit in _PERCENT.findall(prompt.text) if (one := as_number(hit)) is not None]
        amounts = self._history.amounts if len(self._history.amounts) <= MAX_TWINS else []
        for number, part in amounts:
            if any(self._mentioned(other, part) for other in self._history.around(number, part)):
                given += _numbers(part.marks)
        return given, percents

    # -- what people said --------------------------------------------------------------------------------------------

    def _split(self) -> Iterator[str]:
        for prompt in self.prompts:
            yield from _SENTENCE.split(prompt.text)

    @cached_property
    def _runs(self) -> frozenset[str]:
        return frozenset(one for prompt in self.prompts for one in whole_words(prompt.text))

    def _said(self, words: str) -> bool:
        if words.isalnum():
            return words in self._runs
        if words not in self._known:
            self._known[words] = any(find_said(words, prompt.text) >= 0 for prompt in self.prompts)
        return self._known[words]

    def _place(self, prompt: Prompt, found: tuple[Token, ...], words: str) -> Sighting:
        """Where to point people to."""
        stand = [seen for token in found if (seen := prompt.first.get((token.kind, token.value)))]
        if stand:
            return stand[0] if len(stand) == 1 else min(stand, key=_start)
        at = max(find_said(words, prompt.text), 0)
        return Sighting(prompt.item, 0, at, at + len(words))

    # -- records -----------------------------------------------------------------------------------------------------

    def _describes(self, other: Part, part: Part) -> bool:
        """Whether a person wrote all of this field: its words, or the one telling token that it is."""
        if len(other.whole) < LEAST_WORDS or other.whole.isdigit() or other.whole == part.whole:
            return False
        if self._said(other.whole):
            return True
        telling = [mark[2] for mark in other.marks if mark[0] in TELLING and mark[3] - mark[2] == len(other.whole)]
        return bool(telling) and any(
            token.kind in TELLING for prompt in self.prompts for token in met(other.whole, prompt.held)
        )

    def _vouched(self, number: int, part: Part) -> bool:
        """Whether the server vouches for anything in this record, its key at least."""
        return part.record >= 0 and any(one.trusted for one in self._history.record(number, part.record))

    def only(self, other: Part, part: Part) -> bool:
        """# INVARIANT: 2."""
        twins = self._history.wholes(other.whole)
        inner = self._history.fields(part.name) if other.record != part.record else []
        if len(twins) > MAX_TWINS or len(inner) > MAX_TWINS:
            return False
        for seen in twins:
            twin = self._history.part(seen)
            if twin.name != other.name or twin.record < 0:
                continue
            fields = [one.whole for one in self._history.record(seen.item, twin.record) if one.name == part.name]
            fields += [one.whole for number, one in inner if self._history.is_within(one, seen, number)]
            if fields and part.whole not in fields:
                return False
        return True

    def _looked_up(self, item: Item, act: str | None) -> str | None:
        """What was asked for, if a person said all of it and exactly one record was found.

        # INVARIANT: 5. Any words of a prompt can be looked up, and find something.
        """
        if item.parents.count(-1) != 1 or not item.about or not all(self._said(one) for one in item.about):
            return None
        if act is not None and not all(self._singles_out(one, act) for one in item.about):
            return None
        return ", ".join(item.about)

    def _singles_out(self, words: str, act: str) -> bool:
        """Whether a person said this where they asked for the act, or just before, and as the name of something."""
        return self.is_telling(words) and any(find_said(words, one) >= 0 for one in self.where_asked(act))

    def where_asked(self, act: str) -> list[str]:
        """The sentences that ask for an act, and those right before them."""
        if act not in self._asking:
            spoken = [speaks_of(act, one) for one in self.sentences]
            after = [*spoken[1:], False]
            pairs = zip(self.sentences, spoken, after, strict=True)
            self._asking[act] = [one for one, here, next_ in pairs if here or next_]
        return self._asking[act]

    def is_telling(self, words: str) -> bool:
        """Whether people wrote this as a name: in quotes or capitals, as a typed value, or in two words or more."""
        if len([one for one in words.split() if len(one) >= LEAST_DIGITS]) > 1:
            return True
        return any(token.value in self._names for token in typed(words).exact)

    def _one_of_kind(self, item: Item, value: Value | Typed, kinds: frozenset[str], sentence: str) -> bool:
        """# INVARIANT: 3."""
        for token in typed(value).exact:
            called = CALLED.get(token.kind, ()) if token.kind in kinds else ()
            if token.kind in _ADDRESSES and any(
                one.kind in _ADDRESSES for asked in item.about for one in typed(asked).exact
            ):
                called = _LINKS  # `website` is what the person calls the source itself
            if not any(find_phrase(one, sentence) >= 0 for one in called):
                continue
            if self._history.only(item.about, token.kind) == token.value:
                return True
        return False

    def _mentioned(self, other: Part, part: Part) -> bool:
        """Whether a person said a word of this field, or all of it, and all records with it agree on the value."""
        said = self._heard.words.get(other.whole)
        if said is None:
            words = [other.whole, *(one for one in other.whole.split() if len(one) >= LEAST_MENTION)]
            said = self._heard.words[other.whole] = tuple(
                [one for one in words if not one.isdigit() and self._said(one)]
            )
        return any(self._by_word(other.name, part.name, one) == {part.whole} for one in said) if said else False

    def _by_word(self, described: str, asked: str, word: str) -> set[str]:
        """What the fields `asked` hold of all records whose field `described` has this word."""
        if (described, asked, word) not in self._values:
            fields = self._history.fields(described)
            self._values[described, asked, word] = {
                one.whole
                for number, other in (fields if len(fields) <= MAX_TWINS else ())
                if find_phrase(word, other.whole) >= 0
                for one in self._history.record(number, other.record)
                if one.name == asked
            }
        return self._values[described, asked, word]


def _start(seen: Sighting) -> tuple[int, int]:
    return seen.start, seen.end


def _forms(read: Typed) -> Iterator[Value | Typed]:
    """The value itself, and its day."""
    yield read
    yield from _days(read)


def _days(read: Typed) -> Iterator[str]:
    """The day of an instant, and the same without its year, which people leave out."""
    if not isinstance(read.value, str):
        return
    found = {token.value[:10] for token in read.exact if token.kind is Kind.DATE}
    found |= {token.value for parts in parted_tokens(read.exact) for token in parts if token.kind is Kind.DATE}
    yield from (day for day in found if len(day) == len("2024-05-26"))


def _numbers(marks: Iterable[Mark]) -> list[Decimal]:
    return [one for mark in marks if mark[0] == Kind.NUMBER and (one := as_number(mark[1])) is not None]


def _names_field(name: str, sentence: str) -> bool:
    """Whether people's words say the name of a field, in the singular or the plural."""
    words = name.strip("_").replace("_", " ").lower()
    forms = (words, words.removesuffix("s"), f"{words}s")
    return len(words) >= LEAST_MENTION and any(find_phrase(one, sentence) >= 0 for one in forms)
