"""How agents wait at this gateway for what people say, put together.

Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from citywatch.adapters.keys import GenerationSealer
from citywatch.core.approvals.notice import ticket_link
from citywatch.main.assembly import City
from citywatch.service.enforcer import Enforcer
from citywatch.service.leading import Leading
from citywatch.service.own_tasks import OwnTasks
from citywatch.service.pausing import Pausing
from citywatch.service.tickets import Tickets
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

    return Pausing(
        sealer=GenerationSealer(active, believed, key),
        waiting=waits,
        clock=city.clock,
        link=_link(city),
    )


def own_tasks(city: City, enforcer: Enforcer, waits: Waiting) -> OwnTasks:
    """The tasks in which messages to agents wait."""
    tickets = Tickets(
        store=enforcer.store, clock=city.clock, replica=city.replica.name, named=bool(city.settings.people)
    )
    return OwnTasks(waiting=waits, tickets=tickets, clock=city.clock, link=_link(city))


def leading(city: City, enforcer: Enforcer) -> Leading | None:
    """How people are led to what waits for them, by clients of the revisions with sessions, if the file says where."""
    return Leading(enforcer, city.store, _link(city)) if city.settings.console.address else None


def _link(city: City) -> Callable[[str], str]:
    """The address that the file names, and not the name that a console without one makes up for itself."""
    return partial(ticket_link, city.settings.console.address)
