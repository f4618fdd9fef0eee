"""The console by other people's measures: axe-core on every page, and a provider of OpenID Connect that is not ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conformance.conftest import NODE, ROOT
from tests.e2e.console.seen import SIZES, Seen, Visit, chromium, played, served
from tests.e2e.console.test_approval import LETTER, Bank, bank
from tests.ports import free_port

AXE = NODE / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PAGES = (
    "/", "/city/table", "/city/place?id=a%3Abilling", "/decisions", "/decisions?q=nothing-like-that", "/agents",
    "/agents/billing", "/agents/billing/revoke", "/tickets", "/people", "/passkeys", "/policy", "/log", "/log/100",
    "/nothing-here",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Seen]:
    with served(played(tmp_path_factory)) as city:
        yield city


__all__ = ["bank"]


def violations(page: Page) -> list[str]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("(rules) => axe.run(document, { runOnly: { type: 'tag', values: rules } })", RULES)
    assert len(found["passes"]) > 5, "a check that checked nothing"
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("size", SIZES)
def test_no_page_shuts_anybody_out(browser: Browser, seen: Seen, size: str) -> None:
    scheme, width, height = SIZES[size]
    one = Visit(browser, seen, viewport={"width": width, "height": height}, color_scheme=scheme)
    stopped = next(at for at, entry in enumerate(seen.log()) if entry.get("code") == "beyond_grant")
    found: dict[str, list[str]] = {}
    for path in (*PAGES, f"/decisions/{stopped}", f"/decisions/{stopped}/blast"):
        page = one.see(path)
        if path == "/":
            expect(page.locator("#live")).to_have_text("live")
        found |= {path: wrong} if (wrong := violations(page)) else {}
    one.close()
    alone = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    alone.goto(f"{seen.origin}/login")
    found |= {"/login": wrong} if (wrong := violations(alone)) else {}
    alone.close()
    assert found == {}


def test_a_ticket_shuts_nobody_out(bank: Bank, browser: Browser) -> None:
    """With a value that stands in somebody else's words, on each kind of screen, for whoever may answer it; and two."""
    bank.reads(LETTER)
    ticket, other = (bank.wants(to="mallory@evil.example", amount=amount).ticket for amount in (5, 6))
    both = f"ticket={ticket}&ticket={other}"
    for scheme, width, height in SIZES.values():
        viewport = {"width": width, "height": height}
        one = Visit(browser, bank.seen, "--as", "anna", viewport=viewport, color_scheme=scheme)
        for path in (
            "/tickets", f"/tickets/{ticket}", f"/sets?{both}", f"/sets/over?{both}", "/people", "/passkeys",
        ):  # fmt: skip
            assert violations(one.see(path)) == [], path
        one.close()


# -- a provider -------------------------------------------------------------------------------------------------------

PEOPLE = """
people:
  ann: {{roles: [auditor], oidc: {{issuer: '{issuer}', subject: ann-at-acme}}}}
"""


