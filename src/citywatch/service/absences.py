"""Approvers say that they are away and who stands in, or that they are back; and who is away now.

    prepare   what somebody would sign   →   say   it is checked, entered in the log, and kept   →   now

Decides nothing of its own: what may be said and what it does are `core.approvals.absence`'s. INVARIANTS: what is kept
of somebody is their latest statement, with its signature, which is verified at each look; its entry and its row are one
transaction; whoever rests a decision on who is away commits it against the rows that said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from citywatch.core import events
from citywatch.core.approvals.absence import (
    Absence,
    Kept,
    away_key,
    check_absence,
    format_absence,
    parse_absence,
    standing_in,
    verify_absence,
)
from citywatch.core.approvals.people import Person
from citywatch.core.errors import Code, Refused
from citywatch.core.log.entry import encode_event
from citywatch.core.signature import parse_b64url
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Reads, Store


class Absences:
    """Who of the people of one file is away, by the rows of one store."""

    def __init__(self, *, store: Store, clock: Clock, replica: str, people: Mapping[str, Person], domain: str) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica
        self._people = people
        self._domain = domain

    async def now(self) -> Mapping[str, Absence]:
        """Who is away now, by name."""
        return (await load_away(self._store, self._people, self._domain, self._clock.now_ms()))[0]

    async def prepare(self, person: str, deputy: str, until: int) -> Absence:
        """What this person would sign now; without a deputy, that they are back. Raises if it could not count."""
        said = Absence(domain=self._domain, person=person, deputy=deputy, at=self._clock.now_ms(), until=until)
        check_absence(said, self._people, self._domain, self._clock.now_ms(), await self._last(person))
        return said

    async def say(self, said: Absence, signature: str) -> None:
        """Enter and keep what somebody signed; raises `Malformed` or `Refused` for what they may not say."""
        now, key = self._clock.now_ms(), away_key(said.person)
        row = (await self._store.load((key,), ())).rows.get(key)
        before = None if row is None else parse_absence(msgspec.json.decode(row.value, type=Kept).text)
        person = check_absence(said, self._people, self._domain, now, before)
        signer = verify_absence(said, parse_b64url(signature), person)
        text = format_absence(said)
        event = events.AbsenceSaid(
            at=now,
            replica=self._replica,
            person=said.person,
            deputy=said.deputy,
            until=said.until,
            statement=text,
            key=signer,
            signature=signature,
        )
        outcome = await self._store.append(
            Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((key, 0 if row is None else row.version),),
                puts=((key, msgspec.json.encode(Kept(text, signature))),),
                sync=True,
            )
        )
        if not isinstance(outcome, Appended):
            raise Refused(Code.CONFLICT, f"`{said.person}` said something else at the same moment: look again")

    async def _last(self, person: str) -> Absence | None:
        key = away_key(person)
        row = (await self._store.load((key,), ())).rows.get(key)
        return None if row is None else parse_absence(msgspec.json.decode(row.value, type=Kept).text)


async def load_away(
    store: Store, people: Mapping[str, Person], domain: str, now: int, of: Iterable[str] | None = None
) -> tuple[Mapping[str, Absence], Reads]:
    """Who of these people (None: of all for whom somebody may stand in) is away, and the rows that say so."""
    named = people if of is None else [name for name in of if name in people]
    keys = [away_key(name) for name in dict.fromkeys(named) if people[name].deputies]
    if not keys:
        return {}, ()
    rows = (await store.load(keys, ())).rows
    kept = [msgspec.json.decode(row.value, type=Kept) for row in rows.values()]
    reads = tuple((key, rows[key].version if key in rows else 0) for key in keys)
    return standing_in(kept, people, domain, now), reads
