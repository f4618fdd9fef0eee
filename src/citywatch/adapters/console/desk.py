"""What the console is given to work with: the log and its folds, the rules, and the few acts that a person may do.

Decides nothing. `main` puts it together; pages read it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from citywatch.adapters.console.sessions import Visitor
from citywatch.core.approvals.people import Approvals, Person, Right
from citywatch.core.enforce.rules import Rules
from citywatch.core.identity.registration import AgentRow
from citywatch.core.log.checkpoint import NoteKey
from citywatch.service.absences import Absences
from citywatch.service.canaries import Canaries
from citywatch.service.care import Care
from citywatch.service.decisions import Decisions
from citywatch.service.documents import Documents
from citywatch.service.entering import Entering
from citywatch.service.following import Following
from citywatch.service.hours import Hours
from citywatch.service.lineage import Lineage
from citywatch.service.panorama import Panorama
from citywatch.service.passkeys import Passkeys
from citywatch.service.ports import Clock, Store
from citywatch.service.proofs import Proofs
from citywatch.service.queueing import Queueing
from citywatch.service.sets import Sets
from citywatch.service.telling import Rebuild
from citywatch.service.tickets import Tickets
from citywatch.service.vigilance import Watching
from citywatch.service.voting import Voting


class Place(msgspec.Struct, frozen=True):
    """A place of the file: its id in the panorama, its kind (person, agent, server, memory, peer), what it is."""

    id: str
    kind: str
    name: str
    note: str = ""


class PolicyFile(msgspec.Struct, frozen=True):
    """One file of policies as it stands on the disk."""

    name: str
    text: str


class Tested(msgspec.Struct, frozen=True):
    """What came of the cases beside the policies: how many held, a line for each that did not, rules without one."""

    passed: int
    failed: tuple[str, ...]
    untested: tuple[str, ...]


class Actions(Protocol):
    """What an operator may do from a page; each has its entry in the log, in the name of who did it."""

    async def revoke(self, agent: str, by: str, reason: str) -> str: ...

    async def stop(self, what: str, by: str, reason: str) -> str: ...

    async def resume(self, what: str, by: str, reason: str) -> str: ...

    async def quarantine(self, agent: str, by: str, reason: str) -> str: ...

    async def lift(self, agent: str, by: str, reason: str) -> str: ...


class Sight(msgspec.Struct, frozen=True):
    """What somebody sees of the log: its decisions, and the picture that they make."""

    decisions: Decisions
    panorama: Panorama


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, for one console process.

    `apart` is the sight of those who answer, where tickets are made up to see whether they look: without what people
    are asked. A made-up ticket is no decision, so whoever saw both could tell by the one that is missing.
    """

    domain: str
    origin: str
    store: Store
    clock: Clock
    following: Following
    sight: Sight
    apart: Sight | None
    lineage: Lineage
    entering: Entering
    rules: Callable[[], Awaitable[Rules]]
    rebuild: Rebuild
    proofs: Proofs
    log_key: str
    witnesses: Sequence[NoteKey]
    quorum: int
    places: tuple[Place, ...]
    agents: Callable[[], Awaitable[list[tuple[str, AgentRow]]]]
    halted: Callable[[], Awaitable[list[str]]]
    actions: Actions
    policy_files: Callable[[], Sequence[PolicyFile]]
    policy_tests: Callable[[], Awaitable[Tested]]
    people: Mapping[str, Person]
    approvals: Approvals
    tickets: Tickets
    documents: Documents
    voting: Voting
    sets: Sets
    care: Care
    queueing: Queueing
    canaries: Canaries
    passkeys: Passkeys
    absences: Absences
    watching: Watching
    hours: Hours
    unsafe: tuple[str, ...] = ()

    def person(self, visitor: Visitor) -> Person | None:
        """The person of the file who this is; None for an operator."""
        kind, _, name = visitor.person.partition(":")
        return self.people.get(name) if kind == "person" else None

    def is_apart(self, visitor: Visitor) -> bool:
        """Whether what people are asked stands for this visitor under Tickets alone."""
        return self.apart is not None and bool(self.people) and visitor.may(Right.ANSWER)

    def seen_by(self, visitor: Visitor) -> Sight:
        """# INVARIANT: who may be asked something made up is not shown elsewhere what was asked."""
        return self.apart if self.apart is not None and self.is_apart(visitor) else self.sight
