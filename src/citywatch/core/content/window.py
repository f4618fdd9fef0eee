"""A text that comes in pieces is scanned as if it had come whole.

Decides what is held back of a stream: the end of the text that a secret, a hidden run or a window of words may still
reach into. Decides nothing about what was seen. A `Window` is the whole state between two messages: frozen, codable as
JSON, bounded whatever was sent.

INVARIANTS: every split of a text gives the signals of the whole, `close` included; what comes before `safe` is in no
signal that is still to come; work is linear in the text, up to `LIMIT` characters for detectors and `MODEL_LIMIT` for
the model, and what lay beyond is said (`Signals.complete`, `read`, `modelled`); no str raises.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from citywatch.core.content.fold import Drop, encodable, fold
from citywatch.core.content.hidden import CONCEALED, HIDDEN
from citywatch.core.content.links import LINKS, decoded
from citywatch.core.content.model import Head, Model, loudest, loudness, score_windows
from citywatch.core.content.patterns import Triage
from citywatch.core.content.personal import PERSONAL
from citywatch.core.content.secrets import SECRETS
from citywatch.core.content.signals import Channel, Kind, Signal, Signals
from citywatch.core.content.tape import Tape, advance
from citywatch.core.content.words import PLAIN, STRIDE, WORD

LIMIT = 1 << 24
MODEL_LIMIT = 1 << 18
CHUNK = 1 << 16
DROPPED = 1 << 17
"""How many invisible characters are looked through; after so many, what they hide is not found any more."""
OPENED = 64
"""How many encoded or invisible texts are read by the model."""

DETECTORS = (*SECRETS, *PERSONAL, *LINKS, *CONCEALED)
_triage = Triage(DETECTORS)


class Spoken(msgspec.Struct, frozen=True):
    """The words that no window has settled yet, where they stand, and the unfinished end of the text."""

    words: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    rest: str = ""
    again: bool = False
    """Is the first half of these words in a window that has been scored?"""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stream has been scanned."""

    channel: Channel
    raw: Tape = Tape()
    seen: Tape = Tape()
    drops: tuple[Drop, ...] = ()
    spoken: Spoken = Spoken()
    read: int = 0
    ignored: int = 0
    opened: int = 0
    modelled: int = 0
    injection: float = 0.0

    @property
    def gone(self) -> int:
        """How many invisible characters have been taken out."""
        return self.drops[-1][1] if self.drops else 0

    @property
    def safe(self) -> int:
        """All before this offset of the text is settled: no signal that is still to come reaches into it."""
        held = min(self.raw.base, _raw(self.drops, self.seen.base))
        return min(held, self.spoken.starts[0]) if self.spoken.starts else held


def open_window(channel: Channel) -> Window:
    """Begin a text of this channel."""
    return Window(channel=channel)


def feed(window: Window, text: str, model: Model | None) -> tuple[Window, tuple[Signal, ...]]:
    """Take in one more piece; return what is certain now. A model must be the same for all pieces of a text."""
    window, signals = _feed(window, text, model, closed=False)
    return window, tuple(sorted(signals))


def close(window: Window, model: Model | None, text: str = "") -> Signals:
    """The text has ended (with this last piece): what is left to be said, and how much was read in all."""
    window, signals = _feed(window, text, model, closed=True)
    spent = window.ignored or window.gone >= DROPPED or window.raw.spent or window.seen.spent
    return Signals(
        found=tuple(sorted(signals)),
        injection=window.injection,
        read=window.read,
        modelled=window.modelled,
        complete=not spent and (model is None or window.modelled == window.read),
    )


def at_once(text: str, channel: Channel, model: Model | None) -> Signals | None:
    """What `close` says of a whole, short, plain text with nothing in it; None for any other, which takes a window.

    Most texts are so: no character to look behind, no detector with an anchor, no window of words that is loud.
    """
    size = len(text)
    if size > min(CHUNK, MODEL_LIMIT, LIMIT) or not text.isascii() or _triage(text.encode("ascii")):
        return None
    if model is None:
        return Signals(read=size)
    head = model.heads[channel]
    highest = loudness(head, PLAIN.findall(text))
    return None if highest >= head.calibration.threshold else Signals(injection=highest, read=size, modelled=size)


def _feed(window: Window, text: str, model: Model | None, closed: bool) -> tuple[Window, list[Signal]]:
    """Piece by piece, so that no step is larger than `CHUNK`."""
    signals: list[Signal] = []
    head = model.heads[window.channel] if model else None
    end = min(len(text), LIMIT - window.read)
    if end < len(text):
        window = msgspec.structs.replace(window, ignored=window.ignored + len(text) - end)
    at = 0
    while True:
        before_limit = MODEL_LIMIT - window.read
        size = min(CHUNK, end - at, before_limit if before_limit > 0 else CHUNK)
        window = _advance(window, text[at : at + size], head, closed and at + size == end, signals)
        at += size
        if at >= end:
            return window, signals


