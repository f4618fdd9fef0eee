"""A leaf below authorities that the bundle does not hold counts if what was shown is one whole path, and only then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.bundle import TrustBundle, format_bundle, parse_bundle
from citywatch.core.identity.certificate import parse_authority_certificate
from citywatch.core.identity.credential import check_time
from citywatch.core.identity.x509 import verify_x509_svid
from tests.unit.core.identity.forgery import AGENT, HOUR, certificate, draw, usage
from tests.unit.core.identity.hierarchy import Tree, bundle_of
from tests.unit.core.identity.test_x509 import refusal

ADMIN = "spiffe://acme.example/agent/admin"


def only(*permitted: x509.GeneralName) -> x509.NameConstraints:
    return x509.NameConstraints(list(permitted), None)


def never(*excluded: x509.GeneralName) -> x509.NameConstraints:
    return x509.NameConstraints(None, list(excluded))


URI, DNS = x509.UniformResourceIdentifier, x509.DNSName
SOMEBODY = x509.DirectoryName(x509.Name([]))


def refused(chain: Sequence[bytes], bundle: TrustBundle) -> Code:
    return refusal(lambda: verify_x509_svid(chain, bundle))


@pytest.mark.parametrize("between", [0, 1, 2, 3])
def test_a_leaf_below_authorities_is_its_agents(between: int) -> None:
    tree = Tree(between)
    credential = verify_x509_svid(tree.chain(), tree.bundle())
    assert credential.agent == AGENT
    check_time(credential, tree.now, 0)


def test_a_path_may_end_with_the_authority_of_the_bundle_that_it_ends_at() -> None:
    tree = Tree(1)
    assert verify_x509_svid([*tree.chain(), tree.ders[0]], tree.bundle()).agent == AGENT
    other = Tree(1)
    both = tree.bundle(other.ders[0])
    assert refusal(lambda: verify_x509_svid([*tree.chain(), other.ders[0]], both)) is Code.CREDENTIAL_UNTRUSTED


def test_authorities_without_a_name_may_stand_above_the_one_that_signs_leaves() -> None:
    """A company's root and what is below it know nothing of SPIFFE."""
    tree = Tree(2, {0: {"uris": ()}, 1: {"uris": ()}})
    assert verify_x509_svid(tree.chain(), tree.bundle()).agent == AGENT


def test_what_is_named_in_the_bundle_ends_the_path_whoever_signed_it() -> None:
    tree = Tree(2)
    assert verify_x509_svid(tree.chain()[:2], bundle_of([tree.ders[1]])).agent == AGENT
    assert refusal(lambda: verify_x509_svid(tree.chain(), bundle_of([tree.ders[2]]))) is Code.CREDENTIAL_UNTRUSTED


