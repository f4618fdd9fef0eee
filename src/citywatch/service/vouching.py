"""What is vouched for of an agent: a credential of a named issuer, and a builder's word on what it runs.

Decides nothing of what they mean; `core.identity.vc` and `core.identity.attestation` verify them, policies and
`service.workload` read them.
INVARIANTS: only what was verified is held; holding and withdrawing have their entry in the same transaction, on the
disk before this returns; the next decision sees it, for each reads the agent's row. Nothing is held of an issuer's key
that is not believed any more, and distrusting one takes back what it signed, whole or not at all.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

import msgspec
import rfc8785

from citywatch.core import events
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.attestation import PAYLOAD_TYPE, Attestation, Said, format_statement, verify_attestation
from citywatch.core.identity.dsse import format_envelope, pae
from citywatch.core.identity.registration import (
    AgentRow,
    KeyRow,
    agent_key,
    format_row,
    issuer_key,
    parse_agent_row,
)
from citywatch.core.identity.token import format_moment
from citywatch.core.identity.vc import (
    CONTEXT,
    TYPES,
    Claims,
    format_base58,
    format_multikey,
    signed_hash,
    verify_agent_credential,
)
from citywatch.core.log.entry import encode_event
from citywatch.core.names import AgentId, parse_segment
from citywatch.core.signature import Ed25519Key, Key, format_spki, parse_spki, thumbprint
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Puts, Reads, Signer, Store

MAX_CONFLICTS = 3
HELD: Final = ("machine", "credentials")
"""Moved by each credential that is held: who goes over all agents knows that none was held meanwhile."""
Change = Callable[[AgentRow, int], tuple[AgentRow, events.Event]]
"""An agent's row and the time become the row that is kept, and its entry."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator says of an agent; empty texts are not said."""

    owner: str
    model: str = ""
    configuration: str = ""
    prompt: str = ""
    capabilities: tuple[str, ...] = ()


def issuer_of(domain: str) -> str:
    """The name under which a trust domain's own authority issues credentials."""
    return f"spiffe://{domain}/authority"


def attest(said: Said, signer: Signer) -> bytes:
    """What a builder says of what an agent runs, signed: a DSSE envelope around an in-toto statement."""
    payload = format_statement(said)
    key = parse_spki(signer.public)
    envelope = format_envelope(PAYLOAD_TYPE, payload, signer.sign(pae(PAYLOAD_TYPE, payload)), thumbprint(key))
    verify_attestation(envelope, said.agent, "", key)  # what we would not accept, we do not hand out
    return envelope


