"""How somebody comes in at the console: by a link that is good once, or by what a provider says of them.

Decides whether a link is good, and enters that somebody came in; who may hand out links is whoever can open the store.
INVARIANTS: a link is used once, by one process, however many try (its row is taken in the transaction that enters who
came in); it ends by itself after `LINK_MS`; the store holds its digest, never the link; nobody is in before
the entry is.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, Clock, Key, NewEntry, Puts, Reads, Store

LINK_MS: Final = 5 * 60_000
KIND: Final = "console_link"


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a link lets in, what they may do, and until when it is good."""

    person: str
    roles: tuple[str, ...]
    until: int


class Entering:
    """Links into the console of this store."""

    def __init__(self, *, store: Store, clock: Clock, replica: str) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica

    async def hand_out(self, token: str, person: str, roles: tuple[str, ...]) -> Link:
        """Make a link good for `LINK_MS`. `token` is drawn by the caller: 256 bits that nobody else has."""
        link = Link(person=person, roles=roles, until=self._clock.now_ms() + LINK_MS)
        await self._sweep()
        put: Puts = ((_key(token), msgspec.json.encode(link)),)
        outcome = await self._store.append(Append(reads=((_key(token), 0),), puts=put))
        if not isinstance(outcome, Appended):
            raise Unavailable(Code.CONFLICT, "that link exists already")
        return link

    async def take(self, token: str) -> Link:
        """Let in whoever holds a link, and end it; `Refused(CREDENTIAL_EXPIRED)` for one that is not good."""
        key = _key(token)
        row = (await self._store.load([key], [])).rows.get(key)
        link = None if row is None else msgspec.json.decode(row.value, type=Link)
        if row is None or link is None or self._clock.now_ms() >= link.until:
            raise Refused(Code.CREDENTIAL_EXPIRED, "that link was used, or its time is over")
        # INVARIANT: whoever reads the same row a moment later finds it changed, and is not let in.
        if not await self._enter(link.person, link.roles, "link", ((key, row.version),), ((key, None),)):
            raise Refused(Code.CREDENTIAL_EXPIRED, "that link was used in the same moment")
        return link

    async def came(self, person: str, roles: tuple[str, ...], how: str, reads: Reads = (), puts: Puts = ()) -> bool:
        """Enter that somebody came in whom something else vouches for; False if what it rests on changed meanwhile."""
        return await self._enter(person, roles, how, reads, puts)

    async def _enter(self, person: str, roles: tuple[str, ...], how: str, reads: Reads, puts: Puts) -> bool:
        now = self._clock.now_ms()
        event = events.ConsoleEntered(at=now, replica=self._replica, person=person, roles=roles, how=how)
        entry = NewEntry(encode_event(event))
        outcome = await self._store.append(Append(entries=(entry,), reads=reads, puts=puts, sync=True))
        return isinstance(outcome, Appended)

    async def _sweep(self) -> None:
        now = self._clock.now_ms()
        over: Puts = tuple(
            ((KIND, name), None)
            for name, row in await self._store.scan(KIND)
            if msgspec.json.decode(row.value, type=Link).until <= now
        )
        if over:
            await self._store.append(Append(puts=over))


def _key(token: str) -> Key:
    return (KIND, sha256(token.encode("utf-8", "replace")).hexdigest())
