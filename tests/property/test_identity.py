"""Any bytes give a credential or one refusal; what a little change makes of good papers is never another good one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.errors import Malformed, Refused
from citywatch.core.identity.bundle import format_bundle, parse_bundle
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.papers import parse_introduction, parse_papers
from citywatch.core.identity.renewal import parse_renewal
from citywatch.core.identity.x509 import verify_gateway_svid, verify_x509_svid
from citywatch.core.signature import format_jwk, parse_jwk, thumbprint
from tests.unit.core.identity.forgery import AUDIENCE, DOMAIN, World, b64url, draw, public

WORLD = World()
LEAF = WORLD.leaf()
TOKEN = WORLD.token()
BUNDLE = format_bundle(WORLD.bundle)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
member_names = st.sampled_from(("alg", "typ", "kid", "sub", "aud", "exp", "iat", "nbf", "citywatch_key", "jti", "crit"))
members = st.dictionaries(member_names, json_values, max_size=6)


def spoiled(good: bytes) -> st.SearchStrategy[bytes]:
    """One byte changed, one taken out, one put in, or cut short."""
    places = st.integers(0, len(good) - 1)
    changed = st.tuples(places, st.integers(1, 255)).map(
        lambda p: good[: p[0]] + bytes([good[p[0]] ^ p[1]]) + good[p[0] + 1 :]
    )
    without = places.map(lambda i: good[:i] + good[i + 1 :])
    longer = st.tuples(places, st.binary(min_size=1, max_size=3)).map(lambda p: good[: p[0]] + p[1] + good[p[0] :])
    return st.one_of(changed, without, longer, places.map(lambda i: good[:i]))


@given(st.binary(max_size=600) | spoiled(TOKEN))
def test_any_bytes_are_a_token_or_refused(data: bytes) -> None:
    try:
        credential = verify_jwt_svid(data, WORLD.bundle, AUDIENCE)
    except Refused:
        return
    assert data == TOKEN
    assert type(credential) is Credential


@given(st.text(max_size=300))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with pytest.raises(Refused):
        verify_jwt_svid(text, WORLD.bundle, AUDIENCE)


@given(members, members)
def test_any_claims_that_our_authority_signed_are_a_credential_or_refused(head: Any, claims: Any) -> None:
    token = WORLD.token(header=WORLD.header(**head), claims=WORLD.claims(**claims))
    try:
        credential = verify_jwt_svid(token, WORLD.bundle, AUDIENCE)
    except Refused:
        return
    assert credential.agent.startswith(f"spiffe://{DOMAIN}/agent/")
    assert credential.audience == AUDIENCE


@given(st.binary(max_size=600) | spoiled(LEAF))
def test_any_bytes_are_a_certificate_or_refused(data: bytes) -> None:
    for verify in (verify_x509_svid, verify_gateway_svid):
        try:
            credential = verify([data, WORLD.ca_der], WORLD.bundle)
        except Refused:
            continue
        assert data == LEAF
        assert isinstance(credential, Credential)


@given(st.lists(st.binary(max_size=50) | st.just(LEAF) | st.just(WORLD.ca_der), max_size=6))
def test_any_chain_is_a_credential_or_refused(chain: list[bytes]) -> None:
    try:
        assert verify_x509_svid(chain, WORLD.bundle).key == WORLD.thumbprint
    except Refused:
        return
    assert chain[0] == LEAF


@given(st.binary(max_size=300) | spoiled(BUNDLE) | json_values.map(lambda v: json.dumps({"keys": [v]}).encode()))
def test_any_bytes_are_a_bundle_or_malformed(data: bytes) -> None:
    try:
        bundle = parse_bundle(data, DOMAIN)
    except Malformed:
        return
    assert parse_bundle(format_bundle(bundle), DOMAIN) == bundle


@given(st.binary(max_size=300) | json_values.map(lambda v: json.dumps({"key": v, "proof": v}).encode()))
def test_any_bytes_are_a_renewal_or_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        parse_renewal(data, DOMAIN)


@given(st.dictionaries(st.sampled_from(("sub", "aud", "iat", "exp", "jti", "next")), json_values))
def test_any_unsigned_proof_is_taken_apart_or_refused(claims: Any) -> None:
    head = {"alg": "ES256", "typ": "citywatch-renew+jwt"}
    proof = ".".join(b64url(json.dumps(part).encode()) for part in (head, claims)) + "." + b64url(bytes(64))
    try:
        parse_renewal(json.dumps({"key": format_jwk(public(WORLD.agent)), "proof": proof}).encode(), DOMAIN)
    except Refused:
        return
    assert isinstance(claims["sub"], str)


@given(st.binary(max_size=300) | members.map(lambda m: json.dumps(m).encode()))
def test_any_bytes_are_papers_or_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_introduction(data)
    with pytest.raises(Malformed):
        parse_papers(data, DOMAIN)


def test_one_key_has_one_thumbprint_and_one_jwk() -> None:
    for _ in range(50):
        key = public(draw())
        assert parse_jwk(format_jwk(key), use="sig") == key
        assert len(thumbprint(key)) == 43
