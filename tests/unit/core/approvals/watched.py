"""Entries about approvers, as the gateway writes them, for tests."""

from __future__ import annotations

from collections.abc import Iterable

from citywatch.core import events
from citywatch.core.approvals.seal import Kind, seal
from citywatch.core.approvals.vigilance import Bar, Vigilance

MINUTE = 60_000
SALT = bytes(range(16))


def story(
    who: str, ticket: str, kind: Kind, yes: bool, *, at: int = 0, category: str = "money", took: int = 10_000
) -> list[events.Event]:
    """Somebody opens a ticket and answers it, and it is unsealed."""
    return [
        *opened(who, ticket, kind, at, category),
        answered(who, ticket, yes, at + took),
        unsealed(ticket, kind, category),
    ]


def opened(who: str, ticket: str, kind: Kind, at: int, category: str = "money") -> list[events.Event]:
    sealed = seal(ticket, kind, category, SALT)
    return [
        events.TicketSealed(
            at=at,
            replica="r",
            ticket=ticket,
            by=who,
            seal=sealed,
            category=category,
            asked=at - MINUTE,
            reading_ms=20_000,
        )
    ]


def answered(who: str, ticket: str, yes: bool, at: int) -> events.Event:
    answer = "approve" if yes else "deny"
    return events.TicketSigned(
        at=at,
        replica="r",
        ticket=ticket,
        by=who,
        answer=answer,
        statement="{}",
        method="unsigned",
        key="",
        signature="",
    )


def decided(who: str, ticket: str, yes: bool, at: int) -> events.Event:
    answer = "approved" if yes else "denied"
    return events.TicketAnswered(
        at=at, replica="r", ticket=ticket, call="c", agent="a", answer=answer, by=who, reason="because"
    )


def asked(ticket: str, at: int) -> events.Event:
    return events.TicketAsked(
        at=at,
        replica="r",
        ticket=ticket,
        call="c",
        agent="a",
        server="s",
        tool="t",
        digest="d",
        expires=at + 9 * MINUTE,
    )


def expired(ticket: str, at: int, state: str = "pending") -> events.Event:
    return events.TicketExpired(at=at, replica="r", ticket=ticket, state=state)


def unsealed(ticket: str, kind: Kind, category: str = "money", salt: bytes = SALT) -> events.Event:
    return events.TicketUnsealed(at=0, replica="r", ticket=ticket, kind=kind.value, category=category, salt=salt.hex())


def watched(some: Iterable[events.Event], bar: float = 0.6) -> Vigilance:
    found = Vigilance(Bar(detects=bar))
    for one in some:
        found.note(one)
    return found
