"""What each operation does: it asks the same services as the console and the command line, and gives what they say.

Decides nothing: who may answer, over what, with which signature, is `service.voting`'s; what care a yes takes is
`service.care`'s. INVARIANTS: a person answers in their own name alone, which is that of the key that signed the
request; nothing is answered but through `Voting.vote`, with a signature over the statement that the service wrote; what
a reviewer is not to see of others is left out by `Voting.seen_by`, before anything of a ticket leaves here.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from citywatch.adapters.approvals_api import forms
from citywatch.adapters.approvals_api.operations import openapi
from citywatch.core.approvals.lending import Loan
from citywatch.core.approvals.people import Approvals, Person, Right
from citywatch.core.approvals.plain import word
from citywatch.core.approvals.reading import layout
from citywatch.core.approvals.showing import MEANS, Document, Why
from citywatch.core.approvals.statement import parse_statement
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.approvals.webauthn import Assertion
from citywatch.core.errors import Malformed
from citywatch.core.http_signature import Head
from citywatch.service.care import Care
from citywatch.service.lending import Lending
from citywatch.service.passkeys import Passkeys
from citywatch.service.ports import Clock
from citywatch.service.queueing import Queueing
from citywatch.service.signatures import Proof, Signature
from citywatch.service.voting import Voting


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """What the API is given to work with: the services of the console's desk."""

    domain: str
    clock: Clock
    approvals: Approvals
    voting: Voting
    care: Care
    queueing: Queueing
    passkeys: Passkeys
    lending: Lending


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was let through: who asks, which ticket the path names, and its query or body as its type; as it
    came, where it shows itself who asks."""

    who: Person
    ticket: str = ""
    given: Any = None
    head: Head | None = None
    body: bytes = b""


class Unknown(Exception):
    """There is nothing of that name."""


Handler = Callable[[Asked], Awaitable[Any]]


class Answers:
    """The operations, by their names in the table."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._document = openapi()

    def all(self) -> Mapping[str, Handler]:
        return {
            "document": self.document,
            "lend": self.lend,
            "me": self.me,
            "queue": self.queue,
            "look": self.look,
            "open": self.open,
            "prepare": self.prepare,
            "vote": self.vote,
        }

    async def document(self, asked: Asked) -> dict[str, Any]:
        return self._document

    async def lend(self, asked: Asked) -> forms.Lent:
        given: forms.Loan = asked.given
        assert asked.head is not None
        loan = Loan(
            domain=self._desk.domain, person=given.person, key=given.key, issued=given.issued, expires=given.expires
        )
        lent = await self._desk.lending.lend(asked.head, asked.body, loan, given.passkey)
        return forms.Lent(person=lent.person, until=lent.until)

    async def me(self, asked: Asked) -> forms.Me:
        who, rp = asked.who, self._desk.approvals.passkeys
        return forms.Me(
            person=who.name,
            domain=self._desk.domain,
            roles=tuple(role.value for role in who.roles),
            may_answer=who.may(Right.ANSWER),
            answers=who.answers,
            speaks_for=who.speaks_for,
            per_hour=who.per_hour,
            rp="" if rp is None else rp.rp_id,
            passkeys=tuple(one.id for one in await self._desk.passkeys.of(who.name) if one.counts),
            now=self._desk.clock.now_ms(),
        )

    async def queue(self, asked: Asked) -> forms.Queue:
        wanted: forms.Listing = asked.given
        end = wanted.start + wanted.count
        view = await self._desk.queueing.look(asked.who.name if asked.who.may(Right.ANSWER) else "", end)
        listed = tuple(
            forms.Listed(
                ticket=one.ticket.id,
                agent=one.ticket.agent,
                server=one.ticket.server,
                tool=word(one.ticket.tool, 128),
                asked=one.ticket.asked,
                expires=one.ticket.expires,
                alike=one.line.count - 1,
                need=one.line.need,
            )
            for one in view.queued[wanted.start : end]
        )
        floods = tuple(
            forms.Flood(kind=one.kind, who=word(one.who, 256), count=one.count, until=one.until) for one in view.floods
        )
        more = end if end < view.total else None
        return forms.Queue(tickets=listed, waiting=view.total, next=more, floods=floods)

    async def look(self, asked: Asked) -> forms.Standing:
        return await self._standing(await self._found(asked), asked.who)

    async def open(self, asked: Asked) -> forms.Opened:
        await self._found(asked)
        ticket, document = await self._desk.voting.opened(asked.ticket, asked.who.name)
        return forms.Opened(
            standing=await self._standing(ticket, asked.who),
            sections=_sections(document, ticket.nonce, asked.who.name),
            uninspectable=tuple(
                forms.Uninspectable(code=Why(one), means=MEANS[Why(one)]) for one in document.uninspectable
            ),
            counts_in_ms=await self._desk.care.waits_ms(ticket, asked.who.name, document),
            reason_required=self._desk.approvals.reason_required,
            own_words=bool(ticket.shown),
        )

    async def prepare(self, asked: Asked) -> forms.Prepared:
        draft: forms.Draft = asked.given
        await self._found(asked)
        offer = await self._desk.voting.prepare(
            asked.ticket,
            asked.who.name,
            draft.decision == "approve",
            draft.reason,
            principal=draft.principal,
            hold_ms=draft.hold_ms,
            acknowledged=tuple(one.value for one in draft.acknowledged),
        )
        return forms.Prepared(statement=offer.text, challenge=urlsafe_b64encode(offer.challenge).rstrip(b"=").decode())

    async def vote(self, asked: Asked) -> forms.Standing:
        given: forms.Answer = asked.given
        await self._found(asked)
        statement = parse_statement(given.statement)
        # INVARIANT: whose answer it is, the request's key says; what is brought in another's name counts for nobody.
        if statement.approver != asked.who.name or statement.ticket != asked.ticket:
            raise Malformed("that statement is another person's, or of another ticket")
        voted = await self._desk.voting.vote(statement, _proof(given.proof))
        return await self._standing(voted, asked.who)

    async def _found(self, asked: Asked) -> Ticket:
        try:
            return await self._desk.voting.seen(asked.ticket, asked.who.name)
        except Malformed as missing:
            raise Unknown(str(missing)) from None

    async def _standing(self, ticket: Ticket, who: Person) -> forms.Standing:
        now = self._desk.clock.now_ms()
        audience = await self._desk.voting.audience()
        quorum = audience.quorum(ticket)
        answered = any(one.person == who.name for one in ticket.votes)
        waits = ticket.by_now(now) is State.PENDING
        return forms.Standing(
            ticket=ticket.id,
            state=ticket.by_now(now).value,
            agent=ticket.agent,
            server=ticket.server,
            tool=word(ticket.tool, 128),
            asked=ticket.asked,
            expires=ticket.expires,
            need=quorum.need,
            blinded=quorum.blinded,
            of=ticket.of,
            answered=answered,
            yours=waits and not answered and who.name in audience.reached(ticket),
            votes=tuple(
                forms.Said(person=one.person, decision="approve" if one.yes else "deny", at=one.at)
                for one in ticket.votes
            ),
            steps=tuple(forms.Step(at=one.at, what=one.what, who=one.who) for one in ticket.done),
            superseded=ticket.superseded,
        )


def _sections(document: Document, nonce: str, person: str) -> tuple[forms.Section, ...]:
    """In the order in which this person is shown them, as in the console."""
    parts = zip(forms.PARTS, document.sections, strict=True)
    sections = tuple(forms.Section(part=part, title=one.title, lines=one.lines) for part, one in parts)
    return layout(sections, nonce, person)


def _proof(given: forms.Ed25519 | forms.WebAuthn) -> Proof:
    if isinstance(given, forms.Ed25519):
        return Signature(given.signature)
    return Assertion(id=given.id, authenticator=given.authenticator, client=given.client, signature=given.signature)