def _advance(window: Window, chunk: str, head: Head | None, closed: bool, signals: list[Signal]) -> Window:
    """One piece. The text as it came, as it is seen, and in words: each keeps what it still wants of it."""
    chunk = encodable(chunk)
    begin, gone = window.seen.base + len(window.seen.text), window.gone
    folded, dropped = fold(chunk, DROPPED - gone)
    drops = (*window.drops, *((at + begin, count + gone) for at, count in dropped))
    raw, found, opened = _as_it_came(window, chunk, head, closed)
    seen, more, opened = _as_it_is_seen(window, folded, head, closed, opened)
    signals += found
    signals += [_placed(one, drops) for one in more] if drops else more
    read, spoken, injection = window.read + len(chunk), window.spoken, window.injection
    modelled = min(read, MODEL_LIMIT) if head else 0
    if head and window.read < MODEL_LIMIT:
        ended = closed or read >= MODEL_LIMIT
        spoken, loud, highest = _in_words(spoken, folded, begin, drops, head, ended)
        signals += loud
        injection = max(injection, highest)
    kept = drops[max(0, bisect_right(drops, (seen.base, LIMIT)) - 1) :]
    return Window(
        channel=window.channel, raw=raw, seen=seen, drops=kept, spoken=spoken, read=read, ignored=window.ignored,
        opened=opened, modelled=modelled, injection=injection,
    )  # fmt: skip


def _as_it_came(window: Window, chunk: str, head: Head | None, closed: bool) -> tuple[Tape, list[Signal], int]:
    tape, opened = window.raw, window.opened
    text = tape.text + chunk
    chosen = () if text.isascii() else HIDDEN
    places, found, base = advance(tape, text, chosen, closed)
    for one in [one for one in found if one.name == "tags"] if head else ():
        plain = "".join(chr(ord(tag) & 0x7F) for tag in text[one.start - tape.base : one.end - tape.base])
        opened = _open(one, plain, head, opened, found)
    return Tape(text[base - tape.base :], base, places), found, opened


def _as_it_is_seen(
    window: Window, folded: str, head: Head | None, closed: bool, opened: int
) -> tuple[Tape, list[Signal], int]:
    tape = window.seen
    text = tape.text.encode("latin-1") + folded.encode("latin-1", "replace")
    places, found, base = advance(tape, text, _triage(text), closed)
    for one in [one for one in found if one.name == "encoded-text"] if head else ():
        plain = decoded(text[one.start - tape.base : one.end - tape.base]).decode("latin-1")
        opened = _open(one, plain, head, opened, found)
    return Tape(text[base - tape.base :].decode("latin-1"), base, places), found, opened


def _open(signal: Signal, text: str, head: Head | None, opened: int, found: list[Signal]) -> int:
    """Let the model read what was hidden, the first `OPENED` times."""
    if head and opened < OPENED:
        score = loudest(head, WORD.findall(text))
        if score >= head.calibration.threshold:
            found.append(Signal(signal.start, signal.end, Kind.INJECTION, "encoded", score))
    return opened + 1


def _in_words(
    spoken: Spoken, folded: str, begin: int, drops: Sequence[Drop], head: Head, ended: bool
) -> tuple[Spoken, list[Signal], float]:
    """Score the windows that are whole (all of them once the text has ended); keep the words of the next one."""
    text = spoken.rest + folded
    begin -= len(spoken.rest)
    alone = ended and not spoken.words
    words, starts, ends = list(spoken.words), list(spoken.starts), list(spoken.ends)
    rest = len(text)
    if alone:
        words = WORD.findall(text)  # places are looked up only if something is found
    else:
        for match in WORD.finditer(text):
            if match.end() == len(text) and not ended:
                rest = match.start()
                break
            words.append(match.group())
            starts.append(_raw(drops, begin + match.start()))
            ends.append(_raw(drops, begin + match.end() - 1) + 1)
        else:
            rest = len(text) if ended else max(len(text) - 1, 0)
    scored = list(score_windows(head, words, ended, spoken.again))
    loud = [one for one in scored if one.score >= head.calibration.threshold]
    if alone and loud:
        matches = list(WORD.finditer(text))
        starts = [_raw(drops, begin + match.start()) for match in matches]
        ends = [_raw(drops, begin + match.end() - 1) + 1 for match in matches]
    signals = [Signal(starts[one.first], ends[one.last - 1], Kind.INJECTION, "wording", one.score) for one in loud]
    highest = max((one.score for one in scored), default=0.0)
    done = STRIDE * len(scored)
    kept = Spoken(
        tuple(words[done:]), tuple(starts[done:]), tuple(ends[done:]), text[rest:], spoken.again or bool(scored)
    )
    return Spoken() if ended else kept, signals, highest


def _raw(drops: Sequence[Drop], at: int) -> int:
    """Where a character of the folded text stood."""
    place = bisect_right(drops, (at, LIMIT)) - 1
    return at + drops[place][1] if place >= 0 else at


def _placed(signal: Signal, drops: Sequence[Drop]) -> Signal:
    return msgspec.structs.replace(signal, start=_raw(drops, signal.start), end=_raw(drops, signal.end - 1) + 1)
