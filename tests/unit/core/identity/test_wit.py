"""A WIT-SVID says which agent a key is, and nothing else passes for one."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import msgspec
import pytest
from joserfc import jwk, jwt

from citywatch.core.errors import Code, Refused
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.wit import verify_wit_svid
from citywatch.core.signature import format_jwk, thumbprint
from citywatch.service.authority import p256, sign_token
from tests.identity_city import BILLING, GATEWAY, HOUR, City, signer
from tests.signed import wit

KEY = signer()
SMALL_ORDER = urlsafe_b64encode(bytes(32)).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def city() -> City:
    return City()


def claims(city: City, **changes: Any) -> dict[str, Any]:
    now = city.clock.now_ms() // 1000
    named = {"jwk": {**format_jwk(p256(KEY.public)), "alg": "ES256"}}
    return {"sub": str(BILLING), "iat": now, "exp": now + 60, "cnf": named, **changes}


def token(city: City, *, typ: str = "wit+jwt", by: Any = None, **changes: Any) -> bytes:
    kid = thumbprint(p256(city.tokens.public))
    return sign_token(by or city.tokens, typ, claims(city, **changes), kid=kid).encode()


def code(city: City, shown: bytes) -> Code:
    with pytest.raises(Refused) as failure:
        verify_wit_svid(shown, city.bundle)
    return failure.value.code


def test_what_the_authority_issues_is_what_is_read(city: City) -> None:
    found = verify_wit_svid(wit(city, KEY), city.bundle)
    assert (found.agent, found.thumbprint) == (str(BILLING), thumbprint(p256(KEY.public)))
    assert found.not_after - found.not_before == HOUR
    assert verify_wit_svid(token(city), city.bundle).key == p256(KEY.public)


def test_another_library_reads_it_too(city: City) -> None:
    shown = wit(city, KEY).decode()
    read = jwt.decode(shown, jwk.ECKey.import_key({**format_jwk(p256(city.tokens.public))}), algorithms=["ES256"])
    assert read.header == {"alg": "ES256", "typ": "wit+jwt", "kid": thumbprint(p256(city.tokens.public))}
    assert read.claims["cnf"] == claims(city)["cnf"]
    assert "aud" not in read.claims


def test_a_token_of_another_kind_is_none(city: City) -> None:
    """The attack: a bearer token shown as one that is bound, and the other way round."""
    bearer = city.authority.issue_jwt(
        BILLING, thumbprint(p256(KEY.public)), GATEWAY, now=city.clock.now_ms(), ttl=HOUR
    ).value
    assert code(city, bearer) is Code.CREDENTIAL_MALFORMED
    with pytest.raises(Refused):
        verify_jwt_svid(wit(city, KEY), city.bundle, GATEWAY)


DEFECTS: dict[str, dict[str, Any]] = {
    "no key": {"cnf": {}},
    "a key by name": {"cnf": {"kid": "mine"}},
    "a key and another": {"cnf": {"jwk": {**format_jwk(p256(KEY.public)), "alg": "ES256"}, "jku": "https://e.example"}},
    "a key without its algorithm": {"cnf": {"jwk": format_jwk(p256(KEY.public))}},
    "a key of another algorithm": {"cnf": {"jwk": {**format_jwk(p256(KEY.public)), "alg": "ES384"}}},
    "a small-order Ed25519 key": {"cnf": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": SMALL_ORDER, "alg": "ES256"}}},
    "an Ed25519 key": {"cnf": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "alg": "EdDSA"}}},
    "a point that is not on the curve": {
        "cnf": {"jwk": {**format_jwk(p256(KEY.public)), "y": format_jwk(p256(KEY.public))["x"], "alg": "ES256"}}
    },
    "a private key": {"cnf": {"jwk": {**format_jwk(p256(KEY.public)), "alg": "ES256", "d": "AA"}}},
    "an own use": {"cnf": {"jwk": {**format_jwk(p256(KEY.public)), "alg": "ES256", "use": "enc"}}},
    "no end": {"exp": None},
    "no start": {"iat": "now"},
}


@pytest.mark.parametrize("how", DEFECTS)
def test_a_key_that_is_not_one_strict_key_for_es256_is_refused(city: City, how: str) -> None:
    assert code(city, token(city, **DEFECTS[how])) is Code.CREDENTIAL_MALFORMED


def test_whom_it_names_and_who_signed_it_are_asked(city: City) -> None:
    assert code(city, token(city, sub="spiffe://other.example/agent/billing")) is Code.CREDENTIAL_WRONG_DOMAIN
    assert code(city, token(city, sub=GATEWAY)) is Code.CREDENTIAL_BAD_NAME
    assert code(city, token(city, by=signer())) is Code.CREDENTIAL_UNTRUSTED
    assert code(City(), token(city)) is Code.CREDENTIAL_UNTRUSTED


def test_a_key_that_signs_bearer_tokens_alone_signs_none(city: City) -> None:
    alone = msgspec.structs.replace(city.bundle, bound={})
    with pytest.raises(Refused) as failure:
        verify_wit_svid(wit(city, KEY), alone)
    assert failure.value.code is Code.CREDENTIAL_UNTRUSTED


def test_an_algorithm_of_its_own_is_refused(city: City) -> None:
    _, payload, signature = wit(city, KEY).split(b".")
    for alg in ("none", "HS256", "EdDSA"):
        header = json.dumps({"alg": alg, "typ": "wit+jwt", "kid": thumbprint(p256(city.tokens.public))})
        forged = b".".join([urlsafe_b64encode(header.encode()).rstrip(b"="), payload, signature])
        assert code(city, forged) is Code.CREDENTIAL_MALFORMED
    assert urlsafe_b64decode(payload + b"==")
