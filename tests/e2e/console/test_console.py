"""The console in a real browser: every page, live, by keyboard, on a phone, with hostile words in every field."""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from citywatch.core.events import Decided
from tests.e2e.console.seen import SIZES, Seen, Visit

PAGES = (
    "/", "/city/table", "/decisions", "/decisions?q=nothing-like-that", "/agents", "/agents/billing",
    "/agents/billing/revoke", "/policy", "/log", "/log/100",
)  # fmt: skip
Come = Callable[..., Visit]
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "\u202eevorppa\u202c [Approve](javascript:alert(1)) **Approved by citywatch** \u200b\u0007 </bdi></td></table>"
)


def decided(call: str, decision: str, *, name: str = "transfer", code: str | None = None, detail: str = "") -> Decided:
    return Decided(
        at=time.time_ns() // 1_000_000, replica="r1", call=call, direction="to_server",
        agent="spiffe://mesh.example/agent/billing", key="k", server="ledger", method="tools/call", name=name,
        revision="2026-07-28", effect="irreversible", decision=decision, code=code, policies=(), detail=detail,
        policy="p", manifest="m", pin=None, body="b",
    )  # fmt: skip


def refused_entry(seen: Seen) -> int:
    """Where the scenario's attack was stopped."""
    return next(at for at, one in enumerate(seen.log()) if one["type"] == "decided" and one["code"] == "beyond_grant")


def test_every_page_stands_in_light_in_dark_and_on_a_phone(seen: Seen, visit: Come, tmp_path: Path) -> None:
    one = visit()
    entry = refused_entry(seen)
    for size, (scheme, width, height) in SIZES.items():
        one.page.set_viewport_size({"width": width, "height": height})
        one.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for path in (*PAGES, f"/decisions/{entry}", f"/decisions/{entry}/blast"):
            page = one.see(path)
            if path == "/":
                expect(page.locator("#live")).to_have_text("live")
                expect(page.locator(".stage .place").first).to_be_visible()
            wide = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{path} does not fit a {size} screen by {wide} pixels"
            page.screenshot(path=tmp_path / f"{re.sub(r'[^a-z0-9]+', '-', path).strip('-') or 'city'}-{size}.png")


def test_a_link_lets_one_browser_in_and_no_second_one(seen: Seen, browser, visit: Come) -> None:  # type: ignore[no-untyped-def]
    link = seen.link()
    first = browser.new_page()
    first.goto(link)
    first.wait_for_url(f"{seen.origin}/")
    assert "#" not in first.url
    second = browser.new_page()
    second.goto(link)
    expect(second.locator(".problem")).to_contain_text("was used before")
    assert second.url == f"{seen.origin}/login", "the secret does not stay in the address"
    first.get_by_role("button", name="Sign out").click()
    first.wait_for_url(f"{seen.origin}/login")
    first.goto(f"{seen.origin}/decisions")
    assert first.url == f"{seen.origin}/login"
    first.close()
    second.close()
    entered = [one for one in seen.log() if one["type"] == "console_entered"]
    assert entered[-1]["how"] == "link"
    assert entered[-1]["person"].startswith("operator")


RED_AT_THE_GATE = """() => {
  const canvas = document.getElementById("moving"), paint = canvas.getContext("2d");
  const gate = Math.round(canvas.width * 0.655), reach = 24 * (canvas.width / canvas.clientWidth);
  const seen = paint.getImageData(gate - reach, 0, 2 * reach, canvas.height).data;
  let red = 0;
  for (let i = 0; i < seen.length; i += 4)
    if (seen[i + 3] > 60 && seen[i] > 1.6 * seen[i + 1] && seen[i] > 1.6 * seen[i + 2]) red++;
  return red;
}"""


