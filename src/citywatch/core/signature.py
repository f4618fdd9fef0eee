"""Is this signature good, under an allow-listed algorithm and a strict key?

Decides that a key is one we may trust a signature of, and that a signature is that key's over exactly these bytes. Two
algorithms, no others: Ed25519 (RFC 8032) and ECDSA on P-256 with SHA-256 (`ES256`). Does not decide whose key it is or
what the signer may do, and holds no private key.

It is stricter than the libraries beneath it, because those accept keys under which anybody can sign:
1. Ed25519 keys are canonical (y < p), on the curve, and not of small order; S is below the group's order. R needs no
   check of its own: the verifier recomputes it and compares bytes, so only its canonical form can match.
2. P-256 keys are uncompressed points on the curve; r and s are 32 bytes each (JOSE), or the one DER form (X.509).
3. A JWK names the right `kty`, `crv`, `alg`, `use`, `key_ops`; it is public; its numbers are whole and unpadded.
4. A JWS has three parts in canonical base64url, a header without duplicate keys, and that header names the algorithm of
   the key that *we* chose; what a header says of other keys is refused, never followed.

INVARIANTS: an unverified byte string and a `Signed` are different types; any input gives a value or `Malformed`.
SPEC: RFC 8032 §5.1.7, RFC 7515 §5.2, RFC 7517 §4, RFC 7518 §3.4 and §6.2.1, RFC 7638, RFC 8037 §2.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_Y8 = int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little")
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})
"""The y of every point whose order divides 8, whatever the sign of x."""

_ES256 = ec.ECDSA(SHA256())
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_FOREIGN_KEYS = frozenset({"jwk", "jku", "x5u", "x5c"})
MAX_JWS_BYTES = 16_384
_MOST_OPERATIONS = 8
"""RFC 7517 §4.3 knows so many. Each is compared with each, in a key that anybody may send."""


class Ed25519Key(msgspec.Struct, frozen=True):
    """A screened Ed25519 public key; made only by the parsers below."""

    raw: bytes
    native: Ed25519PublicKey


class P256Key(msgspec.Struct, frozen=True):
    """A screened P-256 public key; `point` is uncompressed: 0x04, x, y."""

    point: bytes
    native: ec.EllipticCurvePublicKey


Key = Ed25519Key | P256Key


class Signed(msgspec.Struct, frozen=True):
    """Bytes that `key` signed."""

    message: bytes
    key: Key


class SignedToken(msgspec.Struct, frozen=True):
    """A JWS whose signature `key` made: its protected header and its payload."""

    header: dict[str, Any]
    payload: bytes
    key: Key


def parse_ed25519_key(raw: bytes) -> Ed25519Key:
    """Screen the 32 bytes of an Ed25519 public key, once per key (70 µs). SPEC: RFC 8032 §5.1.3."""
    if len(raw) != 32:
        raise Malformed("an Ed25519 public key has 32 bytes")
    y = int.from_bytes(raw, "little") & (1 << 255) - 1
    if y >= _P:
        raise Malformed("an Ed25519 public key is not in canonical form")
    if y in _SMALL_ORDER_Y:  # with such a key, one signature is good for every message
        raise Malformed("an Ed25519 public key is of small order")
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if pow(square, (_P - 1) // 2, _P) != 1:
        raise Malformed("an Ed25519 public key is not on the curve")
    return Ed25519Key(raw, Ed25519PublicKey.from_public_bytes(raw))


def parse_p256_key(point: bytes) -> P256Key:
    """Screen the 65 bytes of an uncompressed P-256 point."""
    if len(point) != 65 or point[0] != 4:
        raise Malformed("a P-256 public key is an uncompressed point of 65 bytes")
    try:
        return P256Key(point, ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
    except ValueError:
        raise Malformed("a P-256 public key is not on the curve") from None


def parse_spki(der: bytes) -> Key:
    """Screen a SubjectPublicKeyInfo (DER); only Ed25519 and P-256, only in the one DER form."""
    try:
        native = load_der_public_key(der)
        if native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != der:
            raise Malformed("a public key is not in its one DER form")
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("the bytes are not a public key that we know") from None
    if isinstance(native, Ed25519PublicKey):
        return parse_ed25519_key(native.public_bytes(Encoding.Raw, PublicFormat.Raw))
    if isinstance(native, ec.EllipticCurvePublicKey) and isinstance(native.curve, ec.SECP256R1):
        return parse_p256_key(native.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    raise Malformed("a public key is neither Ed25519 nor P-256")


def format_spki(key: Key) -> bytes:
    """The inverse of `parse_spki`."""
    return key.native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def parse_jwk(jwk: Mapping[str, object], *, use: str) -> Key:
    """Import a public JWK for verification. `use` is what the key must be for, if it says: `sig`, or SPIFFE's names."""
    if _PRIVATE & jwk.keys():
        raise Malformed("a JWK holds private key material")
    if jwk.get("use", use) != use:
        raise Malformed(f"a JWK is not for the use `{use}`")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or len(operations) > _MOST_OPERATIONS or not _allow_to_verify(operations):
        raise Malformed("a JWK's key_ops do not allow to verify")
    shape, alg = (jwk.get("kty"), jwk.get("crv")), jwk.get("alg", "")
    if shape == ("OKP", "Ed25519") and alg in ("", "EdDSA", "Ed25519"):
        return parse_ed25519_key(_coordinate(jwk, "x"))
    if shape == ("EC", "P-256") and alg in ("", "ES256"):
        return parse_p256_key(b"\x04" + _coordinate(jwk, "x") + _coordinate(jwk, "y"))
    raise Malformed("a JWK's kty, crv and alg are not those of an Ed25519 or a P-256 key")


