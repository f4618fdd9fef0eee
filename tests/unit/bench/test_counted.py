"""The gateway bench counts verifications where the gateway's door asks for them, or it would say that none happen."""

from __future__ import annotations

import inspect

import pytest

from bench.counted import VERIFYING
from citywatch.adapters.gateway import door


@pytest.mark.parametrize("verify", VERIFYING)
def test_the_door_verifies_by_the_name_that_is_counted(verify: object) -> None:
    name = getattr(verify, "__name__", "")
    assert getattr(door, name) is verify
    assert f"{name}(" in inspect.getsource(door.Door)
