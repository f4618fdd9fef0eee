"""What the fault tests share: an empty store; one desk, set up once by the command line, put back before each test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from citywatch.adapters.sqlite import SqliteStore, open_store
from tests.e2e.gateway.desk import Desk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = open_store(path)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Path]]:
    """A desk with a registered agent, approved tools and a running upstream server; and a copy of its state."""
    folder = tmp_path_factory.mktemp("desk")
    with ExitStack() as stack:
        desk = Desk(folder, stack)
        desk.start_upstream()
        desk.run("agent", "add", "clerk")
        desk.run("tools", "approve", "--yes")
        shutil.copytree(folder / ".citywatch", folder / "prepared")
        yield desk, folder / "prepared"


@pytest.fixture
def ready_desk(prepared: tuple[Desk, Path]) -> Iterator[Desk]:
    """The desk as it was when it was prepared; its gateway is not running."""
    desk, copy = prepared
    shutil.rmtree(desk.folder / ".citywatch")
    shutil.copytree(copy, desk.folder / ".citywatch")
    for trace in ("ledger", "armed", "napping", "wake", "up.log"):
        (desk.folder / trace).unlink(missing_ok=True)
    yield desk
    desk.down()
