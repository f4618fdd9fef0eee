"""A stream's messages, each held until nothing that is still to come can reach into its text.

Decides when a message may go on and what must be taken out of it: a secret that is cut in two by a server that reports
as it goes is seen as if it had come whole. Does not decide what is taken out of one message alone (`sift`), nor whether
it may be released (the gates do, with what is left of it).

INVARIANTS
1. Messages go on in their order, each once, whole but for what was taken out; at the end of the stream nothing is left.
2. The texts of one kind of message are read as one text, in their order, and the reply's as its end.
3. What is held is bounded: by number, and by what a window keeps. Where a message cannot wait (a question, on whose
   answer the server waits), those before it go on with it, and what comes later is still read behind them: the rest of
   a secret whose beginning had to go on is taken out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from citywatch.core.content.signals import Channel, Signal
from citywatch.core.content.window import Window, close, feed, open_window
from citywatch.core.enforce.deliver import counted
from citywatch.core.enforce.sift import Ruling, leaves_of, ruled, sift, within
from citywatch.core.manifest import Delivery

MAX_HELD: Final = 256
_FRAME: Final = frozenset(("progressToken", "level", "logger", "type", "mimeType", "uri", "role", "resultType"))
"""Members of a message that stand between the texts of two, and are not read with them."""
MAX_READINGS: Final = 16
"""Messages that meet the one before them within a word and are read from their own beginning too."""
MAX_READ: Final = 1 << 20
"""Characters after which a kind's texts begin anew, so that the bounds of a window are never reached."""


Spoken = Callable[[Any], list[tuple[int, str]]]
"""The texts of a message that somebody reads, in their order, each with its number among all leaves."""


class Ready(msgspec.Struct, frozen=True):
    """A message that goes on: `token` is the caller's, `value` what is left of it; or why it may not (`withheld`).

    `known` are the places of what reaches into it from others, by leaf: for who takes it out of the whole themselves.
    """

    token: Any
    value: Any
    redacted: tuple[str, ...] = ()
    withheld: str = ""
    known: Mapping[int, Sequence[Signal]] = {}


class _Held(msgspec.Struct):
    token: Any
    kind: str
    value: Any
    places: tuple[tuple[int, int, int], ...]
    """Of each leaf: its number, where it begins in the texts of its kind, how long it is."""
    end: int
    known: dict[int, list[Signal]]


class _Reading(msgspec.Struct):
    """The texts of one kind as one text, from `begin` on: how far they were read."""

    window: Window
    begin: int

    @property
    def end(self) -> int:
        return self.begin + self.window.read

    @property
    def safe(self) -> int:
        return self.begin + self.window.safe


