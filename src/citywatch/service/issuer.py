"""Papers for registered agents: issued, written down, handed over; and renewed to whoever proves the key.

Decides that only an agent in good standing gets papers, for a key that it is registered with. What stands in them is
`service.authority`'s, what proves a key `core.identity.renewal`'s.
INVARIANTS: no paper leaves before its entry is committed and synced, in a transaction that read the agent's row: a
revocation that came first leaves nothing behind it; a proof is spent in the same transaction; what the old key has
received, the next one has received: changing keys cleans no context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from citywatch.core import events
from citywatch.core.enforce.context import Context, carried_over, context_key
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.identity.bundle import TrustBundle, format_bundle, format_svid_bundle
from citywatch.core.identity.papers import Introduction, Papers, format_papers
from citywatch.core.identity.registration import AgentRow, KeyRow, agent_key, format_row, key_key, parse_agent_row
from citywatch.core.identity.renewal import (
    Renewal,
    UnprovenRenewal,
    format_proofs,
    parse_proofs,
    parse_renewal,
    proofs_key,
    spend_proof,
    verify_renewal,
)
from citywatch.core.identity.workload import parse_workload, workload_key
from citywatch.core.log.entry import encode_event
from citywatch.core.names import AgentId, parse_segment
from citywatch.core.signature import P256Key, thumbprint
from citywatch.service.authority import Authority, Issued
from citywatch.service.ports import Append, Appended, Clock, Key, NewEntry, Store
from citywatch.service.watch import NOTICED

MAX_CONFLICTS = 3


class Lifetimes(msgspec.Struct, frozen=True):
    """How long an agent's papers live, in milliseconds."""

    certificate: int
    token: int


