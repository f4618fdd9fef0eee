"""What the answers to a ticket come to, by the people, keys and weights of now.

Decides nothing of its own: whom a ticket reaches is `core.approvals.audience`'s, which votes stand `standing`'s, how
many it takes `quorum`'s. INVARIANT: what decides are votes of those whom the act reaches by then, under keys that are
theirs by then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from citywatch.core.approvals.answers import needed
from citywatch.core.approvals.audience import Audience
from citywatch.core.approvals.passkey import Passkey
from citywatch.core.approvals.people import Approvals, Person
from citywatch.core.approvals.quorum import WHOLE, Tally, Verdict, tally
from citywatch.core.approvals.standing import passkeys_of, spoken_for, standing_votes
from citywatch.core.approvals.ticket import Ticket, Vote
from citywatch.service.absences import load_away
from citywatch.service.ports import Reads, Store

Weigh = Callable[[str, Ticket], Awaitable[int]]
"""How much a person's yes to a ticket counts for, in hundredths of a vote (`quorum.WHOLE` is one)."""


async def whole(person: str, ticket: Ticket) -> int:
    """Everybody's word counts in full."""
    return WHOLE


class Counting:
    """The votes of the people of one file, with the passkeys and absences of one store."""

    def __init__(
        self, store: Store, people: Mapping[str, Person], approvals: Approvals, weigh: Weigh, domain: str
    ) -> None:
        self._store = store
        self._people = people
        self._approvals = approvals
        self._domain = domain
        self.weigh = weigh

    async def audience(self, now: int) -> tuple[Audience, Reads]:
        """Who may answer what now, and the rows that say who is away."""
        return await audience_of(self._store, self._people, self._approvals, self._domain, now)

    async def tally(self, ticket: Ticket, audience: Audience, uninspectable: tuple[str, ...]) -> Tally:
        """What its votes come to, by this audience."""
        left = [max([await self.weigh(one, ticket) for one in might]) for might in audience.left(ticket)]
        need = needed(ticket, self._approvals, uninspectable)
        votes = standing_votes(ticket, ticket.votes, audience, await load_passkeys(self._store, ticket.votes))
        found = tally(votes, need, left, one_denies=self._approvals.one_denies)
        spoken = ticket.of is None or spoken_for(ticket.of, votes, audience)
        if found.verdict is Verdict.YES and not spoken:  # one of them has to be among those who said yes
            return msgspec.structs.replace(found, verdict=Verdict.OPEN if left else Verdict.NO)
        return found


async def audience_of(
    store: Store, people: Mapping[str, Person], approvals: Approvals, domain: str, now: int
) -> tuple[Audience, Reads]:
    """Who may answer what at this instant, and the rows that say who is away."""
    away, reads = await load_away(store, people, domain, now)
    return Audience(people, approvals, {name: one.deputy for name, one in away.items()}), reads


async def load_passkeys(store: Store, votes: Iterable[Vote]) -> Mapping[str, Passkey]:
    """The passkeys under which these votes were signed, by their ids."""
    keys = passkeys_of(votes)
    rows = (await store.load(keys, ())).rows if keys else {}
    return {key[1]: msgspec.json.decode(row.value, type=Passkey) for key, row in rows.items()}
