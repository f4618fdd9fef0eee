"""Who may answer what: the people of the file, their roles, and what an act asks of them.

Decides whom an act reaches and in whose names a person may answer; not what they answer with (a signature, a passkey),
nor in which order they are asked. Without people in the file, whoever runs `citywatch tickets` under the operator's
account answers, as before there were any.

INVARIANTS
1. A role gives what stands in `RIGHTS` and nothing else. Nobody who looks into the log approves, and nobody who
   approves changes policy.
2. Somebody who is not named in the file answers nothing.
3. Where an act asks for several, one person is one of them, however often they answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from citywatch.core.approvals.statement import MAX_SET

DAY_MS: Final = 24 * 3_600_000
MESSAGE: Final = "message"
"""What people call the act of speaking to a peer that declares no skills: `<peer>/message`."""


class Duty(StrEnum):
    """What somebody is to the city."""

    APPROVER = "approver"
    AUDITOR = "auditor"
    OPERATOR = "operator"
    POLICY = "policy"


class Right(StrEnum):
    """What a role lets somebody do, in the console and over the API."""

    SEE = "see"
    """Decisions, agents, tickets and their history."""
    ANSWER = "answer"
    """Approve and deny tickets that reach them."""
    AUDIT = "audit"
    """The log and its payloads, vigilance of all approvers."""
    OPERATE = "operate"
    """Revoke, quarantine, halt, end tasks, enrol passkeys."""
    CHANGE_POLICY = "change_policy"
    """Load policies, approve tools, release labels."""


RIGHTS: Final[Mapping[Duty, frozenset[Right]]] = {
    Duty.APPROVER: frozenset({Right.SEE, Right.ANSWER}),
    Duty.AUDITOR: frozenset({Right.SEE, Right.AUDIT}),
    Duty.OPERATOR: frozenset({Right.SEE, Right.OPERATE}),
    Duty.POLICY: frozenset({Right.SEE, Right.CHANGE_POLICY}),
}
APART: Final = ((Duty.APPROVER, Duty.AUDITOR), (Duty.APPROVER, Duty.POLICY))
"""Roles that one person never has together."""


class Login(msgspec.Struct, frozen=True):
    """How a provider of OpenID Connect names somebody: its `iss`, and its `sub`, which it never gives to another."""

    issuer: str
    subject: str


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may be asked, or may look.

    `speaks_for` are principals in whose names they may answer (`as` in the file). `answers` are the acts that reach
    them: `<server>/<tool>`, `<peer>/<skill>`, `<server>/*` or `*`. `keys` are Ed25519 public keys (SubjectPublicKeyInfo
    in base64) under which they sign answers at a command line, `oidc` how they log in to the console. `per_hour` is how
    many questions an hour they are asked at most, `deputies` who may stand in for them while they are away.
    """

    name: str
    roles: tuple[Duty, ...]
    speaks_for: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    oidc: Login | None = None
    per_hour: int = 30
    deputies: tuple[str, ...] = ()

    def may(self, right: Right) -> bool:
        """# INVARIANT: 1."""
        return any(right in RIGHTS[role] for role in self.roles)

    def is_reached(self, server: str, tool: str) -> bool:
        """Whether a ticket for this act is theirs to answer."""
        return self.may(Right.ANSWER) and is_act_of(self.answers, server, tool)


class Quorum(msgspec.Struct, frozen=True, kw_only=True):
    """For these acts, `need` people have to say yes, out of those in `of` (names, or the word of a role).

    `blinded`: none of them sees what the others said before all is said.
    """

    acts: tuple[str, ...]
    need: int
    of: tuple[str, ...] = (Duty.APPROVER.value,)
    blinded: bool = True


class Uninspectable(StrEnum):
    """What it takes to approve a call that cannot be shown faithfully."""

    SECOND_PERSON = "second_person"
    SECOND_STEP = "second_step"
    REFUSE = "refuse"


class Passkeys(msgspec.Struct, frozen=True, kw_only=True):
    """Where passkeys are used: the relying party's id (a host name), and the origins of the console's pages."""

    rp_id: str
    origins: tuple[str, ...]


class Approvals(msgspec.Struct, frozen=True, kw_only=True):
    """How tickets are answered.

    `not_own` are acts (`*`: all) that nobody approves in the name of the principal whose authority is used.
    `one_denies`: one no decides, whatever the others say. `unsafe_unsigned`: people are believed without a signature.
    `unsafe_hasty`: a yes counts at once, whoever was shown what. `canaries`: how many of 100
    risky tickets are followed by one that is made up. `asks_per_agent` and `asks_per_root` are how much may
    be asked in an hour (`flood`). `batch` is how many tickets that are alike one signature may answer (1: each alone).
    """

    quorum: tuple[Quorum, ...] = ()
    not_own: tuple[str, ...] = ()
    expires_ms: int = DAY_MS
    reason_required: bool = True
    one_denies: bool = True
    uninspectable: Uninspectable = Uninspectable.SECOND_PERSON
    passkeys: Passkeys | None = None
    unsafe_unsigned: bool = False
    unsafe_hasty: bool = False
    canaries: int = 0
    asks_per_agent: int = 8
    asks_per_root: int = 30
    batch: int = MAX_SET
    escalate_after_ms: int = 0
    escalate_to: tuple[str, ...] = ()

    def quorum_of(self, server: str, tool: str) -> Quorum:
        """What this act asks for: the first rule that names it, in the order of the file; without one, one approver."""
        named = (one for one in self.quorum if is_act_of(one.acts, server, tool))
        return next(named, Quorum(acts=("*",), need=1))

    def is_not_own(self, server: str, tool: str) -> bool:
        return is_act_of(self.not_own, server, tool)


def is_act_of(acts: Iterable[str], server: str, tool: str) -> bool:
    """Whether one of these patterns names the act."""
    return any(one in ("*", f"{server}/*", f"{server}/{tool}") for one in acts)


def reached(people: Mapping[str, Person], quorum: Quorum, server: str, tool: str) -> tuple[str, ...]:
    """Who may answer a ticket for this act, by name: those whom it reaches and whom its quorum names."""
    theirs = (one for one in people.values() if one.is_reached(server, tool))
    return tuple(sorted(one.name for one in theirs if is_of(quorum, one)))


def is_of(quorum: Quorum, person: Person) -> bool:
    """Whether somebody is one of those whom a quorum names, by their name or by a role."""
    return person.name in quorum.of or any(role.value in quorum.of for role in person.roles)