class Issuer:
    """Issues to registered agents of one trust domain, for one gateway."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        replica: str,
        authority: Callable[[], Authority],
        bundle: Callable[[], TrustBundle],
        audience: str,
        lifetimes: Callable[[str], Lifetimes],
        leeway_ms: int,
        envelopes: Callable[[], Mapping[str, P256Key]] = dict,
        principals: Callable[[], Mapping[str, P256Key]] = dict,
    ) -> None:
        """`authority` and `bundle` are asked each time, so that a rotation needs no restart; `lifetimes` by name.

        `envelopes` are the gateway's keys for envelopes, `principals` those that root chains: they stand in the bundle
        that others are given.
        """
        self._store = store
        self._clock = clock
        self._replica = replica
        self._authority = authority
        self._bundle = bundle
        self._audience = audience
        self._lifetimes = lifetimes
        self._leeway = leeway_ms
        self._envelopes = envelopes
        self._principals = principals

    def bundle(self) -> bytes:
        """Whom to believe today, as a SPIFFE bundle. It is public."""
        return format_bundle(
            msgspec.structs.replace(self._told(), envelopes=self._envelopes(), principals=self._principals())
        )

    def svid_bundle(self) -> bytes:
        """The same without what SPIRE does not know."""
        return format_svid_bundle(self._bundle())

    def introduction(self, agent: AgentId) -> Introduction:
        """What the agent's program must know beside its key."""
        return Introduction(agent=agent, gateway=self._audience, bundle=self._told())

    def _told(self) -> TrustBundle:
        """Our bundle under the sequence that everybody is told.

        Those of earlier versions had no key for principals under the same sequence, and one sequence is one bundle.
        """
        bundle = self._bundle()
        return msgspec.structs.replace(bundle, sequence=bundle.sequence + 1) if self._principals() else bundle

    async def token(self, name: str) -> Issued:
        """A bearer token for a registered agent, at its operator's word: no key is proved."""
        row, version = await self._registered(name)
        token = self._authority().issue_jwt(
            self._agent(name), row.keys[-1], self._audience, now=self._clock.now_ms(), ttl=self._lifetimes(name).token
        )
        entry = self._entry(token, row.agent, row.keys[-1])
        await self._handed_over([entry], name, version)
        return token

    async def certificate(self, name: str, key: P256Key) -> Issued:
        """A certificate for a key that the agent is registered with, at its operator's word."""
        row, version = await self._registered(name)
        if thumbprint(key) not in row.keys:
            raise Refused(Code.KEY_NOT_REGISTERED)
        ttl = self._lifetimes(name).certificate
        issued = self._authority().issue_x509(self._agent(name), key, now=self._clock.now_ms(), ttl=ttl)
        await self._handed_over([self._entry(issued, row.agent, thumbprint(key))], name, version)
        return issued

    async def bound_token(self, name: str, key: P256Key) -> Issued:
        """A WIT-SVID for a key that the agent is registered with, at its operator's word; each message proves it."""
        row, version = await self._registered(name)
        if thumbprint(key) not in row.keys:
            raise Refused(Code.KEY_NOT_REGISTERED)
        ttl = self._lifetimes(name).certificate
        issued = self._authority().issue_wit(self._agent(name), key, now=self._clock.now_ms(), ttl=ttl)
        await self._handed_over([self._entry(issued, row.agent, thumbprint(key))], name, version)
        return issued

    async def gateway(self, key: P256Key, hosts: Sequence[str], ttl: int) -> Issued:
        """A certificate for the gateway itself, under its SPIFFE ID and the hosts that TLS clients look for."""
        issued = self._authority().issue_gateway(key, hosts, now=self._clock.now_ms(), ttl=ttl)
        entry = self._entry(issued, self._audience, thumbprint(key))
        if not isinstance(await self._store.append(Append(entries=(entry,), sync=True)), Appended):
            raise Unavailable(Code.CONFLICT, "the gateway's certificate was not written down")
        return issued

    async def renew(self, body: bytes) -> bytes:
        """Answer `POST /citywatch/renew`: fresh papers for whoever proves a registered key; `Refused` otherwise."""
        request = parse_renewal(body, self._authority().domain)
        for _ in range(MAX_CONFLICTS):
            papers = await self._try_renew(request)
            if papers is not None:
                return format_papers(papers)
        raise Unavailable(Code.CONFLICT, "the papers were not renewed: the agent's row kept changing")

    async def _try_renew(self, request: UnprovenRenewal) -> Papers | None:
        """Verify against one snapshot and issue if it still holds at the commit; None if it does not."""
        name = request.agent.name
        wanted = [agent_key(name), proofs_key(request.thumbprint), workload_key(name)]
        if request.next_key is not None:
            following = thumbprint(request.next_key)
            wanted += [
                key_key(following),
                *(context_key(str(request.agent), key) for key in (request.thumbprint, following)),
            ]
        rows = (await self._store.load(wanted, [])).rows
        stored, proofs = rows.get(agent_key(name)), rows.get(proofs_key(request.thumbprint))
        row = None if stored is None else parse_agent_row(stored.value)
        now = self._clock.now_ms()
        renewal = verify_renewal(request, row, audience=self._audience, now=now, leeway=self._leeway)
        if (program := rows.get(workload_key(name))) and parse_workload(program.value).key == request.thumbprint:
            # Here nobody measures it again, and a key of its own choice would outlive the run.
            raise Refused(Code.WORKLOAD_CHANGED, "what `citywatch run` has started gets its papers at its own socket")
        before = parse_proofs(None if proofs is None else proofs.value)
        spent = spend_proof(before, renewal, now=now, leeway=self._leeway)
        entries: list[NewEntry] = []
        puts: list[tuple[Key, bytes | None]] = [(proofs_key(renewal.old), format_proofs(spent))]
        if row is not None and renewal.thumbprint != renewal.old:
            if key_key(renewal.thumbprint) in rows:
                raise Refused(Code.CONFLICT, "the next key was registered before: draw a new one")
            entries.append(self._replaced(renewal))
            puts += (*NOTICED, *_replace_key(row, renewal))
            before_context, after_context = _contexts(renewal)
            if (received := rows.get(before_context)) is not None:
                context = carried_over(before_context, msgspec.json.decode(received.value, type=Context))
                puts.append((after_context, msgspec.json.encode(context)))
        papers, issued = self.write(renewal.agent, renewal.key, now)
        entries += issued
        reads = tuple((key, found.version if (found := rows.get(key)) else 0) for key in wanted)
        append = Append(entries=tuple(entries), reads=reads, puts=tuple(puts), sync=True)
        if not isinstance(await self._store.append(append), Appended):
            return None
        return papers

    def write(self, agent: AgentId, key: P256Key, now: int) -> tuple[Papers, tuple[NewEntry, ...]]:
        """All papers for a key, and their entries: whoever asks commits those before anybody is given the papers."""
        authority, lifetimes, thumb = self._authority(), self._lifetimes(agent.name), thumbprint(key)
        certificate = authority.issue_x509(agent, key, now=now, ttl=lifetimes.certificate)
        token = authority.issue_jwt(agent, thumb, self._audience, now=now, ttl=lifetimes.token)
        bound = authority.issue_wit(agent, key, now=now, ttl=lifetimes.certificate)
        papers = Papers(
            certificate=certificate.value,
            certificate_until=certificate.not_after,
            token=token.value.decode("ascii"),
            token_until=token.not_after,
            bound=bound.value.decode("ascii"),
            bundle=self._told(),
        )
        return papers, tuple(self._entry(paper, str(agent), thumb) for paper in (certificate, token, bound))

    async def _registered(self, name: str) -> tuple[AgentRow, int]:
        key = agent_key(parse_segment(name, "agent name"))
        stored = (await self._store.load([key], [])).rows.get(key)
        if stored is None:
            raise Refused(Code.AGENT_UNKNOWN, f"no agent `{name}` is registered")
        row = parse_agent_row(stored.value)
        if (refusal := row.refusal) is not None:
            raise Refused(refusal, f"the agent `{name}` may not act")
        return row, stored.version

    async def _handed_over(self, entries: Sequence[NewEntry], name: str, version: int) -> None:
        append = Append(entries=tuple(entries), reads=((agent_key(name), version),), sync=True)
        if not isinstance(await self._store.append(append), Appended):
            raise Unavailable(Code.CONFLICT, f"the agent `{name}` changed in the same moment: nothing was issued")

    def _agent(self, name: str) -> AgentId:
        return AgentId(self._authority().domain, name)

    def _entry(self, paper: Issued, agent: str, key: str) -> NewEntry:
        return NewEntry(
            encode_event(
                events.CredentialIssued(
                    at=self._clock.now_ms(),
                    replica=self._replica,
                    agent=agent,
                    key=key,
                    kind=paper.kind.value,
                    digest=paper.digest,
                    not_after=paper.not_after,
                )
            )
        )

    def _replaced(self, renewal: Renewal) -> NewEntry:
        event = events.KeyReplaced(
            at=self._clock.now_ms(),
            replica=self._replica,
            agent=str(renewal.agent),
            old=renewal.old,
            key=renewal.thumbprint,
        )
        return NewEntry(encode_event(event))


def _contexts(renewal: Renewal) -> tuple[Key, Key]:
    agent = str(renewal.agent)
    return context_key(agent, renewal.old), context_key(agent, renewal.thumbprint)


def _replace_key(row: AgentRow, renewal: Renewal) -> list[tuple[Key, bytes | None]]:
    """The old key is void at once: it may be why the agent wants a new one."""
    keys = (*(key for key in row.keys if key != renewal.old), renewal.thumbprint)
    changed = msgspec.structs.replace(row, keys=keys)
    return [
        (agent_key(renewal.agent.name), format_row(changed)),
        (key_key(renewal.thumbprint), format_row(KeyRow(agent=row.agent))),
    ]
