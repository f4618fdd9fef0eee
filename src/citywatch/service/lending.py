"""Keys that people lend a front end by their passkeys: for those who have no key in the file.

    lend:   a key signs the request · it is the one that is lent · the loan is of now, of this city · a passkey of the
            person signed the loan → a row, and an entry that they came in
    holder: whose a lent key is, by now

Decides for whom a lent key asks; what they then do is theirs alone, and an answer takes their passkey again. INVARIANTS
1. A key is lent by one person, once: what signed the loan before is good for nothing again.
2. It ends with its time, with its passkey, with the person's place in the file; nothing renews it but another loan.
3. The key stands in no entry and cannot answer: answers are signed by what the file or an enrolment gives a person.
4. In an hour nobody lends more than `LOANS` keys, however fast their passkey signs.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Final

import msgspec

from citywatch.core.approvals.lending import Lent, Loan, lent_key, lent_row, loan_challenge
from citywatch.core.approvals.passkey import Passkey, passkey_key
from citywatch.core.approvals.people import Passkeys as RelyingParty
from citywatch.core.approvals.people import Person, Right
from citywatch.core.approvals.request import read_request, stranger, verify_request
from citywatch.core.approvals.webauthn import Assertion
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.http_signature import Head, check_digest
from citywatch.core.signature import Ed25519Key, parse_spki, thumbprint
from citywatch.service.entering import Entering
from citywatch.service.pace import Pace
from citywatch.service.ports import Append, Clock, Puts, Store
from citywatch.service.signatures import used_passkey

LOANS: Final = 30
SPAN_MS: Final = 3_600_000


class Lending:
    """The lent keys of one store."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        people: Mapping[str, Person],
        domain: str,
        rp: RelyingParty | None,
        entering: Entering,
        leeway_ms: int,
    ) -> None:
        self._store = store
        self._clock = clock
        self._people = people
        self._domain = domain
        self._rp = rp
        self._entering = entering
        self._leeway = leeway_ms
        self._pace = Pace(LOANS, SPAN_MS)

    async def lend(self, head: Head, body: bytes, loan: Loan, proof: Assertion) -> Lent:
        """Let a key ask for somebody; `Refused` or `Malformed` where it is not theirs to lend, or not now."""
        claim, now = read_request(head), self._clock.now_ms()
        key = lent_key(loan, domain=self._domain, now=now, leeway=self._leeway)
        name = thumbprint(key)
        if claim.key != name:
            raise stranger()
        check_digest(verify_request(claim, key, now=now, leeway=self._leeway).digest, body)
        person = self._people.get(loan.person)
        if person is None or not person.may(Right.SEE):
            raise Malformed(f"the passkey is none of those of `{loan.person[:80]}`")  # as for whoever has none
        used = await used_passkey(self._store, self._rp, proof, loan_challenge(loan), person)
        # INVARIANT: 4. A passkey may be a program, too, and each loan is an entry.
        if not self._pace.allows(person.name, now):
            raise Malformed(f"`{person.name}` lends at most {LOANS} keys in an hour")
        lent = Lent(person=person.name, passkey=used.id, key=loan.key, until=loan.expires)
        await self._sweep()
        place = lent_row(name)
        entered = await self._entering.came(
            f"person:{person.name}",
            tuple(role.value for role in person.roles),
            "passkey",
            (*used.reads, (place, 0)),  # INVARIANT: 1.
            (*used.puts, (place, msgspec.json.encode(lent))),
        )
        if not entered:
            self._pace.take_back(person.name)
            raise Refused(Code.CREDENTIAL_UNTRUSTED, "this key was lent before, or its passkey was used just now")
        return lent

    async def holder(self, name: str) -> tuple[Person, Ed25519Key] | None:
        """Whose the lent key of this thumbprint is by now; None if it is nobody's. # INVARIANT: 2."""
        place = lent_row(name[:64])
        row = (await self._store.load((place,), ())).rows.get(place)
        if row is None:
            return None
        lent = msgspec.json.decode(row.value, type=Lent)
        by = passkey_key(lent.passkey)
        found = (await self._store.load((by,), ())).rows.get(by)
        passkey = None if found is None else msgspec.json.decode(found.value, type=Passkey)
        person, key = self._people.get(lent.person), parse_spki(b64decode(lent.key))
        over = self._clock.now_ms() >= lent.until
        if over or passkey is None or not passkey.counts or person is None or not isinstance(key, Ed25519Key):
            return None
        return person, key

    async def _sweep(self) -> None:
        now = self._clock.now_ms()
        over: Puts = tuple(
            (lent_row(name), None)
            for name, row in await self._store.scan("lent_key")
            if msgspec.json.decode(row.value, type=Lent).until <= now
        )
        if over:
            await self._store.append(Append(puts=over))