PATHS: dict[str, tuple[dict[int, dict[str, Any]], Code]] = {
    "no authority by its flag": ({1: {"ca": False}}, Code.CREDENTIAL_NOT_A_LEAF),
    "no word on whether it is an authority": ({1: {"ca": None}}, Code.CREDENTIAL_NOT_A_LEAF),
    "may not sign certificates": ({1: {"key_usage": usage(crl_sign=True)}}, Code.CREDENTIAL_NOT_A_LEAF),
    "no key usage": ({1: {"key_usage": None}}, Code.CREDENTIAL_NOT_A_LEAF),
    "key usage not critical": ({2: {"key_usage_critical": False}}, Code.CREDENTIAL_NOT_A_LEAF),
    "an authority for mail": ({1: {"extended": (ExtendedKeyUsageOID.EMAIL_PROTECTION,)}}, Code.CREDENTIAL_UNTRUSTED),
    "a root for mail": ({0: {"extended": (ExtendedKeyUsageOID.EMAIL_PROTECTION,)}}, Code.CREDENTIAL_UNTRUSTED),
    "an authority for servers": ({2: {"extended": (ExtendedKeyUsageOID.SERVER_AUTH,)}}, Code.CREDENTIAL_UNTRUSTED),
    "of another trust domain": ({1: {"uris": ("spiffe://evil.example",)}}, Code.CREDENTIAL_WRONG_DOMAIN),
    "what signs leaves is of another": ({2: {"uris": ("spiffe://evil.example",)}}, Code.CREDENTIAL_WRONG_DOMAIN),
    "an agent's name on an authority": ({1: {"uris": (ADMIN,)}}, Code.CREDENTIAL_WRONG_DOMAIN),
    "two trust domains": (
        {1: {"uris": ("spiffe://acme.example", "spiffe://evil.example")}},
        Code.CREDENTIAL_WRONG_DOMAIN,
    ),
    "what signs leaves says no trust domain": ({2: {"uris": ()}}, Code.CREDENTIAL_UNTRUSTED),
    "the root allows none below": ({0: {"path_length": 0}}, Code.CREDENTIAL_UNTRUSTED),
    "the root allows one below": ({0: {"path_length": 1}}, Code.CREDENTIAL_UNTRUSTED),
    "the first allows none below": ({1: {"path_length": 0}}, Code.CREDENTIAL_UNTRUSTED),
    "another issuer's name": ({2: {"issuer": "authority 7"}}, Code.CREDENTIAL_UNTRUSTED),
    "a critical extension nobody knows": ({1: {"critical_stranger": True}}, Code.CREDENTIAL_MALFORMED),
    "only another domain": ({1: {"constraints": only(URI("evil.example"))}}, Code.CREDENTIAL_UNTRUSTED),
    "only what is below ours": ({1: {"constraints": only(URI(".acme.example"))}}, Code.CREDENTIAL_UNTRUSTED),
    "never ours": ({1: {"constraints": never(URI("acme.example"))}}, Code.CREDENTIAL_UNTRUSTED),
    "never ours, in capitals": ({2: {"constraints": never(URI("ACME.example"))}}, Code.CREDENTIAL_UNTRUSTED),
    "never what is below its upper half": ({0: {"constraints": never(URI(".example"))}}, Code.CREDENTIAL_UNTRUSTED),
    "only some company": ({0: {"constraints": only(SOMEBODY)}}, Code.CREDENTIAL_UNTRUSTED),
    "never some company": ({1: {"constraints": never(SOMEBODY)}}, Code.CREDENTIAL_UNTRUSTED),
    "critical, and never ours": (
        {1: {"constraints": never(URI("acme.example")), "constraints_critical": True}},
        Code.CREDENTIAL_UNTRUSTED,
    ),
}


@pytest.mark.parametrize(("changes", "code"), PATHS.values(), ids=PATHS)
def test_a_defect_above_the_leaf_is_refused(changes: dict[int, dict[str, Any]], code: Code) -> None:
    tree = Tree(2, changes)
    assert refusal(lambda: verify_x509_svid(tree.chain(), tree.bundle())) is code


HONEST: dict[str, dict[int, dict[str, Any]]] = {
    "lengths that fit": {0: {"path_length": 2}, 1: {"path_length": 1}, 2: {"path_length": 0}},
    "both uses": {1: {"extended": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)}},
    "only our domain": {0: {"constraints": only(URI("acme.example")), "constraints_critical": True}},
    "only ours, and what is below": {1: {"constraints": only(URI(".acme.example"), URI("acme.example"))}},
    "never another": {2: {"constraints": never(URI("evil.example"), URI(".acme.example"), DNS("evil.example"))}},
    "only hosts of a kind that the leaf has none of": {2: {"constraints": only(DNS("acme.example"))}},
}


@pytest.mark.parametrize("changes", HONEST.values(), ids=HONEST)
def test_what_authorities_allow_is_good(changes: dict[int, dict[str, Any]]) -> None:
    tree = Tree(2, changes)
    assert verify_x509_svid(tree.chain(), tree.bundle()).agent == AGENT


