"""Each defect of a token is refused by its own code; the same token without it is accepted."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citywatch.core.errors import Code, Refused
from citywatch.core.identity.credential import Kind, check_time
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.signature import format_jwk
from tests.unit.core.identity.forgery import AGENT, AUDIENCE, HOUR, NOW, World, b64url, draw, es256, public

Make = Callable[[World], bytes]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def refusal(world: World, token: bytes | str, audience: str = AUDIENCE) -> Code:
    with pytest.raises(Refused) as caught:
        verify_jwt_svid(token, world.bundle, audience)
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_a_good_token_names_its_agent_key_and_audience(world: World) -> None:
    token = world.token()
    credential = verify_jwt_svid(token, world.bundle, AUDIENCE)
    assert (credential.agent, credential.key, credential.kind) == (AGENT, world.thumbprint, Kind.JWT)
    assert (credential.audience, credential.not_before, credential.not_after) == (AUDIENCE, NOW, NOW + HOUR)
    assert verify_jwt_svid(token.decode(), world.bundle, AUDIENCE) == credential
    check_time(credential, NOW, 0)


def test_nbf_comes_before_iat(world: World) -> None:
    claims = world.claims(nbf=NOW // 1000 + 60)
    assert verify_jwt_svid(world.token(claims=claims), world.bundle, AUDIENCE).not_before == NOW + 60_000


def test_one_audience_may_be_bare(world: World) -> None:
    assert verify_jwt_svid(world.token(claims=world.claims(aud=AUDIENCE)), world.bundle, AUDIENCE).agent == AGENT


def claim(**changes: Any) -> Make:
    return lambda world: world.token(claims=world.claims(**changes))


def head(**changes: Any) -> Make:
    return lambda world: world.token(header=world.header(**changes))


def hs256(world: World) -> bytes:
    """The classic: the authority's public key, which everybody has, taken for a shared secret."""
    secret = world.tokens.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return world.token(header=world.header(alg="HS256"), sign=lambda text: hmac.digest(secret, text.encode(), "sha256"))


def own_key(world: World) -> bytes:
    """A key that the token brings along."""
    thief = draw()
    header = world.header(jwk=format_jwk(public(thief)))
    return world.token(header=header, sign=lambda text: es256(thief, text))


def twice(member: str, value: str, into: str) -> Make:
    """A member that stands there twice, once with a value that would pass."""

    def make(world: World) -> bytes:
        if into == "header":
            return world.token(header_text=json.dumps(world.header())[:-1] + f', "{member}": {value}}}')
        return world.token(claims_text=json.dumps(world.claims())[:-1] + f', "{member}": {value}}}')

    return make


M, U = Code.CREDENTIAL_MALFORMED, Code.CREDENTIAL_UNTRUSTED
B, D, A = Code.CREDENTIAL_BAD_NAME, Code.CREDENTIAL_WRONG_DOMAIN, Code.CREDENTIAL_WRONG_AUDIENCE

