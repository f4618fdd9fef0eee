"""The support desk of `examples/`, running: real servers, real databases, a world that each test can rebuild."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator

import pytest

from examples.support_desk import services, world
from examples.support_desk.wording import Attack


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What a test draws its attack from: another one in every run, but in CI, where a red run must stay red."""
    return zlib.crc32(request.node.nodeid.encode()) if os.environ.get("CI") else int.from_bytes(os.urandom(6))


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
