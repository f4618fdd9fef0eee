"""Papers for a program that `citywatch run` has started: for its own key, while it is what was registered.

Decides that only a registered program of an agent in good standing gets papers, and that its key is void when its run
is over. How the program is measured and who asks on its socket is the adapter's.
INVARIANTS: the files are measured again for each paper, and no paper leaves for a program that changed; where the agent
needs an attestor's word, none leaves without it for this very program; no paper leaves before its entry is committed
and synced, in a transaction that read the agent's row and the program's; what an earlier run's key has received, the
next one's has (the account may have kept it); an account is one agent's for good.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from citywatch.core import events
from citywatch.core.enforce.context import Context, carried_over, context_key
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.attestation import check_program
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.credential import Credential, check_time
from citywatch.core.identity.elsewhere import Domains, validate_token
from citywatch.core.identity.registration import AgentRow, KeyRow, agent_key, format_row, key_key, parse_agent_row
from citywatch.core.identity.workload import (
    Measured,
    WorkloadRow,
    account_key,
    check_measured,
    format_workload,
    measured_digest,
    parse_workload,
    workload_key,
)
from citywatch.core.log.entry import encode_event
from citywatch.core.names import AgentId, parse_agent_id, parse_segment
from citywatch.core.signature import P256Key, thumbprint
from citywatch.service.authority import Authority, Issued
from citywatch.service.issuer import Lifetimes
from citywatch.service.ports import Append, Appended, Clock, Key, NewEntry, Reads, Store

ACCOUNTS = range(61_184, 65_520)
"""User ids for programs: the range that distributions leave alone. SPEC: systemd, Users, Groups, UIDs and GIDs."""
MAX_CONFLICTS = 3
Measure = Callable[[], Awaitable[Measured]]


class Standing(msgspec.Struct, frozen=True):
    """An agent and its program as they are on file, with what has to be unchanged when something is issued."""

    agent: AgentRow
    program: WorkloadRow
    reads: Reads


class Workloads:
    """Which programs there are; and papers for one of them at a time (`begin`)."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        replica: str,
        authority: Callable[[], Authority],
        domains: Callable[[], Domains],
        lifetimes: Callable[[str], Lifetimes],
        leeway_ms: int,
        attested_by: Callable[[str], str | None],
        attestors: Mapping[str, str],
    ) -> None:
        """`attested_by` says by name whose word an agent needs; `attestors` are their keys' thumbs, by their names."""
        self.store = store
        self.clock = clock
        self.replica = replica
        self.authority = authority
        self.domains = domains
        self.lifetimes = lifetimes
        self.leeway = leeway_ms
        self._attested_by = attested_by
        self._attestors = attestors

    async def register(
        self, name: str, measured: Measured, by: str, claim: Callable[[int, bool], bool]
    ) -> tuple[WorkloadRow, str]:
        """Put on file what an agent's program is, and give it an account; return it with its digest.

        `claim` says whether the machine lets us have an account of that number: a new one, or the one that it has.
        """
        shown = measured_digest(measured)
        for _ in range(MAX_CONFLICTS):
            agent, version = await self.registered(name)
            self.check_attested(name, agent, shown)
            before = (await self.store.load([workload_key(name)], [])).rows.get(workload_key(name))
            reads: list[tuple[Key, int]] = [(agent_key(name), version)]
            reads.append((workload_key(name), 0 if before is None else before.version))
            puts: list[tuple[Key, bytes | None]] = []
            if before is not None and claim((known := parse_workload(before.value)).uid, False):
                row = msgspec.structs.replace(known, measured=measured, agent=agent.agent)
            else:
                uid = await self._free_account(claim)
                row = WorkloadRow(agent=agent.agent, measured=measured, uid=uid)
                reads.append((account_key(uid), 0))
                puts.append((account_key(uid), format_row(KeyRow(agent=agent.agent))))
            event = events.ProgramMeasured(
                at=self.clock.now_ms(), replica=self.replica, agent=row.agent, measured=shown, uid=row.uid, by=by
            )
            if await self.commit((event,), tuple(reads), (*puts, (workload_key(name), format_workload(row)))):
                return row, shown
        raise Unavailable(Code.CONFLICT, f"the program of `{name}` was not registered: its row kept changing")

    async def standing(self, name: str, *, ending: bool = False) -> Standing:
        """The agent and its program; `Refused` for who has none, or is not in good standing (unless a run ends)."""
        agent, version = await self.registered(name, ending=ending)
        stored = (await self.store.load([workload_key(name)], [])).rows.get(workload_key(name))
        if stored is None:
            raise Refused(Code.WORKLOAD_CHANGED, f"no program of `{name}` was measured: `citywatch agent measure`")
        reads = ((agent_key(name), version), (workload_key(name), stored.version))
        return Standing(agent, parse_workload(stored.value), reads)

    async def begin(self, name: str, key: P256Key, measure: Measure, by: str) -> Run:
        """Start a run: the agent's key is `key` from now on, and what was issued to any earlier one is void."""
        following = thumbprint(key)
        for _ in range(MAX_CONFLICTS):
            found = await self.standing(name)
            await self.check_program(name, found, measure)
            event = events.ProgramStarted(
                at=self.clock.now_ms(),
                replica=self.replica,
                agent=found.agent.agent,
                key=following,
                measured=measured_digest(found.program.measured),
                uid=found.program.uid,
                by=by,
            )
            if await self.change_key(name, found, following, (event,)):
                return Run(self, parse_agent_id(found.agent.agent), key, measure)
        raise Unavailable(Code.CONFLICT, f"`{name}` was not started: its row kept changing")

    async def change_key(self, name: str, found: Standing, key: str, also: tuple[events.Event, ...] = ()) -> bool:
        agent, old = found.agent, found.agent.keys[-1]
        before, after = context_key(agent.agent, old), context_key(agent.agent, key)
        rows = (await self.store.load([key_key(key), before, after], [])).rows
        if key_key(key) in rows:
            raise Refused(Code.CONFLICT, "the key was registered before: draw a new one")
        changed = msgspec.structs.replace(agent, keys=(*(one for one in agent.keys if one != old), key))
        puts: list[tuple[Key, bytes | None]] = [
            (agent_key(name), format_row(changed)),
            (key_key(key), format_row(KeyRow(agent=agent.agent))),
            (workload_key(name), format_workload(msgspec.structs.replace(found.program, key=key))),
        ]
        if (received := rows.get(before)) is not None:
            context = carried_over(before, msgspec.json.decode(received.value, type=Context))
            puts.append((after, msgspec.json.encode(context)))
        replaced = events.KeyReplaced(at=self.clock.now_ms(), replica=self.replica, agent=agent.agent, old=old, key=key)
        versions = tuple((one, row.version if (row := rows.get(one)) else 0) for one in (key_key(key), before, after))
        return await self.commit((replaced, *also), (*found.reads, *versions), tuple(puts))

    async def registered(self, name: str, *, ending: bool = False) -> tuple[AgentRow, int]:
        key = agent_key(parse_segment(name, "agent name"))
        stored = (await self.store.load([key], [])).rows.get(key)
        if stored is None:
            raise Refused(Code.AGENT_UNKNOWN, f"no agent `{name}` is registered")
        row = parse_agent_row(stored.value)
        if row.refusal is not None and not ending:
            raise Refused(row.refusal, f"nothing is issued to the agent `{name}`")
        return row, stored.version

    async def check_program(self, name: str, found: Standing, measure: Measure) -> None:
        """Raise `Refused` unless the program is what was measured and, where an attestor's word is needed, attested."""
        check_measured(found.program, await measure())
        self.check_attested(name, found.agent, measured_digest(found.program.measured))

    def check_attested(self, name: str, agent: AgentRow, measured: str) -> None:
        """Raise `Refused` where an agent needs an attestor's word on its program, and it is not held."""
        if (by := self._attested_by(name)) is not None:
            check_program(agent.attestation, by, self._attestors, measured, self.clock.now_ms())

    async def _free_account(self, claim: Callable[[int, bool], bool]) -> int:
        given = {number for number, _ in await self.store.scan("account")}
        for uid in ACCOUNTS:
            if str(uid) not in given and claim(uid, True):
                return uid
        raise Unavailable(Code.OVERLOADED, "no account is left for another program")

    async def commit(
        self, entries: tuple[events.Event, ...], reads: Reads, puts: tuple[tuple[Key, bytes | None], ...] = ()
    ) -> bool:
        leaves = tuple(NewEntry(encode_event(event)) for event in entries)
        return isinstance(await self.store.append(Append(entries=leaves, reads=reads, puts=puts, sync=True)), Appended)


