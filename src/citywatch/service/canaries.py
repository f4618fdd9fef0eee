"""Canaries: past tickets of which it is known what they were, asked again of somebody who did not answer them then.

    a risky ticket is answered  →  in two to five of a hundred cases that person is asked one more, made up
    an exercise                 →  eight are, half of them to be denied
    it is answered              →  what it was is said at once, to them and in the log

Decides which past ticket is shown to whom; how it is shown and answered is `voting`'s, as for any. INVARIANTS
1. A canary is to be denied because people denied it, or found later that they should have; a clean one was approved,
   used and never found wrong. Nothing else is known well enough.
2. Nobody is shown what they answered themselves.
3. It is written to its own rows alone. No answer to it changes a ticket, an answer that stands, or anything that a
   decision reads.
4. It is drawn by chance: nobody can tell from what they answered whether the next is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from citywatch.core.approvals.binding import ticket_digest
from citywatch.core.approvals.recorded import category_of
from citywatch.core.approvals.seal import Canary, Kind, canary_key
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.approvals.vigilance import EXERCISE
from citywatch.core.errors import Malformed
from citywatch.service.ports import Append, Chance, Row
from citywatch.service.tickets import Tickets
from citywatch.service.vigilance import Watching

PAST: Final = 1_000
CANARY: Final = "canary"
ID: Final = 12


class Canaries:
    """The made-up tickets of one store; `rate` is how many of 100 risky ones are followed by one (0: none)."""

    def __init__(self, tickets: Tickets, chance: Chance, watching: Watching, rate: int) -> None:
        self._tickets = tickets
        self._chance = chance
        self._watching = watching
        self._rate = rate

    async def of(self, person: str) -> Sequence[Ticket]:
        """Those that wait for this person, as they see them."""
        found = [msgspec.json.decode(row.value, type=Canary) for _, row in await self._tickets.store.scan(CANARY)]
        now = self._tickets.now()
        return [one.ticket for one in found if one.of == person and one.ticket.expires > now]

    async def find(self, name: str, person: str) -> tuple[Canary, Row] | None:
        """The canary of that id, if it was made for this person."""
        key = canary_key(name)
        row = (await self._tickets.store.load((key,), ())).rows.get(key)
        canary = None if row is None else msgspec.json.decode(row.value, type=Canary)
        return None if row is None or canary is None or canary.of != person else (canary, row)

    async def maybe(self, answered: Ticket, person: str) -> None:
        """After this person answered a risky ticket: perhaps they are asked a made-up one. # INVARIANT: 4."""
        drawn = int.from_bytes(self._chance.salt()[:4]) % 100
        if drawn < self._rate and category_of(answered).endswith(("untrusted", "disclosure")):
            await self._plant(Kind.CANARY, person, 1)

    async def exercise(self, person: str) -> int:
        """Ask somebody eight made-up ones, half of them to be denied; return how many there are to be asked.

        Raises `Malformed` if too little of the past is known.
        """
        half = EXERCISE // 2
        for kind in (Kind.CANARY, Kind.CLEAN):
            if len(await self._known(kind, person)) < half:
                raise Malformed(f"an exercise takes {half} tickets that others denied, and {half} rightly approved")
        return await self._plant(Kind.CANARY, person, half) + await self._plant(Kind.CLEAN, person, half)

    async def _plant(self, kind: Kind, person: str, count: int) -> int:
        known = await self._known(kind, person)
        planted = 0
        while known and planted < count:
            past = known.pop(int.from_bytes(self._chance.salt()[:4]) % len(known))
            canary = Canary(kind=kind, of=person, ticket=self._again(past), since=past.asked)
            key = canary_key(canary.ticket.id)
            await self._tickets.store.append(Append(reads=((key, 0),), puts=((key, msgspec.json.encode(canary)),)))
            planted += 1
        return planted

    async def _known(self, kind: Kind, person: str) -> list[Ticket]:
        """# INVARIANT: 1 and 2."""
        wrong = (await self._watching.now()).reversed()
        shown = {one.call for one in await self.of(person)}
        past = [one for one in await self._tickets.closed(PAST) if one.bound is not None and one.call not in shown]
        fresh = [one for one in past if all(vote.person != person for vote in one.votes)]
        if kind is Kind.CANARY:
            return [one for one in fresh if (one.state is State.DENIED and one.votes) or one.id in wrong]
        return [one for one in fresh if one.state is State.USED and one.votes and one.id not in wrong]

    def _again(self, past: Ticket) -> Ticket:
        now, salt = self._tickets.now(), self._chance.salt().hex()
        name, expires = self._chance.call_id()[:ID], now + past.expires - past.asked
        return msgspec.structs.replace(
            past,
            id=name,
            state=State.PENDING,
            asked=now,
            expires=expires,
            by="",
            reason="",
            principal="",
            salt=salt,
            nonce=self._chance.salt().hex(),
            digest="" if past.bound is None else ticket_digest(past.bound, name, salt, expires),
            votes=(),
            done=past.done[:1],
            superseded="",
        )
