"""Passkeys: somebody who holds an operator's code enrols a credential of theirs; an operator takes it back.

    invite → a code, good once and for a while → begin (a challenge) → the browser makes a credential → finish

Decides who may enrol and that a code is spent with what it enrols; whether the credential is good is
`core.approvals.webauthn`'s. INVARIANTS
1. A credential is one person's for ever: an id that was seen is not enrolled again, nor for anybody else.
2. Of a code nothing is kept but its digest; two that use it at once enrol one credential.
3. Only whoever the file names can be invited; one that was revoked signs nothing from the next answer on.
4. Each of this is an entry in the log, with the key, so that what was signed can be checked for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.approvals.passkey import Enrolment, Passkey, enrolment_key, passkey_key, passkeys_key
from citywatch.core.approvals.people import Passkeys as RelyingParty
from citywatch.core.approvals.people import Person, Right
from citywatch.core.approvals.webauthn import Registration, verify_registration
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, Chance, Clock, NewEntry, Puts, Reads, Row, Store

ENROL_MS: Final = 15 * 60_000
MAX_PASSKEYS: Final = 16
"""Credentials that one person has, those that were revoked among them."""
MAX_CALLED: Final = 60


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What a page needs to make a credential: for whom, the challenge, which credentials that person has already."""

    person: str
    challenge: bytes
    rp: RelyingParty
    existing: tuple[str, ...]


class Passkeys:
    """The credentials of the people of one file."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        chance: Chance,
        replica: str,
        people: Mapping[str, Person],
        rp: RelyingParty | None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance
        self._replica = replica
        self._people = people
        self._rp = rp

    async def invite(self, person: str, by: str, ttl_ms: int = ENROL_MS) -> str:
        """A code with which this person enrols one passkey in the console; it is kept nowhere."""
        self._relying()
        who = self._people.get(person)
        if who is None or not who.may(Right.ANSWER):  # INVARIANT: 3.
            raise Malformed(f"the file names no approver `{person[:80]}` under `people`")
        code, now = self._chance.salt().hex(), self._clock.now_ms()
        challenge = self._chance.salt().hex() + self._chance.salt().hex()
        row = Enrolment(person=person, until=now + ttl_ms, by=by, challenge=challenge)
        event = events.PasskeyInvited(at=now, replica=self._replica, person=person, until=row.until, by=by)
        key = enrolment_key(code)
        await self._append(event, ((key, 0),), ((key, msgspec.json.encode(row)),))
        return code

    async def begin(self, code: str) -> Begun:
        """What the page of whoever holds the code is given; `Refused(CREDENTIAL_UNTRUSTED)` for any other."""
        _, row = await self._enrolment(code)
        return Begun(
            person=row.person,
            challenge=bytes.fromhex(row.challenge),
            rp=self._relying(),
            existing=tuple(one.id for one in await self.of(row.person)),
        )

    async def finish(self, code: str, registration: Registration, called: str = "") -> Passkey:
        """Enrol what the browser made, and spend the code. `Malformed` if it is not a credential that was made so."""
        stored, row = await self._enrolment(code)
        made = verify_registration(registration, bytes.fromhex(row.challenge), self._relying())
        now, mine = self._clock.now_ms(), passkeys_key(row.person)
        key = passkey_key(made.id)
        rows = (await self._store.load((key, mine), ())).rows
        ids = msgspec.json.decode(rows[mine].value, type=tuple[str, ...]) if mine in rows else ()
        if key in rows:  # INVARIANT: 1.
            raise Malformed("this passkey is enrolled already")
        if len(ids) >= MAX_PASSKEYS:
            raise Refused(Code.CONFLICT, f"`{row.person}` has {MAX_PASSKEYS} passkeys already")
        passkey = Passkey(
            id=made.id,
            person=row.person,
            key=made.key,
            count=made.count,
            synced=made.synced,
            called=called[:MAX_CALLED],
            added=now,
            by=row.by,
        )
        event = events.PasskeyEnrolled(
            at=now, replica=self._replica, person=row.person, credential=made.id, key=made.key, by=row.by
        )
        spent = enrolment_key(code)
        await self._append(
            event,
            ((spent, stored.version), (key, 0), (mine, rows[mine].version if mine in rows else 0)),
            ((spent, None), (key, msgspec.json.encode(passkey)), (mine, msgspec.json.encode((*ids, made.id)))),
        )
        return passkey

    async def of(self, person: str) -> tuple[Passkey, ...]:
        """All passkeys of this person, those that were revoked among them, the first one first."""
        mine = passkeys_key(person)
        row = (await self._store.load((mine,), ())).rows.get(mine)
        ids = () if row is None else msgspec.json.decode(row.value, type=tuple[str, ...])
        rows = (await self._store.load([passkey_key(one) for one in ids], ())).rows
        return tuple(msgspec.json.decode(one.value, type=Passkey) for one in rows.values())

    async def revoke(self, credential: str, by: str, reason: str) -> Passkey:
        """Take a passkey back: it signs nothing from the next answer on. What it signed stays as it was decided."""
        key = passkey_key(credential[:2048])
        row = (await self._store.load((key,), ())).rows.get(key)
        if row is None:
            raise Malformed(f"there is no passkey `{credential[:80]}`")
        passkey, now = msgspec.json.decode(row.value, type=Passkey), self._clock.now_ms()
        if passkey.revoked:
            return passkey
        gone = msgspec.structs.replace(passkey, revoked=now)
        event = events.PasskeyRevoked(
            at=now, replica=self._replica, person=passkey.person, credential=passkey.id, by=by, reason=reason
        )
        await self._append(event, ((key, row.version),), ((key, msgspec.json.encode(gone)),))
        return gone

    async def _enrolment(self, code: str) -> tuple[Row, Enrolment]:
        key = enrolment_key(code[:256])
        row = (await self._store.load((key,), ())).rows.get(key)
        found = None if row is None else msgspec.json.decode(row.value, type=Enrolment)
        if row is None or found is None or self._clock.now_ms() >= found.until:
            raise Refused(Code.CREDENTIAL_UNTRUSTED, "the code is used, over or none of ours: ask the operator for one")
        return row, found

    def _relying(self) -> RelyingParty:
        if self._rp is None:
            raise Malformed("the file says nowhere that passkeys are used: write `approvals.passkeys`")
        return self._rp

    async def _append(
        self,
        event: events.Event,
        reads: Reads,
        puts: Puts,
    ) -> None:
        entries = (NewEntry(encode_event(event)),)
        outcome = await self._store.append(Append(entries=entries, reads=reads, puts=puts, sync=True))
        if not isinstance(outcome, Appended):
            raise Refused(Code.CONFLICT, "somebody changed this at the same moment: try again")
