"""Signing in and out.

Decides how often somebody may try. Who a link is for is `service.entering`'s. INVARIANTS: a link's secret stands behind
the `#` of an address, which no browser sends and no log keeps: the page posts it; a session begins anew with each
sign-in, and whatever the browser held before ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from citywatch.adapters.console.access import ANYBODY, Door, Keeper
from citywatch.adapters.console.desk import Desk
from citywatch.adapters.console.provider import CALLBACK, PENDING_MS, SignIn
from citywatch.adapters.console.render import Pages
from citywatch.adapters.console.sessions import WHOLE_MS, Sessions, Visitor
from citywatch.adapters.console.words import plain
from citywatch.core.approvals.people import Duty, Login, Right
from citywatch.core.errors import Refused, Unavailable
from citywatch.service.pace import Pace

TRIES: Final = 20
BEGUN: Final = "citywatch-login"
SPAN_MS: Final = 60_000
LONGEST: Final = 200


class Entrance:
    """The pages for those who are not in yet."""

    def __init__(self, desk: Desk, pages: Pages, sessions: Sessions, keeper: Keeper, provider: SignIn | None) -> None:
        """`provider` can vouch for people, if there is one."""
        self._desk = desk
        self._pages = pages
        self._sessions = sessions
        self._keeper = keeper
        self._provider = provider
        self._secure = desk.origin.startswith("https:")
        self._pace = Pace(TRIES, SPAN_MS)

    def doors(self) -> Sequence[Door]:
        return (
            Door("GET", "/login", ANYBODY, self.login),
            Door("POST", "/login", ANYBODY, self.enter),
            Door("GET", "/login/provider", ANYBODY, self.to_provider),
            Door("GET", CALLBACK, ANYBODY, self.from_provider),
            Door("POST", "/logout", Right.SEE, self.leave),
        )

    async def login(self, request: Request) -> Response:
        if request.scope["session"] is not None:
            return self._onward(request)
        return self._show(request)

    async def enter(self, request: Request) -> Response:
        token = str((await request.form()).get("link", "")).strip().rpartition("#")[2]
        if not token or len(token) > LONGEST:
            return self._show(request, 400, "That is no link of this console.")
        try:
            link = await self._desk.entering.take(token)
        except Refused:
            # INVARIANT: a link that is good lets in whoever holds it, though others of the same address try and try.
            if not self.may_try(request):
                return self._show(request, 429, "Too many tries. Wait a minute.")
            return self._show(request, 403, "That link was used before, or its five minutes are over.")
        return self.admit(
            request, Visitor(link.person, tuple(Duty(role) for role in link.roles), "a link that was good once")
        )

    async def to_provider(self, request: Request) -> Response:
        """Send a browser to the provider. Its cookie comes back with it, which one for this site alone would not."""
        if self._provider is None:
            return RedirectResponse("/login", 303)
        try:
            where, held = await self._provider.begin()
        except Unavailable as failure:
            return self._show(request, 503, f"{failure}".capitalize())
        response = RedirectResponse(where, 303)
        response.set_cookie(
            BEGUN, held, max_age=PENDING_MS // 1000, path=CALLBACK, secure=self._secure, httponly=True, samesite="lax"
        )
        return response

    async def from_provider(self, request: Request) -> Response:
        """A browser comes back: let in whom the provider vouches for, if the file knows them."""
        if self._provider is None:
            return RedirectResponse("/login", 303)
        try:
            vouched = await self._provider.finish(dict(request.query_params), request.cookies.get(BEGUN, ""))
        except Refused as refusal:
            return self._show(request, 403, f"{refusal.detail}.".capitalize())
        except Unavailable as failure:
            return self._show(request, 503, f"{failure}".capitalize())
        login = Login(vouched.issuer, vouched.subject)
        person = next((one for one in self._desk.people.values() if one.oidc == login), None)
        if person is None:
            told = (
                f"Your provider vouches for you, and nobody here knows you. It calls you {plain(vouched.subject, 80)}."
            )
            return self._show(request, 403, told)
        roles = tuple(role.value for role in person.roles)
        await self._desk.entering.came(f"person:{person.name}", roles, "oidc")
        # A redirection would still be the provider's, and the new cookie is not sent along with that.
        page = self._pages.show(request, "entered.html", to=self._keeper.returning.take(request))
        response = self.admit(request, Visitor(f"person:{person.name}", person.roles, "oidc"), page)
        response.delete_cookie(BEGUN, path=CALLBACK, secure=self._secure, httponly=True, samesite="lax")
        return response

    async def leave(self, request: Request) -> Response:
        self._sessions.end(request.cookies.get(self._keeper.cookie, ""))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(self._keeper.cookie, secure=self._secure, httponly=True, samesite="strict")
        return response

    def may_try(self, request: Request) -> bool:
        """Whether one more attempt from that address is within bounds."""
        return self._pace.allows(_address(request), self._desk.clock.now_ms())

    def admit(self, request: Request, visitor: Visitor, page: Response | None = None) -> Response:
        """Begin a session for somebody who has proved who they are."""
        self._sessions.end(request.cookies.get(self._keeper.cookie, ""))
        response = self._onward(request, page)
        response.set_cookie(
            self._keeper.cookie,
            self._sessions.begin(visitor, self._desk.clock.now_ms()),
            max_age=WHOLE_MS // 1000,
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )
        return response

    def _onward(self, request: Request, page: Response | None = None) -> Response:
        """To where they were going, or to the city."""
        response = page or RedirectResponse(self._keeper.returning.take(request), 303)
        self._keeper.returning.forget(request, response)
        return response

    def _show(self, request: Request, status: int = 200, problem: str = "") -> Response:
        issuer = "" if self._provider is None else self._provider.issuer
        return self._pages.show(request, "login.html", status, problem=problem, provider=issuer)


def draw_token() -> str:
    """What makes a link one that nobody can guess."""
    return secrets.token_urlsafe(32)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
