"""A deputy answers what the absent person answers, for a while, and never more."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from citywatch.core.approvals.deputy import (
    DAY_MS,
    Deputising,
    Stands,
    answers_now,
    overdue,
    statement,
    verify_deputising,
)
from citywatch.core.errors import Malformed
from citywatch.core.signature import parse_ed25519_key

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([one]) * 32) for one in (1, 2))
KEYS = [parse_ed25519_key(one.public_key().public_bytes_raw()) for one in (OTHER, KEY)]
SAID = Deputising(absent="anna", deputy="ben", acts=("bank/*",), begins=0, ends=DAY_MS, nonce="n" * 16)
ANSWERS = {"anna": ("bank/send", "mail/*"), "ben": ("crm/*",), "cara": (), "dora": ("*",)}
STANDS = Stands(absent="anna", deputy="ben", acts=("bank/*", "hr/*"), begins=0, ends=DAY_MS)


def test_a_signed_statement_for_an_allowed_deputy_is_one() -> None:
    found = verify_deputising(SAID, KEY.sign(statement(SAID)), KEYS, ("ben",))
    assert (found.absent, found.deputy, found.now(DAY_MS - 1), found.now(DAY_MS)) == ("anna", "ben", True, False)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"deputy": "anna"}, "may not stand in"),
        ({"deputy": "cara"}, "may not stand in"),
        ({"ends": 0}, "at most 14 days"),
        ({"ends": 15 * DAY_MS}, "at most 14 days"),
        ({"nonce": "short"}, "a nonce"),
        ({"acts": ()}, "named acts"),
    ],
)
def test_what_is_not_allowed_is_refused_though_it_is_signed(changed: dict[str, object], why: str) -> None:
    said = msgspec.structs.replace(SAID, **changed)
    with pytest.raises(Malformed, match=why):
        verify_deputising(
            said, KEY.sign(statement(said)), KEYS, ("anna", "ben") if "anna" in changed.values() else ("ben",)
        )


@pytest.mark.parametrize("changed", [{"acts": ("*",)}, {"ends": 2 * DAY_MS}, {"begins": 1}, {"nonce": "m" * 16}])
def test_a_signature_is_over_all_of_it(changed: dict[str, object]) -> None:
    """INVARIANT: 5."""
    with pytest.raises(Malformed, match="not signed by whoever is away"):
        verify_deputising(msgspec.structs.replace(SAID, **changed), KEY.sign(statement(SAID)), KEYS, ("ben",))
    with pytest.raises(Malformed, match="not signed by whoever is away"):
        verify_deputising(SAID, KEY.sign(statement(SAID)), KEYS[:1], ("ben",))


def test_a_deputy_answers_what_both_the_statement_and_the_absent_person_answer() -> None:
    """INVARIANT: 1."""
    assert answers_now("ben", ANSWERS, [STANDS], "bank", "send", 5)
    assert not answers_now("ben", ANSWERS, [], "bank", "send", 5), "nobody is away"
    assert not answers_now("ben", ANSWERS, [STANDS], "bank", "close", 5), "anna does not answer it"
    assert not answers_now("ben", ANSWERS, [STANDS], "hr", "fire", 5), "anna does not answer it, whatever she signed"
    assert not answers_now("ben", ANSWERS, [STANDS], "mail", "send", 5), "she did not hand it over"
    assert not answers_now("ben", ANSWERS, [STANDS], "bank", "send", DAY_MS), "it is over"
    assert answers_now("ben", ANSWERS, [STANDS], "crm", "note", 5), "what is his own stays his"


def test_who_is_away_answers_nothing_of_it_meanwhile_and_who_is_no_approver_never() -> None:
    """INVARIANT: 2, 4."""
    assert not answers_now("anna", ANSWERS, [STANDS], "bank", "send", 5)
    assert answers_now("anna", ANSWERS, [STANDS], "mail", "send", 5)
    assert answers_now("anna", ANSWERS, [STANDS], "bank", "send", DAY_MS)
    for_cara = msgspec.structs.replace(STANDS, deputy="cara")
    assert not answers_now("cara", ANSWERS, [for_cara], "bank", "send", 5)


def test_what_was_handed_over_is_not_handed_on() -> None:
    """INVARIANT: 3."""
    onward = Stands(absent="ben", deputy="dora", acts=("*",), begins=0, ends=DAY_MS)
    narrow = {**ANSWERS, "dora": ("hr/*",)}
    assert answers_now("dora", narrow, [STANDS, onward], "crm", "note", 5)
    assert not answers_now("dora", narrow, [STANDS, onward], "bank", "send", 5)


def test_what_waits_too_long_goes_to_others() -> None:
    assert not overdue(0, 99, 100)
    assert overdue(0, 100, 100)
    assert not overdue(0, 10**12, 0), "nothing is configured"
