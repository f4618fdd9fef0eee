"""How well somebody sees what they are asked, told to them: at once after a made-up ticket, and by an exercise.

Decides nothing: what is made up is `service.canaries`', what is known of approvers `core.approvals.vigilance`'s.
INVARIANTS: a person is told of their own answers alone, and after them; of what others said of the same call they see
the reasons, and not whose; an exercise is for the one who asks for it, and for whom it wins something back.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from citywatch.adapters.console import words
from citywatch.adapters.console.access import Door
from citywatch.adapters.console.desk import Desk
from citywatch.adapters.console.render import Pages
from citywatch.core.approvals.people import Person, Right
from citywatch.core.approvals.seal import Kind, Over
from citywatch.core.approvals.showing import Section
from citywatch.core.approvals.ticket import State
from citywatch.core.approvals.vigilance import EXERCISE, Rates
from citywatch.core.errors import CitywatchError, Malformed


class Standing(msgspec.Struct, frozen=True):
    """Where somebody stands: whether their yes counts, how often it still may in this hour of how often, what is known
    of them; of an exercise how many are still to be answered, and how many it has."""

    counts: bool
    left: int
    hourly: int
    rates: Rates
    drills: int
    exercise: int = EXERCISE


class Refresher:
    """The page after a made-up ticket, and the exercise."""

    def __init__(self, desk: Desk, pages: Pages) -> None:
        self._desk = desk
        self._pages = pages

    def doors(self) -> Sequence[Door]:
        return (Door("POST", "/exercise", Right.ANSWER, self.begin),)

    async def standing(self, who: Person) -> Standing:
        """Where this person stands by now."""
        watched = await self._desk.watching.now()
        left = await self._desk.care.left(who.name)
        drills = await self._desk.canaries.drills(who.name)
        return Standing(watched.counts(who.name), left, who.per_hour, watched.rates(who.name), drills)

    async def told(self, request: Request, who: Person, over: Over) -> Response:
        """What it was that they answered, what gave it away, and how well they see by now."""
        made = over.canary
        document = await self._desk.documents.of(made.source)
        past = None
        if made.past:
            past = await self._desk.tickets.find(made.past)
        reasons = () if past is None else tuple(dict.fromkeys(one.reason for one in past.votes if one.reason))
        target = made.kind is Kind.CANARY
        return self._pages.show(
            request, "told.html", active="tickets", over=over, ticket=made.ticket, target=target, reasons=reasons,
            later=target and past is not None and past.state is not State.DENIED,
            sections=_telling(document.sections, target), standing=await self.standing(who), past=past,
        )  # fmt: skip

    async def begin(self, request: Request) -> Response:
        """Ask the person who is here for an exercise, if their yes does not count without one."""
        who = self._desk.person(request.scope["session"].visitor)
        try:
            if who is None:
                raise Malformed("the file names people, and nobody else answers")
            if (await self._desk.watching.now()).counts(who.name):
                raise Malformed("your yes counts: there is nothing that an exercise would give back")
            await self._desk.canaries.exercise(who.name)
        except CitywatchError as failure:
            text, title = words.plain(failure, 300), "There is no exercise now"
            return self._pages.show(request, "problem.html", 409, active="tickets", title=title, text=text)
        return RedirectResponse("/tickets", 303)


def _telling(sections: Sequence[Section], target: bool) -> tuple[Section, ...]:
    """What gave it away first, where there was something to see; else as it stands."""
    odd = [one for one in sections if any(line.kind == "unusual" for line in one.lines)]
    return (*odd, *(one for one in sections if one not in odd)) if target else tuple(sections)
