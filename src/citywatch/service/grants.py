"""Chains at their root: the first link in a principal's name, and taking back what was handed on.

Decides only that task and agent are there; `core.delegation` says what a link may be, and every later link is signed by
the agent that hands on, without us. INVARIANTS: what is signed is a grant and nothing else (its bytes begin with a
domain of their own), and it was read back as it will be read; a root is on record before anybody holds it, and so is
its end.
"""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from citywatch.core import events
from citywatch.core.delegation.caveats import Caveats
from citywatch.core.delegation.grant import format_link, parse_link, signing_input, verify_link
from citywatch.core.delegation.handing import Holder, root_grant
from citywatch.core.enforce.chains import withdrawn_key
from citywatch.core.enforce.held import TaskRow, task_key
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.core.log.entry import encode_event
from citywatch.core.signature import P256Key, parse_spki, thumbprint
from citywatch.service.ports import Append, Appended, Chance, Clock, NewEntry, Signer, Store
from citywatch.service.snapshots import versions_of
from citywatch.service.tasks import MAX_CONFLICTS, MAX_REASON
from citywatch.service.watch import NOTICED


class Grants:
    """What is given in principals' names, and taken back."""

    def __init__(
        self, *, store: Store, clock: Clock, chance: Chance, replica: str, domain: str, signer: Signer
    ) -> None:
        """`signer` speaks for principals; `domain` is the trust domain whose gateways may believe the chain."""
        self._store = store
        self._clock = clock
        self._chance = chance
        self._replica = replica
        self._domain = domain
        self._signer = signer

    async def root(
        self, task: str, caveats: Caveats, ttl_ms: int, depth: int, by: str, beside: frozenset[str] = frozenset()
    ) -> str:
        """Sign the first link of a chain for the agent whose task it is, and its newest key; return the link's text.

        `beside` are trust domains whose gateways may believe it as well as ours, where they have a frontier for us.
        `Malformed` for a task that is unknown or over, `Refused(AGENT_UNKNOWN)` if its agent is registered no more.
        """
        chain = self._chance.call_id()
        thumb = thumbprint(parse_spki(self._signer.public))
        for _ in range(MAX_CONFLICTS):
            loaded = await self._store.load((task_key(task),), ())
            stored = loaded.rows.get(task_key(task))
            row = None if stored is None else msgspec.json.decode(stored.value, type=TaskRow)
            if row is None or row.ended or row.home:  # for what came from elsewhere nobody here speaks
                raise Malformed(f"no task `{task[:80]}` is open")
            whose = agent_key(row.agent.rpartition("/")[2])
            agents = await self._store.load((whose,), ())
            agent = None if whose not in agents.rows else parse_agent_row(agents.rows[whose].value)
            if agent is None or agent.refusal or not agent.keys or row.started < agent.added_at:
                raise Refused(Code.AGENT_UNKNOWN, f"`{row.agent}` is not registered as it was when the task began")
            now = self._clock.now_ms()
            stated = msgspec.structs.replace(
                caveats, audience=beside | {self._domain}, not_after=now + ttl_ms, depth=depth
            )
            principal, to = f"principal:{row.principal}", Holder(row.agent, agent.keys[-1])
            text = sign_grant(root_grant(chain, task, principal, thumb, to, stated), self._signer)
            event = events.GrantRooted(
                at=now,
                replica=self._replica,
                grant=parse_link(text).hash,
                chain=chain,
                task=task,
                principal=row.principal,
                agent=to.agent,
                key=to.thumb,
                not_after=now + ttl_ms,
                by=by,
            )
            reads = (*versions_of((task_key(task),), loaded), *versions_of((whose,), agents))
            append = Append(entries=(NewEntry(encode_event(event)),), reads=reads, sync=True)
            if isinstance(await self._store.append(append), Appended):
                return text
        raise Unavailable(Code.CONFLICT)

    async def withdraw(self, name: str, by: str, reason: str) -> None:
        """Void a link (`grant:<hash>`) or a chain (`chain:<id>`), with all beneath it, from the next call on."""
        key = withdrawn_key(name)
        event = events.GrantWithdrawn(
            at=self._clock.now_ms(), replica=self._replica, grant=name, by=by, reason=reason[:MAX_REASON]
        )
        await self._store.append(
            Append(entries=(NewEntry(encode_event(event)),), puts=(*NOTICED, (key, b"true")), sync=True)
        )


def sign_grant(payload: bytes, signer: Signer) -> str:
    """The text of a link, signed; `Malformed` if the payload is no grant of this signer's."""
    key, signature = parse_spki(signer.public), signer.sign(signing_input(payload))
    if isinstance(key, P256Key):
        r, s = decode_dss_signature(signature)
        signature = r.to_bytes(32) + s.to_bytes(32)
    text = format_link(payload, key, signature)
    verify_link(parse_link(text))
    return text
