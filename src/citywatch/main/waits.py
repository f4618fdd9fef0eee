"""How agents wait at this gateway for what people say, put together.

Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from citywatch.main.assembly import City
from citywatch.service.enforcer import Enforcer
from citywatch.service.waiting import Waiting

SHARE = 8
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
