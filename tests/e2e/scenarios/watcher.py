"""Somebody with a browser on the console while a scenario is played."""

from __future__ import annotations

import io
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from playwright.sync_api import Page, expect

from tests.e2e.console.seen import chromium


class Watcher:
    """Comes in before the attack and looks at its end; `out` is where the play prints the link."""

    def __init__(self, out: io.StringIO) -> None:
        self._out = out
        self._elsewhere = ThreadPoolExecutor(1)  # Playwright keeps a loop running in its thread, and so does the play
        self._open = ExitStack()
        self._page: Page | None = None
        self.halted: list[str] = []
        self.told: list[str] = []
        self.stopped = 0
        self.queue = ""

    def pause(self, words: str) -> None:
        self._elsewhere.submit(self._come if self._page is None else self._look).result()

    def close(self) -> None:
        self._elsewhere.submit(self._open.close).result()
        self._elsewhere.shutdown()

    def _come(self) -> None:
        link = re.search(r"http\S+/login#\S+", self._out.getvalue())
        assert link is not None
        self._page = self._open.enter_context(chromium()).new_page()
        self._page.goto(link[0])
        expect(self._page.locator("#live")).to_have_text("live")

    def _look(self) -> None:
        """On the page as it has become by itself, and then on the queue."""
        assert self._page is not None
        expect(self._page.locator(".stage .halted")).to_have_count(1)
        expect(self._page.locator("#ticker li").first).to_contain_text("billing → ledger")
        self.halted = self._page.locator(".stage .halted").all_inner_texts()
        self.told = self._page.locator("#ticker li").all_inner_texts()
        self.stopped = int(self._page.locator("[data-total=stopped]").inner_text())
        self._page.click("nav >> text=Tickets")
        self.queue = self._page.locator("main").inner_text()
