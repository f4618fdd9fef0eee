"""The console as one ASGI application: the guard, the doors behind it, the files that pages need.

Decides nothing; it is where all is put together. INVARIANT: each page stands in `doors`, so that whoever asks who may
have what (a test does) finds all of them.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from citywatch.adapters.console.access import ANYBODY, Door, Keeper
from citywatch.adapters.console.agents import AgentPages
from citywatch.adapters.console.book import BookPages
from citywatch.adapters.console.city import CityPages
from citywatch.adapters.console.decisions import DecisionPages
from citywatch.adapters.console.desk import Desk
from citywatch.adapters.console.entrance import Entrance
from citywatch.adapters.console.guard import Guard
from citywatch.adapters.console.people import PeoplePages
from citywatch.adapters.console.provider import SignIn
from citywatch.adapters.console.refresher import Refresher
from citywatch.adapters.console.render import STATIC, Pages
from citywatch.adapters.console.rulebook import RulePages
from citywatch.adapters.console.sessions import Session, Sessions
from citywatch.adapters.console.sets import SetPages
from citywatch.adapters.console.tickets import TicketPages

KEPT: Final = {"cache-control": "private, max-age=31536000, immutable"}


class Console:
    """All of it. `doors` are its addresses with who may have them."""

    def __init__(self, desk: Desk, log: Callable[[str], None], provider: SignIn | None = None) -> None:
        self.desk = desk
        self.sessions = Sessions()
        self.pages = Pages(desk.domain, desk.unsafe)
        self.keeper = Keeper(self.sessions, desk.clock, self.pages, desk.origin.startswith("https:"))
        self.entrance = Entrance(desk, self.pages, self.sessions, self.keeper, provider)
        refresher = Refresher(desk, self.pages)
        self.doors: Sequence[Door] = (
            Door("GET", "/static/{mark}/{name:path}", ANYBODY, _static),
            *self.entrance.doors(),
            *CityPages(desk, self.pages).doors(),
            *DecisionPages(desk, self.pages).doors(),
            *TicketPages(desk, self.pages, refresher).doors(),
            *SetPages(desk, self.pages).doors(),
            *refresher.doors(),
            *PeoplePages(desk, self.pages).doors(),
            *AgentPages(desk, self.pages).doors(),
            *BookPages(desk, self.pages).doors(),
            *RulePages(desk, self.pages).doors(),
        )
        app = Router(self.keeper.routes(self.doors), redirect_slashes=False, default=self._missing)
        self._app: ASGIApp = Guard(app, desk.origin, log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["still"] = self._still
        await self._app(scope, receive, send)

    def _still(self, session: Session) -> bool:
        """Whether a session that a stream was opened under is not over: watching alone keeps none alive."""
        return self.sessions.holds(session, self.desk.clock.now_ms())

    async def _missing(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request.scope["session"] = self.keeper.session(request)
        text = "The address may be of an earlier day."
        page = self.pages.show(request, "problem.html", 404, active="", title="There is no such page", text=text)
        await page(scope, receive, send)


async def _static(request: Request) -> Response:
    """A file of ours, by a name that this very content has: nothing else is read."""
    file = _FILES.get(request.path_params["name"])
    if file is None:
        return Response("no such file\n", 404, media_type="text/plain")
    body, media = file
    return Response(body, headers={**KEPT, "content-type": media})


def _read_all() -> dict[str, tuple[bytes, str]]:
    found = {}
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            media = mimetypes.guess_type(path.name)[0] or "text/plain"
            charset = "; charset=utf-8" if media.startswith("text/") or media.endswith("javascript") else ""
            found[path.relative_to(STATIC).as_posix()] = path.read_bytes(), media + charset
    return found


_FILES: Final = _read_all()
