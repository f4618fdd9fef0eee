"""The support desk of `examples/`, running: real servers, real databases, a world that each test can rebuild."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from examples.support_desk import services, world
from examples.support_desk.wording import Attack


@pytest.fixture(scope="session")
def open_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Desk]:
    data = tmp_path_factory.mktemp("desk")
    world.build(data, None)
    with services.open_desk(data) as desk:
        yield desk


@pytest.fixture
def rebuild(open_desk: services.Desk) -> Callable[[Attack | None], world.World]:
    """Put the books back, with this attack (or none) planted in them."""
    return lambda attack: world.build(open_desk.data, attack)
