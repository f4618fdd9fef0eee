"""Papers of several trust domains: each is judged by the bundle of the domain that it names, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey

from citywatch.core.errors import CitywatchError, Code, Malformed, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.credential import Kind, check_time
from citywatch.core.identity.elsewhere import (
    Believed,
    Domains,
    check_certificate,
    check_distinct,
    verify_bound,
    verify_certificate,
    verify_token,
)
from citywatch.core.signature import format_jwk, thumbprint
from tests.unit.core.identity.forgery import (
    AGENT,
    AUDIENCE,
    DOMAIN,
    HOUR,
    NOW,
    Key,
    World,
    authority_certificate,
    b64url,
    certificate,
    draw,
    es256,
    public,
)

PARTNER, RIVAL = "partner.example", "rival.example"
ROUTER = "spiffe://partner.example/ns/prod/sa/router"
HERE = "spiffe://partner.example/agent/partner_router"


class Neighbour:
    """Another trust domain: an authority for certificates, one for tokens, one workload's key."""

    def __init__(self, domain: str, subject: str) -> None:
        self.domain = domain
        self.ca, self.tokens, self.key = draw(), draw(), draw()
        self.subject = subject
        der = authority_certificate(self.ca, subject=subject, uris=(f"spiffe://{domain}",))
        self.bundle = TrustBundle(
            domain=domain,
            certificates=(x509.load_der_x509_certificate(der),),
            keys={"t1": public(self.tokens)},
            bound={"t1": public(self.tokens)},
            sequence=1,
            refresh_hint=300,
        )

    def leaf(self, name: str, **changes: Any) -> bytes:
        return certificate(self.key, self.ca, issuer=self.subject, uris=(name,), **changes)

    def token(self, name: str, *, sign: Key | None = None, **claims: Any) -> bytes:
        told = {"sub": name, "aud": [AUDIENCE], "iat": NOW // 1000, "exp": (NOW + HOUR) // 1000} | claims
        return self.signed({"alg": "ES256", "typ": "JWT", "kid": "t1"}, told, sign or self.tokens)

    def wit(self, name: str, *, sign: Key | None = None) -> bytes:
        jwk = {**format_jwk(public(self.key)), "alg": "ES256"}
        told = {"sub": name, "iat": NOW // 1000, "exp": (NOW + HOUR) // 1000, "jti": "1", "cnf": {"jwk": jwk}}
        return self.signed({"alg": "ES256", "typ": "wit+jwt", "kid": "t1"}, told, sign or self.tokens)

    @staticmethod
    def signed(header: dict[str, Any], claims: dict[str, Any], key: Key) -> bytes:
        signing_input = f"{b64url(json.dumps(header).encode())}.{b64url(json.dumps(claims).encode())}"
        return f"{signing_input}.{b64url(es256(key, signing_input))}".encode()


class Town:
    """Our own trust domain, a partner whose router the file names, and a rival whom it believes as well."""

    def __init__(self) -> None:
        self.home = World()
        self.partner, self.rival = Neighbour(PARTNER, "partner authority"), Neighbour(RIVAL, "rival authority")
        others = {PARTNER: Believed(self.partner.bundle), RIVAL: Believed(self.rival.bundle)}
        self.domains = Domains(home=self.home.bundle, others=others, named={ROUTER: HERE})


TOWN = Town()


def refusal(check: Callable[[], object]) -> tuple[Code, str]:
    with pytest.raises(Refused) as caught:
        check()
    assert "\n" not in caught.value.detail
    return caught.value.code, caught.value.detail


def test_a_partner_s_agent_is_who_its_own_authority_says_under_the_name_of_our_file() -> None:
    credential = verify_certificate([TOWN.partner.leaf(ROUTER)], TOWN.domains)
    assert (credential.agent, credential.key, credential.kind) == (HERE, ROUTER, Kind.X509)
    assert credential.proved == credential.holder == thumbprint(public(TOWN.partner.key))
    token = verify_token(TOWN.partner.token(ROUTER), TOWN.domains, AUDIENCE)
    assert (token.agent, token.key, token.kind, token.proved) == (HERE, ROUTER, Kind.JWT, "")
    bound = verify_bound(TOWN.partner.wit(ROUTER), TOWN.domains)
    assert (bound.agent, bound.vouched, bound.thumbprint) == (HERE, ROUTER, credential.proved)


def test_our_own_papers_are_judged_as_if_there_were_no_neighbours() -> None:
    credential = verify_certificate([TOWN.home.leaf()], TOWN.domains)
    assert (credential.agent, credential.key, credential.proved) == (AGENT, TOWN.home.thumbprint, "")
    assert verify_token(TOWN.home.token(), TOWN.domains, AUDIENCE).key == TOWN.home.thumbprint


def test_a_partner_s_token_is_one_that_joserfc_believes_and_says_nothing_of_a_key() -> None:
    """A claim of ours in a foreign token would bind a chain of grants to a key that nobody proved."""
    token = TOWN.partner.token(ROUTER, citywatch_key=TOWN.home.thumbprint)
    key = ECKey.import_key(dict(format_jwk(public(TOWN.partner.tokens))))
    assert joserfc_jwt.decode(token.decode(), key, algorithms=["ES256"]).claims["sub"] == ROUTER
    assert verify_token(token, TOWN.domains, AUDIENCE).holder == ROUTER


VICTIMS = {"ours": AGENT, "a partner's": ROUTER}


@pytest.mark.parametrize("victim", VICTIMS.values(), ids=VICTIMS)
def test_no_domain_s_authority_speaks_for_another_domain(victim: str) -> None:
    """The attack that a joined pool of authorities lets through: a rival, believed too, writes a victim's name."""
    rival = TOWN.rival
    for check in (
        lambda: verify_certificate([rival.leaf(victim)], TOWN.domains),
        lambda: check_certificate([rival.leaf(victim)], TOWN.domains),
        lambda: verify_token(rival.token(victim, citywatch_key=TOWN.home.thumbprint), TOWN.domains, AUDIENCE),
        lambda: verify_bound(rival.wit(victim), TOWN.domains),
    ):
        assert refusal(check)[0] is Code.CREDENTIAL_UNTRUSTED


def test_a_chain_that_brings_its_own_authority_along_changes_nothing() -> None:
    theirs = authority_certificate(TOWN.rival.ca, subject="rival authority", uris=(f"spiffe://{PARTNER}",))
    shown = [TOWN.rival.leaf(ROUTER), theirs]
    assert refusal(lambda: verify_certificate(shown, TOWN.domains))[0] is Code.CREDENTIAL_UNTRUSTED


def test_a_domain_that_the_file_does_not_name_is_told_so() -> None:
    stranger = Neighbour("stranger.example", "stranger authority")
    name = "spiffe://stranger.example/agent/x"
    for check in (
        lambda: verify_certificate([stranger.leaf(name)], TOWN.domains),
        lambda: verify_bound(stranger.wit(name), TOWN.domains),
    ):
        assert refusal(check)[0] is Code.CREDENTIAL_WRONG_DOMAIN


def test_an_agent_that_the_file_does_not_name_is_nobody_here() -> None:
    """Also one whose name is what we call another: the file's name is no name that the partner can give."""
    for name in ("spiffe://partner.example/ns/prod/sa/other", HERE, "spiffe://partner.example/gateway"):
        for check in (
            lambda name=name: verify_certificate([TOWN.partner.leaf(name)], TOWN.domains),
            lambda name=name: verify_token(TOWN.partner.token(name), TOWN.domains, AUDIENCE),
            lambda name=name: verify_bound(TOWN.partner.wit(name), TOWN.domains),
        ):
            assert refusal(check)[0] is Code.AGENT_UNKNOWN


def test_a_handshake_asks_for_the_domain_s_authority_and_not_for_a_name() -> None:
    check_certificate([TOWN.partner.leaf("spiffe://partner.example/whoever")], TOWN.domains)
    check_certificate([TOWN.home.leaf()], TOWN.domains)


@pytest.mark.parametrize("names", [(), (ROUTER, AGENT), (AGENT, ROUTER), ("https://partner.example/x",)])
def test_a_certificate_without_exactly_one_name_is_of_no_domain(names: tuple[str, ...]) -> None:
    leaf = certificate(TOWN.partner.key, TOWN.partner.ca, issuer="partner authority", uris=names, dns=("a.example",))
    assert refusal(lambda: check_certificate([leaf], TOWN.domains))[0] in (
        Code.CREDENTIAL_BAD_NAME,
        Code.CREDENTIAL_UNTRUSTED,
    )
    with pytest.raises(Refused):
        verify_certificate([leaf], TOWN.domains)


@pytest.mark.parametrize("audience", ["spiffe://partner.example/gateway", [AUDIENCE, "other"], [], None])
def test_a_token_for_somebody_else_is_refused(audience: object) -> None:
    token = TOWN.partner.token(ROUTER, aud=audience)
    assert refusal(lambda: verify_token(token, TOWN.domains, AUDIENCE))[0] is Code.CREDENTIAL_WRONG_AUDIENCE


def test_a_partner_s_key_for_tokens_signs_none_that_are_ours() -> None:
    """Also under the `kid` of ours: which keys are looked at is a matter of the name."""
    header = {"alg": "ES256", "typ": "JWT", "kid": TOWN.home.kid}
    forged = Neighbour.signed(header, TOWN.home.claims(), TOWN.partner.tokens)
    assert refusal(lambda: verify_token(forged, TOWN.domains, AUDIENCE))[0] is Code.CREDENTIAL_UNTRUSTED


def test_papers_end_with_the_bundle_that_judged_them() -> None:
    others = {PARTNER: Believed(TOWN.partner.bundle, NOW + 1000)}
    domains = Domains(home=TOWN.home.bundle, others=others, named={ROUTER: HERE})
    for credential in (
        verify_certificate([TOWN.partner.leaf(ROUTER)], domains),
        verify_token(TOWN.partner.token(ROUTER), domains, AUDIENCE),
        verify_bound(TOWN.partner.wit(ROUTER), domains),
    ):
        assert credential.not_after == NOW + 1000
    credential = verify_certificate([TOWN.partner.leaf(ROUTER)], domains)
    check_time(credential, NOW, 0)
    assert refusal(lambda: check_time(credential, NOW + 1000, 0))[0] is Code.CREDENTIAL_EXPIRED


def test_a_bundle_that_is_too_old_judges_nothing_and_ours_goes_on() -> None:
    domains = Domains(home=TOWN.home.bundle, named={ROUTER: HERE}, stale=frozenset({PARTNER}))
    for check in (
        lambda: verify_certificate([TOWN.partner.leaf(ROUTER)], domains),
        lambda: check_certificate([TOWN.partner.leaf(ROUTER)], domains),
        lambda: verify_token(TOWN.partner.token(ROUTER), domains, AUDIENCE),
        lambda: verify_bound(TOWN.partner.wit(ROUTER), domains),
    ):
        code, detail = refusal(check)
        assert (code, PARTNER in detail) == (Code.CREDENTIAL_UNTRUSTED, True)
    assert verify_certificate([TOWN.home.leaf()], domains).agent == AGENT


@pytest.mark.parametrize("subject", ["authority", "AUTHORITY", "  Authority "])
def test_an_authority_that_bears_another_domain_s_name_is_refused(subject: str) -> None:
    """OpenSSL looks issuers up by name, without regard to case and spaces: ours would be held against its key."""
    posing = Neighbour(PARTNER, subject)
    with pytest.raises(Malformed, match=r"has the name of one of `acme\.example`"):
        check_distinct(posing.bundle, {DOMAIN: TOWN.home.bundle})
    check_distinct(TOWN.partner.bundle, {DOMAIN: TOWN.home.bundle, RIVAL: TOWN.rival.bundle})
    check_distinct(TOWN.partner.bundle, {PARTNER: TOWN.partner.bundle})


SAMPLES = (
    TOWN.partner.token(ROUTER),
    TOWN.partner.wit(ROUTER),
    TOWN.rival.token("spiffe://rival.example/x"),
    TOWN.home.token(),
)


@given(st.sampled_from(SAMPLES), st.data())
def test_any_bytes_are_refused_or_are_the_named_agent_s(sample: bytes, data: st.DataObject) -> None:
    """Spliced, cut and flipped: whatever still passes is one of the honest ones."""
    other = data.draw(st.sampled_from(SAMPLES))
    at = data.draw(st.integers(0, len(sample)))
    drawn = data.draw(st.sampled_from((sample[:at] + other[at:], sample[:at], sample[:at] + b"A" + sample[at + 1 :])))
    for check in (lambda: verify_token(drawn, TOWN.domains, AUDIENCE), lambda: verify_bound(drawn, TOWN.domains)):
        try:
            found = check()
        except CitywatchError:
            continue
        assert drawn in SAMPLES
        assert found.agent in (HERE, AGENT)


@given(st.sampled_from(["home", "partner", "rival"]), st.sampled_from([AGENT, ROUTER, "spiffe://rival.example/x"]))
def test_whoever_signed_only_names_of_its_own_domain_pass(signer: str, name: str) -> None:
    home = TOWN.home
    leaf = home.leaf(uris=(name,)) if signer == "home" else getattr(TOWN, signer).leaf(name)
    domain = {"home": DOMAIN, "partner": PARTNER, "rival": RIVAL}[signer]
    try:
        check_certificate([leaf], TOWN.domains)
    except Refused:
        assert not name.startswith(f"spiffe://{domain}/")
    else:
        assert name.startswith(f"spiffe://{domain}/")
