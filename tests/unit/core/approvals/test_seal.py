"""What a ticket is stands sealed in the log before anybody answers, and a canary is nothing to let through."""

from __future__ import annotations

import msgspec
import pytest

from citywatch.core.approvals.seal import Kind, canary_key, is_what_was_sealed, seal
from citywatch.core.errors import Malformed

SALT = bytes(range(16))


def test_a_seal_fits_what_it_was_put_on_and_nothing_else() -> None:
    """INVARIANT: 1."""
    sealed = seal("t-1", Kind.CANARY, "money", SALT)
    assert is_what_was_sealed(sealed, "t-1", "canary", "money", SALT.hex())
    for other in (
        ("t-2", "canary", "money", SALT.hex()),
        ("t-1", "call", "money", SALT.hex()),
        ("t-1", "canary", "mail", SALT.hex()),
        ("t-1", "canary", "money", bytes(16).hex()),
        ("t-1", "canary", "money", "00"),
        ("t-1", "canary", "money", "no salt"),
        ("t-1", "nonsense", "money", SALT.hex()),
    ):
        assert not is_what_was_sealed(sealed, *other)
    with pytest.raises(Malformed, match="16 bytes"):
        seal("t-1", Kind.CALL, "money", b"short")


def test_a_canary_lies_where_no_decision_looks() -> None:
    """INVARIANT: 3."""
    assert canary_key("t-1")[0] not in {"ticket", "answer", "ticket_id", "ticket_past"}
    assert msgspec.json.decode(b'"canary"', type=Kind) is Kind.CANARY
