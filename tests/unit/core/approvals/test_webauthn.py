"""Passkeys: what a browser sends counts only for our pages, our challenge, our person; all else is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.passkey import Passkey
from citywatch.core.approvals.people import Passkeys
from citywatch.core.approvals.webauthn import (
    AT,
    BE,
    BS,
    ED,
    UP,
    UV,
    Assertion,
    Registration,
    verify_assertion,
    verify_registration,
)
from citywatch.core.errors import Malformed
from tests.passkeys import RP, Authenticator, b64, cbor

CHALLENGE = hashlib.sha256(b"a statement").digest()


def enrolled(mine: Authenticator) -> Passkey:
    made = verify_registration(mine.register(CHALLENGE), CHALLENGE, RP)
    return Passkey(id=made.id, person="anna", key=made.key, count=made.count, synced=made.synced)


@pytest.mark.parametrize("ed25519", [False, True])
def test_a_credential_that_was_made_for_us_signs_for_us(ed25519: bool) -> None:
    mine = Authenticator(ed25519=ed25519)
    passkey = enrolled(mine)
    assert passkey.id == b64(mine.id)
    asserted = verify_assertion(mine.sign(CHALLENGE), CHALLENGE, RP, passkey)
    assert (asserted.credential, asserted.count) == (passkey.id, 1)


def test_an_authenticator_that_keeps_no_counter_signs_again_and_again() -> None:
    mine = Authenticator()
    passkey = enrolled(mine)
    for _ in range(2):
        assert verify_assertion(mine.sign(CHALLENGE, steps=0), CHALLENGE, RP, passkey).count == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"type": "webauthn.create"}, "not of type `webauthn.get`"),
        ({"challenge": b64(bytes(32))}, "another challenge"),
        ({"challenge": 7}, "another challenge"),
        ({"origin": "https://console.acme.example.evil.example"}, "none of the console's"),
        ({"origin": "http://console.acme.example"}, "none of the console's"),
        ({"origin": ...}, "none of the console's"),
        ({"crossOrigin": True}, "inside another site's"),
        ({"crossOrigin": "no"}, "inside another site's"),
        ({"topOrigin": "https://evil.example"}, "inside another site's"),
        ({"rp_id": "evil.example"}, "another site"),
        ({"flags": UV}, "nobody was there"),
        ({"flags": UP}, "nobody proved"),
        ({"flags": UP | UV | BS}, "several devices"),
        ({"flags": UP | UV | AT}, "hold a credential where none belongs"),
        ({"flags": UP | UV | ED}, "breaks off"),
        ({"data": b"short"}, "too short"),
        ({"steps": 0}, "counter did not rise"),
    ],
)
def test_an_assertion_that_is_not_ours_is_refused(changed: dict[str, Any], words: str) -> None:
    mine = Authenticator()
    mine.count = 4
    passkey = msgspec.structs.replace(enrolled(mine), count=4)
    with pytest.raises(Malformed, match=words):
        verify_assertion(mine.sign(CHALLENGE, **changed), CHALLENGE, RP, passkey)


def test_another_credential_or_a_revoked_one_signs_nothing() -> None:
    mine, other = Authenticator(1), Authenticator(2)
    passkey = enrolled(mine)
    forged = msgspec.structs.replace(other.sign(CHALLENGE), id=passkey.id)
    with pytest.raises(Malformed, match="does not verify"):
        verify_assertion(forged, CHALLENGE, RP, passkey)
    with pytest.raises(Malformed, match="not the one that is enrolled"):
        verify_assertion(other.sign(CHALLENGE), CHALLENGE, RP, passkey)
    with pytest.raises(Malformed, match="was revoked"):
        verify_assertion(mine.sign(CHALLENGE), CHALLENGE, RP, msgspec.structs.replace(passkey, revoked=1))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"type": "webauthn.get"}, "not of type `webauthn.create`"),
        ({"told": {"fmt": "packed"}}, "none was asked for"),
        ({"told": {"attStmt": {"alg": -7}}}, "none was asked for"),
        ({"told": {"more": 1}}, "has the members"),
        ({"told": {"authData": "text"}}, "is not bytes"),
        ({"flags": UP | UV}, "none where one does"),
        ({"flags": UP | AT}, "nobody proved"),
        ({"flags": UP | UV | AT | ED}, "breaks off"),
    ],
)
def test_a_registration_that_is_not_ours_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(Malformed, match=words):
        verify_registration(Authenticator().register(CHALLENGE, **changed), CHALLENGE, RP)


@pytest.mark.parametrize(
    "cose",
    [
        {1: 3, 3: -257, -1: b"n", -2: b"e"},
        {1: 2, 3: -7, -1: 1, -2: bytes(32)},
        {1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)},
        {1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(31)},
        {1: 2, 3: -7, -1: 2, -2: bytes(32), -3: bytes(32)},
        {1: 1, 3: -8, -1: 6, -2: bytes(32)},
        {1: True, 3: -8, -1: 6, -2: bytes(32)},
        {1: 1, 3: -8, -1: 6, -2: (1).to_bytes(32, "little"), -4: b"private"},
        [1, 2],
    ],
)
def test_a_key_of_another_kind_or_form_is_refused(cose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Authenticator()
    monkeypatch.setattr(mine, "cose", lambda: cose)
    with pytest.raises(Malformed):
        verify_registration(mine.register(CHALLENGE), CHALLENGE, RP)


def test_a_passkey_that_may_be_on_several_devices_is_said_to_be() -> None:
    made = verify_registration(Authenticator().register(CHALLENGE, flags=UP | UV | AT | BE | BS), CHALLENGE, RP)
    assert made.synced


def test_a_member_twice_in_what_the_client_says_is_refused() -> None:
    mine = Authenticator()
    said = b'{"type":"webauthn.get","type":"webauthn.get"}'
    assertion = msgspec.structs.replace(mine.sign(CHALLENGE), client=b64(said))
    with pytest.raises(Malformed, match="a member twice"):
        verify_assertion(assertion, CHALLENGE, RP, enrolled(mine))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "breaks off"),
        (b"\x18\x17", "shortest form"),
        (b"\x19\x00\xff", "shortest form"),
        (b"\x5f\x41a\xff", "not definite"),
        (b"\xa2\x01\x01\x01\x02", "a key twice"),
        (b"\xa1\x41a\x01", "neither a number nor a text"),
        (b"\xc0\x01", "nested too deep or tagged"),
        (b"\xf9\x00\x00", "not taken"),
        (b"\x61\xff", "not UTF-8"),
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "breaks off"),
        (b"\x01\x01", "after the end"),
        (b"\x81\x81\x81\x81\x81\x01", "nested too deep"),
    ],
)
def test_cbor_of_no_authenticator_is_refused(data: bytes, words: str) -> None:
    told = {"fmt": "none", "attStmt": {}, "authData": b""}
    assert cbor(told)
    registration = Authenticator().register(CHALLENGE)
    with pytest.raises(Malformed, match=words):
        verify_registration(Registration(attestation=b64(data), client=registration.client), CHALLENGE, RP)


@given(st.binary(max_size=120), st.binary(max_size=120), st.binary(max_size=80))
def test_any_bytes_are_refused_without_another_error(data: bytes, said: bytes, signature: bytes) -> None:
    mine = Authenticator()
    passkey = enrolled(mine)
    with pytest.raises(Malformed):
        verify_assertion(Assertion(id=passkey.id, authenticator=b64(data), client=b64(said), signature=b64(signature)),
                         CHALLENGE, RP, passkey)  # fmt: skip
    with pytest.raises(Malformed):
        verify_registration(Registration(attestation=b64(data), client=b64(said)), CHALLENGE, RP)


def test_without_origins_nothing_passes() -> None:
    nowhere = Passkeys(rp_id=RP.rp_id, origins=())
    mine = Authenticator()
    passkey = enrolled(mine)
    with pytest.raises(Malformed, match="none of the console's"):
        verify_assertion(mine.sign(CHALLENGE), CHALLENGE, nowhere, passkey)
