"""A ticket: one call that only a person may let through; and the states it can be in.

    pending ──approve──▶ approved ──use──▶ used
       │ └────deny─────▶ denied
       ├──expire──▶ expired            approved ──expire──▶ expired
       └─supersede─▶ superseded        approved ──supersede─▶ superseded

Decides which step may follow which; not who may take it (`people`), what an answer is bound to (`binding`), nor whether
the call then goes through (`enforce.admit`). INVARIANTS
1. `after` is total: every pair of a state and a step gives a state, or says that there is none (`Illegal`).
2. What is denied, used, expired or superseded is over: no step leads out of it.
3. An approval is used once.
4. Time alone never approves: past `expires` a ticket that waited is expired, whatever its row says.
5. A ticket and its places in the lists change together.
6. What ends a wait moves one row in the same transaction (`ANSWERED`), so that whoever waits looks at that row alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from citywatch.core.call import Bound, Source
from citywatch.core.errors import Malformed

Key = tuple[str, str]
OPEN: Final = "ticket_open"
DUE: Final = "ticket_due"
CLOSED: Final = "ticket_closed"
ANSWERED: Final[Key] = ("machine", "tickets")
"""The row that moves whenever a ticket waits no more."""
Shown = tuple[str, str | int | float | bool | None]
"""A value that stopped a call: its role, and itself (None: there were too many to look at)."""


class State(StrEnum):
    """What became of a ticket so far. The value stands in rows and on the wire; it is never renamed."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    USED = "used"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


class Step(StrEnum):
    """What can happen to a ticket."""

    APPROVE = "approve"
    DENY = "deny"
    USE = "use"
    EXPIRE = "expire"
    SUPERSEDE = "supersede"


class Illegal(msgspec.Struct, frozen=True):
    """There is no such step: `state` is what the ticket is."""

    state: State
    step: Step


STEPS: Final[dict[State, dict[Step, State]]] = {
    State.PENDING: {
        Step.APPROVE: State.APPROVED,
        Step.DENY: State.DENIED,
        Step.EXPIRE: State.EXPIRED,
        Step.SUPERSEDE: State.SUPERSEDED,
    },
    State.APPROVED: {
        Step.USE: State.USED,
        Step.EXPIRE: State.EXPIRED,
        Step.SUPERSEDE: State.SUPERSEDED,
    },
    State.DENIED: {},
    State.USED: {},
    State.EXPIRED: {},
    State.SUPERSEDED: {},
}
"""Each step that there is; what does not stand here is refused."""


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """What one person said of a ticket. `method` is how that is proved (`ed25519`, `webauthn`, `unsigned`), `key` under
    which key or credential. `document` is the digest of what they were shown, `hold_ms` for how long they want it to
    hold. `weight` is how much it counted for, in hundredths, when it was given. `place` is in whose place they said it
    who is away (empty: their own).
    """

    person: str
    yes: bool
    at: int
    reason: str = ""
    principal: str = ""
    hold_ms: int = 0
    method: str = ""
    key: str = ""
    document: str = ""
    weight: int = 100
    place: str = ""


class Done(msgspec.Struct, frozen=True, array_like=True):
    """A step of a ticket's life: when, what, and who or what did it (empty where that is still to be kept back)."""

    at: int
    what: str
    who: str = ""


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """A call that only a person may let through.

    `of`: one of these principals has to approve it (None: whoever is on call may). `answer` is the row for an answer
    that outlives this call, `exact` its arguments, `shown` what stopped it (`enforce.approval.Answer`).
    `discloses`: a yes also lets out what those whom the call reaches may not see. `principal`: in whose name.

    `impact` is what the file says a wrong yes to the act would cost, for the queue's order (`asked.loss`).

    `bound` is what a yes is bound to (None: it was opened before there were bindings), `digest` over it and the secret
    `salt`; `nonce` is in each signed statement. `sources` say where each value came from, `authority` in whose name the
    agent acts. `votes` are what people said, `done` the steps so far; `superseded` names the ticket after it. `need` is
    how many people's yes decided it (0: nobody counted), `escalated` when it was passed on to those who come next.
    `conversation`: of a message to another agent, to which conversation it belongs; empty for a tool call.
    """

    id: str
    agent: str
    server: str
    tool: str
    state: State
    asked: int
    expires: int
    why: str
    call: str
    by: str = ""
    advice: tuple[str, ...] = ()
    of: tuple[str, ...] | None = None
    answer: str = ""
    exact: str = ""
    shown: tuple[Shown, ...] = ()
    reason: str = ""
    discloses: bool = False
    principal: str = ""
    bound: Bound | None = None
    digest: str = ""
    salt: str = ""
    nonce: str = ""
    sources: tuple[Source, ...] = ()
    authority: tuple[str, ...] = ()
    votes: tuple[Vote, ...] = ()
    done: tuple[Done, ...] = ()
    superseded: str = ""
    need: int = 0
    escalated: int = 0
    impact: int = 1
    conversation: str = ""

    @property
    def spoken(self) -> bool:
        """Whether it is a message to another agent."""
        return bool(self.conversation)

    def by_now(self, now: int) -> State:
        """# INVARIANT: 4. The state at this instant: what nobody answered in time, or used in time, is expired."""
        late = now >= self.expires and self.state in (State.PENDING, State.APPROVED)
        return State.EXPIRED if late else self.state


