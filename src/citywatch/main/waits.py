"""How agents wait at this gateway for what people say, put together.

Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from citywatch.adapters.keys import GenerationSealer
from citywatch.main.assembly import City
from citywatch.service.enforcer import Enforcer
from citywatch.service.pausing import Pausing
from citywatch.service.waiting import Waiting

PURPOSE: Final = b"citywatch/request-state/v1"
SHARE: Final = 8
"""One in so many requests at once may be one that waits."""


def waiting(city: City, enforcer: Enforcer, ending: Callable[[], bool]) -> Waiting:
    """`ending` says whether the gateway is about to stop: then nobody is kept waiting."""
    return Waiting(
        store=enforcer.store,
        clock=city.clock,
        leeway_ms=lambda: enforcer.rules.leeway_ms,
        bus=city.store,
        most=max(1, city.settings.limits.max_in_flight // SHARE),
        ending=ending,
    )


def pausing(city: City, waits: Waiting) -> Pausing:
    """States are sealed under what is drawn from the authority's keys, and end with them. Where somebody else is the
    authority, it is the key that speaks for principals."""

    def key(number: int) -> bytes:
        signer = city.speaks_for_principals() if city.settings.spire is not None else city.keys_of(number)[1]
        return signer.drawn(PURPOSE)

    def active() -> int:
        return 1 if city.settings.spire is not None else city.row().active

    def believed() -> frozenset[int]:
        return frozenset({1} if city.settings.spire is not None else {one.number for one in city.row().generations})

    origin = city.settings.console.address
    return Pausing(
        sealer=GenerationSealer(active, believed, key),
        waiting=waits,
        clock=city.clock,
        link=lambda ticket: f"{origin}/tickets/{ticket}" if origin else "",
    )
