"""Does a way of certificates lead from a leaf to an authority of the bundle? There may be authorities in between.

A SPIRE below another authority, or below another SPIRE, signs with a certificate that the bundle does not hold: who
shows a leaf sends it along. Decides whether what was sent is one whole path, and which authority it ends at. Does not
decide whether it is valid now: each certificate of it has its times, and the leaf gets what they share (`x509`).

INVARIANTS: the path is what was shown, in its order, whole: nothing is searched for, left out or put right; each step
is a signature on P-256; nobody between leaf and bundle issues anything without being an authority of this trust domain,
within the lengths and the names that every authority above allows; what signed the leaf says which trust domain it
signs for.
SPEC: RFC 5280 §6.1, X509-SVID §3.2, §4 and §5.1. Stricter: the trust domain has to stand in what signed the leaf
(SHOULD in §3.2), authorities named like their issuer count for the length, and extra certificates are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from citywatch.core.errors import Code, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.certificate import (
    basic_constraints,
    extended_usages,
    is_issued_by,
    key_usage,
    name_constraints,
    uri_names,
)

BOTH_USES = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def follow(shown: Sequence[x509.Certificate], bundle: TrustBundle) -> tuple[x509.Certificate, ...]:
    """The path from a leaf to an authority of the bundle, both included; raise `Refused` if what was shown is none.

    1. each certificate was issued by the next · 2. the last by an authority of the bundle, and none before it is one ·
    3. those in between may issue, for this trust domain · 4. no authority's uses, length or names are exceeded.
    """
    path = shown[:-1] if len(shown) > 1 and shown[-1] in bundle.certificates else shown
    between = path[1:]
    for lower, upper in zip(path, between, strict=False):  # 1
        if not is_issued_by(lower, upper):
            raise Refused(Code.CREDENTIAL_UNTRUSTED, "a certificate of the chain was not issued by the next")
        _check_may_issue(upper, bundle.domain)  # 3
    anchors = [one for one in bundle.certificates if is_issued_by(path[-1], one)]  # 2
    if len(path) < len(shown):
        anchors = [one for one in anchors if one == shown[-1]]
    if not anchors or any(one in bundle.certificates for one in between):
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the trust domain's authority did not issue the certificate")
    if between and uri_names(between[0]) != [f"spiffe://{bundle.domain}"]:
        raise Refused(
            Code.CREDENTIAL_UNTRUSTED, "what issued the certificate does not say that it issues for the trust domain"
        )
    return _within([(*path, anchor) for anchor in anchors], bundle.domain)


def _within(paths: Sequence[tuple[x509.Certificate, ...]], domain: str) -> tuple[x509.Certificate, ...]:
    """Of authorities with one key, the one that lasts longest: a renewed one stands beside itself for a while."""
    refused: Refused | None = None
    for path in sorted(paths, key=lambda each: each[-1].not_valid_after_utc, reverse=True):
        try:
            for place in range(1, len(path)):  # 4
                _check_uses(path[place])
                _check_length(path[place], place - 1)
                _check_names(path[place], path[:place], domain)
        except Refused as failure:
            refused = failure
            continue
        return path
    raise refused or Refused(Code.CREDENTIAL_UNTRUSTED)


def _check_may_issue(authority: x509.Certificate, domain: str) -> None:
    constraints, usage = basic_constraints(authority), key_usage(authority)
    if constraints is None or not constraints.ca or usage is None or not usage.key_cert_sign:
        raise Refused(Code.CREDENTIAL_NOT_A_LEAF, "the certificate was issued by a leaf")
    if uri_names(authority) not in ([], [f"spiffe://{domain}"]):  # SPEC: §3.2: no path; ours: no other domain
        raise Refused(Code.CREDENTIAL_WRONG_DOMAIN, f"an authority of the chain is not of the trust domain `{domain}`")


def _check_uses(authority: x509.Certificate) -> None:
    """The bundle's own is asked too: RFC 5280 need not, and OpenSSL does."""
    uses = extended_usages(authority)
    if uses is not None and not uses >= BOTH_USES:
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "an authority of the chain is not for clients and servers")


def _check_length(authority: x509.Certificate, below: int) -> None:
    constraints = basic_constraints(authority)
    if constraints is not None and constraints.path_length is not None and below > constraints.path_length:
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the chain is longer than an authority of it allows")


def _check_names(authority: x509.Certificate, below: Sequence[x509.Certificate], domain: str) -> None:
    """SPEC: RFC 5280 §4.2.1.10. Kinds of names that we cannot compare are refused where one of them is constrained."""
    found = name_constraints(authority)
    if found is None:
        return
    permitted, excluded = found.permitted_subtrees or (), found.excluded_subtrees or ()
    for certificate in below:
        for kind, name in _names(certificate, domain):
            allowed = [tree for tree in permitted if isinstance(tree, kind)]
            if any(_covers(tree, name) is not False for tree in excluded if isinstance(tree, kind)) or (
                allowed and not any(_covers(tree, name) is True for tree in allowed)
            ):
                raise Refused(Code.CREDENTIAL_UNTRUSTED, "an authority of the chain may not issue for this name")


def _names(certificate: x509.Certificate, domain: str) -> Iterator[tuple[type[x509.GeneralName], str]]:
    """The names of a certificate, by kind. A URI's is its host: a SPIFFE ID's trust domain, which was looked at."""
    if certificate.subject.rdns:
        yield x509.DirectoryName, ""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for name in names:
        if isinstance(name, x509.UniformResourceIdentifier):
            yield x509.UniformResourceIdentifier, domain
        else:
            yield type(name), name.value if isinstance(name, x509.DNSName) else ""


def _covers(tree: x509.GeneralName, name: str) -> bool | None:
    """Whether a constraint covers a name; None if we cannot say."""
    if not isinstance(tree, x509.UniformResourceIdentifier | x509.DNSName) or not name:
        return None
    base, host = tree.value.lower(), name.lower()
    if isinstance(tree, x509.UniformResourceIdentifier):  # one host, or with a dot in front whatever is below one
        return host.endswith(base) and len(host) > len(base) if base.startswith(".") else host == base
    return not base or host == base or host.endswith("." + base.removeprefix("."))
