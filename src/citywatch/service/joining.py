"""Invitations for agents that cannot be looked at: given out once, used once, on record each time.

Decides who may be invited and that an invitation is spent with the papers that it gives; what proves the key is
`core.identity.joining`'s, what stands in the papers `service.authority`'s.
INVARIANTS: an invitation leaves nothing behind but its digest; of two that use it at once, on whichever replicas, one
joins; the agent is registered, its papers are entered and the invitation is spent in one transaction, or nothing is;
guesses are counted for all processes together, and too many of them cost no further write and no signature.
"""

from __future__ import annotations

import json
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.identity.joining import (
    JOIN_TYPE,
    InvitationRow,
    UnprovenJoining,
    format_invitation,
    format_invitation_row,
    invitation_digest,
    invitation_key,
    parse_invitation_row,
    parse_joining,
    verify_joining,
)
from citywatch.core.identity.papers import format_papers
from citywatch.core.identity.registration import AgentRow, KeyRow, agent_key, format_row, key_key, parse_agent_row
from citywatch.core.identity.renewal import LONGEST_PROOF_MS
from citywatch.core.log.entry import encode_event
from citywatch.core.names import AgentId, parse_segment
from citywatch.core.signature import format_jwk
from citywatch.service.authority import p256, sign_token
from citywatch.service.issuer import Issuer
from citywatch.service.ports import Append, Appended, Chance, Clock, Key, Loaded, NewEntry, Signer, Spend, Store
from citywatch.service.watch import NOTICED

MAX_CONFLICTS: Final = 3
GUESSES: Final = "join:guesses"
GUESSES_A_MINUTE: Final = 30
REMEMBERED_MS: Final = 86_400_000
"""A used invitation is kept so long after its end: who comes with it again is told that, and the log says so."""


