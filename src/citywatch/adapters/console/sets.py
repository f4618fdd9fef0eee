"""Several tickets that are alike, read as one table and answered with one passkey's signature.

Decides nothing: what a set is, and what an answer to one is worth, is `service.sets`'. INVARIANTS: a person answers in
their own name alone, which is the session's and never the page's; what is signed is what the service wrote of these
tickets, this person and this decision, and it is looked at again when it comes back; what was made up is told of after
the answer, and not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

import msgspec
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
    principal_of,
    problem,
    to_sign,
    told,
    why,
)
from citywatch.adapters.console.desk import Desk
from citywatch.adapters.console.render import Pages
from citywatch.core.approvals.people import Person, Right
from citywatch.core.approvals.reading import layout
from citywatch.core.approvals.seal import Over
from citywatch.core.approvals.statement import MAX_SET, parse_statements
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.errors import CitywatchError, Malformed
from citywatch.service.pace import Pace
from citywatch.service.sets import SetOffer
from citywatch.service.signatures import Unsigned

FIELD: Final = "ticket"


class Became(msgspec.Struct, frozen=True):
    """What became of a ticket of a set; `over` if it was made up, `ticket` if not."""

    id: str
    ticket: Ticket | None
    over: Over | None


class SetPages:
    """One table, one answer, and what became of each."""

    def __init__(self, desk: Desk, pages: Pages) -> None:
        self._desk = desk
        self._pages = pages
        self._pace = Pace(ANSWERS, ANSWERS_MS)

    def doors(self) -> Sequence[Door]:
        return (
            Door("GET", "/sets", Right.ANSWER, self.one),
            Door("GET", "/sets/over", Right.ANSWER, self.over),
            Door("POST", "/sets/prepare", Right.ANSWER, self.prepare),
            Door("POST", "/sets/answer", Right.ANSWER, self.answer),
        )

    async def one(self, request: Request) -> Response:
        names, who = _names(request.query_params.getlist(FIELD)), self._who(request)
        if who is None:
            return self._none(request, NOBODY)
        return await self._set(request, names, who)

    async def _set(self, request: Request, names: Sequence[str], who: Person, wrong: str = "") -> Response:
        try:
            opened = await self._desk.sets.opened(names, who.name)
        except CitywatchError as failure:
            return self._none(request, wrong or why(failure))
        first = opened.tickets[0]
        audience = await self._desk.voting.audience()
        mine = all(who.name in audience.reached(one) for one in opened.tickets)
        done = any(vote.person == who.name for one in opened.tickets for vote in one.votes)
        return self._pages.show(
            request, "set.html", 400 if wrong else 200, active="tickets", tickets=opened.tickets, first=first,
            parts=layout(opened.table.parts, " ".join(sorted(names)), who.name), alone=opened.alone,
            answers=mine and not done, wait=opened.wait_ms, problem=wrong, hourly=who.per_hour,
            left=await self._desk.care.left(who.name), need=self._desk.voting.quorum(first).need,
            unsigned=self._desk.approvals.unsafe_unsigned, reasoned=self._desk.approvals.reason_required,
            now=self._desk.tickets.now(),
        )  # fmt: skip

    async def over(self, request: Request) -> Response:
        """What became of each."""
        who = self._who(request)
        if who is None:
            return self._none(request, NOBODY)
        became = []
        try:
            for name in _names(request.query_params.getlist(FIELD)):
                over = await self._desk.canaries.over(name, who.name)
                ticket = None if over is not None else await self._desk.voting.seen(name, who.name)
                became.append(Became(name, ticket, over))
        except CitywatchError as failure:
            return self._none(request, why(failure))
        return self._pages.show(request, "set_over.html", active="tickets", became=became, now=self._desk.tickets.now())

    async def prepare(self, request: Request) -> Response:
        """What this person would sign for all of them, and with which of their passkeys."""
        who, form = self._who(request), await request.form()
        rp = self._desk.approvals.passkeys
        if who is None:
            return problem(403, NOBODY)
        if rp is None:
            return problem(409, NO_PASSKEYS)
        try:
            names = _names([str(one) for one in form.getlist(FIELD)])
            offer = await self._offer(names, who, str(form.get("decision", "")), str(form.get("reason", "")))
        except KeyError:
            return problem(400, NO_DECISION)
        except CitywatchError as failure:
            return problem(409, why(failure))
        return await to_sign(offer.text, offer.challenge, rp, self._desk.passkeys, who)

    async def answer(self, request: Request) -> Response:
        """Count an answer to all of them, signed with a passkey."""
        form, who = await request.form(), self._who(request)
        if not self._pace.allows(request.scope["session"].visitor.person, self._desk.clock.now_ms()):
            return problem(429, TOO_FAST)
        if who is None:
            return problem(403, NOBODY)
        if "statement" in form:
            try:
                return told({"next": await self._signed(who, {key: str(value) for key, value in form.items()})})
            except CitywatchError as failure:
                return problem(409, why(failure))
        names = _names([str(one) for one in form.getlist(FIELD)])
        try:
            if not self._desk.approvals.unsafe_unsigned:
                raise Malformed("an answer is signed, with a passkey here or with `--key` at the command line")
            offer = await self._offer(names, who, str(form.get("decision", "")), str(form.get("reason", "")))
            await self._desk.sets.vote(offer.statements, Unsigned())
        except KeyError:
            return problem(400, NO_DECISION)
        except CitywatchError as failure:
            return await self._set(request, names, who, words.plain(why(failure), 300))
        return RedirectResponse(_after(names), 303)

    async def _offer(self, names: Sequence[str], who: Person, decision: str, reason: str) -> SetOffer:
        ticket = await self._desk.voting.find(names[0] if names else "", who.name)
        speaks_for = (await self._desk.voting.audience()).speaks_for(ticket, who.name)
        principal = principal_of(ticket, speaks_for)
        return await self._desk.sets.prepare(
            names, who.name, DECISIONS[decision], reason[:LONGEST], principal=principal
        )

    async def _signed(self, who: Person, form: Mapping[str, str]) -> str:
        statements = parse_statements(form.get("statement", ""))
        # INVARIANT: whose answer it is, the session says; the page may only bring back what was written for it.
        if any(one.approver != who.name for one in statements):
            raise Malformed("these statements are another person's")
        await self._desk.sets.vote(statements, assertion_of(form))
        return _after([one.ticket for one in statements])

    def _none(self, request: Request, text: str) -> Response:
        title = "These are not answered as one"
        return self._pages.show(
            request, "problem.html", 400, active="tickets", title=title, text=words.plain(text, 300)
        )

    def _who(self, request: Request) -> Person | None:
        return self._desk.person(request.scope["session"].visitor)


def _names(given: Sequence[str]) -> list[str]:
    """One more than there may be, so that too many are still too many."""
    return [one[:64] for one in given[: MAX_SET + 1]]


def _after(names: Sequence[str]) -> str:
    return f"/sets/over?{urlencode([(FIELD, one) for one in names])}"
