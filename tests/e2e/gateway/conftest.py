"""Desks for the tests of this folder: see `desk.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.gateway.desk import Desk


@pytest.fixture
def new_desk(tmp_path: Path) -> Iterator[Desk]:
    """A folder that was only configured."""
    with ExitStack() as stack:
        yield Desk(tmp_path, stack)


@pytest.fixture
def desk(new_desk: Desk) -> Desk:
    """A city at work: agent registered, tools approved, upstream and gateway running."""
    new_desk.start_upstream()
    new_desk.run("agent", "add", "clerk")
    new_desk.run("tools", "approve", "--yes")
    new_desk.up()
    return new_desk
