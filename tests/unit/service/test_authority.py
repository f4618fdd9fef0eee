"""The authority's papers are what the verifier accepts, and say no more than they must."""

from __future__ import annotations

import ssl

import jwt
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder
from cryptography.x509.verification import Store as TrustStore

from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.identity.credential import check_time
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.x509 import verify_gateway_svid, verify_x509_svid
from citywatch.core.names import AgentId
from citywatch.core.signature import thumbprint
from citywatch.service.authority import BACKDATED_MS, p256, sign_token
from tests.identity_city import BILLING, GATEWAY, HOUR, YEAR, City, signer


@pytest.fixture(scope="module")
def city() -> City:
    return City()


def test_a_certificate_is_accepted_for_as_long_as_it_says(city: City) -> None:
    key, now = signer(), city.clock.now_ms()
    issued = city.authority.issue_x509(BILLING, p256(key.public), now=now, ttl=HOUR)
    credential = verify_x509_svid([issued.value], city.bundle)
    assert (credential.agent, credential.key) == (str(BILLING), thumbprint(p256(key.public)))
    assert (credential.not_before, credential.not_after) == (now - BACKDATED_MS, now + HOUR)
    assert (issued.digest, issued.not_after) == (credential.digest, credential.not_after)
    check_time(credential, now, 0)


def test_a_token_is_accepted_by_its_audience(city: City) -> None:
    now = city.clock.now_ms()
    issued = city.authority.issue_jwt(BILLING, "A" * 43, GATEWAY, now=now, ttl=HOUR)
    credential = verify_jwt_svid(issued.value, city.bundle, GATEWAY)
    assert (credential.agent, credential.key, credential.digest) == (str(BILLING), "A" * 43, issued.digest)
    assert (credential.not_before, credential.not_after) == (now, now + HOUR)


def test_two_tokens_are_never_the_same(city: City) -> None:
    tokens = {
        city.authority.issue_jwt(BILLING, "A" * 43, GATEWAY, now=city.clock.now_ms(), ttl=HOUR).value for _ in "ab"
    }
    assert len(tokens) == 2


def test_other_peoples_libraries_accept_a_token(city: City) -> None:
    """The wire is JWT's, not ours: an independent reader finds the same words."""
    issued = city.authority.issue_jwt(BILLING, "A" * 43, GATEWAY, now=city.clock.now_ms(), ttl=HOUR)
    (key,) = city.bundle.keys.values()
    claims = jwt.decode(
        issued.value,
        key.native,
        algorithms=["ES256"],
        audience=GATEWAY,
        options={"verify_exp": False, "verify_iat": False},  # the test's clock is not the machine's
    )
    assert claims["sub"] == str(BILLING)


def test_other_peoples_verifiers_accept_the_certificates(city: City) -> None:
    """A path built by RFC 5280's rules, for both ends of a connection."""
    gateway = city.authority.issue_gateway(
        p256(signer().public), ["localhost", "127.0.0.1"], now=city.clock.now_ms(), ttl=HOUR
    )
    at = x509.load_der_x509_certificate(gateway.value).not_valid_before_utc
    server = PolicyBuilder().store(TrustStore(list(city.bundle.certificates))).time(at)
    leaf = x509.load_der_x509_certificate(gateway.value)
    chain = server.build_server_verifier(x509.DNSName("localhost")).verify(leaf, [])
    assert [len(chain), chain[1]] == [2, city.bundle.certificates[0]]
    agent = city.authority.issue_x509(BILLING, p256(signer().public), now=city.clock.now_ms(), ttl=HOUR)
    client = server.build_client_verifier().verify(x509.load_der_x509_certificate(agent.value), [])
    assert client.subjects == [x509.UniformResourceIdentifier(str(BILLING))]


def test_what_a_leaf_says(city: City) -> None:
    issued = city.authority.issue_x509(BILLING, p256(signer().public), now=city.clock.now_ms(), ttl=HOUR)
    leaf = x509.load_der_x509_certificate(issued.value)
    extensions = {extension.oid._name: extension for extension in leaf.extensions}
    assert extensions["basicConstraints"].value.ca is False
    assert extensions["keyUsage"].critical
    assert extensions["subjectAltName"].critical
    assert set(extensions["extendedKeyUsage"].value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    assert len(leaf.subject) == 0
    assert leaf.serial_number.bit_length() > 64


def test_the_authoritys_certificate_issues_leaves_only(city: City) -> None:
    certificate = x509.load_der_x509_certificate(city.generation.certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value.ca, constraints.value.path_length, constraints.critical) == (True, 0, True)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    certificate.verify_directly_issued_by(certificate)


def test_the_gateways_certificate_is_an_ordinary_servers_too(city: City) -> None:
    names = ["localhost", "127.0.0.1", "::1", "gateway.acme.example"]
    issued = city.authority.issue_gateway(p256(signer().public), names, now=city.clock.now_ms(), ttl=HOUR)
    assert verify_gateway_svid([issued.value], city.bundle).gateway == GATEWAY
    found = x509.load_der_x509_certificate(issued.value).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert found.value.get_values_for_type(x509.DNSName) == ["localhost", "gateway.acme.example"]
    assert [str(address) for address in found.value.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    ssl.DER_cert_to_PEM_cert(issued.value)


def test_nothing_is_issued_for_another_domain(city: City) -> None:
    stranger, now = AgentId("evil.example", "billing"), city.clock.now_ms()
    with pytest.raises(Malformed):
        city.authority.issue_x509(stranger, p256(signer().public), now=now, ttl=HOUR)
    with pytest.raises(Malformed):
        city.authority.issue_jwt(stranger, "A" * 43, GATEWAY, now=now, ttl=HOUR)


def test_no_paper_outlasts_the_authority() -> None:
    city = City()
    short = city.found(2, city.certificates, city.tokens, ttl=HOUR)
    authority = city.authority_of(short, city.certificates, city.tokens)
    now = city.clock.now_ms()
    assert authority.issue_jwt(BILLING, "A" * 43, GATEWAY, now=now, ttl=YEAR).not_after == now + HOUR
    assert authority.issue_x509(BILLING, p256(signer().public), now=now, ttl=YEAR).not_after == now + HOUR
    with pytest.raises(Unavailable) as caught:
        authority.issue_jwt(BILLING, "A" * 43, GATEWAY, now=now + HOUR, ttl=HOUR)
    assert caught.value.code is Code.CREDENTIAL_EXPIRED


def test_an_authority_is_made_of_its_own_keys(city: City) -> None:
    with pytest.raises(Malformed):
        city.authority_of(city.generation, signer(), city.tokens)
    with pytest.raises(Malformed):
        city.authority_of(city.generation, city.certificates, signer())


def test_one_key_never_signs_both_certificates_and_tokens(city: City) -> None:
    one = signer()
    generation = city.found(2, one, one)
    with pytest.raises(Malformed):
        city.authority_of(generation, one, one)


def test_a_signature_is_always_64_bytes(city: City) -> None:
    """r and s that begin with zero bytes are shorter as numbers: one in 128 tokens."""
    for number in range(300):
        token = sign_token(city.tokens, "JWT", {"n": number})
        assert len(token.rpartition(".")[2]) == 86


def test_the_domain_of_a_generation_is_checked(city: City) -> None:
    with pytest.raises(Malformed):
        type(city.authority)(
            "other.example", city.generation, certificates=city.certificates, tokens=city.tokens, chance=city.chance
        )
