"""Whoever a notice led to a ticket sees that ticket once they are in; and nobody is led anywhere that is not ours."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from citywatch.core.approvals.people import Duty
from tests.unit.adapters.console.test_made_up import REAL, Made
from tests.unit.adapters.console.world import ORIGIN, TOKEN, World, post

TICKET = "/tickets/993d67f06de6"


async def come_in(world: World, browser: object) -> str:
    """Sign in by a link; say where that leads."""
    await world.entering.hand_out(TOKEN, "person:ann", ("approver",))
    done = await post(browser, "/login", {"link": f"{ORIGIN}/login#{TOKEN}"})  # type: ignore[arg-type]
    assert done.status_code == 303
    return str(done.headers["location"])


async def test_a_ticket_that_somebody_was_led_to_is_opened_once_they_are_in(tmp_path: Path) -> None:
    world = World(tmp_path)
    browser = world.browser()
    turned = await browser.get(TICKET)
    assert (turned.status_code, turned.headers["location"]) == (303, "/login")
    said = turned.headers["set-cookie"].lower()
    assert all(word in said for word in ("httponly", "samesite=lax", "max-age=600", "path=/"))
    assert await come_in(world, browser) == TICKET
    assert "citywatch-to" not in browser.cookies
    assert (await browser.get("/login")).headers["location"] == "/", "once"


AWAY = [
    "https://evil.example/", "//evil.example", "/\\evil.example", "/tickets/../login", "/tickets//evil.example",
    "/login", "/logout", "/static/x/console.css", "/nowhere", "/tickets/a?b", "/tickets/a#b", "/tickets/a\r\nx: y",
    "/tickets/" + "%2f" * 3, "javascript:alert(1)", "", "/tickets/\u202eabc", "/passkeys/begin", "/tickets/abc/answer",
]  # fmt: skip


@pytest.mark.parametrize("path", AWAY)
async def test_nobody_is_led_away_from_here_whatever_the_cookie_says(tmp_path: Path, path: str) -> None:
    """The attack: another program of this machine, or a page of a sibling name, has set the cookie."""
    world = World(tmp_path)
    browser = world.browser(cookies={"citywatch-to": quote(path, safe="")})
    assert await come_in(world, browser) == "/"


async def test_where_a_path_has_other_letters_it_is_not_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    for path in ("/tickets/%0d%0ax", "/tickets/a%2f%2fb", "/login", "/nowhere", "/tickets/%E2%80%AEabc"):
        assert "set-cookie" not in (await world.browser().get(path)).headers


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_what_another_site_leads_to_is_opened_by_a_click_of_ones_own(tmp_path: Path, site: str) -> None:
    """No other site opens a ticket for somebody: a visit from one comes without the session (`SameSite=Strict`)."""
    world = World(tmp_path)
    led = await world.browser().get(TICKET, headers={"sec-fetch-site": site})
    assert (led.status_code, "location" in led.headers, "set-cookie" in led.headers) == (200, False, False)
    assert f'<a class="button strong" href="{TICKET}">' in led.text
    assert not [one for one in await _log(world) if "ticket" in one]
    browser = await world.visit(Duty.APPROVER)
    own = await browser.get("/tickets", headers={"sec-fetch-site": "same-origin"})
    assert own.status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_what_a_sibling_s_page_leads_to_is_not_opened_by_the_session_that_comes_along(
    tmp_path: Path, site: str
) -> None:
    """The attack: a page of a sibling name has a picture of ours at a ticket's address, which its agent was told: a
    browser sends the session along (`SameSite=Strict` is of sites, not of names), and time to read has begun."""
    here = Made(tmp_path)
    await here.ask()
    browser, page = await here.anna(), f"/tickets/{REAL[:12]}"
    led = await browser.get(page, headers={"sec-fetch-site": site})
    assert (led.status_code, "A link led you here" in led.text) == (200, True)
    assert not [one for one in await _log(here) if "ticket_shown" in one]
    own = await browser.get(page, headers={"sec-fetch-site": "same-origin"})
    assert "A link led you here" not in own.text
    assert [one for one in await _log(here) if "ticket_shown" in one]


async def test_behind_tls_the_cookie_is_this_hosts_alone(tmp_path: Path) -> None:
    world = World(tmp_path, origin="https://city.example")
    turned = await world.browser().get(TICKET)
    assert turned.headers["set-cookie"].startswith("__Host-citywatch-to=")
    assert "secure" in turned.headers["set-cookie"].lower()


async def _log(world: World) -> list[str]:
    return [entry.decode() for entry in await world.store.entries(0, 100)]
