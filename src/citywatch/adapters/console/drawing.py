"""Graphs for a page: where boxes stand and which lines join them. Templates draw them as SVG.

Decides where things are, nothing of what they mean. INVARIANT: a picture is bounded, and says how much it leaves out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from citywatch.adapters.console import words
from citywatch.core.enforce.context import ANY_OBJECT
from citywatch.core.enforce.explain import Argument, Seen
from citywatch.core.enforce.spread import Touch
from citywatch.service.panorama import name_of
from citywatch.service.telling import Told

WIDTH: Final = 218
GAP: Final = 64
ROW: Final = 16
PAD: Final = 11
BETWEEN: Final = 14
LETTERS: Final = 30
MOST: Final = 70
MOST_ARGUMENTS: Final = 12


class Box(msgspec.Struct):
    """A box with up to three lines of text: what it is, its name, a remark. `look` is its class."""

    x: int
    y: int
    height: int
    look: str
    kind: str
    name: str
    remark: str = ""
    href: str = ""
    width: int = WIDTH


class Line(msgspec.Struct, frozen=True):
    """A line from one box's right edge to another's left one, as the path of an SVG."""

    path: str
    look: str


class Graph(msgspec.Struct, frozen=True):
    """All of a picture. `omitted` is how many things are not in it."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    width: int
    height: int
    omitted: int = 0


def why_graph(told: Told) -> Graph:
    """Sources on the left, the arguments they stand in, the act, and what became of it."""
    one, explained = told.decided, told.explanation
    assert explained is not None
    joints: list[tuple[Box, Box, str]] = []
    sources: dict[tuple[str, str], Box] = {}
    arguments = sorted(explained.arguments, key=lambda each: each.how is not None)[:MOST_ARGUMENTS]
    placed = [(each, _argument(each)) for each in arguments]
    _stack([box for _, box in placed], 1)
    for argument, box in placed:
        seen = argument.seen or (explained.influences[:1] if argument.how is None else ())
        for place in seen:
            source = sources.setdefault((place.source, place.call), _source(place))
            joints.append((source, box, _trust(place, bool(argument.seen))))
    _stack(list(sources.values()), 0)
    act = Box(
        0, 0, 0, "act", name_of(one.agent), words.plain(f"{one.server}/{one.name or one.method}", LETTERS), one.effect
    )
    verdict = _verdict(told)
    boxes = [*sources.values(), *(box for _, box in placed), act, verdict]
    middle = max((box.y + box.height for box in boxes), default=0)
    _stack([act], 2, middle)
    _stack([verdict], 3, middle)
    if not sources:
        for box in boxes:
            box.x -= (WIDTH + GAP) * (1 if placed else 2)
    joined = [_join(*each) for each in joints]
    joined += [_join(box, act, box.look) for _, box in placed]
    joined.append(_join(act, verdict, verdict.look))
    return _graph(boxes, joined, len(explained.arguments) - len(arguments))


