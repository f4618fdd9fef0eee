"""Whether an answer may count: steps 1 to 6 of what is asked of it, before whose signature it is (`service.voting`).

    1. it is of this domain, ticket, digest, end and nonce, and the digest is that of what the ticket asks
    2. the ticket still waits
    3. the act reaches the person, or somebody who is away for whom they stand in, and neither has answered yet
    4. it is given in a name that is theirs there, and not for a call that uses the authority of somebody for whom they
       speak, where that is not to be
    5. what was shown is what is shown now
    6. what could not be shown faithfully was named, and may be approved at all

Decides on the ticket's row, the people of the file and the document; on nothing that the answer says of itself.
INVARIANTS: every step is asked of every answer, a no as well as a yes (a no needs no name, reason or second look); what
is not clearly allowed is refused; somebody whom the file does not name answers nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from citywatch.core.approvals.audience import Audience
from citywatch.core.approvals.binding import ticket_digest
from citywatch.core.approvals.people import Approvals, Person, Uninspectable
from citywatch.core.approvals.showing import MEANS, Document, Why, document_digest
from citywatch.core.approvals.statement import Statement
from citywatch.core.approvals.ticket import State, Ticket, check_hold
from citywatch.core.errors import Code, Malformed, Refused

MAX_HOLD_MS: Final = 24 * 3_600_000


def check_answer(
    ticket: Ticket,
    statement: Statement,
    document: Document,
    *,
    audience: Audience,
    domain: str,
    now: int,
) -> Person:
    """Whose answer it claims to be; raises `Malformed` or `Refused` where it could not count whoever signed it."""
    if ticket.bound is None:
        raise Refused(Code.CONFLICT, "the ticket is of an earlier version: let the agent ask again")
    intact = ticket_digest(ticket.bound, ticket.id, ticket.salt, ticket.expires) == ticket.digest
    said = (statement.domain, statement.ticket, statement.digest, statement.expires, statement.nonce)
    if not intact or said != (domain, ticket.id, ticket.digest, ticket.expires, ticket.nonce):  # step 1
        raise Malformed("the statement is of another ticket, or of another call than this one asks about")
    if ticket.by_now(now) is not State.PENDING:  # step 2
        raise Refused(Code.CONFLICT, f"the ticket `{ticket.id}` is {ticket.by_now(now).value}")
    person = person_of(audience.people, statement.approver)
    alone = needed(ticket, audience.approvals, document.uninspectable) == 1
    _check_person(ticket, statement, person, audience, alone=alone)  # steps 3 and 4
    if statement.document != document_digest(document, ticket.salt):  # step 5
        raise Malformed("what was shown is not what is shown now: look again")
    if statement.yes:
        _check_yes(ticket, statement, document, audience.approvals)  # step 6
    return person


def needed(ticket: Ticket, approvals: Approvals, uninspectable: tuple[str, ...]) -> int:
    """How many people have to say yes."""
    need = approvals.quorum_of(ticket.server, ticket.tool).need
    if uninspectable and approvals.uninspectable is Uninspectable.SECOND_PERSON:
        return max(2, need + 1)
    return need


def person_of(people: Mapping[str, Person], name: str) -> Person:
    """Somebody whom the file names."""
    person = people.get(name)
    if person is None:
        raise Refused(Code.NO_PERMIT, f"the file names nobody `{name[:80]}` under `people`")
    return person


def _check_person(ticket: Ticket, statement: Statement, person: Person, audience: Audience, *, alone: bool) -> None:
    """`alone`: no other answer is needed, so that this one has to be given in a name that may approve it."""
    act = f"{ticket.server}/{ticket.tool}"
    if any(one.person == person.name for one in ticket.votes):  # step 3
        raise Refused(Code.CONFLICT, f"`{person.name}` has answered the ticket `{ticket.id}` before")
    if person.name in audience.away:
        raise Refused(Code.NO_PERMIT, f"`{person.name}` is away, by their own word: `citywatch people back` ends that")
    place = statement.place or person.name
    if place not in audience.places_of(ticket, person.name) or statement.place == person.name:
        there = "" if place == person.name else f" in the place of `{place[:80]}`"
        raise Refused(Code.NO_PERMIT, f"`{act[:120]}` is not for `{person.name}` to answer{there}")
    if audience.is_taken(ticket, place):
        raise Refused(Code.CONFLICT, f"`{place}` has answered the ticket `{ticket.id}` before")
    if statement.principal and statement.principal not in audience.people[place].speaks_for:  # step 4
        raise Malformed(f"`{place}` does not speak for `{statement.principal[:80]}`: see `people.*.as`")
    if not statement.yes:
        return
    if why := audience.conflict(ticket, person.name, place):
        raise Refused(Code.NO_PERMIT, why)
    if alone and ticket.of is not None and statement.principal not in ticket.of:
        raise Malformed(_who(ticket))


def _check_yes(ticket: Ticket, statement: Statement, document: Document, approvals: Approvals) -> None:
    if approvals.reason_required and not statement.reason:
        raise Malformed("a yes gives a reason, which stands in the log")
    if not 0 <= statement.hold_ms <= MAX_HOLD_MS:
        raise Malformed("an answer holds for at most a day")
    check_hold(ticket, statement.hold_ms)
    check_acknowledged(document, statement.acknowledged, approvals)


def check_acknowledged(document: Document, acknowledged: Collection[str], approvals: Approvals) -> None:
    """A yes to what could not be shown faithfully names each reason for that; raise `Refused` or `Malformed` if not."""
    if not document.uninspectable:
        return
    told = ", ".join(f"{one} ({MEANS[Why(one)]})" for one in document.uninspectable)
    if approvals.uninspectable is Uninspectable.REFUSE:
        raise Refused(Code.NO_PERMIT, f"what cannot be shown faithfully is not approved here: {told}")
    if set(acknowledged) != set(document.uninspectable):
        raise Malformed(f"the call cannot be shown faithfully; to approve it all the same, name why: {told}")


def _who(ticket: Ticket) -> str:
    if not ticket.of:
        return f"nobody may approve it: no principal may steer `{ticket.server}/{ticket.tool[:80]}`"
    return f"it is approved in the name of {' or '.join(f'`{one}`' for one in ticket.of)}: say so with `--as`"