def test_what_is_stopped_flashes_at_the_gate_and_stands_in_the_list(seen: Seen, visit: Come) -> None:
    one = visit()
    expect(one.page.locator("#live")).to_have_text("live")
    assert one.page.evaluate(RED_AT_THE_GATE) == 0
    stopped = int(one.page.locator("[data-total=stopped]").inner_text())
    seen.happen(decided("1" * 32, "deny", code="no_permit"))
    one.until(lambda: one.page.evaluate(RED_AT_THE_GATE) > 0, "a flash at the gate")
    item = one.page.locator("#ticker li").first
    expect(item).to_contain_text("billing → ledger")
    expect(item).to_contain_text("no_permit")
    expect(item.locator(".pill")).to_have_text("stopped")
    expect(one.page.locator("[data-total=stopped]")).to_have_text(str(stopped + 1))
    one.until(lambda: one.page.evaluate(RED_AT_THE_GATE) == 0, "the flash to go out")
    item.locator("a").click()
    expect(one.page.get_by_role("heading", level=1)).to_contain_text("billing → ledger / transfer")


def test_what_goes_through_does_not_flash(seen: Seen, visit: Come) -> None:
    one = visit()
    expect(one.page.locator("#live")).to_have_text("live")
    seen.happen(decided("2" * 32, "allow"))
    expect(one.page.locator("#ticker li").first.locator(".pill")).to_have_text("let through")
    assert one.page.evaluate(RED_AT_THE_GATE) == 0


def test_the_city_is_walked_by_keys_alone(visit: Come) -> None:
    one = visit()
    page = one.page
    expect(page.locator("#live")).to_have_text("live")
    first = page.locator('.stage .place[tabindex="0"]')
    expect(first).to_have_count(1)
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    name = page.evaluate("document.activeElement.textContent")
    assert page.evaluate("document.activeElement.matches('.server, .memory')")
    page.keyboard.press("Enter")
    expect(page.locator("#inspector h2")).to_have_text(name)
    expect(page.locator("#inspector")).to_contain_text("from")


def test_decisions_are_searched_as_one_types_and_the_address_can_be_passed_on(seen: Seen, visit: Come) -> None:
    one = visit()
    page = one.see("/decisions")
    rows = page.locator("#found tbody tr")
    assert rows.count() > 3
    page.locator("#q").press_sequentially("beyond_grant")
    expect(rows).to_have_count(1)
    expect(page).to_have_url(re.compile("q=beyond_grant"))
    shared = one.context.new_page()
    shared.goto(page.url)
    expect(shared.locator("#found tbody tr")).to_have_count(1)
    page.locator("#q").fill("")
    page.select_option("select[name=decision]", "deny")
    expect(page.locator("#found .pill.allow")).to_have_count(0)
    page.select_option("select[name=code]", "beyond_grant")
    expect(rows).to_have_count(1)
    page.locator("#found a.row").click()
    expect(page.locator(".graph svg")).to_be_visible()


def test_why_is_drawn_from_sources_over_arguments_to_the_verdict(seen: Seen, visit: Come) -> None:
    page = visit().see(f"/decisions/{refused_entry(seen)}")
    graph = page.locator(".graph svg")
    expect(graph).to_contain_text("customer")
    expect(graph).to_contain_text("destination")
    expect(graph).to_contain_text("beyond_grant")
    assert graph.locator("path").count() >= 4
    page.get_by_role("link", name="What did it touch?").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What it touched since")


def test_pages_work_without_a_script(visit: Come) -> None:
    one = visit(java_script_enabled=False)
    page = one.see("/decisions?decision=deny&code=beyond_grant")
    assert page.locator("#found tbody tr").count() == 1
    page.locator("#found a.row").first.click()
    expect(page.locator("h1")).to_contain_text("ledger")
    one.see("/city/table")
    assert page.locator("tbody tr").count() > 3