DEFECTS: dict[str, tuple[Make, Code]] = {
    "alg none": (lambda world: world.token(header=world.header(alg="none"), sign=lambda _: b""), M),
    "alg none with a signature": (head(alg="none"), M),
    "alg None": (head(alg="None"), M),
    "alg HS256 with the public key": (hs256, M),
    "alg RS256": (head(alg="RS256"), M),
    "alg ES384": (head(alg="ES384"), M),
    "alg EdDSA": (head(alg="EdDSA"), M),
    "alg a list": (head(alg=["ES256"]), M),
    "no alg": (head(alg=...), M),
    "no typ": (head(typ=...), M),
    "typ of another kind": (head(typ="at+jwt"), M),
    "typ of a renewal": (head(typ="citywatch-renew+jwt"), M),
    "typ in small letters": (head(typ="jwt"), M),
    "crit": (head(crit=["exp"]), M),
    "b64 false": (head(b64=False, crit=["b64"]), M),
    "a key of its own": (own_key, M),
    "jku": (head(jku="https://evil.example/keys"), M),
    "x5u": (head(x5u="https://evil.example/cert"), M),
    "x5c": (head(x5c=["MIIB"]), M),
    "cty": (head(cty="JWT"), M),
    "zip": (head(zip="DEF"), M),
    "no kid": (head(kid=...), M),
    "kid unknown": (head(kid="tokens-2"), U),
    "kid empty": (head(kid=""), U),
    "kid a number": (head(kid=1), U),
    "kid a list": (head(kid=["tokens-1"]), U),
    "kid a path": (head(kid="../../dev/null"), U),
    "signed by another key": (lambda world: world.token(sign=lambda text: es256(draw(), text)), U),
    "signed by the certificates' key": (lambda world: world.token(sign=lambda text: es256(world.ca, text)), U),
    "a signature of zeros": (lambda world: world.token(sign=lambda _: bytes(64)), U),
    "a short signature": (lambda world: world.token(sign=lambda text: es256(world.tokens, text)[:-1]), M),
    "no signature": (lambda world: world.token(sign=lambda _: b""), M),
    "another audience": (claim(aud=["spiffe://acme.example/other"]), A),
    "two audiences, ours among them": (claim(aud=[AUDIENCE, "spiffe://acme.example/other"]), A),
    "our audience twice": (claim(aud=[AUDIENCE, AUDIENCE]), A),
    "no audience": (claim(aud=...), A),
    "an empty list of audiences": (claim(aud=[]), A),
    "an audience that begins with ours": (claim(aud=AUDIENCE + "x"), A),
    "an object for an audience": (claim(aud={AUDIENCE: 1}), A),
    "another domain": (claim(sub="spiffe://evil.example/agent/billing"), D),
    "no agent": (claim(sub="spiffe://acme.example/gateway"), B),
    "no SPIFFE ID": (claim(sub="billing"), B),
    "two slashes": (claim(sub="spiffe://acme.example/agent//billing"), B),
    "no subject": (claim(sub=...), M),
    "a list of subjects": (claim(sub=[AGENT]), M),
    "a line break behind the subject": (claim(sub=AGENT + "\n"), M),
    "no expiry": (claim(exp=...), M),
    "an expiry in text": (claim(exp="1800000000"), M),
    "an expiry with a fraction": (claim(exp=1.8e9), M),
    "an expiry of true": (claim(exp=True), M),
    "an expiry below zero": (claim(exp=-1), M),
    "an expiry beyond all time": (claim(exp=10**30), M),
    "no beginning": (claim(iat=...), M),
    "a beginning of null": (claim(nbf=None), M),
    "no key": (claim(citywatch_key=...), M),
    "a key that is no thumbprint": (claim(citywatch_key="abc"), M),
    "a key of null": (claim(citywatch_key=None), M),
    "two algorithms": (twice("alg", '"ES256"', "header"), M),
    "two kids": (twice("kid", '"tokens-1"', "header"), M),
    "two subjects": (twice("sub", f'"{AGENT}"', "claims"), M),
    "two expiries": (twice("exp", str(NOW // 1000 + 9), "claims"), M),
    "a double member further down": (
        lambda world: world.token(claims_text=json.dumps(world.claims())[:-1] + ', "x": {"a": 1, "a": 2}}'),
        M,
    ),
    "NaN": (lambda world: world.token(claims_text=json.dumps(world.claims())[:-1] + ', "x": NaN}'), M),
    "claims in a list": (lambda world: world.token(claims_text="[]"), M),
    "a header that is a text": (lambda world: world.token(header_text='"ES256"'), M),
    "claims without end": (lambda world: world.token(claims_text="[" * 5000), M),
    "claims that are no JSON": (lambda world: world.token(claims_text="{"), M),
    "too long": (claim(x="x" * 9000), M),
}


@pytest.mark.parametrize(("make", "code"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_refused_by_its_code(world: World, make: Make, code: Code) -> None:
    assert refusal(world, make(world)) is code


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "padding": lambda token: token + b"==",
    "a line break": lambda token: token + b"\n",
    "a space before": lambda token: b" " + token,
    "another segment": lambda token: token + b".",
    "two segments": lambda token: token.rpartition(b".")[0],
    "padding within": lambda token: token.replace(b".", b"=.", 1),
    "a dot too many": lambda token: token.replace(b".", b"..", 1),
    "characters to skip": lambda token: token.replace(b".", b"!.", 1),
    "nothing": lambda _: b"",
    "bytes beyond ASCII": lambda token: token.replace(b".", b"\xc3\xa9.", 1),
    "a zero byte": lambda token: token + b"\0",
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_a_token_has_one_spelling(world: World, spell: Callable[[bytes], bytes]) -> None:
    token = world.token()
    assert verify_jwt_svid(token, world.bundle, AUDIENCE)
    assert refusal(world, spell(token)) is M


def test_spare_bits_in_the_last_character_are_no_second_spelling(world: World) -> None:
    """64 bytes end in a character of which four bits count for nothing: sixteen texts would be one signature."""
    token = world.token().decode()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = letters.index(token[-1])
    assert last % 16 == 0
    for spare in range(1, 16):
        other = token[:-1] + letters[last + spare]
        assert refusal(world, other) is M


def test_altered_claims_are_untrusted(world: World) -> None:
    header, _, signature = world.token().decode().split(".")
    claims = b64url(json.dumps(world.claims(sub="spiffe://acme.example/agent/admin")).encode())
    assert refusal(world, f"{header}.{claims}.{signature}") is U


def test_a_token_for_another_gateway_is_not_for_us(world: World) -> None:
    assert refusal(world, world.token(), "spiffe://acme.example/gateway-2") is A


def test_expiry_is_asked_apart_from_trust(world: World) -> None:
    credential = verify_jwt_svid(world.token(), world.bundle, AUDIENCE)
    for at, code in ((NOW + HOUR, Code.CREDENTIAL_EXPIRED), (NOW - 1, Code.CREDENTIAL_NOT_YET_VALID)):
        with pytest.raises(Refused) as caught:
            check_time(credential, at, 0)
        assert caught.value.code is code


def test_text_that_utf8_cannot_write_is_malformed(world: World) -> None:
    assert refusal(world, "\ud800.\ud800.\ud800") is M
