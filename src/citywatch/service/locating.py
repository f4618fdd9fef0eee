"""Where in the log something stands of which the instant is known: by halving, and a look around.

Decides nothing. Entries are nearly in the order of their instants; two processes' clocks may differ by a little, and so
a window around the place is read. INVARIANT: what is read is bounded by the window, however long the log is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from citywatch.core.events import AnyEvent
from citywatch.core.log.entry import Unknown, decode_event
from citywatch.service.ports import Store

WINDOWS: Final = (32, 256, 2_048)
"""Entries on either side that are looked at, one after the other until it is found."""


async def locate(
    store: Store, at: int, holding: str, wanted: Callable[[AnyEvent], bool]
) -> tuple[int, AnyEvent] | None:
    """The entry that is wanted, and its index; it was written at about that instant, in milliseconds since 1970, and
    holds that text."""
    place, seen = await _first_from(store, at), (0, 0)
    for window in WINDOWS:
        low, high = max(0, place - window), place + window
        for start, stop in ((low, high),) if seen == (0, 0) else ((low, seen[0]), (seen[1], high)):
            for index, leaf in enumerate(await store.entries(start, stop), start):
                event = decode_event(leaf) if holding.encode() in leaf else None
                if event is not None and not isinstance(event, Unknown) and wanted(event):
                    return index, event
        seen = (low, high)
    return None


async def _first_from(store: Store, at: int) -> int:
    """About the index of the first entry from that instant on."""
    low, high = 0, 1
    while (found := await _instant(store, high)) is not None and found < at:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        found = await _instant(store, middle)
        if found is None or found >= at:
            high = middle
        else:
            low = middle + 1
    return low


async def _instant(store: Store, index: int) -> int | None:
    leaves = await store.entries(index, index + 1)
    if not leaves:
        return None
    event = decode_event(leaves[0])
    at = event.members.get("at") if isinstance(event, Unknown) else event.at
    return at if isinstance(at, int) else 0
