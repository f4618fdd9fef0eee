"""The queue of tickets, one ticket to read and to answer, and the passkeys that answers are signed with.

Decides nothing: who may answer, over what, with which signature, is `service.voting`'s, and what is shown of a call is
`core.approvals.showing`'s. INVARIANTS: a person answers in their own name alone, which is the session's and never the
page's; where the file names people, no answer is taken without a signature (but for `unsafe_unsigned`); what is signed
is the statement that the service wrote, and it is looked at again when it comes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from citywatch.adapters.console import words
from citywatch.adapters.console.access import Door
from citywatch.adapters.console.answering import (
    ANSWERS,
    ANSWERS_MS,
    DECISIONS,
    LONGEST,
    NO_DECISION,
    NO_PASSKEYS,
    NOBODY,
    TOO_FAST,
    assertion_of,
    b64,
    principal_of,
    problem,
    to_sign,
    told,
    why,
)
from citywatch.adapters.console.desk import Desk
from citywatch.adapters.console.refresher import Refresher
from citywatch.adapters.console.render import Pages
from citywatch.adapters.console.sessions import Visitor
from citywatch.core.approvals.answers import check_acknowledged
from citywatch.core.approvals.audience import Audience
from citywatch.core.approvals.people import Person, Right
from citywatch.core.approvals.reading import layout
from citywatch.core.approvals.showing import MEANS, Document, Why
from citywatch.core.approvals.statement import parse_statement
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.approvals.webauthn import Registration
from citywatch.core.errors import CitywatchError, Malformed
from citywatch.service.pace import Pace
from citywatch.service.signatures import Unsigned

PAGE: Final = 50


class TicketPages:
    """Tickets and passkeys."""

    def __init__(self, desk: Desk, pages: Pages, refresher: Refresher) -> None:
        self._desk = desk
        self._pages = pages
        self._refresher = refresher
        self._pace = Pace(ANSWERS, ANSWERS_MS)

    def doors(self) -> Sequence[Door]:
        return (
            Door("GET", "/tickets", Right.SEE, self.listing),
            Door("GET", "/tickets/{id}", Right.SEE, self.one),
            Door("POST", "/tickets/{id}/prepare", Right.ANSWER, self.prepare),
            Door("POST", "/tickets/{id}/answer", Right.ANSWER, self.answer),
            Door("GET", "/passkeys", Right.ANSWER, self.passkeys),
            Door("POST", "/passkeys/begin", Right.ANSWER, self.begin),
            Door("POST", "/passkeys/finish", Right.ANSWER, self.finish),
        )

    # -- to look at ----------------------------------------------------------------------------------------------------

    async def listing(self, request: Request) -> Response:
        """What waits: for whoever answers, what reaches them; for others, all of it."""
        tickets, who = self._desk.tickets, self._who(request)
        answers = who is not None and who.may(Right.ANSWER)
        view = await self._desk.queueing.look(who.name if who is not None and answers else "", PAGE)
        partly = "hx-request" in request.headers
        return self._pages.show(
            request, "_tickets.html" if partly else "tickets.html", active="tickets", answers=answers,
            queued=view.queued, beyond=view.total - len(view.queued), floods=view.floods, waiting=view.total,
            closed=() if partly else await tickets.closed(12), now=tickets.now(), named=bool(self._desk.people),
            batch=self._desk.approvals.batch,
            keyless=who is not None and answers and not self._desk.approvals.unsafe_unsigned
            and not await self._own(who.name),
            standing=None if who is None or not answers else await self._refresher.standing(who),
        )  # fmt: skip

    async def one(self, request: Request) -> Response:
        name, who = request.path_params["id"], self._who(request)
        if who is not None and (over := await self._desk.canaries.over(name, who.name)) is not None:
            return await self._refresher.told(request, who, over)
        try:
            ticket, document = await self._opened(name, who)
        except Malformed as failure:
            return self._missing(request, failure)
        return await self._ticket(request, ticket, document, who)

    async def _ticket(
        self, request: Request, ticket: Ticket, document: Document, who: Person | None, problem: str = ""
    ) -> Response:
        now, named = self._desk.tickets.now(), bool(self._desk.people)
        audience = await self._desk.voting.audience()
        mine = self._mine(ticket, who, audience)
        waits = ticket.by_now(now) is State.PENDING
        answered = who is not None and any(one.person == who.name for one in ticket.votes)
        wait = 0 if who is None else await self._desk.care.waits_ms(ticket, who.name, document)
        may = request.scope["session"].visitor.may(Right.ANSWER)
        return self._pages.show(
            request, "ticket.html", 400 if problem else 200, active="tickets", ticket=ticket, document=document,
            now=now, state=ticket.by_now(now).value, need=self._desk.voting.quorum(ticket).need if named else 1,
            blinded=named and self._desk.voting.quorum(ticket).blinded, answers=waits and mine and may and not answered,
            answered=answered, place=_place(audience, ticket, who), signed=named,
            reached=audience.reached(ticket) if named else (),
            unsigned=self._desk.approvals.unsafe_unsigned, reasoned=self._desk.approvals.reason_required,
            wait=wait, untrusted=bool(named and ticket.shown),
            sections=layout(document.sections, ticket.nonce, "" if who is None else who.name),
            apart=self._desk.is_apart(request.scope["session"].visitor) and waits,
            left=None if who is None or not may else await self._desk.care.left(who.name),
            hourly=0 if who is None else who.per_hour,
            others=[] if who is None else [one for one in audience.reached(ticket) if one != who.name],
            means={one: MEANS[Why(one)] for one in document.uninspectable}, problem=problem,
        )  # fmt: skip

    def _missing(self, request: Request, failure: Malformed) -> Response:
        text = words.plain(failure, 300)
        title = "There is no such ticket"
        return self._pages.show(request, "problem.html", 404, active="tickets", title=title, text=text)

    async def _opened(self, name: str, who: Person | None) -> tuple[Ticket, Document]:
        """The ticket as this person may see it; that they were shown it is entered the first time."""
        if who is not None:
            return await self._desk.voting.opened(name, who.name)
        ticket = await self._desk.tickets.find(name)
        document = await self._desk.documents.of(ticket)
        return self._desk.voting.seen_by(ticket, "") if self._desk.people else ticket, document

    # -- to answer -----------------------------------------------------------------------------------------------------

    async def prepare(self, request: Request) -> Response:
        """What this person would sign, and with which of their passkeys."""
        who, form = self._who(request), await request.form()
        if who is None:
            return problem(403, NOBODY)
        rp = self._desk.approvals.passkeys
        if rp is None:
            return problem(409, NO_PASSKEYS)
        try:
            ticket = await self._desk.voting.find(request.path_params["id"], who.name)
            offer = await self._desk.voting.prepare(
                ticket.id, who.name, DECISIONS[str(form.get("decision", ""))], str(form.get("reason", ""))[:LONGEST],
                principal=principal_of(ticket, await self._speaks_for(ticket, who)),
                acknowledged=tuple(map(str, form.getlist("acknowledged")))[:16],
            )  # fmt: skip
        except KeyError:
            return problem(400, NO_DECISION)
        except CitywatchError as failure:
            return problem(409, why(failure))
        return await to_sign(offer.text, offer.challenge, rp, self._desk.passkeys, who)

    async def answer(self, request: Request) -> Response:
        """Count an answer: signed with a passkey; the operator's own, where the file names nobody."""
        form, visitor = await request.form(), request.scope["session"].visitor
        if not self._pace.allows(visitor.person, self._desk.clock.now_ms()):
            return problem(429, TOO_FAST)
        who, name = self._who(request), request.path_params["id"]
        try:
            if "statement" in form and who is not None:
                return await self._signed(who, name, {key: str(value) for key, value in form.items()})
            decision = DECISIONS[str(form.get("decision", ""))]
            reason = str(form.get("reason", ""))[:LONGEST].strip()
            await self._plain(visitor, who, name, decision, reason, tuple(map(str, form.getlist("acknowledged"))))
        except KeyError:
            return problem(400, NO_DECISION)
        except CitywatchError as failure:
            if "statement" in form:
                return problem(409, why(failure))
            try:
                ticket, document = await self._opened(name, who)
            except Malformed as missing:
                return self._missing(request, missing)
            return await self._ticket(request, ticket, document, who, words.plain(why(failure), 300))
        return RedirectResponse(f"/tickets/{name}", 303)

    async def _signed(self, who: Person, name: str, form: Mapping[str, str]) -> Response:
        statement = parse_statement(form.get("statement", ""))
        # INVARIANT: whose answer it is, the session says; the page may only bring back what was written for it.
        if statement.approver != who.name or statement.ticket != name:
            raise Malformed("that statement is another person's, or of another ticket")
        await self._desk.voting.vote(statement, assertion_of(form))
        return told({"next": f"/tickets/{name}"})

    async def _plain(
        self, visitor: Visitor, who: Person | None, name: str, yes: bool, reason: str, acknowledged: tuple[str, ...]
    ) -> None:
        if not self._desk.people:
            if yes and not reason:
                raise Malformed("a yes gives a reason, which stands in the log")
            ticket = await self._desk.tickets.find(name)
            if yes:  # INVARIANT: no one click approves what could not be shown
                check_acknowledged(await self._desk.documents.of(ticket), acknowledged, self._desk.approvals)
            principal = next(iter(ticket.of or ()), "")  # whoever runs this speaks for everybody, and says for whom
            await self._desk.tickets.answer(name, yes, visitor.person, reason, principal=principal)
            return
        if who is None or not self._desk.approvals.unsafe_unsigned:
            raise Malformed("an answer is signed, with a passkey here or with `--key` at the command line")
        ticket = await self._desk.voting.find(name, who.name)
        principal = principal_of(ticket, await self._speaks_for(ticket, who))
        offer = await self._desk.voting.prepare(
            name, who.name, yes, reason, principal=principal, acknowledged=acknowledged
        )
        await self._desk.voting.vote(offer.statement, Unsigned())

    # -- passkeys ------------------------------------------------------------------------------------------------------

    async def passkeys(self, request: Request) -> Response:
        who = self._who(request)
        mine = () if who is None else await self._desk.passkeys.of(who.name)
        return self._pages.show(
            request, "passkeys.html", active="tickets", mine=mine, who=who, rp=self._desk.approvals.passkeys
        )

    async def begin(self, request: Request) -> Response:
        who, form = self._who(request), await request.form()
        try:
            begun = await self._desk.passkeys.begin(str(form.get("code", "")).strip())
        except CitywatchError as failure:
            return problem(409, why(failure))
        if who is None or begun.person != who.name:
            return problem(403, "that code is another person's")
        return told({
            "challenge": b64(begun.challenge), "rp": begun.rp.rp_id, "person": begun.person,
            "user": b64(f"citywatch:{self._desk.domain}:{begun.person}".encode()[:64]),
            "existing": list(begun.existing),
        })  # fmt: skip

    async def finish(self, request: Request) -> Response:
        who, form = self._who(request), await request.form()
        code = str(form.get("code", "")).strip()
        registration = Registration(attestation=str(form.get("attestation", "")), client=str(form.get("client", "")))
        try:
            begun = await self._desk.passkeys.begin(code)
            if who is None or begun.person != who.name:
                return problem(403, "that code is another person's")
            await self._desk.passkeys.finish(code, registration, str(form.get("called", "")))
        except CitywatchError as failure:
            return problem(409, why(failure))
        return told({"next": "/passkeys"})

    # -- who -----------------------------------------------------------------------------------------------------------

    def _who(self, request: Request) -> Person | None:
        return self._desk.person(request.scope["session"].visitor)

    def _mine(self, ticket: Ticket, who: Person | None, audience: Audience) -> bool:
        if not self._desk.people:
            return True
        return who is not None and who.name in audience.reached(ticket)

    async def _speaks_for(self, ticket: Ticket, who: Person) -> Sequence[str]:
        return (await self._desk.voting.audience()).speaks_for(ticket, who.name)

    async def _own(self, person: str) -> list[Any]:
        return [one for one in await self._desk.passkeys.of(person) if one.counts]


def _place(audience: Audience, ticket: Ticket, who: Person | None) -> str:
    """In whose place somebody would answer; empty if in nobody's."""
    if who is None:
        return ""
    return audience.place_for(ticket, who.name, principal_of(ticket, audience.speaks_for(ticket, who.name)))