def format_jwk(key: Key) -> dict[str, str]:
    """The required members of a key's JWK, in the order of RFC 7638; the inverse of `parse_jwk`."""
    if isinstance(key, Ed25519Key):
        return {"crv": "Ed25519", "kty": "OKP", "x": _b64url(key.raw)}
    return {"crv": "P-256", "kty": "EC", "x": _b64url(key.point[1:33]), "y": _b64url(key.point[33:])}


def thumbprint(key: Key) -> str:
    """The key's RFC 7638 thumbprint: 43 characters of base64url that name it in rows and log entries."""
    if isinstance(key, P256Key):  # the same bytes: base64url needs no escapes
        x, y = _b64url(key.point[1:33]), _b64url(key.point[33:])
        return _b64url(hashlib.sha256(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest())
    return _b64url(hashlib.sha256(canonical(format_jwk(key))).digest())


def verify_ed25519(key: Ed25519Key, message: bytes, signature: bytes) -> Signed:
    """Return `message` as signed by `key`; raise `Malformed` if the signature is not its."""
    if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= _L:
        raise Malformed("an Ed25519 signature is not in canonical form")
    try:
        key.native.verify(signature, message)
    except InvalidSignature:
        raise Malformed("the signature does not verify") from None
    return Signed(message, key)


def verify_p256(key: P256Key, message: bytes, signature: bytes) -> Signed:
    """Return `message` as signed by `key` under ES256; the signature is r and s, 32 bytes each (JOSE's form)."""
    if len(signature) != 64:
        raise Malformed("an ES256 signature has 64 bytes")
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    return verify_p256_der(key, message, encode_dss_signature(r, s))


def verify_p256_der(key: P256Key, message: bytes, signature: bytes) -> Signed:
    """Return `message` as signed by `key` with ECDSA and SHA-256; the signature is in DER (X.509's form)."""
    try:
        key.native.verify(signature, message, _ES256)  # takes the one DER form only; a test holds it to that
    except InvalidSignature:
        raise Malformed("the signature does not verify") from None
    return Signed(message, key)


def verify_jws(token: str, key: Key) -> SignedToken:
    """Return header and payload of a compact JWS that `key` signed. The caller has chosen the key, not the token."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_JWS_BYTES:
        raise Malformed("a compact JWS has three parts, within 16 KiB")
    header, payload, signature = _parse_header(parse_b64url(parts[0])), parse_b64url(parts[1]), parse_b64url(parts[2])
    signing_input = f"{parts[0]}.{parts[1]}".encode()
    if isinstance(key, Ed25519Key) and header.get("alg") in ("EdDSA", "Ed25519"):
        verify_ed25519(key, signing_input, signature)
    elif isinstance(key, P256Key) and header.get("alg") == "ES256":
        verify_p256(key, signing_input, signature)
    else:
        raise Malformed("a JWS names another algorithm than the key's")
    return SignedToken(header, payload, key)


def parse_b64url(text: str) -> bytes:
    """Decode base64url without padding; every byte string has exactly one text, and only that is taken."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        raise Malformed("a text is not base64url") from None
    if _b64url(data) != text:  # padding, foreign characters and set bits past the end: all decode, none is the one text
        raise Malformed("a text is not base64url in its one form")
    return data


def _b64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _allow_to_verify(operations: list[object]) -> bool:
    return "verify" in operations and all(isinstance(name, str) and operations.count(name) == 1 for name in operations)


def _coordinate(jwk: Mapping[str, object], name: str) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str) or len(text) != 43:
        raise Malformed(f"a JWK's `{name}` is not 32 bytes in base64url")
    return parse_b64url(text)


def _parse_header(data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise Malformed("a JWS header is not a JSON object") from None
    if not isinstance(header, dict):
        raise Malformed("a JWS header is not a JSON object")
    if "crit" in header or _FOREIGN_KEYS & header.keys():
        raise Malformed("a JWS header asks for a key or an extension of its own")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("a JSON object has a key twice")
    return members
