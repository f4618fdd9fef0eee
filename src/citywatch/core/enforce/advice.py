"""What a scan says of a text that enters a context, kept with the item as places: advice, in bounded space.

Decides which signals are kept and how they are told to people; what may follow from one is `suspicion`'s. The leaves of
a reply are scanned as one text, so that words that are spread over fields are read together, as the agent reads them.

INVARIANTS: an item's label, parts and marks do not depend on it; the text is not kept; what is past a bound counts as
flagged, never as clean.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

import msgspec

from citywatch.core.content.model import Model
from citywatch.core.content.scan import scan
from citywatch.core.content.signals import Channel, Kind, Signal
from citywatch.core.content.window import MODEL_LIMIT
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item, Place, Stretch

MAX_SCANNED: Final = MODEL_LIMIT
MAX_STRETCHES: Final = 32
MAX_TOLD: Final = 16
"""Lines of advice that a ticket carries."""
KEPT: Final = (Kind.HIDDEN, Kind.LINK)
"""What is kept beside the wording of injections: what people should know of a text before they say yes."""
NO_END: Final[Place] = (1 << 31, 0)
_Spread = tuple[int, int, int, int, float]
"""Start and end, how far around, and the score."""


def advised(item: Item, texts: Sequence[tuple[int, str]], channel: Channel, model: Model) -> Item:
    """The item, with what a scan says of these parts of it, each a number and its text."""
    leaves = [text for _, text in texts]
    signals = scan("\n".join(leaves)[:MAX_SCANNED], channel, model)
    if not signals.found:
        return msgspec.structs.replace(item, injection=signals.injection, advice=())
    numbers = [number for number, _ in texts]
    begins = [0, *accumulate(len(text) + 1 for text in leaves)]

    def place(at: int) -> Place:
        one = min(bisect_right(begins, at), len(numbers)) - 1
        return numbers[one], min(at - begins[one], len(leaves[one]))

    loud = [
        Stretch(Kind.INJECTION, "wording", score, place(start), place(end), (place(low), place(high)))
        for start, end, low, high, score in _merged(signals.of(Kind.INJECTION))
    ]
    if len(loud) > MAX_STRETCHES:
        last = loud[MAX_STRETCHES - 1]
        loud[MAX_STRETCHES - 1 :] = [msgspec.structs.replace(last, end=NO_END, around=(last.around[0], NO_END))]
    others = [
        Stretch(one.kind, one.name, one.score, (begin := place(one.start)), (end := place(one.end)), (begin, end))
        for one in signals.found
        if one.kind in KEPT
    ]
    return msgspec.structs.replace(
        item, injection=signals.injection, advice=(*loud, *others[: MAX_STRETCHES - len(loud)])
    )


def _merged(signals: Sequence[Signal]) -> Iterator[_Spread]:
    """Windows that overlap, as one; around them as much again as the first and the last of them are long."""
    now: _Spread | None = None
    for one in signals:
        size = one.end - one.start
        if now is not None and one.start <= now[1]:
            now = (now[0], max(now[1], one.end), now[2], max(now[3], one.end + size), max(now[4], one.score))
            continue
        if now is not None:
            yield now
        now = (one.start, one.end, max(0, one.start - size), one.end + size, one.score)
    if now is not None:
        yield now


def told_advice(history: History) -> Iterator[str]:
    """One line for each thing that a person should know before they answer, the newest item first."""
    lines = (
        f"{one.kind} {one.name} {one.score:.2f}: {item.source} {_told(item, one.begin)}-{_told(item, one.end)}"
        for item in reversed(history.advised)
        for one in item.advice
    )
    for _, line in zip(range(MAX_TOLD), lines, strict=False):
        yield line


def _told(item: Item, place: Place) -> str:
    part, at = place
    return f"{item.parts[part].path[:80]}[{at}]" if part < len(item.parts) else "end"
