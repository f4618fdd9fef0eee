"""Who is away, and who stands in: said now, signed by whoever goes, for whom the file allows, and for a while."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.absence import (
    FRESH_MS,
    LONGEST_MS,
    PREFIX,
    Absence,
    Kept,
    absence_bytes,
    check_absence,
    format_absence,
    parse_absence,
    standing_in,
    verify_absence,
)
from citywatch.core.approvals.people import Duty, Person
from citywatch.core.errors import Malformed, Refused
from citywatch.core.signature import format_spki, parse_ed25519_key

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([one]) * 32) for one in (1, 2))
NOW = 1_800_000_000_000
HOUR = 3_600_000


def spki(key: Ed25519PrivateKey) -> str:
    return b64encode(format_spki(parse_ed25519_key(key.public_key().public_bytes_raw()))).decode()


ANNA = Person(name="anna", roles=(Duty.APPROVER,), answers=("*",), keys=(spki(KEY),), deputies=("ben", "dora"))
BEN = Person(name="ben", roles=(Duty.APPROVER,), answers=("crm/*",), keys=(spki(OTHER),))
DORA = Person(name="dora", roles=(Duty.AUDITOR,))
PEOPLE = {one.name: one for one in (ANNA, BEN, DORA)}
SAID = Absence(domain="city.example", person="anna", deputy="ben", at=NOW, until=NOW + HOUR)
BACK = Absence(domain="city.example", person="anna", deputy="", at=NOW + 1, until=0)


def kept(said: Absence, key: Ed25519PrivateKey = KEY) -> Kept:
    signature = urlsafe_b64encode(key.sign(absence_bytes(said))).rstrip(b"=").decode()
    return Kept(format_absence(said), signature)


def away(said: Absence, now: int, people: dict[str, Person] | None = None, key: Ed25519PrivateKey = KEY) -> list[str]:
    return list(standing_in([kept(said, key)], PEOPLE if people is None else people, "city.example", now))


def test_what_somebody_signs_puts_their_deputy_in_their_place_until_its_end() -> None:
    assert check_absence(SAID, PEOPLE, "city.example", NOW, None) == ANNA
    assert verify_absence(SAID, KEY.sign(absence_bytes(SAID)), ANNA)
    assert absence_bytes(SAID).startswith(PREFIX)
    assert (away(SAID, NOW), away(SAID, NOW + HOUR - 1), away(SAID, NOW + HOUR)) == (["anna"], ["anna"], [])
    assert away(BACK, NOW + 1) == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"domain": "other.example"}, "another domain"),
        ({"person": "eve"}, "no approver `eve`"),
        ({"person": "dora"}, "no approver `dora`"),
        ({"deputy": "eve"}, "may not stand in for `anna`, but `ben` or `dora` may"),
        ({"deputy": "anna"}, "may not stand in"),
        ({"deputy": "dora"}, "`dora` is no approver"),
        ({"at": NOW - FRESH_MS - 1}, "not of now"),
        ({"at": NOW + FRESH_MS + 1}, "not of now"),
        ({"until": NOW}, "later than now"),
        ({"until": NOW + LONGEST_MS + 1}, "at most 30 days"),
        ({"deputy": "", "until": 0}, "has not said that they are away"),
        ({"deputy": ""}, "may not stand in"),
    ],
)
def test_what_may_not_be_said_is_refused_whoever_signs_it(changed: dict[str, Any], why: str) -> None:
    with pytest.raises((Malformed, Refused), match=why):
        check_absence(msgspec.structs.replace(SAID, **changed), PEOPLE, "city.example", NOW, None)


def test_no_statement_counts_again_after_another() -> None:
    """INVARIANT: 3. The attack: somebody comes back, and their old statement is entered once more."""
    assert check_absence(BACK, PEOPLE, "city.example", NOW + 1, SAID) == ANNA
    for old, last in ((SAID, BACK), (SAID, SAID), (BACK, BACK)):
        with pytest.raises(Malformed, match="older than the last one"):
            check_absence(old, PEOPLE, "city.example", NOW + 1, last)


@pytest.mark.parametrize("changed", [{"deputy": "dora"}, {"until": NOW + 2}, {"at": NOW - 1}, {"person": "ben"}])
def test_a_signature_is_over_all_of_it(changed: dict[str, Any]) -> None:
    other = msgspec.structs.replace(SAID, **changed)
    with pytest.raises(Malformed, match="none of the keys"):
        verify_absence(other, KEY.sign(absence_bytes(SAID)), ANNA)
    assert away(other, NOW + 1, key=OTHER) == []


def changed(name: str, **more: Any) -> dict[str, Person]:
    return PEOPLE | {name: msgspec.structs.replace(PEOPLE[name], **more)}


@pytest.mark.parametrize(
    "people",
    [
        changed("anna", keys=(spki(OTHER),)),
        changed("anna", keys=()),
        changed("anna", roles=(Duty.AUDITOR,)),
        changed("anna", deputies=("dora",)),
        changed("ben", roles=(Duty.OPERATOR,)),
        {"anna": ANNA},
        {"ben": BEN},
    ],
    ids=["another key", "no key", "no approver", "not allowed", "deputy is none", "deputy left", "left"],
)
def test_an_absence_ends_with_what_it_rests_on(people: dict[str, Person]) -> None:
    """INVARIANT: 2."""
    assert away(SAID, NOW) == ["anna"]
    assert away(SAID, NOW, people) == []


def test_what_lies_in_the_row_and_is_no_statement_puts_nobody_away() -> None:
    good = kept(SAID)
    longest = msgspec.structs.replace(SAID, until=NOW + LONGEST_MS + 1)
    for one in (Kept("{}", good.signature), Kept(good.text, "!"), Kept(good.text + " ", good.signature), kept(longest)):
        assert standing_in([one], PEOPLE, "city.example", NOW) == {}
    assert standing_in([good], PEOPLE, "other.example", NOW) == {}


@given(st.text(max_size=200) | st.binary(max_size=60).map(lambda one: one.decode("latin-1")))
def test_any_text_is_a_statement_in_its_one_form_or_malformed(text: str) -> None:
    with suppress(Malformed):
        assert format_absence(parse_absence(text)) == text


def test_a_statement_has_one_form() -> None:
    text = format_absence(SAID)
    assert parse_absence(text) == SAID
    for other in (
        f" {text}",
        text.replace('":', '": '),
        text.replace("}", ',"more":1}'),
        text.replace(str(NOW), "1e3"),
    ):
        with pytest.raises(Malformed):
            parse_absence(other)
    with pytest.raises(Malformed, match="4 KiB"):
        parse_absence("x" * 5_000)
