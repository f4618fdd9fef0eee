"""What policy keeps from an agent is taken out of a message, wherever in it that stands, and a mark is left.

Decides on what a scan finds and a ruling names: redact, withhold, or deliver. Does not decide who may see which field
(`deliver` does, by label), and cannot: what has no known shape is found by no scan. Names are read with their values,
so that a password is one behind `password`; texts beside each other as one, so that a cut between two hides nothing;
what is encoded is read decoded.

INVARIANTS
1. What is delivered was scanned once more as it is delivered, and nothing that the ruling keeps back was found.
2. What could not be looked through to its end is withheld, never taken for clean.
3. No leaf, name or member is lost: one that holds nothing of it is delivered as it came.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from citywatch.core.content.redact import placeholder, redact
from citywatch.core.content.scan import scan
from citywatch.core.content.signals import Channel, Signal
from citywatch.core.flow.blob import blob_data
from citywatch.core.flow.encodings import decodings
from citywatch.core.manifest import Delivery

Ruling = Mapping[str, Delivery]
Cuts = dict[int, dict[Signal, None]]
"""For each leaf, by its number, what is taken out of it, each thing once."""
ROUNDS: Final = 4
"""What is found once the first is taken out is taken out too; what does not end is withheld."""
LEAST: Final = 8
MAX_WORDS: Final = 4096
"""Of a text with more words that hides something, all is taken out: each word would have to be decoded by itself."""
_SPACE: Final = re.compile(r"(\s+)")


class Sifted(msgspec.Struct, frozen=True):
    """The value as it may be delivered, how often what was taken out; or why nothing of it may be (`withheld`)."""

    value: Any
    found: Counter[str]
    withheld: str = ""


class Leaf(msgspec.Struct, frozen=True):
    """One text, number or name, where it begins on the tape, and under which name it stands (a name: under none)."""

    text: str
    start: int
    under: str = ""
    number: bool = False
    name: bool = False

    @property
    def is_text(self) -> bool:
        return not self.number and not self.name


def sift(value: Any, ruling: Ruling, more: Mapping[int, Sequence[Signal]] | None = None) -> Sifted:
    """Take out of a JSON value what a ruling keeps back. `more` are places that are known already, by leaf."""
    found: Counter[str] = Counter()
    known = more
    for _ in range(ROUNDS):
        leaves = leaves_of(value)
        cuts = _seen(leaves, ruling)
        if cuts is None:
            return Sifted(None, found, "more than can be looked through")  # INVARIANT: 2.
        for number, signals in (known or {}).items():
            cuts.setdefault(number, {}).update(dict.fromkeys(signals))
        known = None
        kept_back = [one for signals in cuts.values() for one in signals if ruled(one, ruling) is Delivery.WITHHOLD]
        if kept_back:
            return Sifted(None, found, told(kept_back[0]))
        replaced = {number: _without(leaves[number], [*signals], ruling, found) for number, signals in cuts.items()}
        bytes_replaced, stop = _bytes(value, ruling, found)
        if not replaced and not stop:
            replaced, stop = _decoded(leaves, ruling, found)
        if stop:
            return Sifted(None, found, stop)
        if not replaced and not bytes_replaced:
            return Sifted(value, found)  # INVARIANT: 1.
        value = _rebuild(value, iter(range(len(leaves))), replaced, bytes_replaced)
    return Sifted(None, found, "it could not be taken out")


def ruled(signal: Signal, ruling: Ruling) -> Delivery:
    """What becomes of this: the narrower word counts."""
    return ruling.get(f"{signal.kind}/{signal.name}", ruling.get(signal.kind, Delivery.ALLOW))


def is_open(ruling: Ruling) -> bool:
    """Whether a ruling keeps nothing back."""
    return all(one is Delivery.ALLOW for one in ruling.values())


def told(signal: Signal) -> str:
    """How the log and people are told what it was."""
    return f"{signal.kind} {signal.name}"


def found_in(text: str, ruling: Ruling) -> tuple[Signal, ...] | None:
    """What of a text the ruling keeps back; None if the text could not be looked through."""
    signals = scan(text, Channel.DATA, None)
    return tuple(one for one in signals.found if ruled(one, ruling) is not Delivery.ALLOW) if signals.complete else None


# ---- as it is read -----------------------------------------------------------------------------------------------


def leaves_of(value: Any) -> list[Leaf]:
    """Every name, text and number, in their order, where they stand on one tape: each value behind its name."""
    leaves: list[Leaf] = []
    at = 0

    def put(text: str, gap: int, under: str = "", *, number: bool = False, name: bool = False) -> None:
        nonlocal at
        leaves.append(Leaf(text, at, under, number, name))
        at += len(text) + gap

    def walk(inside: Any, name: str) -> None:
        if isinstance(inside, dict):
            for key, one in inside.items():
                put(key, 2, name=True)
                walk(one, key)
        elif isinstance(inside, list):
            for one in inside:
                walk(one, name)
        elif isinstance(inside, str):
            put(inside, 1, name)
        elif isinstance(inside, int | float) and not isinstance(inside, bool):
            put(str(inside), 1, name, number=True)

    walk(value, "")
    return leaves


def _seen(leaves: Sequence[Leaf], ruling: Ruling) -> Cuts | None:
    """What stands in the leaves, read one behind the other; and the texts read as one."""
    tape: list[str] = []
    for one in leaves:
        tape.append(one.text + (": " if one.name else "\n"))
    cuts: Cuts = {}
    if not _map(found_in("".join(tape), ruling), [(n, one.start, one.text) for n, one in enumerate(leaves)], cuts):
        return None
    beside, at = [], 0
    for number, one in enumerate(leaves):
        if one.is_text and one.under == "text":
            beside.append((number, at, one.text))
            at += len(one.text)
    runs = [beside, *(list(two) for two in pairwise(beside))] if len(beside) > 1 else []
    return cuts if all(_joined(run, ruling, cuts) for run in runs) else None


def _joined(run: Sequence[tuple[int, int, str]], ruling: Ruling, cuts: Cuts) -> bool:
    """Read some texts as one: all of them, or two, so that it does not matter what word stands behind those."""
    begin = run[0][1]
    places = [(number, at - begin, text) for number, at, text in run]
    return _map(found_in("".join(text for _, _, text in run), ruling), places, cuts)


def _map(signals: Sequence[Signal] | None, places: Sequence[tuple[int, int, str]], cuts: Cuts) -> bool:
    """Say of each signal in which leaves it stands, and where there; both are in order."""
    if signals is None:
        return False
    first = 0
    for signal in signals:
        while first < len(places) and places[first][1] + len(places[first][2]) <= signal.start:
            first += 1
        for number, start, text in places[first:]:
            if start >= signal.end:
                break
            part = within(signal, start, len(text))
            if part is not None:
                cuts.setdefault(number, {})[part] = None
    return True


def within(signal: Signal, start: int, size: int) -> Signal | None:
    """The part of a signal that falls into a text of that size which begins there; None if nothing does."""
    low, high = max(signal.start - start, 0), min(signal.end - start, size)
    return msgspec.structs.replace(signal, start=low, end=high) if low < high else None


# ---- what is taken out -------------------------------------------------------------------------------------------


def _without(leaf: Leaf, signals: Sequence[Signal], ruling: Ruling, found: Counter[str]) -> str:
    if leaf.number:
        found[told(signals[0])] += 1
        return placeholder(signals[0])
    inner = _as_json(leaf.text)
    if inner is not None:  # so that it stays the JSON that it is
        sifted = sift(inner, ruling)
        if sifted.found and not sifted.withheld:
            found.update(sifted.found)
            return json.dumps(sifted.value, ensure_ascii=False)
    found.update(told(one) for one in signals)
    return redact(leaf.text, signals)


def _as_json(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _decoded(leaves: Sequence[Leaf], ruling: Ruling, found: Counter[str]) -> tuple[dict[int, str], str]:
    """What shows only once a text is decoded: the words that hide it, or all of the text if no one word does."""
    replaced: dict[int, str] = {}
    for number, leaf in enumerate(leaves):
        if leaf.number or len(leaf.text) < LEAST:
            continue
        signal, stop = _hides(leaf.text, ruling)
        if stop:
            return {}, stop
        if signal is None:
            continue
        words = _SPACE.split(leaf.text, MAX_WORDS) if leaf.text.count(" ") < MAX_WORDS else [leaf.text]
        marked = [word if (one := _hides(word, ruling)[0]) is None else placeholder(one) for word in words]
        replaced[number] = "".join(marked) if marked != words else placeholder(signal)
        found[told(signal)] += 1
    return replaced, ""


def _hides(text: str, ruling: Ruling) -> tuple[Signal | None, str]:
    """The first thing that a text holds encoded, and whether that, or its size, withholds everything."""
    first: Signal | None = None
    for plain in decodings(text) if len(text) >= LEAST else ():
        signals = found_in(plain, ruling)
        if signals is None:
            return None, "more than can be looked through"
        for one in signals:
            if ruled(one, ruling) is Delivery.WITHHOLD:
                return one, told(one)
            first = first or one
    return first, ""


def _bytes(value: Any, ruling: Ruling, found: Counter[str]) -> tuple[dict[str, str], str]:
    """Bytes that are text after all, sifted as text: by what they were, what stands in their place."""
    replaced: dict[str, str] = {}
    for data in set(_all_bytes(value)):
        try:
            text = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, ValueError):
            continue
        sifted = sift(text, ruling)
        if sifted.withheld:
            return {}, sifted.withheld
        if sifted.found:
            found.update(sifted.found)
            replaced[data] = base64.b64encode(sifted.value.encode()).decode()
    return replaced, ""


def _all_bytes(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        inside = pending.pop()
        if isinstance(inside, dict):
            yield from (data for name in ("data", "blob") if (data := blob_data(inside, name)) is not None)
            pending += inside.values()
        elif isinstance(inside, list):
            pending += inside


def _rebuild(value: Any, numbers: Iterator[int], replaced: Mapping[int, str], raw: Mapping[str, str]) -> Any:
    """The same value with what is to stand in it; in the order of `leaves_of`."""
    if isinstance(value, dict):
        kept: dict[str, Any] = {}
        for key, one in value.items():
            name = replaced.get(next(numbers), key)
            while name in kept:
                name += "'"  # INVARIANT: 3. Two names may read the same now.
            held = blob_data(value, key) if key in ("data", "blob") else None
            seen = _rebuild(one, numbers, replaced, raw)
            kept[name] = raw.get(held, seen) if held is not None else seen
        return kept
    if isinstance(value, list):
        return [_rebuild(one, numbers, replaced, raw) for one in value]
    if value is None or isinstance(value, bool):
        return value
    return replaced.get(next(numbers), value)
