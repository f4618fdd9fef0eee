"""Who asks the approvals API: the person of the file whose key signed the request, once.

    whose: the head of a request → the person whose key signed it, or nobody
    take:  with its body → that person, and never again for the same request

Decides who asks; not what they may do (`people.RIGHTS`), and not what they answer: an answer is a statement that they
sign besides (`voting`). INVARIANTS
1. Nobody is anybody here but by a key that the file gives them, or that they lent (`lending`): no cookie, no token.
2. A request is good once, for its minute, for this very address, method, path, query and body.
3. Whoever is nobody leaves no row and no entry.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Final

import msgspec

from citywatch.core.approvals.people import Person
from citywatch.core.approvals.request import Request, read_request, stranger, verify_request
from citywatch.core.errors import Code, Refused
from citywatch.core.http_signature import Head, check_digest
from citywatch.core.signature import Ed25519Key, parse_spki, thumbprint
from citywatch.service.lending import Lending
from citywatch.service.messages import spend
from citywatch.service.ports import Clock, Key, Store

NONCE: Final = "nonce"
"""The rows in which agents' signed messages are kept too, and forgotten with them (`messages.drop_nonces`)."""


class Caller(msgspec.Struct, frozen=True):
    """Whose the head of a request is."""

    person: Person
    request: Request


class Callers:
    """The people of one file, by their keys."""

    def __init__(
        self, store: Store, clock: Clock, people: Mapping[str, Person], lending: Lending, leeway_ms: int
    ) -> None:
        self._store = store
        self._lending = lending
        self._clock = clock
        self._leeway = leeway_ms
        self._keys: dict[str, tuple[Person, Ed25519Key]] = {}
        for person in people.values():
            for spki in person.keys:
                key = parse_spki(b64decode(spki))
                if isinstance(key, Ed25519Key):
                    self._keys[thumbprint(key)] = (person, key)

    async def whose(self, head: Head) -> Caller:
        """Whose request this is, as far as its head says; `Refused` for everybody else's."""
        claim = read_request(head)
        held = self._keys.get(claim.key) or await self._lending.holder(claim.key)
        if held is None:  # INVARIANT: 1.
            raise stranger()
        person, key = held
        return Caller(person, verify_request(claim, key, now=self._clock.now_ms(), leeway=self._leeway))

    async def take(self, caller: Caller, body: bytes) -> Person:
        """Whose the whole request is; `Refused` if the body is another than was signed, or it came before."""
        request = caller.request
        check_digest(request.digest, body)
        place: Key = (NONCE, f"{request.key}\n{request.nonce}")
        if not await spend(self._store, place, request.expires):  # INVARIANT: 2.
            raise Refused(Code.CREDENTIAL_EXPIRED, "the request was sent before")
        return caller.person
