"""Registrations and assertions, against other people's code: what we take, they take; what they refuse, we refuse."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from typing import Any

import msgspec
import webauthn
from hypothesis import given
from hypothesis import strategies as st
from webauthn.helpers import base64url_to_bytes
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException

from citywatch.core.approvals.passkey import Passkey
from citywatch.core.approvals.webauthn import AT, UP, UV, Assertion, verify_assertion, verify_registration
from citywatch.core.errors import Malformed
from tests.passkeys import RP, Authenticator, b64, cbor

CHALLENGE = hashlib.sha256(b"a statement").digest()
ALGORITHMS = [COSEAlgorithmIdentifier.ECDSA_SHA_256, COSEAlgorithmIdentifier.EDDSA]


def theirs_registered(mine: Authenticator, changed: dict[str, Any]) -> bytes | None:
    made = mine.register(CHALLENGE, **changed)
    try:
        found = webauthn.verify_registration_response(
            credential={
                "id": b64(mine.id),
                "rawId": b64(mine.id),
                "response": {"attestationObject": made.attestation, "clientDataJSON": made.client},
                "type": "public-key",
            },
            expected_challenge=CHALLENGE,
            expected_rp_id=RP.rp_id,
            expected_origin=list(RP.origins),
            require_user_verification=True,
            supported_pub_key_algs=ALGORITHMS,
        )
    except (WebAuthnException, ValueError):
        return None
    return found.credential_public_key


def theirs_asserted(mine: Authenticator, assertion: Assertion, count: int) -> bool:
    try:
        webauthn.verify_authentication_response(
            credential={
                "id": assertion.id,
                "rawId": assertion.id,
                "response": {
                    "authenticatorData": assertion.authenticator,
                    "clientDataJSON": assertion.client,
                    "signature": assertion.signature,
                },
                "type": "public-key",
            },
            expected_challenge=CHALLENGE,
            expected_rp_id=RP.rp_id,
            expected_origin=list(RP.origins),
            credential_public_key=cbor(mine.cose()),
            credential_current_sign_count=count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError):
        return False
    return True


def ours_asserted(passkey: Passkey, assertion: Assertion) -> bool:
    try:
        verify_assertion(assertion, CHALLENGE, RP, passkey)
    except Malformed:
        return False
    return True


CHANGES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(("webauthn.get", "webauthn.create", "payment.get")),
        "challenge": st.sampled_from((b64(CHALLENGE), b64(bytes(32)))),
        "origin": st.sampled_from((*RP.origins, "https://evil.example", "http://console.acme.example")),
        "flags": st.integers(0, 255),
        "rp_id": st.sampled_from((RP.rp_id, "evil.example")),
        "steps": st.integers(0, 2),
    },
)


@given(CHANGES, st.booleans(), st.integers(0, 3))
def test_what_we_take_they_take(changed: dict[str, Any], ed25519: bool, count: int) -> None:
    mine = Authenticator(ed25519=ed25519)
    made = verify_registration(mine.register(CHALLENGE), CHALLENGE, RP)
    passkey = Passkey(id=made.id, person="anna", key=made.key, count=count)
    assertion = mine.sign(CHALLENGE, **changed)
    if ours_asserted(passkey, assertion):
        assert theirs_asserted(mine, assertion, count)


@given(st.booleans(), st.integers(0, 3), st.integers(1, 4))
def test_an_honest_assertion_is_taken_by_both(ed25519: bool, count: int, steps: int) -> None:
    mine = Authenticator(ed25519=ed25519)
    made = verify_registration(mine.register(CHALLENGE), CHALLENGE, RP)
    mine.count = count
    assertion = mine.sign(CHALLENGE, steps=steps)
    assert ours_asserted(Passkey(id=made.id, person="anna", key=made.key, count=count), assertion)
    assert theirs_asserted(mine, assertion, count)


@given(st.booleans(), st.integers(0, 255) | st.just(UP | UV | AT))
def test_a_credential_that_we_enrol_is_the_one_that_they_would(ed25519: bool, flags: int) -> None:
    mine = Authenticator(ed25519=ed25519)
    try:
        made = verify_registration(mine.register(CHALLENGE, flags=flags), CHALLENGE, RP)
    except Malformed:
        return
    assert theirs_registered(mine, {"flags": flags}) == cbor(mine.cose())
    assert base64url_to_bytes(made.id) == mine.id
    assert len(b64decode(made.key)) > 40


@given(st.integers(0, 2**16), st.integers(0, 3))
def test_a_byte_that_is_changed_after_signing_is_refused_by_both(place: int, part: int) -> None:
    mine = Authenticator()
    made = verify_registration(mine.register(CHALLENGE), CHALLENGE, RP)
    passkey = Passkey(id=made.id, person="anna", key=made.key)
    honest = mine.sign(CHALLENGE)
    name = ("authenticator", "client", "signature", "signature")[part]
    data = bytearray(base64url_to_bytes(getattr(honest, name)))
    data[place % len(data)] ^= 1
    forged = msgspec.structs.replace(honest, **{name: b64(bytes(data))})
    assert not ours_asserted(passkey, forged)
    assert not theirs_asserted(mine, forged, 0)