class Vouching:
    """Issues and keeps the credentials of one trust domain's agents."""

    def __init__(self, *, store: Store, clock: Clock, replica: str, domain: str) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica
        self._domain = domain

    async def issue(self, name: str, statement: Statement, signer: Signer, ttl: int, by: str) -> bytes:
        """Sign what is said of an agent, for `ttl` milliseconds from now, and hold it; return the document."""
        issuer, key = issuer_of(self._domain), _ed25519(signer)
        now = self._clock.now_ms()
        said: dict[str, Any] = {name: value for name, value in msgspec.to_builtins(statement).items() if value}
        document: dict[str, Any] = {
            "@context": list(CONTEXT),
            "type": list(TYPES),
            "issuer": issuer,
            "validFrom": format_moment(now),
            "validUntil": format_moment(now + ttl),
            "credentialSubject": {"id": str(self._agent(name)), **said},
        }
        proof: dict[str, Any] = {
            "type": "DataIntegrityProof",
            "cryptosuite": "eddsa-jcs-2022",
            "created": format_moment(now),
            "verificationMethod": f"{issuer}#{format_multikey(key)}",
            "proofPurpose": "assertionMethod",
            "@context": list(CONTEXT),
        }
        proof["proofValue"] = format_base58(signer.sign(signed_hash(document, proof)))
        whole = rfc8785.dumps({**document, "proof": proof})
        await self.hold(name, whole, issuer, key, by)
        return whole

    async def hold(self, name: str, document: bytes, issuer: str, key: Ed25519Key, by: str) -> Claims:
        """Keep what `issuer` says of an agent in place of what was kept; `Malformed` if it is not the issuer's word."""
        claims = verify_agent_credential(document, self._agent(name), issuer, key)
        where = issuer_key(claims.key)
        stored = (await self._store.load([where], [])).rows.get(where)
        if stored is not None:
            raise Refused(Code.CREDENTIAL_UNTRUSTED, "this key of an issuer is not believed any more")
        await self._keep(name, self._vouched(claims, document.decode("utf-8"), by), ((where, 0),), ((HELD, b"true"),))
        return claims

    async def withdraw(self, name: str, by: str) -> None:
        """Keep no credential of an agent any more: policies see no claim from its next request on."""
        await self._keep(name, self._vouched(None, "", by))

    async def hold_attestation(self, name: str, envelope: bytes, attestor: str, key: Key, by: str) -> Attestation:
        """Keep what `attestor` says of what an agent runs in place of what was kept; `Malformed` if it does not."""
        found = verify_attestation(envelope, self._agent(name), attestor, key)
        shown = b64encode(format_spki(key)).decode()
        await self._keep(name, self._attested(found, shown, envelope.decode("utf-8"), by))
        return found

    async def withdraw_attestation(self, name: str, by: str) -> None:
        """Keep no attestation of an agent any more, from its next request and its program's next paper on."""
        await self._keep(name, self._attested(None, "", "", by))

    async def distrust(self, key: Ed25519Key, by: str, reason: str) -> tuple[str, ...]:
        """Believe this key of an issuer no more, and take back each credential that it signed; return whose they were.

        All in one transaction, which reads that no credential was held meanwhile. A row from before keys were kept is
        taken back too, unless its issuer is our own authority: whoever signed it, it can be held again.
        """
        shown = format_multikey(key)
        where = issuer_key(shown)
        for _ in range(MAX_CONFLICTS):
            loaded = (await self._store.load([where, HELD], [])).rows
            agents = [(name, row, parse_agent_row(row.value)) for name, row in await self._store.scan("agent")]
            signed = [one for one in agents if self._signed(one[2], shown)]
            now = self._clock.now_ms()
            told: list[events.Event] = []
            puts: list[tuple[tuple[str, str], bytes | None]] = []
            if where not in loaded:
                told.append(events.IssuerDistrusted(at=now, replica=self._replica, key=shown, by=by, reason=reason))
                puts.append((where, format_row(KeyRow(agent=""))))
            for name, _row, agent in signed:
                kept, event = self._vouched(None, "", by)(agent, now)
                told.append(event)
                puts.append((agent_key(name), format_row(kept)))
            if not told:
                return ()
            versions = {key: loaded[key].version if key in loaded else 0 for key in (where, HELD)}
            append = Append(
                entries=tuple(NewEntry(encode_event(one)) for one in told),
                reads=(*versions.items(), *((agent_key(name), row.version) for name, row, _ in signed)),
                puts=tuple(puts),
                sync=True,
            )
            if isinstance(await self._store.append(append), Appended):
                return tuple(name for name, _, _ in signed)
        raise Unavailable(Code.CONFLICT, "credentials kept changing: the key is believed as before")

    def _signed(self, row: AgentRow, shown: str) -> bool:
        """Whether this key signed what is held of an agent, as far as the row says who did."""
        claims = row.claims
        if claims is None:
            return False
        return claims.key == shown or (not claims.key and claims.issuer != issuer_of(self._domain))

    def _vouched(self, claims: Claims | None, document: str, by: str) -> Change:
        def change(row: AgentRow, now: int) -> tuple[AgentRow, events.Event]:
            event = events.AgentVouched(
                at=now,
                replica=self._replica,
                agent=row.agent,
                issuer="" if claims is None else claims.issuer,
                key="" if claims is None else claims.key,
                document=document,
                by=by,
            )
            return msgspec.structs.replace(row, claims=claims, vouched_at=now), event

        return change

    def _attested(self, found: Attestation | None, key: str, envelope: str, by: str) -> Change:
        def change(row: AgentRow, now: int) -> tuple[AgentRow, events.Event]:
            event = events.AgentAttested(
                at=now,
                replica=self._replica,
                agent=row.agent,
                attestor="" if found is None else found.attestor,
                key=key,
                envelope=envelope,
                by=by,
            )
            return msgspec.structs.replace(row, attestation=found, vouched_at=now), event

        return change

    async def _keep(self, name: str, change: Change, beside: Reads = (), more: Puts = ()) -> None:
        """Change an agent's row with its entry. `beside` has to be unchanged too; `more` is written with it."""
        where = agent_key(parse_segment(name, "agent name"))
        for _ in range(MAX_CONFLICTS):
            stored = (await self._store.load([where], [])).rows.get(where)
            if stored is None:
                raise Refused(Code.AGENT_UNKNOWN, f"no agent `{name}` is registered")
            row = parse_agent_row(stored.value)
            if row.revoked:
                raise Refused(Code.AGENT_REVOKED, f"the agent `{name}` is revoked")
            kept, event = change(row, self._clock.now_ms())
            append = Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((where, stored.version), *beside),
                puts=((where, format_row(kept)), *more),
                sync=True,
            )
            if isinstance(await self._store.append(append), Appended):
                return
        raise Unavailable(Code.CONFLICT, f"the agent `{name}` kept changing: nothing was kept")

    def _agent(self, name: str) -> AgentId:
        return AgentId(self._domain, parse_segment(name, "agent name"))


def _ed25519(signer: Signer) -> Ed25519Key:
    key = parse_spki(signer.public)
    if not isinstance(key, Ed25519Key):
        raise Malformed("credentials are signed with an Ed25519 key")
    return key