class Holdback:
    """One stream. `push` what comes, and pass on what `push` and `end` return."""

    def __init__(self, ruling: Ruling, spoken: Spoken | None = None) -> None:
        """`spoken` are the texts of a message that are read with those of others; by default, all but its frame's."""
        self._ruling = ruling
        self._spoken = spoken or _spoken
        self._readings: dict[str, list[_Reading]] = {}
        self._last: dict[str, str] = {}
        self._queue: deque[_Held] = deque()

    def push(self, token: Any, kind: str, value: Any, *, waits: bool = True) -> list[Ready]:
        """Take a message in. `kind` says with which others it is read as one; one that cannot wait goes on at once."""
        text = self._text_of(value)
        places = self._begin(kind, value, text)
        self._queue.append(_Held(token, kind, value, places, places[-1][1] + places[-1][2] if places else 0, {}))
        for reading in self._readings[kind]:
            reading.window, signals = feed(reading.window, text, None)
            self._note(kind, signals, reading.begin)
        # Once its first letter is settled, a reading that began with a message sees what the first one sees.
        first, *others = self._readings[kind]
        self._readings[kind] = [first, *(one for one in others if one.window.safe == 0)]
        self._last[kind] = text[-1:] or self._last.get(kind, "")
        if not waits:
            self._note_all()  # what ends here ends, as far as anybody knows who gets it now
        return self._release(everything=not waits)

    def end(self, value: Any = None) -> list[Ready]:
        """The stream is over, with this reply: everything goes on."""
        text = self._text_of(value)
        self._note_all()
        for kind, readings in self._readings.items():
            for one in readings:
                self._note(kind, close(one.window, None, text).found, one.begin)
        self._readings.clear()
        self._last.clear()
        return self._release(everything=True)

    def known(self, value: Any) -> Mapping[int, Sequence[Signal]]:
        """Where in this reply something ends that began in the stream before it, by leaf. Changes nothing."""
        found: dict[int, list[Signal]] = {}
        text, places = self._text_of(value), self._places(value, 0)
        for readings in self._readings.values():
            for one in readings:
                read = one.window.read
                for signal in close(one.window, None, text).found:
                    if signal.start < read and self._counts(signal):
                        _mark(found, signal, ((number, start + read, size) for number, start, size in places))
        return found

    def _begin(self, kind: str, value: Any, text: str) -> tuple[tuple[int, int, int], ...]:
        """Where this message's texts stand among those of its kind.

        What one message ends with and the next begins with may be two words or one: it is read as both. As two, that is
        as if the texts before had ended, and as if these were the first.
        """
        readings = self._readings.setdefault(kind, [])
        if readings and readings[0].window.read >= MAX_READ:
            for one in readings:
                self._note(kind, close(one.window, None).found, one.begin)
            readings[:] = [_Reading(open_window(Channel.DATA), readings[0].end)]
        elif not readings:
            readings.append(_Reading(open_window(Channel.DATA), 0))
        elif _goes_on(self._last.get(kind, ""), text):
            for one in readings:
                self._note(kind, close(one.window, None).found, one.begin)
            if len(readings) <= MAX_READINGS:
                readings.append(_Reading(open_window(Channel.DATA), readings[0].end))
        return self._places(value, readings[0].end)

    def _note_all(self) -> None:
        """What is found if no text goes on."""
        for kind, readings in self._readings.items():
            for one in readings:
                self._note(kind, close(one.window, None).found, one.begin)

    def _note(self, kind: str, signals: Sequence[Signal], begin: int) -> None:
        for signal in signals:
            if self._counts(signal):
                moved = msgspec.structs.replace(signal, start=signal.start + begin, end=signal.end + begin)
                for held in self._queue:
                    if held.kind == kind:
                        _mark(held.known, moved, held.places)

    def _counts(self, signal: Signal) -> bool:
        return ruled(signal, self._ruling) is not Delivery.ALLOW

    def _release(self, *, everything: bool) -> list[Ready]:
        ready: list[Ready] = []
        while self._queue and (everything or len(self._queue) > MAX_HELD or self._settled(self._queue[0])):
            held = self._queue.popleft()
            sifted = sift(held.value, self._ruling, held.known)
            ready.append(Ready(held.token, sifted.value, counted(sifted.found), sifted.withheld, held.known))
        return ready

    def _text_of(self, value: Any) -> str:
        return "".join(text for _, text in self._spoken(value))

    def _places(self, value: Any, at: int) -> tuple[tuple[int, int, int], ...]:
        found: list[tuple[int, int, int]] = []
        for number, text in self._spoken(value):
            found.append((number, at, len(text)))
            at += len(text)
        return tuple(found)

    def _settled(self, held: _Held) -> bool:
        return all(held.end <= one.safe for one in self._readings[held.kind])


def _goes_on(last: str, text: str) -> bool:
    """Whether two texts that meet here could be one word."""
    return bool(last and text) and (last.isalnum() or last == "_") and (text[0].isalnum() or text[0] == "_")


def _mark(found: dict[int, list[Signal]], signal: Signal, places: Any) -> None:
    for number, start, size in places:
        part = within(signal, start, size)
        if part is not None:
            found.setdefault(number, []).append(part)


def _spoken(value: Any) -> list[tuple[int, str]]:
    """The texts of a message that somebody reads, in their order, each with its number among all leaves."""
    leaves = enumerate(leaves_of(value))
    return [(number, leaf.text) for number, leaf in leaves if leaf.is_text and leaf.under not in _FRAME]