class Signing:
    """A console that a real provider vouches for."""

    def __init__(self, seen: Seen, browser: Browser) -> None:
        self.seen = seen
        self.browser = browser

    def to_provider(self) -> Page:
        page = self.browser.new_context().new_page()
        page.goto(f"{self.seen.origin}/login")
        page.get_by_role("link", name="Sign in with").click()
        return page

    def as_somebody(self, page: Page, name: str) -> None:
        """What the provider's own pages ask."""
        page.fill("input[name=login]", name)
        page.fill("input[name=password]", "whatever")
        page.click("button[type=submit]")
        page.click("button[type=submit]")


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory, browser: Browser, seen: Seen) -> Iterator[Signing]:
    folder = tmp_path_factory.mktemp("signing")
    shutil.copytree(seen.folder, folder / "city", ignore=shutil.ignore_patterns("*.lock"))
    config = folder / "city" / "citywatch.yaml"
    config.write_text(re.sub(r"\nconsole:.*", "\n", config.read_text()))
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    (folder / "secret").write_text("swordfish\n")
    console = free_port()
    more = PEOPLE.format(issuer=issuer)
    oidc = f"oidc: {{issuer: '{issuer}', client_id: citywatch, credential: {{file: {folder / 'secret'}}}}}"
    name = (folder / "city" / "state" / "keys" / "console.name").read_text()
    redirect = f"http://{name}.localhost:{console}/login/callback"
    (NODE / "provider.mjs").write_text((Path(__file__).parent / "provider.mjs").read_text())
    provider = subprocess.Popen(
        [str(ROOT / ".venv" / "bin" / "node"), "provider.mjs", str(port), redirect],
        cwd=NODE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert provider.stdout is not None
    try:
        said = ""
        while "ready" not in said:
            line = provider.stdout.readline()
            assert line, f"the provider did not start: {said}"
            said += line
        with served(folder / "city", more, port=console, section=oidc) as city:
            yield Signing(city, browser)
    finally:
        provider.terminate()
        provider.wait(30)
        provider.stdout.close()


def test_whom_the_provider_and_the_file_know_is_let_in_with_the_roles_of_the_file(signing: Signing) -> None:
    page = signing.to_provider()
    signing.as_somebody(page, "ann-at-acme")
    page.wait_for_url(f"{signing.seen.origin}/")
    expect(page.locator(".who")).to_contain_text("ann")
    expect(page.locator(".who")).to_contain_text("auditor")
    page.goto(f"{signing.seen.origin}/agents/billing/stop")
    expect(page.get_by_role("heading", level=1)).to_have_text("This is not for your role")
    entered = [one for one in signing.seen.log() if one["type"] == "console_entered"][-1]
    assert (entered["person"], entered["how"], entered["roles"]) == ("person:ann", "oidc", ["auditor"])
    page.context.close()


def test_whom_the_file_does_not_know_is_told_so_and_not_let_in(signing: Signing) -> None:
    page = signing.to_provider()
    signing.as_somebody(page, "mallory")
    expect(page.locator(".problem")).to_contain_text("mallory")
    page.goto(f"{signing.seen.origin}/")
    assert page.url == f"{signing.seen.origin}/login"
    page.context.close()


def caught(signing: Signing, page: Page) -> str:
    """Sign in, and stop the browser on its way back; the address that it was sent to."""
    page.fill("input[name=login]", "ann-at-acme")
    page.fill("input[name=password]", "whatever")
    page.click("button[type=submit]")
    page.wait_for_selector("input[name=prompt][value=consent]", state="attached")
    form = page.locator("form").first.get_attribute("action") or ""
    answer = page.context.request.post(form, form={"prompt": "consent"}, max_redirects=0)
    while "/login/callback" not in answer.headers["location"]:
        answer = page.context.request.get(answer.headers["location"], max_redirects=0)
    return answer.headers["location"]


Change = Callable[[dict[str, str]], dict[str, str]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: {**told, "state": "x" * 43}, "answered before"),
        (lambda told: {**told, "iss": "https://evil.example"}, "another provider answered"),
        (lambda told: {key: value for key, value in told.items() if key != "iss"}, "another provider answered"),
        (lambda told: {**told, "error": "access_denied"}, "did not vouch"),
        (lambda told: {**told, "code": "x" * 43}, "answered with 400"),
    ],
)
def test_an_answer_that_was_changed_on_its_way_lets_nobody_in(signing: Signing, change: Change, said: str) -> None:
    page = signing.to_provider()
    back = urlsplit(caught(signing, page))
    told = change({key: values[0] for key, values in parse_qs(back.query).items()})
    page.goto(f"{signing.seen.origin}{back.path}?{urlencode(told)}")
    expect(page.locator(".problem")).to_contain_text(re.compile(said, re.IGNORECASE))
    page.goto(f"{signing.seen.origin}/")
    assert page.url == f"{signing.seen.origin}/login"
    page.context.close()


def test_an_answer_is_good_once_and_in_the_browser_that_asked(signing: Signing) -> None:
    """The attack: somebody signs in as themselves and has a victim's browser finish it, who then acts in their name."""
    page = signing.to_provider()
    back = caught(signing, page)
    victim = signing.browser.new_context().new_page()
    victim.goto(back)
    expect(victim.locator(".problem")).to_contain_text("begun in another browser")
    victim.goto(f"{signing.seen.origin}/")
    assert victim.url == f"{signing.seen.origin}/login"
    held: Any = page.context.cookies()
    page.goto(back)
    page.wait_for_url(f"{signing.seen.origin}/")  # nobody else's try has used it up
    again = signing.browser.new_context()
    again.add_cookies([one for one in held if one["path"] == "/login/callback"])
    replay = again.new_page()
    replay.goto(back)
    expect(replay.locator(".problem")).to_contain_text("answered before")
    for one in (page, victim, replay):
        one.context.close()
