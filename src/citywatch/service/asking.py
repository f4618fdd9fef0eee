"""Calls that wait for a person, as rows and entries: opened with the decision that asks, used up by what passes.

Decides nothing that the gates have not decided; `tickets` is where people answer. INVARIANTS
1. A ticket is opened, superseded and used in the transaction of the decision which says so, beside its entry.
2. Asking again for the same call while it waits opens no other ticket; another call by now (`enforce.asking`) takes its
   place, and what was said of the old one is said of nothing any more.
3. What passes by a yes uses it up: the row that was read is the row that is written, or nothing is.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from citywatch.core import events
from citywatch.core.approvals.binding import ticket_digest
from citywatch.core.approvals.ticket import (
    ANSWERED,
    STEPS,
    Done,
    Illegal,
    State,
    Step,
    Ticket,
    after,
    closed_key,
    due_key,
    open_key,
    past_key,
    rows_of,
    stepped,
    ticket_id_key,
)
from citywatch.core.call import Allow, Ask, Call, Decision
from citywatch.core.enforce.advice import told_advice
from citywatch.core.enforce.approval import let_through
from citywatch.core.enforce.asking import is_another
from citywatch.core.enforce.context import Flow, FlowNeed
from citywatch.core.enforce.peers import is_message
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code
from citywatch.core.log.entry import encode_event
from citywatch.core.manifest import SILENT
from citywatch.core.wire import a2a_waiting
from citywatch.service.ports import NewEntry, Puts

TICKET_ID = 12
TAGS = frozenset("ticket_asked ticket_shown ticket_signed ticket_used ticket_expired ticket_superseded".split())
"""Tags of entries of which who folds a log again needs none: what they say follows from decisions and answers."""


class Asked(msgspec.Struct, frozen=True):
    """What changes in a decision's transaction because of tickets."""

    puts: Puts = ()
    entries: tuple[NewEntry, ...] = ()


NOTHING = Asked()


def asking(
    call: Call,
    need: FlowNeed | None,
    flow: Flow | None,
    decision: Decision,
    rules: Rules,
    now: int,
    salt: Callable[[], bytes],
    replica: str,
) -> Asked:
    """The ticket of a call that only a person may let through. # INVARIANT: 2."""
    name = waiting_ticket(call, need, flow, decision, rules, now)
    if need is None or flow is None or need.ticket is None or not isinstance(decision, Ask) or not name:
        return NOTHING
    if flow.ticket is not None and name == flow.ticket.id:
        return NOTHING
    ticket = _opened(call, need, flow, decision, rules, now, salt, name)
    asked = events.TicketAsked(
        at=now,
        replica=replica,
        ticket=name,
        call=call.id,
        agent=call.agent,
        server=call.server,
        tool=ticket.tool,
        digest=ticket.digest,
        expires=ticket.expires,
    )
    gone = NOTHING if flow.ticket is None else _replaced(flow.ticket, ticket, decision, call, rules, now, replica)
    puts = (*gone.puts, *rows_of(ticket, need.ticket[1], None, now))
    return Asked(puts, (*gone.entries, NewEntry(encode_event(asked))))


def using(need: FlowNeed | None, flow: Flow | None, decision: Decision, call: Call, now: int, replica: str) -> Asked:
    """The ticket that let this call through, used up; nothing if none was approved for it. # INVARIANT: 3.

    What would have passed without the yes takes it away too: it was given for one such call.
    """
    ticket = None if flow is None else flow.ticket
    if need is None or need.ticket is None or ticket is None or ticket.by_now(now) is not State.APPROVED:
        return NOTHING
    sources = decision.sources if isinstance(decision, Allow) else ()
    by_this = bool(sources) and sources[0] == let_through(ticket.id, ticket.by)
    step = Step.USE if by_this else Step.SUPERSEDE
    done = Done(now, "used" if by_this else "superseded", call.id)
    after_it = msgspec.structs.replace(stepped(ticket, step, now), done=(*ticket.done, done))
    event: events.Event = events.TicketSuperseded(
        at=now, replica=replica, ticket=ticket.id, next="", why=f"call {call.id} passed without it"
    )
    if by_this:
        event = events.TicketUsed(at=now, replica=replica, ticket=ticket.id, call=call.id, digest=ticket.digest)
    return Asked(rows_of(after_it, need.ticket[1], ticket, now), (NewEntry(encode_event(event)),))