@pytest.mark.parametrize(
    ("constraints", "host", "good"),
    [
        (only(DNS("acme.example")), "gate.acme.example", True),
        (only(DNS("acme.example")), "acme.example", True),
        (only(DNS("acme.example")), "evilacme.example", False),
        (only(DNS("acme.example")), "gate.evil.example", False),
        (never(DNS("acme.example")), "gate.acme.example", False),
        (never(DNS("acme.example")), "gate.evil.example", True),
        (never(DNS("")), "gate.evil.example", False),
    ],
)
def test_hosts_are_held_to_what_authorities_allow(constraints: x509.NameConstraints, host: str, good: bool) -> None:
    tree = Tree(1, {1: {"constraints": constraints}})
    chain = tree.chain(dns=(host,))
    if good:
        assert verify_x509_svid(chain, tree.bundle()).agent == AGENT
    else:
        assert refusal(lambda: verify_x509_svid(chain, tree.bundle())) is Code.CREDENTIAL_UNTRUSTED


def test_an_authoritys_own_name_is_held_to_those_above() -> None:
    """The leaf has no subject, what stands between has one, and we compare none."""
    tree = Tree(1, {0: {"constraints": only(SOMEBODY)}})
    assert refusal(lambda: verify_x509_svid(tree.chain(), tree.bundle())) is Code.CREDENTIAL_UNTRUSTED
    direct = Tree(0, {0: {"constraints": only(SOMEBODY)}})
    assert verify_x509_svid(direct.chain(), direct.bundle()).agent == AGENT
    named = direct.chain(subject="somebody")
    assert refusal(lambda: verify_x509_svid(named, direct.bundle())) is Code.CREDENTIAL_UNTRUSTED


def test_the_order_is_the_one_that_was_shown() -> None:
    tree = Tree(2)
    leaf, last, first = tree.chain()
    for chain in (
        [leaf, first, last],
        [leaf, first],
        [last, leaf, first],
        [leaf],
        [leaf, last],
        [leaf, last, last, first],
    ):
        assert refused(chain, tree.bundle()) in (
            Code.CREDENTIAL_UNTRUSTED,
            Code.CREDENTIAL_NOT_A_LEAF,
        )


def test_what_does_not_belong_to_the_path_is_refused() -> None:
    tree, other = Tree(1), Tree(1)
    leaf, last = tree.chain()
    for chain in ([leaf, last, other.ders[1]], [leaf, other.ders[1], last], [leaf, last, tree.ders[0], tree.ders[0]]):
        assert refused(chain, tree.bundle()) is Code.CREDENTIAL_UNTRUSTED


def test_a_path_is_bounded() -> None:
    tree = Tree(4)
    assert refusal(lambda: verify_x509_svid(tree.chain(), tree.bundle())) is Code.CREDENTIAL_MALFORMED


@pytest.mark.parametrize("flagged", [False, True], ids=["as it is", "that calls itself an authority"])
def test_a_leaf_signs_for_nobody(flagged: bool) -> None:
    """An agent has a key and a certificate: it signs another agent's name with them, and shows both."""
    tree = Tree(1)
    leaf = tree.leaf(subject="billing")
    forger = tree.leaf_key
    if flagged:
        leaf = tree.authority(forger, forger, 9, 9, subject="billing", issuer="authority 1")
    forged = certificate(draw(), forger, issuer="billing", uris=(ADMIN,), start=tree.now - HOUR, end=tree.now + HOUR)
    found = refusal(lambda: verify_x509_svid([forged, leaf, tree.ders[1]], tree.bundle()))
    assert found is (Code.CREDENTIAL_UNTRUSTED if flagged else Code.CREDENTIAL_NOT_A_LEAF)