class Run:
    """One run of one program: its papers, as long as agent, key and files are what they were when it began."""

    def __init__(self, city: Workloads, agent: AgentId, key: P256Key, measure: Measure) -> None:
        self._city = city
        self.agent = agent
        self._key = key
        self._thumb = thumbprint(key)
        self._measure = measure

    def bundle(self) -> TrustBundle:
        """Whom to believe today."""
        return self._city.domains().home

    def others(self) -> Mapping[str, TrustBundle]:
        """The bundles of other trust domains that are believed now, by their domains."""
        return {name: one.bundle for name, one in self._city.domains().others.items()}

    def now_ms(self) -> int:
        return self._city.clock.now_ms()

    async def check(self) -> Standing:
        """1. the agent stands · 2. its key is this run's · 3. the files are what was measured · 4. and what was
        attested, if it has to be; `Refused` otherwise.
        """
        found = await self._city.standing(self.agent.name)  # 1
        if self._thumb not in found.agent.keys:  # 2
            raise Refused(Code.KEY_NOT_REGISTERED, "another run of this agent has begun, or its key was replaced")
        if self._thumb in found.agent.void:
            raise Refused(Code.KEY_REVOKED)
        await self._city.check_program(self.agent.name, found, self._measure)  # 3, 4
        return found

    async def certificate(self) -> Issued:
        """A certificate for this run's key."""
        found = await self.check()
        ttl = self._city.lifetimes(self.agent.name).certificate
        return await self._handed_over(
            found, self._city.authority().issue_x509(self.agent, self._key, now=self.now_ms(), ttl=ttl)
        )

    async def token(self, audience: str) -> Issued:
        """A bearer token for one audience. A token for two is one that the first can show the second: not issued."""
        if not audience:
            raise Malformed("a token needs an audience")
        found = await self.check()
        ttl = self._city.lifetimes(self.agent.name).token
        issued = self._city.authority().issue_jwt(self.agent, self._thumb, audience, now=self.now_ms(), ttl=ttl)
        return await self._handed_over(found, issued)

    async def validate(self, token: str, audience: str) -> Credential:
        """Whose token this is, if it is good for that audience now and, if it is ours, its agent stands; `Refused`
        otherwise. Another domain's names whom its own authority says, whether or not the file does."""
        domains = self._city.domains()
        credential = validate_token(token.encode("utf-8", "surrogatepass"), domains, audience)
        check_time(credential, self.now_ms(), self._city.leeway)
        if credential.key == credential.agent:  # another domain's, of whom nobody is registered here
            return credential
        row, _ = await self._city.registered(parse_agent_id(credential.agent).name)
        if credential.key not in row.keys:
            raise Refused(Code.KEY_NOT_REGISTERED)
        return credential

    async def end(self, nobody: P256Key) -> None:
        """Void all that was issued to this run. `nobody` is a key whose private half is gone."""
        for _ in range(MAX_CONFLICTS):
            found = await self._city.standing(self.agent.name, ending=True)
            if self._thumb not in found.agent.keys:
                return
            if await self._city.change_key(self.agent.name, found, thumbprint(nobody)):
                return
        raise Unavailable(Code.CONFLICT, f"the papers of `{self.agent.name}` were not voided: its row kept changing")

    async def _handed_over(self, found: Standing, paper: Issued) -> Issued:
        event = events.CredentialIssued(
            at=self.now_ms(),
            replica=self._city.replica,
            agent=found.agent.agent,
            key=self._thumb,
            kind=paper.kind.value,
            digest=paper.digest,
            not_after=paper.not_after,
        )
        if not await self._city.commit((event,), found.reads):
            raise Unavailable(Code.CONFLICT, f"`{self.agent.name}` changed in the same moment: nothing was issued")
        return paper
