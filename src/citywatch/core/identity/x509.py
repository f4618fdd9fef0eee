"""Whose certificate is this? An X.509-SVID of our trust domain becomes a `Credential`, or is refused.

Decides that our authority issued this leaf for exactly one agent (or for the gateway). Does not decide whether it is
still valid (`credential.check_time`), whether the agent is registered or revoked, and whether the caller holds the key:
the TLS handshake has shown that.

INVARIANTS: any bytes give a `Credential` or `Refused`; a certificate counts only if what the caller sends along leads,
whole, to a certificate of the bundle (`path`); an authority's own certificate never names anybody.
SPEC: X509-SVID §3 to §5, RFC 5280 §6.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from cryptography import x509

from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.certificate import (
    basic_constraints,
    certificate_key,
    extended_usages,
    format_certificate,
    key_usage,
    parse_certificate,
    uri_names,
)
from citywatch.core.identity.credential import Credential, GatewayCredential, Kind
from citywatch.core.identity.path import BOTH_USES, follow
from citywatch.core.names import parse_agent_id
from citywatch.core.signature import P256Key, thumbprint

MAX_CHAIN = 4


class Leaf(msgspec.Struct, frozen=True):
    """A leaf that leads to an authority of the bundle, and the name it was issued for. Times are milliseconds."""

    certificate: x509.Certificate
    key: P256Key
    name: str
    not_before: int
    not_after: int


def gateway_id(domain: str) -> str:
    """The SPIFFE ID of a trust domain's gateway. It is no agent's: those are below `/agent/`."""
    return f"spiffe://{domain}/gateway"


def verify_x509_svid(chain: Sequence[bytes], bundle: TrustBundle) -> Credential:
    """Return the agent's credential that a chain of DER certificates proves, leaf first; raise `Refused` otherwise."""
    leaf = verify_leaf(chain, bundle)
    try:
        agent = parse_agent_id(leaf.name)
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_BAD_NAME, str(error)) from None
    return Credential(
        agent=str(agent),
        key=thumbprint(leaf.key),
        kind=Kind.X509,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        digest=digest(format_certificate(leaf.certificate)),
    )


def verify_gateway_svid(chain: Sequence[bytes], bundle: TrustBundle) -> GatewayCredential:
    """Return the gateway's credential that a chain proves; an agent's certificate never passes for it."""
    leaf = verify_leaf(chain, bundle)
    if leaf.name != gateway_id(bundle.domain):
        raise Refused(Code.CREDENTIAL_BAD_NAME, "the certificate is not the gateway's")
    return GatewayCredential(
        gateway=leaf.name,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        digest=digest(format_certificate(leaf.certificate)),
    )


def verify_leaf(chain: Sequence[bytes], bundle: TrustBundle) -> Leaf:
    """1. readable · 2. a leaf by its shape · 3. exactly one name, of the bundle's domain · 4. issued by its authority,
    or below it.

    The domain is asked before the signature, so that a stranger with good papers of another domain is told so.
    """
    if not 0 < len(chain) <= MAX_CHAIN:
        raise Refused(Code.CREDENTIAL_MALFORMED, f"a chain has one to {MAX_CHAIN} certificates")
    try:
        leaf = parse_certificate(chain[0])  # 1
        between = [parse_certificate(der, issues=True) for der in chain[1:]]
        key = certificate_key(leaf)
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_MALFORMED, str(error)) from None
    _check_shape(leaf)  # 2
    name = _only_name(leaf, bundle.domain)  # 3
    path = follow([leaf, *between], bundle)  # 4
    # A path is valid only while all of it is: the leaf inherits the end of each authority above it.
    return Leaf(
        leaf,
        key,
        name,
        max(_ms(one.not_valid_before_utc) for one in path),
        min(_ms(one.not_valid_after_utc) for one in path),
    )


def _check_shape(leaf: x509.Certificate) -> None:
    constraints, usage, uses = basic_constraints(leaf), key_usage(leaf), extended_usages(leaf)
    if constraints is None or constraints.ca:  # SPEC: §4.1
        raise Refused(Code.CREDENTIAL_NOT_A_LEAF, "the certificate does not say that it is no authority")
    if usage is None:  # SPEC: §4.3
        raise Refused(Code.CREDENTIAL_MALFORMED, "the certificate has no critical key usage")
    if usage.key_cert_sign or usage.crl_sign:
        raise Refused(Code.CREDENTIAL_NOT_A_LEAF, "the certificate's key may sign certificates")
    if not usage.digital_signature:
        raise Refused(Code.CREDENTIAL_MALFORMED, "the certificate's key may not sign")
    if uses is not None and not uses >= BOTH_USES:  # SPEC: §4.4
        raise Refused(Code.CREDENTIAL_MALFORMED, "the certificate is not for clients and servers")


def _only_name(leaf: x509.Certificate, domain: str) -> str:
    names = uri_names(leaf)
    if len(names) != 1:  # SPEC: §2: with two, each reader would believe another one
        raise Refused(Code.CREDENTIAL_BAD_NAME, f"the certificate has {len(names)} URI names and must have one")
    check_domain(names[0], domain)
    return names[0]


def check_domain(name: str, domain: str) -> None:
    """Refuse a SPIFFE ID of another trust domain as such; what is no SPIFFE ID at all is left to the grammar."""
    scheme, _, rest = name.partition("://")
    if scheme == "spiffe" and rest.partition("/")[0] != domain:
        raise Refused(Code.CREDENTIAL_WRONG_DOMAIN, f"the credential is not of the trust domain `{domain}`")


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
