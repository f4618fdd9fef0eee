"""An ID token says who signed in just now, here, at our provider; anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from citywatch.core.errors import Malformed
from citywatch.core.identity.foreign import ForeignKey, parse_key_set
from citywatch.core.identity.login import Vouched, parse_provider, verify_id_token

ISSUER, CLIENT, NONCE = "https://login.t.example", "citywatch", "n" * 43
NOW = 1_800_000_000
KEYS: dict[str, Any] = {
    "ES256": ECKey.generate_key("P-256", {"kid": "es"}),
    "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
    "RS256": RSAKey.generate_key(2048, {"kid": "rs"}),
}
STRANGER = ECKey.generate_key("P-256", {"kid": "es"})
REGISTRY = jws.JWSRegistry(algorithms=["ES256", "ES384", "EdDSA", "Ed25519", "RS256", "HS256", "none"])


def key_set() -> dict[str, ForeignKey]:
    return parse_key_set(json.dumps(KeySet(list(KEYS.values())).as_dict(private=False)).encode())


SET = key_set()


def claims(**changed: Any) -> dict[str, Any]:
    told = {"iss": ISSUER, "aud": CLIENT, "sub": "00u1", "nonce": NONCE, "iat": NOW, "exp": NOW + 600, **changed}
    return {name: value for name, value in told.items() if value is not None}


def token(algorithm: str = "ES256", key: Any = None, header: dict[str, Any] | None = None, **changed: Any) -> str:
    signer = key or KEYS[algorithm]
    head = {"alg": algorithm, "kid": signer.kid, "typ": "JWT", **(header or {})}
    return jws.serialize_compact(head, json.dumps(claims(**changed)), signer, registry=REGISTRY)


def verified(text: str, now: int = NOW * 1000) -> Vouched:
    return verify_id_token(text, ISSUER, CLIENT, SET, NONCE, now, 30_000)


@pytest.mark.parametrize("algorithm", KEYS)
def test_what_the_provider_signed_for_us_just_now_is_believed(algorithm: str) -> None:
    assert verified(token(algorithm)) == Vouched(ISSUER, "00u1")


def test_joserfc_takes_the_same_token() -> None:
    found = jwt.decode(token(), KeySet(list(KEYS.values())), algorithms=["ES256"])
    assert found.claims["sub"] == verified(token()).subject


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://login.t.example/"},
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": [CLIENT, "another"]},
        {"aud": None},
        {"azp": "another"},
        {"nonce": "m" * 43},
        {"nonce": None},
        {"nonce": ""},
        {"exp": NOW - 31},
        {"iat": NOW + 31},
        {"exp": NOW + 86_401},
        {"exp": None},
        {"sub": ""},
        {"sub": None},
        {"sub": "x" * 256},
        {"sub": 7},
    ],
)
def test_what_is_of_another_for_another_or_of_another_time_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        verified(token(**changed))


@pytest.mark.parametrize(
    "header", [{"crit": ["exp"]}, {"jku": "https://evil.example"}, {"typ": "at+jwt"}, {"kid": "no"}]
)
def test_a_header_that_steers_is_refused(header: dict[str, Any]) -> None:
    if "crit" in header or "jku" in header:
        text = token()
        from base64 import urlsafe_b64encode

        head = {"alg": "ES256", "kid": "es", "typ": "JWT", **header}
        encoded = urlsafe_b64encode(json.dumps(head).encode()).rstrip(b"=").decode()
        text = f"{encoded}.{text.partition('.')[2]}"
    else:
        text = token(header=header)
    with pytest.raises(Malformed):
        verified(text)


def test_a_strangers_key_an_unsigned_token_and_a_secret_made_of_a_public_key_are_refused() -> None:
    unsigned = ".".join([*_parts({"alg": "none", "kid": "es", "typ": "JWT"}), ""])
    secret = ".".join([*_parts({"alg": "HS256", "kid": "es", "typ": "JWT"}), "AA"])
    crossed = token("RS256", header={"kid": "es"})
    for text in (token(key=STRANGER), unsigned, secret, crossed):
        with pytest.raises(Malformed):
            verified(text)


def test_without_a_nonce_of_ours_there_is_no_sign_in() -> None:
    with pytest.raises(Malformed):
        verify_id_token(token(nonce=""), ISSUER, CLIENT, SET, "", NOW * 1000, 30_000)


def test_its_last_moment_is_within_the_leeway_and_not_after() -> None:
    end = (NOW + 600) * 1000 + 30_000
    assert verified(token(), end - 1).subject == "00u1"
    with pytest.raises(Malformed):
        verified(token(), end)


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda data: data.decode("latin-1"))))
def test_any_text_is_refused_and_never_fails(text: str) -> None:
    with pytest.raises(Malformed):
        verified(text)


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_token_with_any_bit_changed_is_refused(at: int, flip: int) -> None:
    text = token()
    at %= len(text)
    changed = text[:at] + chr((ord(text[at]) ^ flip) & 0x7F) + text[at + 1 :]
    if changed == text:
        return
    with pytest.raises(Malformed):
        verified(changed)


def metadata(**changed: Any) -> bytes:
    told = {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/auth",
        "token_endpoint": f"{ISSUER}/token",
        "jwks_uri": f"{ISSUER}/jwks",
        "code_challenge_methods_supported": ["S256"],
        **changed,
    }
    return json.dumps(told).encode()


def test_a_provider_is_the_one_that_was_asked_and_all_of_it_is_as_safe() -> None:
    assert parse_provider(metadata(), ISSUER).token == f"{ISSUER}/token"
    for wrong in (
        {"issuer": f"{ISSUER}/"},
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://login.t.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "https://a@evil.example/"},
        {"authorization_endpoint": "https://evil.example/ x"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"code_challenge_methods_supported": ["plain"]},
        {"token_endpoint": None},
    ):
        with pytest.raises(Malformed):
            parse_provider(metadata(**wrong), ISSUER)


def test_plain_http_is_for_a_provider_at_the_same_loopback_address() -> None:
    home = "http://127.0.0.1:9000"
    told = {name: f"{home}/{name}" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    assert parse_provider(metadata(issuer=home, **told), home).keys == f"{home}/jwks_uri"
    with pytest.raises(Malformed):
        parse_provider(metadata(issuer=home, **{**told, "jwks_uri": "http://10.0.0.1/"}), home)


def _parts(head: dict[str, Any]) -> tuple[str, str]:
    from base64 import urlsafe_b64encode

    return tuple(  # type: ignore[return-value]
        urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in (head, claims())
    )
