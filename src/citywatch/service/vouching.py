"""What is vouched for of an agent: a credential, issued here or by a named issuer, held with its registration.

Decides nothing of what a credential means; `core.identity.vc` verifies it, policies read it.
INVARIANTS: only a credential that was verified is held; holding and withdrawing have their entry in the same
transaction, on the disk before this returns; the next decision sees it, for each reads the agent's row.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import rfc8785

from citywatch.core import events
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.registration import AgentRow, agent_key, format_row, parse_agent_row
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
from citywatch.core.signature import Ed25519Key, parse_spki
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Signer, Store

MAX_CONFLICTS = 3


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
            "validFrom": _written(now),
            "validUntil": _written(now + ttl),
            "credentialSubject": {"id": str(self._agent(name)), **said},
        }
        proof: dict[str, Any] = {
            "type": "DataIntegrityProof",
            "cryptosuite": "eddsa-jcs-2022",
            "created": _written(now),
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
        await self._keep(name, claims, key, document.decode("utf-8"), by)
        return claims

    async def withdraw(self, name: str, by: str) -> None:
        """Keep nothing of an agent any more: policies see no claim from its next request on."""
        await self._keep(name, None, None, "", by)

    async def _keep(self, name: str, claims: Claims | None, key: Ed25519Key | None, document: str, by: str) -> None:
        where = agent_key(parse_segment(name, "agent name"))
        for _ in range(MAX_CONFLICTS):
            stored = (await self._store.load([where], [])).rows.get(where)
            if stored is None:
                raise Refused(Code.AGENT_UNKNOWN, f"no agent `{name}` is registered")
            row = parse_agent_row(stored.value)
            if row.revoked:
                raise Refused(Code.AGENT_REVOKED, f"the agent `{name}` is revoked")
            now = self._clock.now_ms()
            event = events.AgentVouched(
                at=now,
                replica=self._replica,
                agent=row.agent,
                issuer="" if claims is None else claims.issuer,
                key="" if key is None else format_multikey(key),
                document=document,
                by=by,
            )
            kept: AgentRow = msgspec.structs.replace(row, claims=claims, vouched_at=now)
            append = Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((where, stored.version),),
                puts=((where, format_row(kept)),),
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


def _written(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
