"""Which text a person handed an act over to, and what it supplies thereby: "pay what the invoice 'x.pdf' says".

Decides whether a place lies in a source that a sentence of a prompt names beside the act that it asks for, and whether
the value is the only one of its kind there. That the source may be a stranger's is the point: the person said so. What
else must hold for a value to steer is `enforce.steering`'s.

INVARIANTS
1. A source is named only by all that was asked of it, or by a field that describes its record and no other, in words
   that point at a text ("in", "according to", "Bob's message"): "send Bob the bill" makes no source of Bob's letters.
2. It supplies values only to the act that is asked for in that sentence, or beside it in one that points back to it
   ("pay it", "accordingly").
3. Only what is the one of its kind there, counting all that a third party can have written: whoever adds a second one
   takes the first away. Words have no kind: they are supplied only to what can be taken back. Of a text that was cut
   nobody knows what is the one of its kind.
4. Nothing that stands in, or within one window of, what a scan said reads like an injection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Final, NamedTuple

from citywatch.core.flow.acts import speaks_of
from citywatch.core.flow.derive import as_number
from citywatch.core.flow.history import History, Sighting
from citywatch.core.flow.item import MAX_MARKS, Part
from citywatch.core.flow.mentions import bare, find_phrase, find_said, spoken_form
from citywatch.core.flow.readings import Typed
from citywatch.core.flow.tokens import Kind

MAX_SOURCES: Final = 256
"""Items of a context that are looked at, the newest first."""
MAX_PARTS: Final = 4096
NUMBERS: Final = frozenset((Kind.NUMBER,))
CALLED: Final = {
    Kind.EMAIL: ("email", "emails", "e-mail", "e-mails", "mail address", "address", "contact", "invite"),
    Kind.IBAN: ("iban", "account", "bank details", "payment details", "bill", "invoice"),
    Kind.PHONE: ("phone", "number", "mobile", "contact", "call"),
    Kind.URL: ("link", "url", "website", "page", "site"),
    Kind.HOST: ("link", "url", "website", "page", "site"),
}
"""What people call a value of that kind."""
_YEARS: Final = (Decimal(1900), Decimal(2100))
_POINTS_BACK: Final = re.compile(
    r"\b(?:it|its|he|she|him|her|his|their|this|that|these|those|them|there|then|accordingly|same|instructions?|details?|described|specified"
    r"|mentioned|says|stands)\b"
)
_DELEGATES: Final = re.compile(
    r"\b(?:according(?:ly)?|based on|instructions?|details?|as (?:described|specified|mentioned|listed|stated))\b"
)
_BEFORE: Final = (
    r"\b(?:from|by|in|on|at|of|per|see|read|check|open|follow|visit|using)\s+"
    r"(?:(?:the|this|that|my|our|his|her|their|a|an)\s+)?(?:\w+\s+)?[\"'(\[]?"
)
_AFTER: Final = (
    r"[\"')\]]?(?:'s\b|\s+(?:says|said|writes|wrote|asks|asked|names|named|recommends|proposes|suggests|wants|mentions"
    r"|describes|lists|posted|channel|file|document|page|ticket|website|inbox|is about)\b)"
)
_LOCATOR: Final = re.compile(r"[0-9./@_]")


class Scope(NamedTuple):
    """What a person pointed at: all that came back when this was asked for, or one record; and by which words."""

    item: int
    record: int
    field: str
    words: str


class Sources:
    """The sources that one prompt's sentences name for one act."""

    def __init__(
        self,
        history: History,
        sentences: Sequence[str],
        act: str,
        taken: Callable[[str, str], bool],
        only: Callable[[Part, Part], bool],
    ) -> None:
        self._history, self._sentences, self._act = history, sentences, act
        self._taken = taken
        """Whether a typed value is no candidate: the person's own, or what they wrote themselves."""
        self._only = only
        self._cut: dict[int, bool] = {}

    def supplies(self, value: Typed, kinds: frozenset[str], lasting: bool) -> tuple[Sighting, str] | None:
        """Where a named source holds this value as the one of its kind, and the words that named it."""
        for seen, scope, sentence in self._places(value):
            for token in value.exact:
                words = token.kind is Kind.NAME and not lasting  # INVARIANT: 3.
                called = token.kind in kinds and self._called(token.kind, token.value, sentence)
                if words or (called and self._candidates(scope, token.kind, token.value) == {token.value}):
                    return seen, scope.words
        return None

    def passes_on(self, value: Typed) -> tuple[Sighting, str] | None:
        """Where a link stands in a source whose words a person asked to be passed on."""
        return next(((seen, scope.words) for seen, scope, _ in self._places(value)), None)

    def numbers(self) -> Iterator[Decimal]:
        """The one number of each named source, a year aside."""
        for number in range(len(self._history.items))[-MAX_SOURCES:]:
            for scope, _ in self._scopes(number, None):
                found = self._candidates(scope, Kind.NUMBER, "")
                one = next(iter(found)) if len(found) == 1 else ""
                plain = as_number(one)
                if plain is not None and not self._history.flagged_only(one):
                    yield plain

    # -- which source ------------------------------------------------------------------------------------------------

    def _places(self, value: Typed) -> Iterator[tuple[Sighting, Scope, str]]:
        for seen in self._history.sightings(value):
            part = self._history.part(seen)
            if part.trusted or self._history.flagged(seen):  # INVARIANT: 4.
                continue
            for scope, sentence in self._scopes(seen.item, part):
                yield seen, scope, sentence

    def _scopes(self, number: int, part: Part | None) -> Iterator[tuple[Scope, str]]:
        """# INVARIANT: 1. The sentences that name this item, or the record of this part of it."""
        item = self._history.items[number]
        if item.text or self._is_cut(number):
            return
        for sentence in self._asking:
            if item.about and all(self._named(one, sentence) for one in item.about):
                yield Scope(number, -1, "", ", ".join(item.about)), sentence
            if (
                part is None
                or part.record < 0
                or not any(one.trusted for one in self._history.record(number, part.record))
            ):
                continue
            for other in self._history.around(number, part):
                if self._describes(other, sentence) and self._only(other, part):
                    yield Scope(number, part.record, other.name, other.whole), sentence

    def _is_cut(self, number: int) -> bool:
        """Whether there was more in it than is kept: then nobody knows what is the one of its kind."""
        if number not in self._cut:
            parts = self._history.items[number].parts
            marks = sum(mark[0] != Kind.NAME for part in parts for mark in part.marks)
            self._cut[number] = marks >= MAX_MARKS or len(parts) >= MAX_PARTS
        return self._cut[number]

    def _named(self, asked: str, sentence: str) -> bool:
        one = bare(asked)
        if find_said(one, sentence) >= 0:
            return _points_at(one, sentence)
        spoken = spoken_form(one)
        if spoken and find_said(spoken, sentence) >= 0:
            return True
        # Opened by its id, which the server gave to the one that the person named
        for seen in self._history.sightings(asked):
            part = self._history.part(seen)
            if part.trusted and part.record >= 0:
                for other in self._history.around(seen.item, part):
                    if self._describes(other, sentence) and self._only(other, part):
                        return True
        return False

    @staticmethod
    def _describes(other: Part, sentence: str) -> bool:
        words = other.whole
        return bool(words) and not words.isdigit() and find_said(words, sentence) >= 0 and _points_at(words, sentence)

    @cached_property
    def _asking(self) -> list[str]:
        """# INVARIANT: 2."""
        asked = [speaks_of(self._act, one) for one in self._sentences]
        found = []
        for at, sentence in enumerate(self._sentences):
            after = at + 1 < len(asked) and asked[at + 1] and _POINTS_BACK.search(self._sentences[at + 1])
            before = at > 0 and asked[at - 1] and _POINTS_BACK.search(sentence)
            if asked[at] or after or before:
                found.append(sentence)
        return found

    # -- which of its values -----------------------------------------------------------------------------------------

    def _called(self, kind: Kind, value: str, sentence: str) -> bool:
        """Whether the person spoke of a value of this kind, or of who it belongs to."""
        if kind not in CALLED:
            return True
        if any(find_phrase(one, sentence) >= 0 for one in CALLED[kind]):
            return True
        local = value.partition("@")[0] if kind is Kind.EMAIL else ""
        return any(len(one) > 2 and find_phrase(one, sentence) >= 0 for one in re.split(r"[^a-z]+", local.lower()))

    def _candidates(self, scope: Scope, kind: str, value: str) -> set[str]:
        """# INVARIANT: 3. All values of a kind that a third party can have written there, in the form of this one."""
        found: set[str] = set()
        vouched: set[str] = set()
        for part in self._parts(scope):
            values = {one for of, one, _, _ in part.marks if of == kind}
            # Who stands in a server's list is a rival to whoever a stranger writes: a list of addresses clears no text
            (vouched if part.trusted and part.name else found).update(values)
        found = {one for one in found - vouched if not self._taken(kind, one)}
        if kind == Kind.ID and not value.isdigit():
            found = {one for one in found if not one.isdigit()}  # a year or a number is no name of that form
        elif kind in (Kind.ID, Kind.NUMBER):
            found = {one for one in found if not _is_year(one)} or found
        return found

    def _parts(self, scope: Scope) -> Iterator[Part]:
        if scope.record >= 0:
            yield from (one for one in self._history.record(scope.item, scope.record) if one.name != scope.field)
            return
        about = self._history.items[scope.item].about
        for item in self._history.items:
            if item.about == about and not item.text:
                yield from item.parts


def _points_at(words: str, sentence: str) -> bool:
    """Whether a sentence speaks of this as of a text: by a name that only a text has, or by the words around it."""
    if _LOCATOR.search(words) or _DELEGATES.search(sentence):
        return True
    one = re.escape(words)
    return re.search(f"{_BEFORE}{one}|{one}{_AFTER}", sentence) is not None


def _is_year(number: str) -> bool:
    value = as_number(number)
    return value is not None and value == value.to_integral_value() and _YEARS[0] <= value <= _YEARS[1]