def test_a_common_root_lets_no_other_authority_below_it_issue_for_the_domain() -> None:
    """A company's root signs many: one that is for another domain, or for none, gives nobody a name of ours."""
    ours = Tree(1, {0: {"uris": ()}})
    for uris, code in (((), Code.CREDENTIAL_UNTRUSTED), (("spiffe://web.example",), Code.CREDENTIAL_WRONG_DOMAIN)):
        key = draw()
        neighbour = ours.authority(key, ours.keys[0], 5, 0, uris=uris)
        forged = certificate(
            draw(), key, issuer="authority 5", uris=(ADMIN,), start=ours.now - HOUR, end=ours.now + HOUR
        )
        assert refused([forged, neighbour], ours.bundle()) is code
    assert verify_x509_svid(ours.chain(), ours.bundle()).agent == AGENT


def test_only_a_length_or_a_constraint_stops_an_authority_without_a_name_from_making_one_of_ours() -> None:
    """Nothing that is shown tells it apart from the authority of a company above its SPIRE, so the root has to."""
    for limits, good in (({}, True), ({"path_length": 0}, False), ({"constraints": never(URI("acme.example"))}, False)):
        tree = Tree(2, {0: {"uris": ()}, 1: {"uris": (), **limits}})
        if good:
            assert verify_x509_svid(tree.chain(), tree.bundle()).agent == AGENT
        else:
            assert refused(tree.chain(), tree.bundle()) is Code.CREDENTIAL_UNTRUSTED


def test_an_authority_with_a_key_of_another_kind_signs_nothing() -> None:
    tree = Tree(1)
    weak = rsa.generate_private_key(65537, 2048)
    between = tree.authority(weak, tree.keys[0], 1, 0)  # type: ignore[arg-type]
    assert refusal(lambda: verify_x509_svid([tree.leaf(), between], tree.bundle())) is Code.CREDENTIAL_UNTRUSTED


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_leaf_is_good_while_all_above_it_is(place: int) -> None:
    tree = Tree(2)
    ended = Tree(2, {place: {"end": tree.now - 1000}})
    coming = Tree(2, {place: {"start": tree.now + HOUR // 2}})
    credential = verify_x509_svid(ended.chain(), ended.bundle())
    assert refusal(lambda: check_time(credential, tree.now, 0)) is Code.CREDENTIAL_EXPIRED
    early = verify_x509_svid(coming.chain(), coming.bundle())
    assert refusal(lambda: check_time(early, tree.now, 0)) is Code.CREDENTIAL_NOT_YET_VALID


@pytest.mark.parametrize("turned", [False, True])
def test_an_authority_that_was_renewed_with_its_key_stands_beside_itself(turned: bool) -> None:
    """The one that lasts longest, of those that allow it, whichever the bundle names first."""
    tree = Tree(1)
    ended = tree.authority(tree.keys[0], tree.keys[0], 0, 0, end=tree.now - 1000)
    forbids = tree.authority(tree.keys[0], tree.keys[0], 0, 0, end=tree.now + 99 * HOUR, path_length=0)
    ders = [ended, forbids, tree.ders[0]]
    credential = verify_x509_svid(tree.chain(), bundle_of(ders[::-1] if turned else ders))
    assert credential.not_after == (tree.now + HOUR) // 1000 * 1000


def test_a_bundle_holds_authorities_with_constraints_and_no_leaf_may_have_them() -> None:
    constrained = Tree(1, {0: {"constraints": only(URI("acme.example")), "constraints_critical": True}})
    bundle = parse_bundle(format_bundle(constrained.bundle()), "acme.example")
    assert verify_x509_svid(constrained.chain(), bundle).agent == AGENT
    odd = constrained.chain(constraints=only(URI("acme.example")), constraints_critical=True)
    assert refusal(lambda: verify_x509_svid(odd, bundle)) is Code.CREDENTIAL_MALFORMED
    with pytest.raises(Malformed):
        parse_authority_certificate(constrained.leaf(), "acme.example")


def test_refusals_say_nothing_of_what_was_shown() -> None:
    tree = Tree(1, {1: {"uris": ("spiffe://evil.example\nforged",)}})
    with pytest.raises(Refused) as caught:
        verify_x509_svid(tree.chain(), tree.bundle())
    assert "evil" not in str(caught.value)