def check_hold(ticket: Ticket, hold_ms: int) -> None:
    """Raise `Malformed` for an answer that would hold for a while where a yes is for one call and no other."""
    if ticket.discloses and hold_ms:
        raise Malformed("what may not be seen is let out in the one call that is shown, and not for a while")
    if ticket.spoken and hold_ms:
        raise Malformed("a message is let through once, as it is shown, and not for a while")


def after(state: State, step: Step) -> State | Illegal:
    """The state after a step, or that there is no such step."""
    return STEPS[state].get(step) or Illegal(state, step)


def stepped(ticket: Ticket, step: Step, now: int) -> Ticket:
    """The ticket after this step, taken now; `Malformed` if it is not one that this ticket can take by now."""
    state = after(State.EXPIRED if _is_late(ticket, step, now) else ticket.state, step)
    if isinstance(state, Illegal):
        raise Malformed(f"a ticket that is {state.state.value} cannot be taken to `{state.step.value}`")
    return msgspec.structs.replace(ticket, state=state)


def _is_late(ticket: Ticket, step: Step, now: int) -> bool:
    """What only ends a ticket can be done late; all else is done before it expires."""
    return step not in (Step.EXPIRE, Step.SUPERSEDE) and now >= ticket.expires


def ticket_key(likeness: str) -> Key:
    """Where the latest ticket lies of all calls that are alike: the one row that a decision reads."""
    return ("ticket", likeness)


def ticket_id_key(name: str) -> Key:
    """Where it is kept which row a ticket of that id lies in: who waits for it knows nothing but the id."""
    return ("ticket_id", name)


def past_key(name: str) -> Key:
    """Where a ticket lies after another call that is alike has asked."""
    return ("ticket_past", name)


def open_key(ticket: Ticket) -> Key:
    """Its place in the list of those that wait, the oldest first; there while it is pending, with its likeness."""
    return (OPEN, f"{ticket.asked:015d}\n{ticket.id}")


def due_key(ticket: Ticket) -> Key:
    """Its place in the list of those that can still expire, the first to do so first."""
    return (DUE, f"{ticket.expires:015d}\n{ticket.id}")


def closed_key(ticket: Ticket, at: int) -> Key:
    """Its place in the list of those that were answered or are over, by when that was."""
    return (CLOSED, f"{at:015d}\n{ticket.id}")


Puts = tuple[tuple[Key, bytes | None], ...]


def rows_of(ticket: Ticket, likeness: str, before: Ticket | None, now: int) -> Puts:
    """The rows of a ticket after a step, its places in the lists among them; `before` is the same one as it was.

    # INVARIANT: 5. Whoever changes a ticket writes these and no others.
    """
    named = msgspec.json.encode(likeness)
    state = ticket.state
    puts: Puts = ((ticket_key(likeness), msgspec.json.encode(ticket)),)
    if before is None:
        return (*puts, (ticket_id_key(ticket.id), named), (open_key(ticket), named), (due_key(ticket), named))
    if before.state is State.PENDING and state is not State.PENDING:
        puts = (*puts, (open_key(ticket), None), (closed_key(ticket, now), msgspec.json.encode(ticket.id)))
        puts = (*puts, (ANSWERED, b"true"))  # INVARIANT: 6.
    if not STEPS[state]:
        puts = (*puts, (due_key(ticket), None))
    return puts
