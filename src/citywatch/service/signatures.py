"""Whose signature is under an answer: an Ed25519 key of the file, a passkey of a row, or (unsafely) none.

Decides that a person gave an answer, by these very bytes; not whether it counts (`counting`) nor what it may say
(`core.approvals.answers`). INVARIANTS
1. Nothing is believed unsigned (but for `unsafe_unsigned`).
2. A key signs for its person alone, and a passkey's counter rises in the transaction of the answer.
"""

from __future__ import annotations

from base64 import b64decode

import msgspec

from citywatch.core.approvals.passkey import Passkey, passkey_key
from citywatch.core.approvals.people import Approvals, Passkeys, Person
from citywatch.core.approvals.statement import Signable, challenge_of, verify_statement
from citywatch.core.approvals.webauthn import Assertion, verify_assertion
from citywatch.core.errors import Malformed
from citywatch.core.signature import Ed25519Key, parse_b64url, parse_spki, thumbprint
from citywatch.service.ports import Puts, Reads, Store


class Signature(msgspec.Struct, frozen=True):
    """Made with one of the person's Ed25519 keys, over `statement.statement_bytes`; in base64url."""

    signature: str


class Unsigned(msgspec.Struct, frozen=True):
    """No proof at all; counts only with `approvals.unsafe_unsigned`."""


Proof = Signature | Assertion | Unsigned


class Proved(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer was proved, as the log tells it, and which rows that changes."""

    method: str
    key: str = ""
    signature: str = ""
    authenticator: str = ""
    client: str = ""
    reads: Reads = ()
    puts: Puts = ()


class Signatures:
    """The signatures of the people of one file, with the passkeys of one store."""

    def __init__(self, store: Store, approvals: Approvals) -> None:
        self._store = store
        self._approvals = approvals

    async def prove(self, said: Signable, proof: Proof, person: Person) -> Proved:
        """How this person proved that it is their answer; `Malformed` if they did not. # INVARIANT: 1."""
        if isinstance(proof, Unsigned):
            if not self._approvals.unsafe_unsigned:
                raise Malformed("an answer is signed, with `--key` or with a passkey in the console")
            return Proved(method="unsigned")
        if isinstance(proof, Assertion):
            return await self._prove_passkey(said, proof, person)
        signature = parse_b64url(proof.signature)
        for spki in person.keys:
            key = parse_spki(b64decode(spki))
            try:
                if isinstance(key, Ed25519Key) and verify_statement(said, signature, key):
                    return Proved(method="ed25519", key=thumbprint(key), signature=proof.signature)
            except Malformed:
                continue
        raise Malformed(f"the signature is of none of the keys of `{person.name}`")

    async def _prove_passkey(self, said: Signable, proof: Assertion, person: Person) -> Proved:
        used = await used_passkey(self._store, self._approvals.passkeys, proof, challenge_of(said), person)
        return Proved(
            method="webauthn",
            key=used.id,
            signature=proof.signature,
            authenticator=proof.authenticator,
            client=proof.client,
            reads=used.reads,
            puts=used.puts,
        )


class Used(msgspec.Struct, frozen=True):
    """A passkey that signed a challenge just now, and what that reads and writes."""

    id: str
    reads: Reads
    puts: Puts


async def used_passkey(store: Store, rp: Passkeys | None, proof: Assertion, challenge: bytes, person: Person) -> Used:
    """That a passkey of this person signed this challenge; `Malformed` if none did."""
    key = passkey_key(proof.id[:2048])
    row = (await store.load((key,), ())).rows.get(key)
    passkey = None if row is None else msgspec.json.decode(row.value, type=Passkey)
    if rp is None or row is None or passkey is None or passkey.person != person.name:  # INVARIANT: 2.
        raise Malformed(f"the passkey is none of those of `{person.name}`")
    asserted = verify_assertion(proof, challenge, rp, passkey)
    used = msgspec.structs.replace(passkey, count=asserted.count, synced=asserted.synced)
    return Used(passkey.id, ((key, row.version),), ((key, msgspec.json.encode(used)),))
