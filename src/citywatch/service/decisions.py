"""Which decisions the log holds, found again by who, where, what became of it and when: an index beside the log.

Decides nothing, and knows of each decision only what a list shows; the entry itself stays in the store. It is a fold,
kept in the memory of whoever follows the log, and begun anew by the next process.
INVARIANTS: a page and the pages after it name each matching decision once, the newest first, however much is entered
meanwhile (a cursor is a place in the log); what a person types is compared as text and is never a pattern.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from heapq import merge
from typing import Final

import msgspec

from citywatch.core.events import WOULD

SHORT: Final = 12
"""So many characters of a call's id name it, and its ticket."""
FACETS: Final = ("agent", "server", "tool", "decision", "code", "policy")
HOUSEKEEPING: Final = "housekeeping"
"""Not an act: a session opened, a list read, a notice taken note of; and nothing was refused."""
ACT: Final = "act"
WITHHELD: Final = "withheld"
_DECIDED: Final = b'"type":"decided"'
_SETTLED: Final = b'"type":"settled"'


class Glance(msgspec.Struct, frozen=True):
    """What of a decision's entry is indexed."""

    at: int
    call: str
    agent: str
    server: str
    decision: str
    name: str | None = None
    code: str | None = None
    policies: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What of a reply's entry is indexed."""

    call: str
    outcome: str
    final: bool = False
    code: str | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for: an exact value of each facet that is named, words that all have to occur, a span of time.

    `kind` is `act`, `housekeeping`, or nothing for both. `before` is the log index that a page begins below.
    """

    facets: Mapping[str, str] = {}
    words: tuple[str, ...] = ()
    kind: str = ""
    since: int = 0
    until: int = 0
    before: int = 0


class Page(msgspec.Struct, frozen=True):
    """The log indexes of matching decisions, the newest first; `next` is where the page after it begins, 0: none."""

    indexes: tuple[int, ...]
    next: int


class Decisions:
    """The index. Give `fold` every leaf, in order."""

    def __init__(self, *, asks: bool = True) -> None:
        """Without `asks`: what a person was asked is not in it."""
        self._asks = asks
        self._indexes: array[int] = array("Q")
        self._times: array[int] = array("Q")
        self._calls: array[int] = array("Q")
        self._settled: array[int] = array("Q")
        self._postings: dict[tuple[str, str], array[int]] = {}
        self._open: dict[str, int] = {}
        self._glance = msgspec.json.Decoder(Glance)
        self._outcome = msgspec.json.Decoder(Outcome)

    def __len__(self) -> int:
        return len(self._indexes)

    def fold(self, index: int, leaf: bytes) -> None:
        try:
            if _DECIDED in leaf:
                self._decided(index, self._glance.decode(leaf))
            elif _SETTLED in leaf:
                self._reply(index, self._outcome.decode(leaf))
        except msgspec.DecodeError:
            return  # it is in the log all the same, and `citywatch log verify` speaks of it

    def values(self, facet: str) -> list[tuple[str, int]]:
        """Every value of a facet that occurs, with how often, in the order of their names."""
        return sorted((value, len(found)) for (name, value), found in self._postings.items() if name == facet)

    def count(self, facet: str, value: str, since: int = 0) -> int:
        """How many decisions have this value, of those no older than an instant."""
        found = self._postings.get((facet, value), array("Q"))
        return len(found) - bisect_left(found, self._first(since))

    def both(self, one: tuple[str, str], other: tuple[str, str], since: int = 0) -> int:
        """How many have both values, of those no older than an instant."""
        first, second = (self._postings.get(key, array("Q")) for key in (one, other))
        start = self._first(since)
        few, many = sorted((first[bisect_left(first, start) :], second[bisect_left(second, start) :]), key=len)
        return sum(_holds(many, number) for number in few)

    def find(self, call: str) -> int | None:
        """The log index of the decision of a call, by its id or the beginning that names its ticket."""
        try:
            return self._indexes[self._calls.index(_fingerprint(call))]
        except ValueError:
            return None

    def reply(self, index: int) -> int | None:
        """The log index of the last message of the reply to the call decided at that index."""
        number = bisect_left(self._indexes, index)
        if number == len(self._indexes) or self._indexes[number] != index:
            return None
        return self._settled[number] or None

    def page(self, wanted: Wanted, length: int) -> Page:
        """The newest `length` that match, below the cursor if there is one."""
        lists = self._lists(wanted)
        stop = bisect_left(self._indexes, wanted.before) if wanted.before else len(self._indexes)
        if wanted.until:
            stop = min(stop, bisect_right(self._times, wanted.until))
        found: list[int] = []
        for number in self._candidates(lists, self._first(wanted.since), stop):
            if len(found) == length:
                return Page(tuple(found), found[-1])
            found.append(self._indexes[number])
        return Page(tuple(found), 0)

    def _decided(self, index: int, one: Glance) -> None:
        if one.decision == "ask" and not self._asks:
            return
        verdict = one.decision.removeprefix(WOULD)
        number = len(self._indexes)
        self._indexes.append(index)
        # The entries' order is that of the commits; clocks of several processes may differ by a little.
        self._times.append(max(one.at, self._times[-1] if number else 0))
        self._calls.append(_fingerprint(one.call))
        self._settled.append(0)
        quiet = one.name is None and verdict == "allow"
        told = [("agent", one.agent), ("server", one.server), ("decision", verdict)]
        told.append(("kind", HOUSEKEEPING if quiet else ACT))
        if one.name is not None:
            told.append(("tool", f"{one.server}/{one.name}"))
        if one.code is not None:
            told.append(("code", one.code))
        for key in (*told, *(("policy", name) for name in dict.fromkeys(one.policies))):
            self._post(key, number)
        self._open[one.call] = number

    def _reply(self, index: int, one: Outcome) -> None:
        number = self._open.get(one.call)
        if number is None:
            return
        self._settled[number] = index
        if one.outcome == WITHHELD:
            self._post(("decision", WITHHELD), number)
            if one.code is not None:
                self._post(("code", one.code), number)
        if one.final:
            del self._open[one.call]

    def _post(self, key: tuple[str, str], number: int) -> None:
        found = self._postings.setdefault(key, array("Q"))
        if not found or found[-1] < number:
            found.append(number)
        elif not _holds(found, number):
            found.insert(bisect_left(found, number), number)

    def _first(self, since: int) -> int:
        return bisect_left(self._times, since) if since else 0

    def _lists(self, wanted: Wanted) -> list[list[array[int]]]:
        """One list of postings for each condition: a decision has to be in one of each."""
        lists = [[self._postings.get((facet, value), array("Q"))] for facet, value in wanted.facets.items() if value]
        if wanted.kind:
            lists.append([self._postings.get(("kind", wanted.kind), array("Q"))])
        for word in wanted.words:
            lists.append(self._saying(word))
        return lists

    def _saying(self, word: str) -> list[array[int]]:
        plain = word.casefold()
        found = [
            posting for (name, value), posting in self._postings.items() if name != "kind" and plain in value.casefold()
        ]
        if len(word) >= SHORT:
            mark = _fingerprint(word)
            calls = array("Q", (number for number, call in enumerate(self._calls) if call == mark))
            found.append(calls)
        return found

    def _candidates(self, lists: Sequence[Sequence[array[int]]], start: int, stop: int) -> Iterator[int]:
        """Numbers from `stop` down to `start` that are in one posting of each list."""
        if not lists:
            yield from range(stop - 1, start - 1, -1)
            return
        few, *rest = sorted(lists, key=lambda postings: sum(map(len, postings)))
        last = -1
        for number in merge(*(_down(posting, start, stop) for posting in few), reverse=True):
            if number != last and all(any(_holds(one, number) for one in postings) for postings in rest):
                yield number
            last = number


def _down(posting: array[int], start: int, stop: int) -> Iterator[int]:
    for place in range(bisect_left(posting, stop) - 1, -1, -1):
        if posting[place] < start:
            return
        yield posting[place]


def _holds(posting: array[int], number: int) -> bool:
    place = bisect_left(posting, number)
    return place < len(posting) and posting[place] == number


def _fingerprint(call: str) -> int:
    """Eight bytes for a call's id: a million of them are kept, and a list of whole ids would be ten times as long."""
    return int.from_bytes(blake2b(call[:SHORT].encode("utf-8", "replace"), digest_size=8).digest())
