"""The support desk of `examples/`, running: real servers, real databases, a world that each test can rebuild."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))


@pytest.fixture(scope="session")
def open_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from support_desk import services, world

    data = tmp_path_factory.mktemp("desk")
    world.build(data, None)
    with services.open_desk(data) as desk:
        yield desk


@pytest.fixture
def rebuild(open_desk: object) -> Callable[[object], object]:
    """Put the books back, with this attack (or none) planted in them."""
    from support_desk import services, world

    assert isinstance(open_desk, services.Desk)
    data = open_desk.data
    return lambda attack: world.build(data, attack)  # type: ignore[arg-type]
