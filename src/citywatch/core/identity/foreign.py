"""What a foreign issuer asserts of somebody: a token of its own, verified, and still nobody's authority here.

Decides that a configured issuer signed this token, for this gateway alone, just now, and for whoever sends it where it
says for whom it is. Does not decide what follows from it: its `act` chain is the issuer's word, recorded and shown to
policy as such, and never becomes a chain of grants (`delegation`).

    1. size, three segments, base64url in its one form, JSON objects without double members
    2. a type that an access token may have, an algorithm of the list, no member that steers (`crit`, `jku`, `jwk`, …)
    3. an issuer of the file, and the key that its set has under `kid`, of the kind that the algorithm is for
    4. signed by that key
    5. for this gateway's audience, and for nobody else
    6. inside its time, which is no longer than a day; issued by now
    7. subject and actors are plain texts, no more actors than a chain has links
    8. bound to nobody, or to this agent (`may_act`) and this key (`cnf`)

INVARIANTS: any text gives an `Asserted` or `Refused(ASSERTION_REFUSED)`; the token chooses neither key nor algorithm
beyond what the file holds; nothing of the token but what is in `Asserted` goes any further.
SPEC: RFC 7519 §4.1, RFC 8725, RFC 9068 §4, RFC 8693 §4.1 and §4.4, RFC 7800 §3.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from citywatch.core.call import Asserted
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.access import parse_actors
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.token import MAX_TOKEN_BYTES, parse_object, text_claim, time_claim
from citywatch.core.signature import Ed25519Key, P256Key, parse_b64url, parse_jwk, verify_ed25519, verify_p256

TYPES: Final = frozenset(("at+jwt", "application/at+jwt", "jwt"))
HARMLESS: Final = frozenset(("alg", "typ", "kid", "x5t", "x5t#S256"))
"""The members that a header may have: those that say which key it was, and lead nowhere."""
LONGEST_MS: Final = 86_400_000
MAX_NAME: Final = 256
MAX_KEYS: Final = 64
RSA_BITS: Final = (2048, 4096)


class RsaKey(msgspec.Struct, frozen=True):
    """An RSA key of a foreign issuer; none of ours is one."""

    native: rsa.RSAPublicKey


ForeignKey = P256Key | Ed25519Key | RsaKey
ALGORITHMS: Final[Mapping[str, type[Any]]] = {
    "ES256": P256Key,
    "Ed25519": Ed25519Key,
    "EdDSA": Ed25519Key,  # its name before RFC 9864; the key says which curve it is
    "RS256": RsaKey,
}


class ForeignIssuer(msgspec.Struct, frozen=True, kw_only=True):
    """An issuer whose word is recorded: its `iss`, the audience that it has for us, its keys by `kid`.

    `digest` names the file that the keys are from.
    """

    issuer: str
    audience: str
    keys: Mapping[str, ForeignKey]
    digest: str = ""


def verify_assertion(
    token: str, issuers: Mapping[str, ForeignIssuer], credential: Credential, now: int, leeway: int
) -> Asserted:
    """Return what the token asserts to us from whoever proved `credential`, at `now`; raise `Refused` otherwise."""
    try:
        return _verified(token, issuers, credential, now, leeway)
    except Malformed as failure:
        raise Refused(Code.ASSERTION_REFUSED, str(failure)) from None


def parse_key_set(data: bytes) -> dict[str, ForeignKey]:
    """An issuer's JWK set: each key that is for signatures, under its `kid`. `Malformed` if there is none that we take.

    Keys of other kinds are passed over: an issuer publishes what it likes.
    """
    listed = parse_object(data).get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise Malformed(f"a JWK set has a list of at most {MAX_KEYS} `keys`")
    found: dict[str, ForeignKey] = {}
    for one in listed:
        kid = one.get("kid") if isinstance(one, dict) else None
        if not isinstance(kid, str) or not kid:
            continue
        try:
            key = _rsa_key(one) if one.get("kty") == "RSA" else parse_jwk(one, use="sig")
        except Malformed:
            continue
        if kid in found:
            raise Malformed("a JWK set has two keys under one `kid`")
        found[kid] = key
    if not found:
        raise Malformed("a JWK set has no key with a `kid` that is for ES256, EdDSA or RS256")
    return found


def _verified(
    token: str, issuers: Mapping[str, ForeignIssuer], credential: Credential, now: int, leeway: int
) -> Asserted:
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or token.count(".") != 2:  # 1
        raise Malformed(f"an assertion is a compact token of at most {MAX_TOKEN_BYTES} ASCII characters")
    head, body, signature = token.split(".")
    header, claims = parse_object(parse_b64url(head)), parse_object(parse_b64url(body))
    algorithm = header.get("alg")
    kind = ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None  # 2
    if kind is None:
        raise Malformed(f"an assertion's algorithm is none of {', '.join(ALGORITHMS)}")
    if not header.keys() <= HARMLESS or str(header.get("typ", "")).lower() not in TYPES:
        raise Malformed("an assertion's header has a member that steers, or another type")
    issuer = issuers.get(text_claim(claims, "iss"))  # 3
    if issuer is None:
        raise Malformed("the assertion is of no issuer of this gateway's file")
    kid = header.get("kid")
    key = issuer.keys.get(kid) if isinstance(kid, str) else None
    if not isinstance(key, kind):
        raise Malformed("the assertion's `kid` names no key of its issuer for that algorithm")
    check_foreign_signature(key, f"{head}.{body}".encode("ascii"), parse_b64url(signature))  # 4
    if claims.get("aud") not in (issuer.audience, [issuer.audience]):  # 5
        raise Malformed("the assertion is not for this gateway alone")
    _check_time(claims, now, leeway)  # 6
    subject, actors = text_claim(claims, "sub"), parse_actors(claims)  # 7
    if not all(0 < len(one) <= MAX_NAME for one in (subject, *actors)):
        raise Malformed(f"a name in an assertion has 1 to {MAX_NAME} characters")
    _check_bound(claims, credential)  # 8
    return Asserted(issuer=issuer.issuer, subject=subject, actors=actors)


def check_foreign_signature(key: ForeignKey, message: bytes, signature: bytes) -> None:
    """Raise `Malformed` unless the key signed the message."""
    if isinstance(key, RsaKey):
        try:
            key.native.verify(signature, message, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            raise Malformed("the signature does not verify") from None
    elif isinstance(key, Ed25519Key):
        verify_ed25519(key, message, signature)
    else:
        verify_p256(key, message, signature)


def _check_time(claims: Mapping[str, Any], now: int, leeway: int) -> None:
    issued, end = time_claim(claims, "iat"), time_claim(claims, "exp")
    begin = time_claim(claims, "nbf") if "nbf" in claims else issued
    if now >= end + leeway or now < begin - leeway or now < issued - leeway:
        raise Malformed("the assertion has expired, or is not valid yet")
    if end - issued > LONGEST_MS:
        raise Malformed("the assertion lives for more than a day")


def _check_bound(claims: Mapping[str, Any], credential: Credential) -> None:
    may_act = claims.get("may_act")
    if may_act is not None and (not isinstance(may_act, dict) or may_act.get("sub") != credential.agent):
        raise Malformed("the assertion lets somebody else act (`may_act`)")
    confirmation = claims.get("cnf")
    if confirmation is None:
        return
    proved: dict[str, str] = {"jkt": credential.holder}
    if credential.kind is Kind.X509:
        raw = bytes.fromhex(credential.digest)
        proved["x5t#S256"] = urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
    known = isinstance(confirmation, dict) and confirmation and confirmation.keys() <= proved.keys()
    if not known or any(proved[name] != value for name, value in confirmation.items()):
        raise Malformed("the assertion is bound to another key than this request proves (`cnf`)")


def _rsa_key(jwk: Mapping[str, Any]) -> RsaKey:
    if "d" in jwk or jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
        raise Malformed("an RSA key is for RS256 signatures, and public")
    modulus, exponent = (int.from_bytes(parse_b64url(text_claim(jwk, name))) for name in ("n", "e"))
    if not RSA_BITS[0] <= modulus.bit_length() <= RSA_BITS[1] or exponent != 65_537:
        raise Malformed(f"an RSA key has {RSA_BITS[0]} to {RSA_BITS[1]} bits and the exponent 65537")
    try:
        return RsaKey(rsa.RSAPublicNumbers(exponent, modulus).public_key())
    except ValueError:
        raise Malformed("an RSA key is none") from None
