"""Who may have which page, and what a request must be before any page is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from citywatch.adapters.console.access import Door
from citywatch.adapters.console.entrance import TRIES
from citywatch.adapters.console.guard import MAX_BODY
from citywatch.adapters.console.sessions import IDLE_MS
from citywatch.core.approvals.people import RIGHTS, Duty, Right
from tests.unit.adapters.console.world import ORIGIN, TOKEN, World, post, proof_of

ROLES: tuple[tuple[Duty, ...], ...] = ((), *((role,) for role in Duty))


def address(door: Door) -> str:
    """A door's address with something in each of its places."""
    filled = door.path
    for place, value in {"{index:int}": "0", "{mark}": "x", "{name:path}": "mark.svg", "{call}": "abc"}.items():
        filled = filled.replace(place, value)
    return filled.replace("{name}", "billing").replace("{act}", "stop").replace("{id}", "abc")


@pytest.mark.parametrize("roles", ROLES, ids=lambda roles: "+".join(roles) or "nobody's")
async def test_every_door_opens_to_the_roles_that_have_its_right_and_to_no_other(
    tmp_path: Path, roles: tuple[Duty, ...]
) -> None:
    world = World(tmp_path)
    doors = [door for door in world.console.doors if door.path not in ("/city/stream", "/logout")]
    assert len(doors) > 8
    for door in doors:
        world.clock.now += 60_001  # nobody is let in too often
        browser = await world.visit(*roles)
        proof = await proof_of(browser) if roles else ""
        if door.method == "POST":
            answer = await post(browser, address(door), {"proof": proof})
        else:
            answer = await browser.get(address(door))
        may = not isinstance(door.needs, Right) or any(door.needs in RIGHTS[role] for role in roles)
        refused = answer.status_code == 403 and "This is not for your role" in answer.text
        assert refused is not may, f"{door.method} {door.path} for {roles}: {answer.status_code}"


async def test_without_a_session_every_page_leads_to_the_entrance(tmp_path: Path) -> None:
    world = World(tmp_path)
    for door in world.console.doors:
        if not isinstance(door.needs, Right):
            continue
        if door.method == "POST":
            assert (await post(world.browser(), address(door), {})).status_code == 401
        else:
            answer = await world.browser().get(address(door))
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    partly = await world.browser().get("/decisions", headers={"hx-request": "true"})
    assert (partly.status_code, partly.headers["hx-redirect"]) == (401, "/login")
    watching = await world.browser().get("/city/stream", headers={"accept": "text/event-stream"})
    assert watching.status_code == 401


async def test_what_changes_something_needs_the_proof_of_this_very_session(tmp_path: Path) -> None:
    world = World(tmp_path)
    mine, other = await world.visit(Duty.OPERATOR), await world.visit(Duty.OPERATOR, person="person:ben")
    for proof in ("", "x" * 43, await proof_of(other)):
        answer = await post(mine, "/logout", {"proof": proof})
        assert (answer.status_code, "out of date" in answer.text) == (403, True)
    assert (await mine.get("/")).status_code == 200
    assert (await post(mine, "/logout", {"proof": await proof_of(mine)})).status_code == 303
    assert (await mine.get("/")).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://city-1.localhost:9999"},
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {"origin": ORIGIN, "sec-fetch-site": "same-site"},
        {},
    ],
)
async def test_what_changes_something_comes_from_a_page_of_ours(tmp_path: Path, headers: dict[str, str]) -> None:
    world = World(tmp_path)
    await world.entering.hand_out(TOKEN, "person:ann", ("auditor",))
    browser = world.browser()
    answer = await browser.post("/login", data={"link": TOKEN}, headers=headers)
    assert (answer.status_code, len(browser.cookies)) == (403, 0)
    assert (await post(world.browser(), "/login", {"link": TOKEN})).status_code == 303, "the link was not used by that"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:8470", "localhost:8470", "city-1.localhost", ""])
