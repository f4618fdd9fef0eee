"""Whether a passkey said yes to exactly this: registrations and assertions of WebAuthn, checked in numbered steps.

Decides that a credential was made for our pages under a challenge of ours, and that it signed another one: not whose it
is (its row says that) nor what they may answer. Stricter than the specification where that costs nobody anything:
attestation is `none`, keys are ES256 or Ed25519 in their one form, user verification is always demanded, pages of other
sites may not frame ours.

An assertion is good if
1. what the client collected is an object with no member twice, its type is `webauthn.get`;
2. its challenge is ours: SHA-256 over the statement (`statement.challenge_of`);
3. its origin is one of the configured ones, not inside a page of another origin;
4. the authenticator speaks of our relying party (the hash of its id);
5. somebody was there (UP) and proved who they are to the authenticator (UV);
6. the signature over the authenticator's data and the hash of the client's is that of the enrolled key;
7. the counter is higher than the last that was seen, unless the authenticator keeps none.

INVARIANTS: any bytes give a result or `Malformed`; a result is of another type than what was unverified; without a
configured relying party there is nothing that passes. SPEC: WebAuthn Level 3 §7.1, §7.2, §6.1, §5.8.1; RFC 9053.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from typing import Any, Final

import msgspec

from citywatch.core.approvals.cbor import Item, parse_cbor, parse_first
from citywatch.core.approvals.passkey import Passkey
from citywatch.core.approvals.people import Passkeys
from citywatch.core.errors import Malformed
from citywatch.core.signature import (
    Ed25519Key,
    Key,
    format_spki,
    parse_b64url,
    parse_ed25519_key,
    parse_p256_key,
    parse_spki,
    verify_ed25519,
    verify_p256_der,
)

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
"""User present, user verified, backup eligible, backed up, attested credential data, extension data."""
MAX_CLIENT: Final = 8 << 10
MAX_CREDENTIAL: Final = 1023
"""SPEC: WebAuthn §4: a credential's id has at most so many bytes."""
_HEAD: Final = 37
_AAGUID: Final = 16


class Assertion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a browser gives back of `navigator.credentials.get`, each part in base64url: not verified."""

    id: str
    authenticator: str
    client: str
    signature: str


class Registration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a browser gives back of `navigator.credentials.create`, each part in base64url: not verified."""

    attestation: str
    client: str


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that was made for us: its id in base64url, its key (SubjectPublicKeyInfo in base64)."""

    id: str
    key: str
    count: int
    synced: bool


class Asserted(msgspec.Struct, frozen=True, kw_only=True):
    """A passkey signed the challenge; `count` is what its counter says now."""

    credential: str
    count: int
    synced: bool


class _Seen(msgspec.Struct, frozen=True):
    """The authenticator's data, taken apart."""

    flags: int
    count: int
    credential: bytes = b""
    key: Item = None


def verify_registration(registration: Registration, challenge: bytes, rp: Passkeys) -> Enrolled:
    """The credential that was made under this challenge for this relying party; `Malformed` if none was."""
    _check_client(parse_b64url(registration.client), "webauthn.create", challenge, rp)
    told = parse_cbor(parse_b64url(registration.attestation))
    if not isinstance(told, dict) or told.keys() != {"fmt", "attStmt", "authData"}:
        raise Malformed("a registration has the members `fmt`, `attStmt` and `authData`")
    if told["fmt"] != "none" or told["attStmt"] != {}:
        raise Malformed("a registration comes with an attestation, and none was asked for")
    data = told["authData"]
    if not isinstance(data, bytes):
        raise Malformed("a registration's `authData` is not bytes")
    seen = _parse_authenticator(data, rp, attested=True)
    _check_present(seen)
    return Enrolled(
        id=_b64url(seen.credential),
        key=b64encode(format_spki(_cose_key(seen.key))).decode(),
        count=seen.count,
        synced=bool(seen.flags & BE),
    )


def verify_assertion(assertion: Assertion, challenge: bytes, rp: Passkeys, passkey: Passkey) -> Asserted:
    """That this passkey signed this challenge just now; `Malformed` if it did not."""
    if assertion.id != passkey.id or not passkey.counts:
        raise Malformed("the passkey is not the one that is enrolled, or was revoked")
    client = parse_b64url(assertion.client)
    _check_client(client, "webauthn.get", challenge, rp)  # steps 1 to 3
    data = parse_b64url(assertion.authenticator)
    seen = _parse_authenticator(data, rp, attested=False)  # step 4
    _check_present(seen)  # step 5
    _check_signature(  # step 6
        parse_spki(b64decode(passkey.key)), data + hashlib.sha256(client).digest(), parse_b64url(assertion.signature)
    )
    if (seen.count or passkey.count) and seen.count <= passkey.count:  # step 7
        raise Malformed("the passkey's counter did not rise: there may be a copy of it")
    return Asserted(credential=passkey.id, count=seen.count, synced=bool(seen.flags & BE))


