"""The approvals API, in the console's process: the same desk, behind the same name, under `/api/`.

Decides which of the two a request is for. INVARIANT: it is put together from what the console's pages work with, so
that wherever people answer a yes takes the same care and weighs the same (`main.desks`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from citywatch.adapters.approvals_api.answers import Desk as ApiDesk
from citywatch.adapters.approvals_api.app import ApprovalsApi
from citywatch.adapters.console.desk import Desk
from citywatch.core.errors import CitywatchError
from citywatch.main.assembly import LEEWAY_MS, City
from citywatch.service.callers import Callers
from citywatch.service.lending import Lending
from citywatch.service.messages import drop_nonces

UNDER: Final = b"/api/"
FORGET_S: Final = 30.0


def api_of(desk: Desk, log: Callable[[str], None]) -> ApprovalsApi:
    """The API over the console's desk."""
    lending = Lending(
        desk.store,
        desk.clock,
        people=desk.people,
        domain=desk.domain,
        rp=desk.approvals.passkeys,
        entering=desk.entering,
        leeway_ms=LEEWAY_MS,
    )
    given = ApiDesk(
        domain=desk.domain,
        clock=desk.clock,
        approvals=desk.approvals,
        voting=desk.voting,
        care=desk.care,
        queueing=desk.queueing,
        passkeys=desk.passkeys,
        lending=lending,
    )
    return ApprovalsApi(given, Callers(desk.store, desk.clock, desk.people, lending, LEEWAY_MS), desk.origin, log)


def beside(pages: ASGIApp, api: ASGIApp) -> ASGIApp:
    """Both as one application."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        chosen = api if scope["type"] == "http" and scope["raw_path"].startswith(UNDER) else pages
        await chosen(scope, receive, send)

    return app


async def forget_requests(city: City) -> None:
    """Forget the nonces of requests whose minute is over, for as long as the console runs."""
    while True:
        with suppress(CitywatchError):
            await drop_nonces(city.store, city.clock.now_ms(), LEEWAY_MS)
        await asyncio.sleep(FORGET_S)