async def test_a_name_that_is_not_ours_is_shown_nothing(tmp_path: Path, host: str) -> None:
    answer = await World(tmp_path).browser().get("/login", headers={"host": host})
    assert (answer.status_code, "<html" in answer.text) == (421, False)


async def test_every_answer_tells_the_browser_to_do_nothing_that_is_not_ours(tmp_path: Path) -> None:
    world = World(tmp_path)
    browser = await world.visit(Duty.AUDITOR)
    for path in ("/", "/decisions", "/nothing", "/decisions/7", "/static/x/console.css"):
        headers = (await browser.get(path)).headers
        policy = dict(one.split(" ", 1) for one in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == ("no-store" if "static" not in path else headers["cache-control"])
    assert "no-store" not in (await browser.get("/static/x/console.css")).headers["cache-control"]


async def test_the_cookie_is_the_browsers_alone_and_a_new_one_with_each_sign_in(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.entering.hand_out(TOKEN, "person:ann", ("auditor",))
    answer = await post(world.browser(), "/login", {"link": TOKEN})
    said = answer.headers["set-cookie"].lower()
    assert all(word in said for word in ("httponly", "samesite=strict", "path=/"))
    assert "secure" not in said, "plain http on loopback: a browser would not send it back"
    assert TOKEN not in said
    fixed = world.browser(cookies={"citywatch": "chosen-by-somebody-else"})
    await world.entering.hand_out(TOKEN, "person:ann", ("auditor",))
    again = await post(fixed, "/login", {"link": TOKEN})
    assert again.cookies["citywatch"] not in ("chosen-by-somebody-else", answer.cookies["citywatch"])


async def test_behind_https_the_cookie_is_for_https_alone(tmp_path: Path) -> None:
    world = World(tmp_path, origin="https://city.acme.example")
    await world.entering.hand_out(TOKEN, "person:ann", ("auditor",))
    answer = await world.browser().post("/login", data={"link": TOKEN}, headers={"origin": "https://city.acme.example"})
    said = answer.headers["set-cookie"]
    assert said.startswith("__Host-citywatch=")
    assert "Secure" in said
    assert "Domain" not in said


async def test_a_session_that_idled_shows_nothing_any_more(tmp_path: Path) -> None:
    world = World(tmp_path)
    browser = await world.visit(Duty.AUDITOR)
    world.clock.now += IDLE_MS
    assert (await browser.get("/")).status_code == 303


async def test_nobody_tries_links_for_ever_nor_keeps_others_out_by_it(tmp_path: Path) -> None:
    """Behind a proxy all have one address. 256 bits are not found by trying, and what is good is good."""
    world = World(tmp_path)
    answers = [(await post(world.browser(), "/login", {"link": "wrong"})).status_code for _ in range(TRIES + 2)]
    assert answers == [403] * TRIES + [429] * 2
    await world.entering.hand_out(TOKEN, "person:ann", ("auditor",))
    assert (await post(world.browser(), "/login", {"link": TOKEN})).status_code == 303
    assert (await post(world.browser(), "/login", {"link": TOKEN})).status_code == 429
    world.clock.now += 60_001
    assert (await post(world.browser(), "/login", {"link": TOKEN})).status_code == 403


async def test_a_body_or_an_address_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert (await post(world.browser(), "/login", {"link": "x" * MAX_BODY})).status_code == 413
    assert (await world.browser().get("/login?" + "x" * 5000)).status_code == 414
    assert (await world.browser().delete("/login")).status_code == 405


async def test_a_page_that_fails_says_nothing_of_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    browser = await world.visit(Duty.AUDITOR)

    def broken(*_: object) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(world.decisions, "page", broken)
    answer = await browser.get("/decisions")
    assert (answer.status_code, "swordfish" in answer.text) == (500, False)
    assert world.said == ["a page failed: RuntimeError"]