def blast_graph(touches: Sequence[Touch]) -> Graph:
    """Each thing that was touched to the right of what touched it; what only read or was refused is left out."""
    below: dict[int, list[int]] = {}
    for number, one in enumerate(touches):
        below.setdefault(one.by, []).append(number)
    shown = [number for number, one in enumerate(touches) if one.kind != "call" or _acted(one) or number in below]
    kept = set(shown[:MOST])
    boxes: dict[int, Box] = {}
    lines: list[Line] = []
    bottom = 0

    def put(number: int, depth: int) -> int:
        """Stand a box beside the middle of those it led to; return where its middle is."""
        nonlocal bottom
        box = _touch(touches[number])
        box.x = depth * (WIDTH + GAP)
        children = [child for child in below.get(number, ()) if child in kept]
        if children:
            middles = [put(child, depth + 1) for child in children]
            box.y = max(0, (middles[0] + middles[-1]) // 2 - box.height // 2)
        else:
            box.y = bottom
            bottom += box.height + BETWEEN
        boxes[number] = box
        return box.y + box.height // 2

    for root in below.get(-1, ()):
        if root in kept:
            put(root, 0)
    for number, box in boxes.items():
        parent = boxes.get(touches[number].by)
        if parent is not None:
            lines.append(_join(parent, box, box.look))
    return _graph(list(boxes.values()), lines, len(touches) - len(boxes))


def chain_graph(chains: Sequence[tuple[tuple[str, ...], int]], agent: str) -> Graph:
    """Whose authority an agent acts on and hands on: one tree for each principal, the busiest first."""
    children: dict[tuple[str, ...], int] = {}
    for chain, count in chains[:MOST]:
        for depth in range(1, len(chain) + 1):
            children[chain[:depth]] = children.get(chain[:depth], 0) + (count if depth == len(chain) else 0)
    boxes: dict[tuple[str, ...], Box] = {}
    bottom = 0

    def put(prefix: tuple[str, ...]) -> int:
        nonlocal bottom
        name, depth = prefix[-1], len(prefix) - 1
        person = depth == 0
        shown = name.partition(":")[2] if person else name_of(name)
        count = children[prefix]
        remark = f"{count:,} call{'' if count == 1 else 's'}" if count else "handed on"
        look = "own" if person else "act" if name != agent else "ask"
        box = Box(
            depth * (WIDTH + GAP), 0, 0, look, "person" if person else "agent", words.plain(shown, LETTERS), remark
        )
        box.height = _height(True)
        below = [one for one in children if len(one) == len(prefix) + 1 and one[:-1] == prefix]
        if below:
            middles = [put(one) for one in below]
            box.y = max(0, (middles[0] + middles[-1]) // 2 - box.height // 2)
        else:
            box.y = bottom
            bottom += box.height + BETWEEN
        boxes[prefix] = box
        return box.y + box.height // 2

    for prefix in [one for one in children if len(one) == 1]:
        put(prefix)
    lines = [_join(boxes[prefix[:-1]], box, "own") for prefix, box in boxes.items() if len(prefix) > 1]
    return _graph(list(boxes.values()), lines, max(0, len(chains) - MOST))


def counts(touches: Sequence[Touch]) -> dict[str, int]:
    """How many of each, in the words of a page."""
    kinds = Counter(one.kind.value for one in touches)
    calls = [one for one in touches if one.kind == "call"]
    found = {
        "agents": len({one.name for one in touches if one.kind == "context"}),
        "calls with an effect": sum(map(_acted, calls)),
        "reads": sum(one.decision == "allow" and not _acted(one) for one in calls),
        "calls refused or asked about": sum(one.decision != "allow" for one in calls),
        "objects written": kinds["object"],
        "parties made known": kinds["party"],
    }
    return {name: count for name, count in found.items() if count}


def _acted(one: Touch) -> bool:
    return one.decision == "allow" and one.effect != "read"


def _argument(one: Argument) -> Box:
    how = f"let through as {one.how}" if one.how else "nobody entitled supplied it"
    value = "" if one.value is None else words.plain(one.value, LETTERS)
    return Box(0, 0, 0, "fine" if one.how else "wrong", f"{words.plain(one.path, 18)} · {one.role}", value, how)


def _source(seen: Seen) -> Box:
    if seen.source.startswith("principal:"):
        return Box(
            0, 0, 0, "own", "words of", words.plain(seen.source.partition(":")[2], LETTERS), "over their own session"
        )
    name = seen.source.rpartition("/")[2] if seen.source.startswith("agent:") else seen.source
    kind = "from the agent" if seen.source.startswith("agent:") else "reply of"
    remark = "the server's own field" if seen.vouched else "anybody may have shaped it" if seen.origins is None else ""
    if not remark:
        remark = "nobody vouches for it"
    href = f"/calls/{seen.call}" if seen.call.isalnum() else ""
    return Box(0, 0, 0, "own" if seen.vouched else "outside", kind, words.plain(name, LETTERS), remark, href)


def _trust(seen: Seen, stands: bool) -> str:
    if not stands:
        return "guessed"
    return "own" if seen.vouched or seen.source.startswith("principal:") else "outside"


def _verdict(told: Told) -> Box:
    one = told.decided
    look = {"allow": "allow", "ask": "ask", "deny": "deny"}[one.verdict]
    name = {"allow": "let through", "ask": "a person is asked", "deny": "refused"}[one.verdict]
    return Box(0, 0, 0, look, "citywatch", name, one.code or ", ".join(one.policies)[:LETTERS])


def _touch(one: Touch) -> Box:
    href = f"/decisions/{one.index}" if one.kind == "call" else ""
    if one.kind == "context":
        return Box(0, 0, _height(False), "outside", "entered", words.plain(name_of(one.name), LETTERS), "", href)
    if one.kind == "object":
        name = "something" if not one.name else "any of it" if one.name == ANY_OBJECT else one.name
        return Box(
            0, 0, _height(True), "wrong", "wrote", words.plain(name, LETTERS), words.plain(f"of {one.server}", LETTERS)
        )
    if one.kind == "party":
        party, _, form = one.name.partition("\n")
        shown = form.partition(":")[2] or form.removeprefix("=") or "somebody"
        return Box(
            0,
            0,
            _height(True),
            "wrong",
            "made known",
            words.plain(shown, LETTERS),
            words.plain(f"among {party}", LETTERS),
        )
    if one.kind == "answer":
        return Box(0, 0, _height(False), "outside", "answered", words.plain(one.name, LETTERS))
    said = {"allow": "let through", "ask": "asked about", "deny": "refused"}[one.decision]
    look = {"allow": "act", "ask": "ask", "deny": "deny"}[one.decision]
    return Box(0, 0, _height(True), look, one.effect or "call", words.plain(one.name, LETTERS), said, href)


def _height(remark: bool) -> int:
    return 2 * PAD + ROW * (3 if remark else 2)


def _stack(boxes: Sequence[Box], column: int, within: int = 0) -> None:
    """Stand boxes under each other in a column, in the middle of `within` if they are shorter."""
    y = 0
    for box in boxes:
        box.height = _height(bool(box.remark))
        box.x, box.y = column * (WIDTH + GAP), y
        y += box.height + BETWEEN
    spare = max(0, within - (y - BETWEEN)) // 2
    for box in boxes:
        box.y += spare


def _join(one: Box, other: Box, look: str) -> Line:
    x1, y1 = one.x + one.width, one.y + one.height // 2
    x2, y2 = other.x, other.y + other.height // 2
    bend = max(20, (x2 - x1) // 2)
    return Line(f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}", look)


def _graph(boxes: Sequence[Box], lines: Sequence[Line], omitted: int) -> Graph:
    width = max((box.x + box.width for box in boxes), default=0)
    height = max((box.y + box.height for box in boxes), default=0)
    return Graph(tuple(boxes), tuple(lines), width + 2, height + 2, omitted)
