"""Detectors run over a text that may come in pieces, and see the same however it was cut.

Decides where a detector looks, how much it may see, and when what it saw is final; what it saw is the detector's
business (`secrets`, `personal`, `links`, `hidden`).

An *anchor* is a short pattern; around each anchor the detector judges a *neighbourhood* of fixed size, `BEHIND` before
and `ahead` after the anchor's start, and nothing else.

INVARIANTS: 1. an anchor that begins more than `REACH` before the end is the same whatever follows, since no anchor is
longer; 2. a judgement is a function of its neighbourhood, or of as much of it as `within` says, and is passed only once
that is there, or will never be; 3. what is judged goes on behind what was found. So every split of a text gives the
signals of the whole. 4. Work is bounded: `CANDIDATES` anchors and `FINDINGS` findings of each detector for one text;
the tape says when one was reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from citywatch.core.content.signals import Kind, Signal

BEHIND = 72
REACH = 72
CANDIDATES = 20_000
FINDINGS = 1_000

Found = tuple[int, int, float]
"""Start, end and score, as offsets into the neighbourhood. A score of 0: nothing, and the search goes on behind it."""
Judge = Callable[[Any, int, int], Found | None]
"""Is what stands from start to end of this neighbourhood the thing? The text is `bytes` (Latin-1) or `str`."""


class Pattern(Protocol):
    """What we use of a compiled pattern, of re2 or of a single class of `re`."""

    @property
    def pattern(self) -> Any: ...

    def search(self, text: Any, pos: int, /) -> Any: ...


class Detector(NamedTuple):
    """What one detector looks for: its anchor, how far it sees from there, and its judgement."""

    kind: Kind
    name: str
    anchor: Pattern
    judge: Judge
    ahead: int
    within: bytes = b""
    """The judgement depends on nothing behind the first character that is none of these, looking on from the anchor."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """How far one detector got: where it goes on, what it has judged and found."""

    at: int = 0
    judged: int = 0
    found: int = 0


class Tape(msgspec.Struct, frozen=True):
    """The end of a text that is not settled yet: all that comes before `base` is."""

    text: str = ""
    base: int = 0
    places: Mapping[str, Place] = {}

    @property
    def horizon(self) -> int:
        """Whatever anchor begins before this is known."""
        return max(0, self.base + len(self.text) - REACH)

    @property
    def spent(self) -> bool:
        """Did a detector reach a bound, so that the rest went unseen?"""
        return any(place.judged >= CANDIDATES or place.found >= FINDINGS for place in self.places.values())


def run(near: bytes, start: int, characters: bytes) -> int:
    """Where the run of these characters ends that begins at `start`."""
    rest = near[start:]
    return start + len(rest) - len(rest.lstrip(characters))


def varied(value: bytes, least: int = 6) -> bool:
    """Is this more than a placeholder (`xxxx`, `0000`, one that says EXAMPLE)?"""
    return len(set(value)) >= least and b"EXAMPLE" not in value.upper()


def advance(
    tape: Tape, text: Any, chosen: Iterable[Detector], closed: bool
) -> tuple[Mapping[str, Place], list[Signal], int]:
    """Let detectors look at all that is there now.

    `tape` is where they left off. `text` is what it holds with the new piece behind it, as `bytes` or `str`, one for
    each character. `chosen` are the detectors whose anchor can be in it; the others are known to have none. Returns
    their places, the signals that are final, and where the text that is still wanted begins.
    """
    before, end = tape.horizon, tape.base + len(text)
    horizon = end if closed else max(before, end - REACH)
    places = {name: Place(max(place.at, horizon), place.judged, place.found) for name, place in tape.places.items()}
    signals: list[Signal] = []
    wanted = horizon
    for detector in chosen:
        place = tape.places.get(detector.name)
        judged, found, at = (place.judged, place.found, place.at) if place else (0, 0, before)
        at = max(at, tape.base)
        ran = _run(detector, text, tape.base, Place(at, judged, found), horizon, closed, signals)
        places[detector.name] = ran
        wanted = min(wanted, ran.at)
    return places, signals, max(tape.base, wanted - BEHIND)


def _run(
    detector: Detector, text: Any, begin: int, place: Place, horizon: int, closed: bool, signals: list[Signal]
) -> Place:
    """One detector, from its place to the horizon or to a neighbourhood that is not all there yet."""
    at, judged, found = place.at - begin, place.judged, place.found
    horizon -= begin
    search, judge, ahead, within = detector.anchor.search, detector.judge, detector.ahead, detector.within
    while judged < CANDIDATES and found < FINDINGS:
        match = search(text, at)
        if match is None or match.start() >= horizon:
            break
        start, stop = match.span()
        if not closed and start + ahead > len(text) and not (within and text[stop:].lstrip(within)):
            return Place(begin + start, judged, found)  # INVARIANT 2: the rest of its neighbourhood may still come
        low = max(0, start - BEHIND)
        judged += 1
        seen = judge(text[low : start + ahead], start - low, stop - low)
        at = start + 1
        if seen is not None:
            first, last, score = seen
            if score:
                signals.append(Signal(begin + low + first, begin + low + last, detector.kind, detector.name, score))
                found += 1
            at = max(at, low + last)
    return Place(begin + max(at, horizon), judged, found)