def waiting_ticket(
    call: Call, need: FlowNeed | None, flow: Flow | None, decision: Decision, rules: Rules, now: int
) -> str:
    """The id of the ticket that waits for an answer once this decision is on record; "" if there is none."""
    if need is None or flow is None or need.ticket is None or not isinstance(decision, Ask):
        return ""
    if decision.reason.code is not Code.APPROVAL_REQUIRED:
        return ""
    before = flow.ticket
    if before is not None and before.by_now(now) is State.PENDING and not _differs(before, decision, call, rules):
        return before.id
    return call.id[:TICKET_ID]


def _differs(before: Ticket, decision: Ask, call: Call, rules: Rules) -> str:
    """Why what is asked now is not what that ticket asks; empty if it is."""
    if decision.discloses and not before.discloses:
        return "it would now reach who may not see what was read"
    if before.bound is None or decision.bound is None:
        return ""
    return is_another(before.bound, decision.bound, call, rules)


def _opened(
    call: Call,
    need: FlowNeed,
    flow: Flow,
    decision: Ask,
    rules: Rules,
    now: int,
    salt: Callable[[], bytes],
    name: str,
) -> Ticket:
    expires, secret, nonce = now + rules.ticket_ms, salt().hex(), salt().hex()
    tool = rules.tools.get((call.server, call.name or ""))
    return Ticket(
        id=name,
        agent=call.agent,
        server=call.server,
        tool=(call.name or "") if decision.bound is None else decision.bound.tool,
        state=State.PENDING,
        asked=now,
        expires=expires,
        why=decision.reason.detail,
        call=call.id,
        advice=tuple(told_advice(flow.history)),
        of=decision.of,
        answer="" if need.answer is None else need.answer[1],
        exact=decision.exact,
        shown=decision.shown,
        discloses=decision.discloses,
        bound=decision.bound,
        digest="" if decision.bound is None else ticket_digest(decision.bound, name, secret, expires),
        salt=secret,
        nonce=nonce,
        sources=decision.sources,
        authority=decision.authority,
        done=(Done(now, "asked", call.agent),),
        conversation=a2a_waiting.conversation_of(call, name) if is_message(call) else "",
        impact=(SILENT if tool is None else tool.manifest).impact.times,
    )


def _replaced(old: Ticket, new: Ticket, decision: Ask, call: Call, rules: Rules, now: int, replica: str) -> Asked:
    """What becomes of the ticket in whose place another is put."""
    kept, entries = old, tuple[NewEntry, ...]()
    step = Step.EXPIRE if now >= old.expires else Step.SUPERSEDE
    state = after(old.state, step)
    event: events.Event
    if not isinstance(state, Illegal):
        why = _differs(old, decision, call, rules) or "it was asked about anew"
        done = Done(now, state.value, why if step is Step.SUPERSEDE else "")
        kept = msgspec.structs.replace(old, state=state, done=(*old.done, done))
        if step is Step.EXPIRE:
            event = events.TicketExpired(at=now, replica=replica, ticket=old.id, state=old.state.value)
        else:
            kept = msgspec.structs.replace(kept, superseded=new.id)
            event = events.TicketSuperseded(at=now, replica=replica, ticket=old.id, next=new.id, why=why)
        entries = (NewEntry(encode_event(event)),)
    puts: Puts = (
        (past_key(old.id), msgspec.json.encode(kept)),
        (ticket_id_key(old.id), None),
        (open_key(old), None),
        (due_key(old), None),
    )
    if STEPS[old.state] and old.state is State.PENDING:
        puts = (*puts, (closed_key(old, now), msgspec.json.encode(old.id)), (ANSWERED, b"true"))
    return Asked(puts, entries)
