"""Which page is for whom: each route says what role it needs, and this is the only thing that lets a request to it.

Decides whether a visitor may have a page. INVARIANTS: a page says what right it takes, and there is no default; a
page that changes something is reached by POST alone, and with the proof of the session it is shown in; what a role may
not do, it is not let do, whatever it can see.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from citywatch.adapters.console.render import Pages
from citywatch.adapters.console.returning import Returning
from citywatch.adapters.console.sessions import Session, Sessions
from citywatch.core.approvals.people import RIGHTS, Right
from citywatch.service.ports import Clock

ANYBODY: Final = "anybody"
"""Also those who are not signed in."""

Handler = Callable[[Request], Awaitable[Response]]


class Door(msgspec.Struct, frozen=True):
    """One address: how it is reached, who may, and what answers."""

    method: str
    path: str
    needs: Right | Literal["anybody"]
    answer: Handler


class Keeper:
    """Stands before every door."""

    def __init__(self, sessions: Sessions, clock: Clock, pages: Pages, secure: bool) -> None:
        self._sessions = sessions
        self._clock = clock
        self._pages = pages
        self._secure = secure
        self.cookie = "__Host-citywatch" if secure else "citywatch"
        self.returning = Returning((), secure)

    def routes(self, doors: Sequence[Door]) -> list[Route]:
        looked_at = [door.path for door in doors if door.method == "GET" and isinstance(door.needs, Right)]
        self.returning = Returning(looked_at, self._secure)
        return [Route(door.path, self._kept(door), methods=[door.method]) for door in doors]

    def session(self, request: Request) -> Session | None:
        return self._sessions.find(request.cookies.get(self.cookie, ""), self._clock.now_ms())

    def _kept(self, door: Door) -> Handler:
        async def answer(request: Request) -> Response:
            session = request.scope["session"] = self.session(request)
            if not isinstance(door.needs, Right):
                return await door.answer(request)
            # INVARIANT: a page of a sibling name, or of another port, opens nothing, though the session comes with it.
            if self.returning.is_led(request):
                return self._pages.show(request, "led.html", to=request.scope["path"])
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
        self.returning.remember(request, response)
        return response

    def _problem(self, request: Request, status: int, title: str, text: str) -> Response:
        return self._pages.show(request, "problem.html", status, title=title, text=text, active="")


def _for_whom(door: Door, session: Session) -> str:
    roles = " or ".join(role.value for role, rights in RIGHTS.items() if door.needs in rights)
    held = ", ".join(role.value for role in session.visitor.roles) or "none"
    return f"It needs the role {roles}; yours: {held}. Roles stand in the configuration, under people."