@pytest.mark.parametrize("path", ["/", "/decisions", "/decisions/{index}", "/city/table"])
def test_hostile_words_are_shown_as_words_and_are_nobodys_but_the_agents(seen: Seen, visit: Come, path: str) -> None:
    """A server named the tool, an agent wrote the detail: a page holds both as text, set apart, and obeys neither."""
    seen.happen(decided("3" * 32, "deny", name=HOSTILE, code="no_permit", detail=HOSTILE * 3))
    index = len(seen.log()) - 1
    one = visit()
    page = one.see(path.format(index=index))
    if path == "/":
        expect(page.locator("#live")).to_have_text("live")
        seen.happen(decided("4" * 32, "deny", name=HOSTILE, detail=HOSTILE))
        expect(page.locator("#ticker li").first).to_contain_text("<img")
    assert page.title() != "owned"
    assert page.locator("main img, main script, main a[href^='javascript']").count() == 0
    text = page.locator("main").inner_text()
    assert not set(text) & set("\u202e\u202c\u200b\u0007"), "nothing is left that hides or turns"
    if path.startswith("/decisions"):
        assert "U+202E" in text
    apart = page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter((one) => !one.children.length
             && one.textContent.includes("Approved by citywatch") && !one.closest("bdi, .ticker span, title")).length"""
    )
    assert apart == 0, "it stands outside of what is set apart as others' words"


def test_a_megabyte_in_a_field_does_not_break_a_page(seen: Seen, visit: Come) -> None:
    long = "A" * 60_000  # the longest that an entry can hold
    seen.happen(decided("5" * 32, "deny", name="x", code="no_permit", detail=long))
    page = visit().see("/decisions")
    assert len(page.content()) < 300_000
    assert page.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0


def test_a_browser_computes_that_an_entry_is_in_the_log(seen: Seen, visit: Come) -> None:
    page = visit().see(f"/log/{refused_entry(seen)}")
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("#verdict")).to_have_text("It is in the log, as it stands here.")
    expect(page.locator("#steps li")).to_have_count(3)


@pytest.mark.parametrize("member", ["leaf", "hashes", "checkpoint root", "checkpoint signature", "index", "tree_size"])
def test_a_proof_that_was_tampered_with_is_said_to_fail(seen: Seen, visit: Come, member: str) -> None:
    one = visit()
    page = one.page
    entry = refused_entry(seen)
    bundle = seen.run("log", "prove", str(entry))

    def tampered(route: Route) -> None:
        proof = json.loads(bundle)
        lines = proof["checkpoint"].split("\n")
        if member == "leaf":
            proof["leaf"] = b64encode(b64decode(proof["leaf"]).replace(b"deny", b"allow")).decode()
        elif member == "hashes":
            proof["hashes"][0] = flipped(proof["hashes"][0])
        elif member == "checkpoint root":
            lines[2] = flipped(lines[2])
        elif member == "checkpoint signature":
            head, _, signature = lines[4].rpartition(" ")
            lines[4] = f"{head} {b64encode(b64decode(signature)[:-1] + b'x').decode()}"
        else:
            proof[member] += 1
        route.fulfill(json={**proof, "checkpoint": "\n".join(lines)})

    page.route("**/proof", tampered)
    one.see(f"/log/{entry}")
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("#verdict")).to_contain_text("It does not hold")
    assert "It is in the log" not in page.locator("#proof").inner_text()


def flipped(data: str) -> str:
    raw = bytearray(b64decode(data))
    raw[0] ^= 1
    return b64encode(raw).decode()


def test_an_agent_is_stopped_and_let_go_on_with_a_reason_in_the_operators_name(seen: Seen, visit: Come) -> None:
    one = visit()
    page = one.see("/agents/processing")
    page.get_by_role("link", name="Stop").click()
    page.get_by_label("Why").fill("looks odd")
    page.get_by_role("button", name="Stop it").click()
    expect(page.locator(".head .pill")).to_have_text("stopped")
    said = [one for one in seen.log() if one["type"] == "halted"][-1]
    assert (said["reason"], said["by"].startswith("operator:")) == ("looks odd", True)
    page.get_by_role("link", name="Let go on").click()
    page.get_by_label("Why").fill("it was not")
    page.get_by_role("button", name="Let it go on").click()
    expect(page.locator(".head .pill")).to_have_text("good standing")


def test_what_cannot_be_taken_back_asks_for_the_agents_name(seen: Seen, visit: Come) -> None:
    page = visit().see("/agents/reception/revoke")
    page.get_by_label("Why").fill("gone")
    page.get_by_label("The agent’s name").fill("router")
    page.get_by_role("button", name="Revoke it for ever").click()
    expect(page.locator(".problem")).to_contain_text("Write the agent's name")
    assert "good standing" in seen.run("agent", "list").split("reception")[2]
    page.get_by_label("Why").fill("gone")
    page.get_by_label("The agent’s name").fill("reception")
    page.get_by_role("button", name="Revoke it for ever").click()
    expect(page.locator(".head .pill")).to_have_text("revoked")
    expect(page.get_by_role("link", name="Quarantine")).to_have_count(0)
