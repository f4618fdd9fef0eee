"""A console as people have it: the command line, a real city behind it, Chromium before it.

The city is the mesh of `examples/`, with a scenario played on it, so that what is shown is what really happened.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, expect, sync_playwright

from citywatch.adapters.sqlite import open_store
from citywatch.adapters.system import SystemClock
from citywatch.core import events
from citywatch.core.log.entry import encode_event
from citywatch.main import cli
from citywatch.service.ports import Append, NewEntry
from tests import forked
from tests.e2e.gateway import shifted
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZES = {"light": ("light", 1360, 900), "dark": ("dark", 1360, 900), "phone": ("light", 390, 844)}
SCENARIO = "inter_agent_injection"
T = TypeVar("T")
expect.set_options(timeout=60_000)  # a slow machine is no finding


class Seen:
    """A folder with a city, and its console at `origin`."""

    def __init__(self, folder: Path, process: forked.Process, origin: str) -> None:
        self.folder = folder
        self.process = process
        self.origin = origin

    def here(self, work: Callable[[], T]) -> T:
        """Do something in the city's folder, by its clock, and beside the loop that Playwright keeps in this thread."""
        with chdir(self.folder), pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as elsewhere:
            patch.setattr(SystemClock, "now_ms", shifted.now_ms)
            return elsewhere.submit(work).result()

    def clock(self, told: str | int) -> None:
        """Put the city's clock, as `shifted.py` says."""
        shifted.put(self.folder, told)

    def run(self, *arguments: str) -> str:
        """One command of the command line."""
        done = self.here(lambda: CliRunner().invoke(cli, arguments))
        assert done.exit_code == 0, f"{arguments}: {done.output}"
        return done.stdout.strip()

    def link(self, *arguments: str) -> str:
        return self.run("console", "link", *arguments)

    def happen(self, *told: events.Event) -> None:
        """Have something recorded, as a gateway does."""

        async def enter() -> None:
            store = open_store(Path("state") / "citywatch.db")
            try:
                await store.append(Append(entries=tuple(NewEntry(encode_event(one)) for one in told)))
            finally:
                await store.close()

        self.here(lambda: asyncio.run(enter()))

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("log", "show", "--last", "100000", "--json").splitlines()]


def played(factory: pytest.TempPathFactory) -> Path:
    """A city on which the scenario was played, a copy for whoever asks.

    It is played once in a run of the tests, by whichever of its processes asks first.
    """
    shared = factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder, whole = shared / "played", shared / "played-to-the-end"
    with (shared / "played.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _play(folder)
            whole.touch()
    return shutil.copytree(folder / "city", factory.mktemp("seen") / "city")


def _play(folder: Path) -> None:
    demo = [sys.executable, "-m", "citywatch", "demo", SCENARIO, "--keep", str(folder)]
    done = subprocess.run(demo, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"the scenario was not played: {done.stdout[-2000:]}{done.stderr[-2000:]}"


@contextmanager
def served(city: Path, more: str = "", *, port: int = 0, section: str = "") -> Iterator[Seen]:
    """The console of a city's folder, up and answering inside the block; `section` is more of its own section."""
    config = city / "citywatch.yaml"
    own = ", ".join(filter(None, (f"listen: '127.0.0.1:{port or free_port()}'", section)))
    config.write_text(f"{config.read_text()}\nconsole: {{{own}}}\n{more}")
    command = [sys.executable, shifted.__file__, "console", "--no-link"]
    process = forked.start(command, cwd=city, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if line == "ready\n":
                break
        found = re.search(r"http://\S+", said)
        assert found is not None, f"the console did not start: {said}"
        yield Seen(city, process, found[0])
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's browser."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One browser that came in by a link. `wrong` collects what no page may do: errors, refused requests, dialogs."""

    def __init__(self, browser: Browser, seen: Seen, *link: str, **options: Any) -> None:
        self.seen = seen
        self.wrong: list[str] = []
        options = {"viewport": {"width": 1360, "height": 900}, **options}
        self.context: BrowserContext = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("console", self._said)
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.on("response", self._answered)
        self.page.on("request", self._asked)
        if options.get("java_script_enabled", True):
            self.page.goto(seen.link(*link))
        else:
            self.page.goto(f"{seen.origin}/login")
            self.page.fill("input[name=link]", seen.link(*link))
            self.page.click("#by-link button")
        self.page.wait_for_url(f"{seen.origin}/")

    def see(self, path: str) -> Page:
        self.page.goto(f"{self.seen.origin}{path}")
        return self.page

    def close(self) -> None:
        self.context.close()
        assert self.wrong == [], self.wrong

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Poll for what a page does by itself."""
        for _ in range(1200):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"waited in vain for {what}")

    def _said(self, message: ConsoleMessage) -> None:
        # What a test reads of a canvas; what is refused on purpose, which is looked at as an answer; no key is RSA.
        known = ("willReadFrequently", "Failed to load resource", "pubKeyCredParams")
        ours = not any(one in message.text for one in known)
        if message.type in ("error", "warning") and ours:
            self.wrong.append(f"{message.type}: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self.wrong.append(f"{response.status} {response.url}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(self.seen.origin):
            self.wrong.append(f"asked elsewhere: {request.url}")
