"""The largest, the newest, the cheapest: is this the one record of a reply that a person's superlative picks out?

Decides by the numbers and times for which the server vouches, and by nothing that a third party wrote. INVARIANT: two
records that share the extreme, or a record that lacks the field, pick out none.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from citywatch.core.flow.derive import as_number
from citywatch.core.flow.item import Item, Part

_SIZES: Final = ("size", "bytes", "length", "count", "quantity", "amount")
_TIMES: Final = ("date", "time", "modified", "created", "updated")
_WORTH: Final = ("price", "cost", "amount", "fee", "total")
_MERIT: Final = ("rating", "score", *_WORTH)
SUPERLATIVES: Final[Mapping[str, tuple[tuple[str, ...], bool]]] = {
    "largest": (_SIZES, True),
    "biggest": (_SIZES, True),
    "smallest": (_SIZES, False),
    "newest": (_TIMES, True),
    "latest": (_TIMES, True),
    "most recent": (_TIMES, True),
    "oldest": (_TIMES, False),
    "earliest": (_TIMES, False),
    "most expensive": (_WORTH, True),
    "cheapest": (_WORTH, False),
    "least expensive": (_WORTH, False),
    "highest": (_MERIT, True),
    "lowest": (_MERIT, False),
}
"""What people say, which fields they mean by it, and whether the greatest value of them is it."""


def is_extreme(word: str, item: Item, part: Part) -> bool:
    """Whether the record of `part` is the only one with the extreme value of a field that `word` speaks of."""
    hints, greatest = SUPERLATIVES[word]
    around = item.parents[part.record]
    peers = [number for number, parent in enumerate(item.parents) if parent == around]
    names = {one.name for one in item.parts if one.record == part.record and one.trusted and _meant(one.name, hints)}
    return len(peers) > 1 and any(_picks(item, name, peers, greatest) == part.record for name in sorted(names))


def _picks(item: Item, name: str, peers: list[int], greatest: bool) -> int | None:
    found: dict[int, Decimal | str] = {}
    among = set(peers)
    for one in item.parts:
        if one.name == name and one.record in among:
            if not one.trusted or one.record in found:
                return None
            number = as_number(one.whole)
            found[one.record] = one.whole if number is None else number
    if len(found) < len(peers) or len({type(value) for value in found.values()}) != 1:
        return None
    ordered = sorted(found.items(), key=lambda pair: pair[1], reverse=greatest)
    return ordered[0][0] if ordered[0][1] != ordered[1][1] else None


def _meant(name: str, hints: tuple[str, ...]) -> bool:
    return any(hint in name.lower() for hint in hints)
