"""Each defect of a certificate is refused by its own code; the same certificate without it is accepted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.oid import ExtendedKeyUsageOID

from citywatch.core.errors import Code, Refused
from citywatch.core.identity.credential import Kind, check_time
from citywatch.core.identity.x509 import verify_gateway_svid, verify_x509_svid
from tests.unit.core.identity.forgery import (
    AGENT,
    AUDIENCE,
    HOUR,
    NOW,
    World,
    authority_certificate,
    certificate,
    draw,
    usage,
)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def refusal(check: Callable[[], object]) -> Code:
    with pytest.raises(Refused) as caught:
        check()
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_a_good_leaf_names_its_agent_and_key(world: World) -> None:
    credential = verify_x509_svid([world.leaf()], world.bundle)
    assert (credential.agent, credential.key, credential.kind) == (AGENT, world.thumbprint, Kind.X509)
    assert (credential.not_before, credential.not_after) == (NOW - HOUR, NOW + HOUR)
    check_time(credential, NOW, 0)


DEFECTS: dict[str, tuple[dict[str, Any], Code]] = {
    "an authority's flag": ({"ca": True}, Code.CREDENTIAL_NOT_A_LEAF),
    "no word on whether it is an authority": ({"ca": None}, Code.CREDENTIAL_NOT_A_LEAF),
    "may sign certificates": (
        {"key_usage": usage(digital_signature=True, key_cert_sign=True)},
        Code.CREDENTIAL_NOT_A_LEAF,
    ),
    "may sign revocation lists": (
        {"key_usage": usage(digital_signature=True, crl_sign=True)},
        Code.CREDENTIAL_NOT_A_LEAF,
    ),
    "may not sign": ({"key_usage": usage(key_agreement=True)}, Code.CREDENTIAL_MALFORMED),
    "no key usage": ({"key_usage": None}, Code.CREDENTIAL_MALFORMED),
    "key usage not critical": ({"key_usage_critical": False}, Code.CREDENTIAL_MALFORMED),
    "for servers only": ({"extended": (ExtendedKeyUsageOID.SERVER_AUTH,)}, Code.CREDENTIAL_MALFORMED),
    "for mail": ({"extended": (ExtendedKeyUsageOID.EMAIL_PROTECTION,)}, Code.CREDENTIAL_MALFORMED),
    "a critical extension nobody knows": ({"critical_stranger": True}, Code.CREDENTIAL_MALFORMED),
    "no name": ({"uris": (), "dns": ("billing.acme.example",)}, Code.CREDENTIAL_BAD_NAME),
    "no names at all": ({"uris": ()}, Code.CREDENTIAL_BAD_NAME),
    "two names": ({"uris": (AGENT, "spiffe://acme.example/agent/admin")}, Code.CREDENTIAL_BAD_NAME),
    "one name twice": ({"uris": (AGENT, AGENT)}, Code.CREDENTIAL_BAD_NAME),
    "a foreign second name": ({"uris": (AGENT, "https://acme.example")}, Code.CREDENTIAL_BAD_NAME),
    "a web address": ({"uris": ("https://acme.example/agent/billing",)}, Code.CREDENTIAL_BAD_NAME),
    "the gateway's name": ({"uris": (AUDIENCE,)}, Code.CREDENTIAL_BAD_NAME),
    "the authority's name": ({"uris": ("spiffe://acme.example",)}, Code.CREDENTIAL_BAD_NAME),
    "a path with dots": ({"uris": ("spiffe://acme.example/agent/..",)}, Code.CREDENTIAL_BAD_NAME),
    "an empty segment": ({"uris": ("spiffe://acme.example/agent//billing",)}, Code.CREDENTIAL_BAD_NAME),
    "a slash at the end": ({"uris": ("spiffe://acme.example/agent/billing/",)}, Code.CREDENTIAL_BAD_NAME),
    "a query": ({"uris": ("spiffe://acme.example/agent/billing?x",)}, Code.CREDENTIAL_BAD_NAME),
    "a percent sign": ({"uris": ("spiffe://acme.example/agent/b%69lling",)}, Code.CREDENTIAL_BAD_NAME),
    "a domain in capitals": ({"uris": ("spiffe://ACME.example/agent/billing",)}, Code.CREDENTIAL_WRONG_DOMAIN),
    "another domain": ({"uris": ("spiffe://evil.example/agent/billing",)}, Code.CREDENTIAL_WRONG_DOMAIN),
    "a domain that begins with ours": ({"uris": ("spiffe://acme.example.evil/agent/x",)}, Code.CREDENTIAL_WRONG_DOMAIN),
    "a user before the domain": ({"uris": ("spiffe://x@acme.example/agent/x",)}, Code.CREDENTIAL_WRONG_DOMAIN),
    "a port behind the domain": ({"uris": ("spiffe://acme.example:1/agent/x",)}, Code.CREDENTIAL_WRONG_DOMAIN),
    "another issuer's name": ({"issuer": "another authority"}, Code.CREDENTIAL_UNTRUSTED),
    "another hash": ({"hash_with": SHA384()}, Code.CREDENTIAL_UNTRUSTED),
}


@pytest.mark.parametrize(("changes", "code"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_refused_by_its_code(world: World, changes: dict[str, Any], code: Code) -> None:
    assert refusal(lambda: verify_x509_svid([world.leaf(**changes)], world.bundle)) is code


def test_without_extended_usages_a_leaf_is_good(world: World) -> None:
    assert verify_x509_svid([world.leaf(extended=None)], world.bundle).agent == AGENT


def test_a_self_signed_certificate_is_untrusted(world: World) -> None:
    forged = certificate(world.agent, world.agent)
    assert refusal(lambda: verify_x509_svid([forged], world.bundle)) is Code.CREDENTIAL_UNTRUSTED


def test_an_authority_of_the_same_name_is_untrusted(world: World) -> None:
    other = World()
    chain = [other.leaf(), other.ca_der]
    assert refusal(lambda: verify_x509_svid(chain, world.bundle)) is Code.CREDENTIAL_UNTRUSTED
    assert verify_x509_svid(chain, other.bundle).agent == AGENT


def test_the_authoritys_own_certificate_names_nobody(world: World) -> None:
    assert refusal(lambda: verify_x509_svid([world.ca_der], world.bundle)) is Code.CREDENTIAL_NOT_A_LEAF


def test_a_leaf_issues_nothing(world: World) -> None:
    leaf = world.leaf(subject="billing")
    forged = certificate(draw(), world.agent, issuer="billing", uris=("spiffe://acme.example/agent/admin",))
    assert refusal(lambda: verify_x509_svid([forged, leaf], world.bundle)) is Code.CREDENTIAL_NOT_A_LEAF
    assert refusal(lambda: verify_x509_svid([forged], world.bundle)) is Code.CREDENTIAL_UNTRUSTED


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_a_key_of_another_kind_is_malformed(world: World, key: Any) -> None:
    assert refusal(lambda: verify_x509_svid([certificate(key, world.ca)], world.bundle)) is Code.CREDENTIAL_MALFORMED


def test_an_altered_certificate_is_untrusted(world: World) -> None:
    good = world.leaf()
    altered = good.replace(b"agent/billing", b"agent/billinh")
    assert altered != good
    assert refusal(lambda: verify_x509_svid([altered], world.bundle)) is Code.CREDENTIAL_UNTRUSTED


def test_a_certificate_has_one_spelling(world: World) -> None:
    """The algorithm outside is not signed: whatever else stood there would be the same paper under another digest."""
    before, algorithm, signature = world.leaf().rpartition(bytes.fromhex("300a06082a8648ce3d040302"))
    sha384 = algorithm[:-1] + b"\x03"
    assert verify_x509_svid([before + algorithm + signature], world.bundle)
    respelt = before + sha384 + signature
    assert refusal(lambda: verify_x509_svid([respelt], world.bundle)) is Code.CREDENTIAL_UNTRUSTED


def test_a_serial_number_below_zero_is_malformed(world: World) -> None:
    good = world.leaf(serial=1)
    spoiled = good.replace(b"\x02\x01\x01", b"\x02\x01\xff", 1)
    assert spoiled != good
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert refusal(lambda: verify_x509_svid([spoiled], world.bundle)) is Code.CREDENTIAL_MALFORMED


@pytest.mark.parametrize("count", [0, 5])
def test_a_chain_of_no_or_many_certificates_is_malformed(world: World, count: int) -> None:
    chain = [world.leaf()] * count
    assert refusal(lambda: verify_x509_svid(chain, world.bundle)) is Code.CREDENTIAL_MALFORMED


def test_a_leaf_does_not_outlive_its_authority(world: World) -> None:
    credential = verify_x509_svid([world.leaf(start=NOW - 99 * HOUR, end=NOW + 99 * HOUR)], world.bundle)
    assert (credential.not_before, credential.not_after) == (NOW - 10 * HOUR, NOW + 10 * HOUR)


@pytest.mark.parametrize(
    ("at", "leeway", "code"),
    [
        (NOW + HOUR - 1, 0, None),
        (NOW + HOUR, 0, Code.CREDENTIAL_EXPIRED),
        (NOW + HOUR, 1, None),
        (NOW + HOUR + 1, 1, Code.CREDENTIAL_EXPIRED),
        (NOW - HOUR, 0, None),
        (NOW - HOUR - 1, 0, Code.CREDENTIAL_NOT_YET_VALID),
        (NOW - HOUR - 1, 1, None),
        (NOW - HOUR - 2, 1, Code.CREDENTIAL_NOT_YET_VALID),
    ],
)
def test_time_is_asked_apart_from_trust(world: World, at: int, leeway: int, code: Code | None) -> None:
    credential = verify_x509_svid([world.leaf()], world.bundle)
    if code is None:
        check_time(credential, at, leeway)
    else:
        assert refusal(lambda: check_time(credential, at, leeway)) is code


def test_two_authorities_of_one_domain_are_both_believed(world: World) -> None:
    other = World()
    both = type(world.bundle)(
        domain=world.bundle.domain,
        certificates=(*other.bundle.certificates, *world.bundle.certificates),
        keys={},
        sequence=2,
        refresh_hint=0,
    )
    assert verify_x509_svid([world.leaf()], both).key == world.thumbprint
    assert verify_x509_svid([other.leaf()], both).key == other.thumbprint


def test_the_gateway_proves_itself_and_no_agent_passes_for_it(world: World) -> None:
    gateway = certificate(draw(), world.ca, uris=(AUDIENCE,), dns=("localhost",))
    assert verify_gateway_svid([gateway], world.bundle).gateway == AUDIENCE
    assert refusal(lambda: verify_gateway_svid([world.leaf()], world.bundle)) is Code.CREDENTIAL_BAD_NAME
    with_host = world.leaf(dns=("localhost",))
    assert refusal(lambda: verify_gateway_svid([with_host], world.bundle)) is Code.CREDENTIAL_BAD_NAME
    assert refusal(lambda: verify_x509_svid([gateway], world.bundle)) is Code.CREDENTIAL_BAD_NAME
    foreign = authority_certificate(draw())
    assert refusal(lambda: verify_gateway_svid([foreign], world.bundle)) is Code.CREDENTIAL_NOT_A_LEAF