class Invitations:
    """Who was invited, and who joins."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        chance: Chance,
        replica: str,
        domain: str,
        issuer: Issuer,
        audience: str,
        leeway_ms: int,
    ) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance
        self._replica = replica
        self._domain = domain
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway_ms

    async def invite(self, name: str, ttl: int, by: str) -> str:
        """Return an invitation for the agent of that name, good once and for `ttl` milliseconds; it is kept nowhere.

        `Refused(CONFLICT)` for a name that is registered, as for `Admin.add_agent`.
        """
        agent = AgentId(self._domain, parse_segment(name, "agent name"))
        text = format_invitation(self._chance.salt() + self._chance.salt())
        for _ in range(MAX_CONFLICTS):
            rows = await self._store.load([agent_key(name)], [])
            _check_free(name, rows)
            now = self._clock.now_ms()
            event = events.AgentInvited(at=now, replica=self._replica, agent=str(agent), until=now + ttl, by=by)
            append = Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((agent_key(name), _version(rows, agent_key(name))),),
                puts=(
                    (
                        invitation_key(invitation_digest(text)),
                        format_invitation_row(InvitationRow(agent=str(agent), expires=now + ttl, by=by)),
                    ),
                ),
                sync=True,
            )
            if isinstance(await self._store.append(append), Appended):
                return text
        raise Unavailable(Code.CONFLICT, f"`{name}` was not invited: its row kept changing")

    async def withdraw(self, name: str) -> int:
        """Forget the invitations of that name that nobody has used; return how many there were."""
        agent = str(AgentId(self._domain, parse_segment(name, "agent name")))
        open_now = [
            (("join", row_id), row.version)
            for row_id, row in await self._store.scan("join")
            if (found := parse_invitation_row(row.value)).agent == agent and not found.used
        ]
        for key, version in open_now:
            await self._store.append(Append(reads=((key, version),), puts=((key, None),), sync=True))
        return len(open_now)

    async def join(self, body: bytes) -> bytes:
        """Answer `POST /citywatch/join`: the first papers for whoever holds an invitation and a key; or `Refused`."""
        request = parse_joining(body, self._domain)
        for _ in range(MAX_CONFLICTS):
            papers = await self._try(request)
            if papers is not None:
                return papers
        raise Unavailable(Code.CONFLICT, "nobody has joined: the agent's row kept changing")

    async def _try(self, request: UnprovenJoining) -> bytes | None:
        name, invited = request.agent.name, invitation_key(request.invitation)
        wanted = [invited, agent_key(name), key_key(request.thumbprint)]
        now = self._clock.now_ms()
        loaded = await self._store.load(wanted, [(GUESSES, now // 60_000)])
        stored = loaded.rows.get(invited)
        row = None if stored is None else parse_invitation_row(stored.value)
        try:
            joining = verify_joining(request, row, audience=self._audience, now=now, leeway=self._leeway)
        except Refused:
            await self._count(loaded, now)
            raise
        _check_free(name, loaded)
        if key_key(request.thumbprint) in loaded.rows:
            raise Refused(Code.CONFLICT, "the key was registered before: draw a new one")
        agent = _registered(loaded, request, now)
        added = events.AgentAdded(
            at=now,
            replica=self._replica,
            agent=str(joining.agent),
            key=joining.thumbprint,
            by=f"invitation of {joining.by}",
        )
        papers, issued = self._issuer.write(joining.agent, joining.key, now)
        spent = InvitationRow(
            agent=str(joining.agent), expires=row.expires if row else now, by=joining.by, used=joining.thumbprint
        )
        append = Append(
            entries=(NewEntry(encode_event(added)), *issued),
            reads=tuple((key, _version(loaded, key)) for key in wanted),
            puts=(
                *NOTICED,
                (invited, format_invitation_row(spent)),
                (agent_key(name), format_row(agent)),
                (key_key(joining.thumbprint), format_row(KeyRow(agent=str(joining.agent)))),
            ),
            sync=True,
        )
        return format_papers(papers) if isinstance(await self._store.append(append), Appended) else None

    async def _count(self, loaded: Loaded, now: int) -> None:
        """Count a guess. Whoever holds a good invitation was let in before this, however many others guess."""
        if loaded.used.get(GUESSES, 0) >= GUESSES_A_MINUTE:
            raise Refused(Code.RATE_EXCEEDED, "too many have tried to join within a minute")
        await self._store.append(Append(spends=(Spend(GUESSES, now // 60_000, GUESSES_A_MINUTE, force=True),)))


def prove_joining(agent: AgentId, audience: str, invitation: str, signer: Signer, *, now: int, nonce: str) -> bytes:
    """Write the body of `POST /citywatch/join`. `now` is milliseconds, `nonce` unguessable and never used before."""
    claims = {
        "sub": str(agent),
        "aud": audience,
        "iat": now // 1000,
        "exp": now // 1000 + LONGEST_PROOF_MS // 1000,
        "jti": nonce,
        "invitation": invitation_digest(invitation),
    }
    request = {
        "invitation": invitation,
        "key": format_jwk(p256(signer.public)),
        "proof": sign_token(signer, JOIN_TYPE, claims),
    }
    return json.dumps(request).encode("ascii")


async def drop_invitations(store: Store, now: int) -> int:
    """Forget invitations that have been over for a day; return how many."""
    over = [
        ("join", row_id)
        for row_id, row in await store.scan("join")
        if parse_invitation_row(row.value).expires + REMEMBERED_MS <= now
    ]
    if over:
        await store.append(Append(puts=tuple((key, None) for key in over)))
    return len(over)


def _check_free(name: str, loaded: Loaded) -> None:
    stored = loaded.rows.get(agent_key(name))
    before = None if stored is None else parse_agent_row(stored.value)
    if before is not None and not before.revoked:
        raise Refused(Code.CONFLICT, f"the agent `{name}` is registered: revoke it first, or choose a name")
    if before is not None and before.quarantined:
        raise Refused(Code.CONFLICT, f"the agent `{name}` is in quarantine: lift that first")


def _registered(loaded: Loaded, request: UnprovenJoining, now: int) -> AgentRow:
    """The agent with its first key. What was said of an earlier one by that name is taken back, but for a stop."""
    stored = loaded.rows.get(agent_key(request.agent.name))
    row = AgentRow(agent=str(request.agent), keys=(request.thumbprint,), added_at=now)
    if stored is None:
        return row
    before = parse_agent_row(stored.value)
    return msgspec.structs.replace(row, halted=before.halted, vouched_at=now if before.vouched_at else 0)


def _version(loaded: Loaded, key: Key) -> int:
    row = loaded.rows.get(key)
    return 0 if row is None else row.version
