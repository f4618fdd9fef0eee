"""Which page is for whom: each route says what role it needs, and this is the only thing that lets a request to it.

Decides whether a visitor may have a page. INVARIANTS: a page says what right it takes, and there is no default; a
page that changes something is reached by POST alone, and with the proof of the session it is shown in; what a role may
not do, it is not let do, whatever it can see. Who was sent to sign in on the way to a ticket is led on to it, and to no
other address that a browser could have been told to keep.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from citywatch.adapters.console.render import Pages
from citywatch.adapters.console.sessions import Session, Sessions
from citywatch.core.approvals.people import RIGHTS, Right
from citywatch.service.ports import Clock

ANYBODY: Final = "anybody"
"""Also those who are not signed in."""
WANTED: Final = "citywatch-wanted"
WANTED_S: Final = 600
_TICKET: Final = re.compile(r"(?:/tickets/)?([0-9a-f]{12})\Z")

Handler = Callable[[Request], Awaitable[Response]]


class Door(msgspec.Struct, frozen=True):
    """One address: how it is reached, who may, and what answers."""

    method: str
    path: str
    needs: Right | Literal["anybody"]
    answer: Handler


class Keeper:
    """Stands before every door."""

    def __init__(self, sessions: Sessions, clock: Clock, pages: Pages, cookie: str, *, secure: bool) -> None:
        self._sessions = sessions
        self._clock = clock
        self._pages = pages
        self.cookie = cookie
        self._secure = secure

    def routes(self, doors: Sequence[Door]) -> list[Route]:
        return [Route(door.path, self._kept(door), methods=[door.method]) for door in doors]

    def session(self, request: Request) -> Session | None:
        return self._sessions.find(request.cookies.get(self.cookie, ""), self._clock.now_ms())

    def _kept(self, door: Door) -> Handler:
        async def answer(request: Request) -> Response:
            session = request.scope["session"] = self.session(request)
            if not isinstance(door.needs, Right):
                return await door.answer(request)
            if session is None:
                return self._to_the_entrance(request)
            if not session.visitor.may(door.needs):
                return self._problem(request, 403, "This is not for your role", _for_whom(door, session))
            # INVARIANT: what changes something comes from a page of this very session.
            if door.method == "POST" and not session.proves(str((await request.form()).get("proof", ""))):
                return self._problem(
                    request,
                    403,
                    "That page was out of date",
                    "Nothing was changed. Load the page again, and try again.",
                )
            return await door.answer(request)

        return answer

    def _to_the_entrance(self, request: Request) -> Response:
        if "hx-request" in request.headers:
            return Response(status_code=401, headers={"hx-redirect": "/login"})
        if request.method != "GET" or request.headers.get("accept", "").startswith("text/event-stream"):
            return Response("you are not signed in\n", 401, media_type="text/plain")
        response = RedirectResponse("/login", 303)
        if (ticket := _TICKET.match(request.url.path)) is not None:
            response.set_cookie(
                WANTED,
                ticket[1],
                max_age=WANTED_S,
                path="/login",
                secure=self._secure,
                httponly=True,
                samesite="lax",
            )
        return response

    def wanted(self, request: Request) -> str:
        """Where somebody was on their way to when they were sent to sign in: a ticket, or the first page."""
        ticket = _TICKET.match(request.cookies.get(WANTED, ""))
        return "/" if ticket is None else f"/tickets/{ticket[1]}"

    def forget_wanted(self, request: Request, response: Response) -> None:
        """They are on their way."""
        if WANTED in request.cookies:
            response.delete_cookie(WANTED, path="/login", secure=self._secure, httponly=True, samesite="lax")

    def _problem(self, request: Request, status: int, title: str, text: str) -> Response:
        return self._pages.show(request, "problem.html", status, title=title, text=text, active="")


def _for_whom(door: Door, session: Session) -> str:
    roles = " or ".join(role.value for role, rights in RIGHTS.items() if door.needs in rights)
    held = ", ".join(role.value for role in session.visitor.roles) or "none"
    return f"It needs the role {roles}; yours: {held}. Roles stand in the configuration, under people."
