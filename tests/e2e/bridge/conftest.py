"""The desk of the gateway's tests, with an agent whose folder a bridge can use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.gateway.desk import Desk
from tests.ports import free_port


@contextmanager
def open_desk(folder: Path) -> Iterator[Desk]:
    """A city at work: agent registered, tools approved, upstream and gateway running."""
    with ExitStack() as stack:
        desk = Desk(folder, stack)
        file = folder / "citywatch.yaml"
        file.write_text(file.read_text().replace('"]', f'", "https://127.0.0.1:{free_port()}"]', 1))
        desk.start_upstream()
        desk.run("agent", "add", "clerk")
        desk.run("tools", "approve", "--yes")
        desk.up()
        yield desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One for all tests that leave it as it was."""
    with open_desk(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture
def own_desk(tmp_path: Path) -> Iterator[Desk]:
    """One for a test that changes it."""
    with open_desk(tmp_path) as desk:
        yield desk
