"""Who is registered, and by which policies: each change with its entry in one transaction.

Decides that a key belongs to one agent for good and that an agent in good standing is not overwritten; not who may ask
for it: whoever can open the store is the operator.
INVARIANTS: a revoked key never comes back, under no name; a revocation is on the disk before this returns, and holds
from the next request because each decision reads the agent's row.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from citywatch.core import events
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.registration import (
    AgentRow,
    KeyRow,
    agent_key,
    format_row,
    key_key,
    parse_agent_row,
)
from citywatch.core.log.entry import encode_event
from citywatch.core.names import AgentId, parse_segment, parse_spiffe_id
from citywatch.core.signature import thumbprint
from citywatch.service.authority import p256
from citywatch.service.ports import Append, Appended, Clock, Key, NewEntry, Store
from citywatch.service.watch import NOTICED

MAX_CONFLICTS = 3
POLICY: Key = ("machine", "policy")


class Admin:
    """What the operator may do about agents, and what is noted of policies."""

    def __init__(self, *, store: Store, clock: Clock, replica: str, domain: str) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica
        self._domain = domain

    async def add_agent(self, name: str, public: bytes, by: str) -> AgentRow:
        """Register an agent under a P-256 key (DER SubjectPublicKeyInfo).

        A name whose agent was revoked may come back with a key that nobody ever had. `Refused(CONFLICT)` for a name or
        a key that is taken, `Malformed` for what is no name or no key.
        """
        agent = AgentId(self._domain, parse_segment(name, "agent name"))
        key = thumbprint(p256(public))
        for _ in range(MAX_CONFLICTS):
            rows = (await self._store.load([agent_key(name), key_key(key)], [])).rows
            before, taken = rows.get(agent_key(name)), rows.get(key_key(key))
            if taken is not None:
                raise Refused(Code.CONFLICT, "the key was registered before: draw a new one")
            if before is not None and not parse_agent_row(before.value).revoked:
                raise Refused(Code.CONFLICT, f"the agent `{name}` is registered: revoke it first, or choose a name")
            if before is not None and parse_agent_row(before.value).quarantined:
                raise Refused(Code.CONFLICT, f"the agent `{name}` is in quarantine: lift that first")
            now = self._clock.now_ms()
            vouched = before is not None and parse_agent_row(before.value).vouched_at > 0
            stopped = before is not None and parse_agent_row(before.value).halted  # a new key ends no stop
            row = AgentRow(
                agent=str(agent), keys=(key,), added_at=now, halted=stopped, vouched_at=now if vouched else 0
            )
            event = events.AgentAdded(at=now, replica=self._replica, agent=str(agent), key=key, by=by)
            reads = ((agent_key(name), before.version if before else 0), (key_key(key), 0))
            puts = ((agent_key(name), format_row(row)), (key_key(key), format_row(KeyRow(agent=str(agent)))))
            if await self._commit(event, reads, puts):
                return row
        raise Unavailable(Code.CONFLICT, f"the agent `{name}` was not added: it kept changing")

    async def recognise(self, agent: AgentId, spiffe_id: str, by: str) -> AgentRow:
        """Register an agent for whose keys another authority vouches, under the SPIFFE ID that it vouches for.

        Who is registered so already stays as it is, revoked or not. `Refused(CONFLICT)` for a name that is another's.
        """
        if str(parse_spiffe_id(spiffe_id)) != spiffe_id or parse_spiffe_id(spiffe_id).domain != agent.domain:
            raise Malformed(f"`{spiffe_id[:80]}` is not of the trust domain `{agent.domain}`")
        for _ in range(MAX_CONFLICTS):
            stored = (await self._store.load([agent_key(agent.name)], [])).rows.get(agent_key(agent.name))
            before = None if stored is None else parse_agent_row(stored.value)
            if before is not None and (before.agent, before.keys) == (str(agent), (spiffe_id,)):
                return before
            if before is not None and not before.revoked:
                raise Refused(
                    Code.CONFLICT, f"the agent `{agent.name}` is registered as another: revoke that one first"
                )
            if before is not None and before.quarantined:
                raise Refused(Code.CONFLICT, f"the agent `{agent.name}` is in quarantine: lift that first")
            now = self._clock.now_ms()
            row = AgentRow(
                agent=str(agent), keys=(spiffe_id,), added_at=now, halted=before is not None and before.halted
            )
            event = events.AgentAdded(at=now, replica=self._replica, agent=str(agent), key=spiffe_id, by=by)
            reads = ((agent_key(agent.name), 0 if stored is None else stored.version),)
            if await self._commit(event, reads, ((agent_key(agent.name), format_row(row)),)):
                return row
        raise Unavailable(Code.CONFLICT, f"the agent `{agent.name}` was not added: it kept changing")

    async def readmit(self, agent: AgentId, spiffe_id: str, by: str) -> AgentRow:
        """Let an agent of another authority come back after it was revoked, at the operator's word."""
        stored = (await self._store.load([agent_key(agent.name)], [])).rows.get(agent_key(agent.name))
        row = None if stored is None else parse_agent_row(stored.value)
        if stored is None or row is None or not row.revoked or row.keys != (spiffe_id,):
            return await self.recognise(agent, spiffe_id, by)
        if row.quarantined:
            raise Refused(Code.CONFLICT, f"the agent `{agent.name}` is in quarantine: lift that first")
        now = self._clock.now_ms()
        after = msgspec.structs.replace(row, agent=str(agent), revoked=False, reason="", added_at=now)
        event = events.AgentAdded(at=now, replica=self._replica, agent=str(agent), key=spiffe_id, by=by)
        reads = ((agent_key(agent.name), stored.version),)
        if not await self._commit(event, reads, ((agent_key(agent.name), format_row(after)),)):
            raise Unavailable(Code.CONFLICT, f"the agent `{agent.name}` was not added: it changed in the same moment")
        return after

    async def revoke_agent(self, name: str, reason: str, by: str) -> AgentRow:
        """Void all papers of an agent; a second revocation changes nothing. `Refused(AGENT_UNKNOWN)` for a stranger."""
        for _ in range(MAX_CONFLICTS):
            stored = (await self._store.load([agent_key(name)], [])).rows.get(agent_key(name))
            if stored is None:
                raise Refused(Code.AGENT_UNKNOWN, f"no agent `{name[:80]}` is registered")
            row = parse_agent_row(stored.value)
            if row.revoked:
                return row
            row = msgspec.structs.replace(row, revoked=True, reason=reason)
            event = events.AgentRevoked(
                at=self._clock.now_ms(), replica=self._replica, agent=row.agent, by=by, reason=reason
            )
            puts = (*NOTICED, (agent_key(name), format_row(row)))
            if await self._commit(event, ((agent_key(name), stored.version),), puts):
                return row
        raise Unavailable(Code.CONFLICT, f"the agent `{name}` was not revoked: it kept changing")

    async def revoke_key(self, name: str, key: str, reason: str, by: str) -> AgentRow:
        """Void one key of an agent (its thumbprint) and all papers for it; a second time changes nothing.

        `Refused(AGENT_UNKNOWN)` for a stranger, `Refused(KEY_NOT_REGISTERED)` for a key that is not this agent's.
        """
        for _ in range(MAX_CONFLICTS):
            stored = (await self._store.load([agent_key(name)], [])).rows.get(agent_key(name))
            if stored is None:
                raise Refused(Code.AGENT_UNKNOWN, f"no agent `{name[:80]}` is registered")
            row = parse_agent_row(stored.value)
            if key in row.void:
                return row
            if not row.holds(key) or key.startswith("spiffe://"):
                raise Refused(Code.KEY_NOT_REGISTERED, f"the agent `{name[:80]}` has no key `{key[:80]}`")
            left = tuple(one for one in row.keys if one != key)
            row = msgspec.structs.replace(row, keys=left, void=(*row.void, key))
            event = events.KeyRevoked(
                at=self._clock.now_ms(), replica=self._replica, agent=row.agent, key=key, by=by, reason=reason
            )
            puts = (*NOTICED, (agent_key(name), format_row(row)))
            if await self._commit(event, ((agent_key(name), stored.version),), puts):
                return row
        raise Unavailable(Code.CONFLICT, f"the key of `{name[:80]}` was not revoked: the agent kept changing")

    async def list_agents(self) -> list[tuple[str, AgentRow]]:
        """All agents by name, the revoked ones too."""
        return [(name, parse_agent_row(row.value)) for name, row in await self._store.scan("agent")]

    async def note_policy(self, digest: str, by: str) -> None:
        """Enter that from now on these policies decide, if others did before."""
        for _ in range(MAX_CONFLICTS):
            stored = (await self._store.load([POLICY], [])).rows.get(POLICY)
            if stored is not None and msgspec.json.decode(stored.value, type=str) == digest:
                return
            event = events.PolicyLoaded(at=self._clock.now_ms(), replica=self._replica, policy=digest, by=by)
            seen = 0 if stored is None else stored.version
            if await self._commit(event, ((POLICY, seen),), ((POLICY, msgspec.json.encode(digest)),)):
                return
        raise Unavailable(Code.CONFLICT, "the change of policies was not entered: others were loaded meanwhile")

    async def _commit(
        self, event: events.Event, reads: Sequence[tuple[Key, int]], puts: Sequence[tuple[Key, bytes | None]]
    ) -> bool:
        entries = (NewEntry(encode_event(event)),)
        outcome = await self._store.append(Append(entries=entries, reads=tuple(reads), puts=tuple(puts), sync=True))
        return isinstance(outcome, Appended)
