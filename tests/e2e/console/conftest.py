"""One city and one browser for all tests of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.e2e.console.seen import Seen, Visit, chromium, played, served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Seen]:
    """The browser first: without one there is nothing to play for."""
    with served(played(tmp_path_factory)) as city:
        yield city


@pytest.fixture
def visit(browser: Browser, seen: Seen) -> Iterator[Callable[..., Visit]]:
    """Come in; what went wrong on a page fails the test at its end."""
    opened: list[Visit] = []

    def come(*link: str, **options: Any) -> Visit:
        opened.append(Visit(browser, seen, *link, **options))
        return opened[-1]

    yield come
    for one in opened:
        one.close()
