"""The approvals API stands beside the console's pages, over the same desk, and takes nothing for a key but a key."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import httpx

from citywatch.adapters.memory import MemorySigner
from citywatch.core.approvals.people import Duty, Person
from citywatch.main.approvals_api import api_of, beside
from tests.front_end import FrontEnd
from tests.unit.adapters.console.world import ORIGIN, World

SIGNER = MemorySigner(7)
ANNA = Person(
    name="anna", roles=(Duty.APPROVER,), answers=("*",), keys=(b64encode(SIGNER.public).decode(),)
)  # fmt: skip


async def test_a_session_of_the_console_is_nobody_to_the_api_and_a_key_nobody_to_the_pages(tmp_path: Path) -> None:
    here = World(tmp_path, people=(ANNA,))
    app = beside(here.console, api_of(here.desk, here.said.append))
    browser = await here.visit(Duty.APPROVER, person="person:anna")
    session = dict(browser.cookies)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ORIGIN, cookies=session) as visitor:
        assert (await visitor.get("/tickets")).status_code == 200
        assert (await visitor.get("/api/v1/me")).status_code == 401
    anna = FrontEnd(app, SIGNER, here.clock.now_ms, ORIGIN)
    me = await anna.get("/api/v1/me")
    assert (me.status_code, me.json()["person"]) == (200, "anna")
    assert (await anna.get("/api/v1/tickets")).json()["tickets"] == []
    page = await anna.get("/tickets")
    assert (page.status_code, page.headers["location"]) == (303, "/login")
    for path in ("/api", "/api/", "/apiv1/me", "/login/../api/v1/me"):
        assert (await anna.get(path)).status_code in (404, 401, 303)
