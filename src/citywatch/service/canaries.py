"""Canaries: past tickets of which it is known what they were, asked again of somebody who did not answer them then.

    a risky ticket is answered  →  in two to five of a hundred cases that person is asked one that is made up, later
    an exercise                 →  eight are, half of them to be denied
    it is answered              →  what it was is said at once, to them and in the log
    nobody answers it           →  it expires as any ticket, and the log says what it was

Decides which past ticket is shown to whom; how it is shown and answered is `voting`'s, as for any. INVARIANTS
1. A canary is to be denied because people denied it, or found later that they should have; a clean one was approved,
   used and never found wrong. Nothing else is known well enough.
2. Nobody is shown what they answered themselves.
3. It is written to its own rows alone. No answer to it changes a ticket, an answer that stands, or anything that a
   decision reads.
4. Whether and when is drawn by chance: nobody can tell from what they answered, nor from when, whether the next is one.
5. It has an id, a call and a time of its own, as every ticket: nothing in it is of the day that it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.approvals.binding import ticket_digest
from citywatch.core.approvals.recorded import category_of
from citywatch.core.approvals.seal import Canary, Kind, Over, canary_key, over_key
from citywatch.core.approvals.ticket import Done, State, Ticket
from citywatch.core.approvals.vigilance import EXERCISE
from citywatch.core.errors import Malformed
from citywatch.core.log.entry import encode_event
from citywatch.service.care import unsealing
from citywatch.service.ports import Append, Appended, Chance, NewEntry, Row
from citywatch.service.tickets import Tickets
from citywatch.service.vigilance import Watching

PAST: Final = 1_000
CANARY, OVER = canary_key("")[0], over_key("")[0]
ID: Final = 12
LATER_MS: Final = (15_000, 900_000)
"""When a canary is asked after the answer that drew it: the one after it, and not at the same moment."""


class Canaries:
    """The made-up tickets of one store; `rate` is how many of 100 risky ones are followed by one (0: none)."""

    def __init__(self, tickets: Tickets, chance: Chance, watching: Watching, rate: int) -> None:
        self._tickets = tickets
        self._chance = chance
        self._watching = watching
        self._rate = rate

    async def of(self, person: str) -> Sequence[Ticket]:
        """Those that wait for this person, as they see them."""
        now = self._tickets.now()
        return [one.ticket for one in await self._made(person) if one.ticket.asked <= now < one.ticket.expires]

    async def drills(self, person: str) -> int:
        """How many of an exercise this person still has to answer."""
        now = self._tickets.now()
        return sum(one.drill and one.ticket.expires > now for one in await self._made(person))

    async def find(self, name: str, person: str) -> tuple[Canary, Row] | None:
        """The canary of that id, if it was made for this person, and is asked by now."""
        key = canary_key(name)
        row = (await self._tickets.store.load((key,), ())).rows.get(key)
        canary = None if row is None else msgspec.json.decode(row.value, type=Canary)
        if row is None or canary is None or canary.of != person or canary.ticket.asked > self._tickets.now():
            return None
        return canary, row

    async def over(self, name: str, person: str) -> Over | None:
        """The canary of that id, if this person has answered it."""
        key = over_key(name)
        row = (await self._tickets.store.load((key,), ())).rows.get(key)
        found = None if row is None else msgspec.json.decode(row.value, type=Over)
        return found if found is not None and found.canary.of == person else None

    async def maybe(self, answered: Ticket, person: str) -> None:
        """After this person answered a risky ticket: perhaps they are asked a made-up one. # INVARIANT: 4."""
        drawn = int.from_bytes(self._chance.salt()[:4]) % 100
        if drawn < self._rate and category_of(answered).endswith(("untrusted", "disclosure")):
            first, last = LATER_MS
            await self._plant(Kind.CANARY, person, 1, first + int.from_bytes(self._chance.salt()[:4]) % (last - first))

    async def exercise(self, person: str) -> int:
        """Ask somebody eight made-up ones, half of them to be denied; return how many there are to be asked.

        Raises `Malformed` if too little of the past is known, or they have not answered those of the last one.
        """
        half = EXERCISE // 2
        if left := await self.drills(person):
            raise Malformed(f"of an exercise {left} are still to be answered")
        for kind in (Kind.CANARY, Kind.CLEAN):
            if len(await self._known(kind, person)) < half:
                raise Malformed(f"an exercise takes {half} tickets that others denied, and {half} rightly approved")
        targets = await self._plant(Kind.CANARY, person, half, drill=True)
        return targets + await self._plant(Kind.CLEAN, person, half, drill=True)

    async def expire(self) -> int:
        """End those that nobody answered in time, as tickets end: with an entry, and what they were. Return how many.

        What was answered is forgotten once its ticket would have expired.
        """
        now, ended = self._tickets.now(), 0
        for name, row in await self._tickets.store.scan(CANARY):
            if msgspec.json.decode(row.value, type=Canary).ticket.expires <= now:
                ended += await self._end(name, row, now)
        for name, row in await self._tickets.store.scan(OVER):
            if msgspec.json.decode(row.value, type=Over).canary.ticket.expires <= now:
                await self._tickets.store.append(Append(puts=((over_key(name), None),)))
        return ended

    async def _end(self, name: str, row: Row, now: int) -> int:
        key, unsealed = canary_key(name), await unsealing(self._tickets, name)
        event = events.TicketExpired(at=now, replica=self._tickets.replica, ticket=name, state=State.PENDING.value)
        told = (NewEntry(encode_event(event)), *unsealed.entries) if unsealed.entries else ()
        outcome = await self._tickets.store.append(  # what nobody was ever shown, the log does not know of
            Append(
                entries=told,
                reads=((key, row.version), *unsealed.reads),
                puts=((key, None), *unsealed.puts),
            )
        )
        return int(isinstance(outcome, Appended))

    async def _made(self, person: str) -> list[Canary]:
        found = [msgspec.json.decode(row.value, type=Canary) for _, row in await self._tickets.store.scan(CANARY)]
        return [one for one in found if one.of == person]

    async def _plant(self, kind: Kind, person: str, count: int, later: int = 0, *, drill: bool = False) -> int:
        known = await self._known(kind, person)
        planted = 0
        while known and planted < count:
            past = known.pop(int.from_bytes(self._chance.salt()[:4]) % len(known))
            canary = Canary(
                kind=kind,
                of=person,
                ticket=self._again(past, self._tickets.now() + later),
                since=past.asked,
                call=past.call,
                past=past.id,
                drill=drill,
            )
            key = canary_key(canary.ticket.id)
            await self._tickets.store.append(Append(reads=((key, 0),), puts=((key, msgspec.json.encode(canary)),)))
            planted += 1
        return planted

    async def _known(self, kind: Kind, person: str) -> list[Ticket]:
        """# INVARIANT: 1 and 2."""
        wrong = (await self._watching.now()).reversed()
        shown = {one.past for one in await self._made(person)}
        past = [one for one in await self._tickets.closed(PAST) if one.bound is not None and one.id not in shown]
        fresh = [one for one in past if all(vote.person != person for vote in one.votes)]
        if kind is Kind.CANARY:
            return [one for one in fresh if (one.state is State.DENIED and one.votes) or one.id in wrong]
        return [one for one in fresh if one.state is State.USED and one.votes and one.id not in wrong]

    def _again(self, past: Ticket, asked: int) -> Ticket:
        """# INVARIANT: 5."""
        call, salt, expires = self._chance.call_id(), self._chance.salt().hex(), asked + past.expires - past.asked
        name = call[:ID]
        return msgspec.structs.replace(
            past,
            id=name,
            call=call,
            state=State.PENDING,
            asked=asked,
            expires=expires,
            by="",
            reason="",
            principal="",
            salt=salt,
            nonce=self._chance.salt().hex(),
            digest="" if past.bound is None else ticket_digest(past.bound, name, salt, expires),
            votes=(),
            done=(Done(asked, "asked", past.agent),),
            superseded="",
        )
