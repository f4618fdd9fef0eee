"""Whichever way a key comes in, the keys under which anybody can sign, or nobody, do not.

The list has each point of Ed25519 whose order divides 8 in each of its encodings (RFC 8032's own and those that
libraries take besides), one that is off the curve, and points that are none on P-256.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bench.grants import Author
from citywatch.config import parse_settings
from citywatch.core.delegation.grant import parse_link
from citywatch.core.errors import Malformed, Refused
from citywatch.core.identity.bundle import parse_bundle
from citywatch.core.identity.certificate import certificate_key, parse_authority_certificate, parse_certificate
from citywatch.core.identity.renewal import parse_renewal
from citywatch.core.identity.vc import format_base58, parse_multikey
from citywatch.core.identity.wit import verify_wit_svid
from citywatch.core.log.checkpoint import parse_note_key
from citywatch.core.signature import parse_jwk, parse_spki, thumbprint
from citywatch.service.authority import p256, sign_token
from tests.identity_city import BILLING, DOMAIN, City, signer
from tests.unit.core.identity import forgery

P = 2**255 - 19
Y8 = int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little")
YS = (0, 1, P - 1, Y8, P - Y8)
SMALL = [
    (y + more | sign << 255).to_bytes(32, "little")
    for y in YS
    for more in (0, P)
    if y + more < 2**255
    for sign in (0, 1)
]
OFF = (2).to_bytes(32, "little")
NOT_CANONICAL = (P + 3).to_bytes(32, "little")
ED = [*SMALL, OFF, NOT_CANONICAL]
ED_PREFIX = bytes.fromhex("302a300506032b6570032100")

Q = 2**256 - 2**224 + 2**192 + 2**96 - 1
GOOD = p256(signer().public).point
EC = {
    "off the curve": GOOD[:64] + bytes([GOOD[64] ^ 1]),
    "nought": b"\x04" + bytes(64),
    "x beyond the field": b"\x04" + Q.to_bytes(32) + GOOD[33:],
    "y plus the field": b"\x04" + GOOD[1:33] + b"\xff" * 32,
    "the other curve's sign": b"\x04" + GOOD[1:33] + (Q - 1).to_bytes(32),
}
EC_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
REST = {
    "compressed": bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + b"\x02" + GOOD[1:33],
    "infinity": bytes.fromhex("3019301306072a8648ce3d020106082a8648ce3d0301070302000000"),
    "hybrid": EC_PREFIX + bytes([6 | GOOD[64] & 1]) + GOOD[1:],
}
GOOD_ED = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
CITY = City()


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def ed_jwk(raw: bytes) -> dict[str, Any]:
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}


def ec_jwk(point: bytes) -> dict[str, Any]:
    return {"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}


def ed_spki(raw: bytes) -> bytes:
    return ED_PREFIX + raw


def ec_spki(point: bytes) -> bytes:
    return EC_PREFIX + point


def as_attestor(spki: bytes) -> None:
    parse_settings(f"trust_domain: a.example\nattestors: {{ci: {{key: {b64encode(spki).decode()}}}}}\n", "/")


def as_note_key(raw: bytes) -> None:
    material = b"\x04" + raw
    stamp = sha256(b"north\n" + material).hexdigest()[:8]
    parse_note_key(f"north+{stamp}+{b64encode(material).decode()}")


def as_witness(raw: bytes) -> None:
    material = b"\x04" + raw
    stamp = sha256(b"north\n" + material).hexdigest()[:8]
    key = f"north+{stamp}+{b64encode(material).decode()}"
    parse_settings(
        "trust_domain: a.example\nwitness_quorum: 1\n"
        f"witnesses: [{{name: north, url: 'http://127.0.0.1:1', key: {key}}}]\n",
        "/",
    )


def as_renewal(jwk: dict[str, Any], member: str) -> None:
    proof = json.loads(CITY.proof(signer(), following=signer()))
    parse_renewal(json.dumps({**proof, member: jwk}).encode(), DOMAIN)


def as_wit(jwk: dict[str, Any]) -> None:
    now = CITY.clock.now_ms() // 1000
    claims = {"sub": str(BILLING), "iat": now, "exp": now + 60, "cnf": {"jwk": {**jwk, "alg": "ES256"}}}
    kid = thumbprint(p256(CITY.tokens.public))
    verify_wit_svid(sign_token(CITY.tokens, "wit+jwt", claims, kid=kid).encode(), CITY.bundle)


def as_bundle(jwk: dict[str, Any]) -> None:
    parse_bundle(json.dumps({"keys": [{**jwk, "use": "jwt-svid", "kid": "k"}]}).encode(), DOMAIN)


def as_link(raw: bytes) -> None:
    grant, _, signature = Author(Random(0)).honest().texts[0].split(".")
    parse_link(f"{grant}.{b64(raw)}.{signature}")


def as_registration(spki: bytes) -> None:
    city = City()
    asyncio.run(city.admin.add_agent("billing", spki, "operator"))


def as_certificate(read: Callable[[bytes], object], made: Callable[..., bytes], spki: bytes) -> None:
    """A certificate for this key, whatever its encoding; keys are read before signatures."""
    key = forgery.draw()
    der, known = made(key), forgery.spki(key)
    more = len(spki) - len(known)
    assert (der[:2], der[4:6], der.count(known)) == (b"\x30\x82", b"\x30\x82", 1)
    lengths = [(int.from_bytes(der[at : at + 2], "big") + more).to_bytes(2, "big") for at in (2, 6)]
    read(b"\x30\x82" + lengths[0] + b"\x30\x82" + lengths[1] + der[8:].replace(known, spki))


def as_leaf(spki: bytes) -> None:
    def made(key: forgery.Key) -> bytes:
        return forgery.certificate(key, key)

    as_certificate(lambda der: certificate_key(parse_certificate(der)), made, spki)


def as_authority(spki: bytes) -> None:
    read = partial(parse_authority_certificate, domain=forgery.DOMAIN)
    as_certificate(read, partial(forgery.authority_certificate, subject="an authority whose name is long" * 2), spki)


REFUSALS = (Malformed, Refused)
ED_DOORS: dict[str, Callable[[bytes], object]] = {
    "an issuer of credentials": lambda raw: parse_multikey(format_base58(b"\xed\x01" + raw)),
    "an attestor": lambda raw: as_attestor(ed_spki(raw)),
    "a witness of the file": as_witness,
    "a log's verifier key": as_note_key,
    "a link of a chain": as_link,
    "any key of a certificate or a file": lambda raw: parse_spki(ed_spki(raw)),
    "a JWK": lambda raw: parse_jwk(ed_jwk(raw), use="sig"),
}
EC_DOORS: dict[str, Callable[[bytes], object]] = {
    "a registration": lambda point: as_registration(ec_spki(point)),
    "a renewal": lambda point: as_renewal(ec_jwk(point), "key"),
    "the next key of a renewal": lambda point: as_renewal(ec_jwk(point), "next"),
    "a token that is bound": lambda point: as_wit(ec_jwk(point)),
    "a bundle": lambda point: as_bundle(ec_jwk(point)),
    "an attestor": lambda point: as_attestor(ec_spki(point)),
    "a link of a chain": as_link,
    "a certificate": lambda point: as_leaf(ec_spki(point)),
    "an authority's certificate": lambda point: as_authority(ec_spki(point)),
}
SPKI_DOORS: dict[str, Callable[[bytes], object]] = {
    "a registration": as_registration,
    "an attestor": as_attestor,
    "a certificate": as_leaf,
    "an authority's certificate": as_authority,
}
NO_ED: dict[str, Callable[[bytes], object]] = {
    "a registration": lambda raw: as_registration(ed_spki(raw)),
    "a renewal": lambda raw: as_renewal(ed_jwk(raw), "key"),
    "the next key of a renewal": lambda raw: as_renewal(ed_jwk(raw), "next"),
    "a token that is bound": lambda raw: as_wit(ed_jwk(raw)),
    "a certificate": lambda raw: as_leaf(ed_spki(raw)),
    "an authority's certificate": lambda raw: as_authority(ed_spki(raw)),
}


def test_the_list_is_what_it_says() -> None:
    assert len(set(SMALL)) == len(SMALL) == 14
    for raw in SMALL:  # the library that is beneath us takes each of them
        assert Ed25519PublicKey.from_public_bytes(raw)


@pytest.mark.parametrize("door", ED_DOORS)
def test_no_weak_ed25519_key_comes_in(door: str) -> None:
    ED_DOORS[door](GOOD_ED)
    for raw in ED:
        with pytest.raises(REFUSALS):
            ED_DOORS[door](raw)


@pytest.mark.parametrize("door", NO_ED)
def test_where_keys_are_on_p256_no_ed25519_key_comes_in(door: str) -> None:
    for raw in (GOOD_ED, *ED):
        with pytest.raises(REFUSALS):
            NO_ED[door](raw)


@pytest.mark.parametrize("door", EC_DOORS)
def test_no_point_that_is_none_comes_in(door: str) -> None:
    EC_DOORS[door](GOOD)
    for point in EC.values():
        with pytest.raises(REFUSALS):
            EC_DOORS[door](point)


@pytest.mark.parametrize("door", SPKI_DOORS)
@pytest.mark.parametrize("form", REST)
def test_a_point_comes_in_in_one_form_only(door: str, form: str) -> None:
    SPKI_DOORS[door](ec_spki(GOOD))
    with pytest.raises(REFUSALS):
        SPKI_DOORS[door](REST[form])
