"""The law of labels, slow and obvious: plain sets, with an explicit word for "anybody" and "everybody".

Written from the prose alone, sharing no line with `src/`. A label is a pair of a set of origins and a set of readers,
over a world in which all names are known: `anybody` is then the set of all origins and one more that nobody has named,
`everybody` the set of all readers and one more.
"""

from __future__ import annotations

Names = frozenset[str]
Pair = tuple[Names, Names]
STRANGER = "a stranger"
BOUND = 64


def meaning(origins: Names | None, readers: Names | None, world: Names) -> Pair:
    """What a label says, spelt out over a world of names: past the bound it is all origins, and no readers."""
    everyone = world | {STRANGER}
    if origins is None or len(origins) > BOUND:
        origins = everyone
    if readers is None:
        readers = everyone
    elif len(readers) > BOUND:
        readers = frozenset()
    return origins, readers


def joined(one: Pair, other: Pair, world: Names) -> Pair:
    """All that shaped either; only who may read both; past the bound as `meaning` says."""
    everyone = world | {STRANGER}
    origins = {name for name in everyone if name in one[0] or name in other[0]}
    readers = {name for name in everyone if name in one[1] and name in other[1]}
    if STRANGER not in origins and len(origins) > BOUND:
        origins = set(everyone)
    return frozenset(origins), frozenset(readers)


def above(high: Pair, low: Pair) -> bool:
    """All that shaped the low one shaped the high one, and nobody reads the high one who may not read the low."""
    return all(name in high[0] for name in low[0]) and all(name in low[1] for name in high[1])


def flows(label: Pair, audience: Names | None, world: Names) -> bool:
    """Everybody in the audience is a reader, and there is somebody in it."""
    listeners = world | {STRANGER} if audience is None else audience
    return len(listeners) > 0 and all(name in label[1] for name in listeners)


def run(steps: list[tuple[str, Pair]], world: Names) -> tuple[list[Pair], list[tuple[Pair, Pair]]]:
    """A context's life: what enters is joined; a release puts a label that is below in its place, and is written down.

    Gives the label after each step, and every release. A release that would not lower is none: it changes nothing.
    """
    label: Pair = (frozenset(), world | {STRANGER})
    labels, book = [], []
    for what, other in steps:
        if what == "enters":
            label = joined(label, other, world)
        elif above(label, other):
            book.append((label, other))
            label = other
        labels.append(label)
    return labels, book
