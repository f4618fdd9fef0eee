"""The people who answer: who may what, how much they were asked, and how well they see what they are asked.

Decides nothing: what is known of approvers is a fold over the log (`core.approvals.vigilance`), with its intervals.
INVARIANT: whoever approves sees their own row and nobody else's: a second checker who knows the first one's answers
loafs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from citywatch.adapters.console import words
from citywatch.adapters.console.access import Door
from citywatch.adapters.console.desk import Desk
from citywatch.adapters.console.render import Pages
from citywatch.core.approvals.absence import Absence
from citywatch.core.approvals.people import Person, Right
from citywatch.core.approvals.vigilance import Vigilance
from citywatch.core.errors import CitywatchError


class PeoplePages:
    """The page, what it draws, and the invitation to enrol a passkey."""

    def __init__(self, desk: Desk, pages: Pages) -> None:
        self._desk = desk
        self._pages = pages

    def doors(self) -> Sequence[Door]:
        return (
            Door("GET", "/people", Right.SEE, self.page),
            Door("GET", "/people/load", Right.SEE, self.load),
            Door("POST", "/people/{name}/invite", Right.OPERATE, self.invite),
        )

    async def page(self, request: Request) -> Response:
        return await self._show(request)

    async def load(self, request: Request) -> Response:
        series = self._desk.hours.series(self._desk.clock.now_ms())
        if self._desk.is_apart(request.scope["session"].visitor):
            del series["asked"]
        return Response(json.dumps(series), media_type="application/json")

    async def invite(self, request: Request) -> Response:
        """A code with which somebody enrols a passkey; it is shown once."""
        name = request.path_params["name"]
        try:
            code = await self._desk.passkeys.invite(name, request.scope["session"].visitor.person)
        except CitywatchError as failure:
            return await self._show(request, problem=words.plain(failure, 300))
        return await self._show(request, code=code, invited=name)

    async def _show(self, request: Request, **more: Any) -> Response:
        visitor = request.scope["session"].visitor
        all_of_them = visitor.may(Right.AUDIT)
        who = self._desk.person(visitor)
        own = "" if who is None else who.name
        listed = sorted(self._desk.people.values(), key=lambda one: one.name)
        people = [one for one in listed if all_of_them or one.name == own or visitor.may(Right.OPERATE)]
        watched, away = await self._desk.watching.now(), await self._desk.absences.now()
        rows = [await self._row(watched, one, all_of_them or one.name == own, away.get(one.name)) for one in people]
        others = [name for name in watched.people() if name not in self._desk.people] if all_of_them else []
        rows += [{"name": name, "person": None, "signers": 0, "away": None, **_known(watched, name)} for name in others]
        given = {"code": "", "invited": "", "problem": "", **more}
        return self._pages.show(
            request, "people.html", active="people", rows=rows, named=bool(self._desk.people),
            reliability=watched.reliability() if all_of_them else None, waits=watched.waits() if all_of_them else None,
            **given,
        )  # fmt: skip

    async def _row(self, watched: Vigilance, person: Person, known: bool, away: Absence | None) -> dict[str, Any]:
        keys = sum(one.counts for one in await self._desk.passkeys.of(person.name)) + len(person.keys)
        return {
            "name": person.name,
            "person": person,
            "signers": keys,
            "away": away,
            **(_known(watched, person.name) if known else _UNKNOWN),
        }


def _known(watched: Vigilance, name: str) -> dict[str, Any]:
    if name not in watched.people():
        return _UNKNOWN
    return {"rates": watched.rates(name), "drift": watched.drift(name), "counts": watched.counts(name)}


_UNKNOWN: Final[dict[str, Any]] = {"rates": None, "drift": None, "counts": True}