def _check_client(data: bytes, kind: str, challenge: bytes, rp: Passkeys) -> None:
    if len(data) > MAX_CLIENT:
        raise Malformed("the client's data are too long")
    told = _parse_client(data)
    if told.get("type") != kind:  # step 1
        raise Malformed(f"the client's data are not of type `{kind}`")
    said = told.get("challenge")
    if not isinstance(said, str) or not hmac.compare_digest(parse_b64url(said), challenge):  # step 2
        raise Malformed("another challenge was signed than was given")
    if told.get("origin") not in rp.origins:  # step 3
        raise Malformed("the page that asked is none of the console's")
    if told.get("crossOrigin", False) is not False or "topOrigin" in told:
        raise Malformed("the page that asked stood inside another site's")


def _parse_client(data: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise Malformed("the client's data have a member twice")
        return members

    try:
        told = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise Malformed("the client's data are not JSON") from None
    if not isinstance(told, dict):
        raise Malformed("the client's data are not an object")
    return told


def _parse_authenticator(data: bytes, rp: Passkeys, *, attested: bool) -> _Seen:
    if len(data) < _HEAD or len(data) > MAX_CLIENT:
        raise Malformed("the authenticator's data are too short or too long")
    if not hmac.compare_digest(data[:32], hashlib.sha256(rp.rp_id.encode()).digest()):  # step 4
        raise Malformed("the authenticator speaks of another site")
    flags, count, at = data[32], int.from_bytes(data[33:_HEAD]), _HEAD
    if flags & BS and not flags & BE:
        raise Malformed("a passkey that may not be on several devices is said to be")
    if bool(flags & AT) is not attested:
        raise Malformed("the authenticator's data hold a credential where none belongs, or none where one does")
    credential, key = b"", None
    if attested:
        credential, key, at = _credential(data, at + _AAGUID)
    if flags & ED:
        extensions, at = parse_first(data, at)
        if not isinstance(extensions, dict):
            raise Malformed("the authenticator's extensions are no map")
    if at != len(data):
        raise Malformed("there is something after the authenticator's data")
    return _Seen(flags, count, credential, key)


def _credential(data: bytes, at: int) -> tuple[bytes, Item, int]:
    size = int.from_bytes(data[at : at + 2])
    if not 0 < size <= MAX_CREDENTIAL or at + 2 + size >= len(data):
        raise Malformed("a credential's id is empty, too long or breaks off")
    key, end = parse_first(data, at + 2 + size)
    return data[at + 2 : at + 2 + size], key, end


def _check_present(seen: _Seen) -> None:
    if not seen.flags & UP:
        raise Malformed("nobody was there")
    if not seen.flags & UV:
        raise Malformed("nobody proved to the authenticator who they are")


def _cose_key(told: Item) -> Key:
    """SPEC: RFC 9053 §2.1, §2.2, §7: exactly these members, so that each key has one form."""
    if not isinstance(told, dict):
        raise Malformed("a credential's key is no map")
    if any(type(told.get(name)) is bool for name in (1, 3, -1)):  # which is a number to Python, and to no one else
        raise Malformed("a credential's key names its kind by a yes or a no")
    if told.keys() == {1, 3, -1, -2, -3} and (told[1], told[3], told[-1]) == (2, -7, 1):
        return parse_p256_key(b"\x04" + _coordinate(told[-2]) + _coordinate(told[-3]))
    if told.keys() == {1, 3, -1, -2} and (told[1], told[3], told[-1]) == (1, -8, 6):
        return parse_ed25519_key(_coordinate(told[-2]))
    raise Malformed("a credential's key is neither ES256 nor Ed25519")


def _coordinate(value: Item) -> bytes:
    if not isinstance(value, bytes) or len(value) != 32:
        raise Malformed("a coordinate of a credential's key has not 32 bytes")
    return value


def _check_signature(key: Key, message: bytes, signature: bytes) -> None:
    if isinstance(key, Ed25519Key):
        verify_ed25519(key, message, signature)
    else:
        verify_p256_der(key, message, signature)


def _b64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
