"""When the gateway draws itself a new key."""

from __future__ import annotations

from citywatch.main.assembly import GATEWAY_TTL_MS
from citywatch.main.trust import is_due


def test_a_new_key_is_due_at_half_of_the_certificates_life_and_not_before() -> None:
    begun = 1_800_000_000_000
    assert not is_due(begun, begun)
    assert not is_due(begun + GATEWAY_TTL_MS // 2, begun)
    assert is_due(begun + GATEWAY_TTL_MS // 2 + 1, begun)


def test_a_clock_that_was_put_back_makes_it_due_too() -> None:
    """A certificate that begins tomorrow lets nobody in until then."""
    begun = 1_800_000_000_000
    assert is_due(begun - 1, begun)
