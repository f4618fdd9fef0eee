"""Whose bundle judges these papers? Those of another trust domain become a `Credential` too, by its bundle alone.

Decides by which trust domain's bundle papers are judged: by that of the domain which they name, and by no other. And
who is an agent here: of another domain only whom the file names, under the name that the file gives it. Does not decide
which domains are believed, nor for how long (`service.federation`); what the name may do is policy's.

Papers of an authority that is not ours name a SPIFFE ID of any path, and no key that we know. So the agent is known by
that ID (`Credential.key`): whatever keys it has had, what it has received is one context. A bearer token proves no key
at all, whatever it says of one.

INVARIANTS: bundles are never joined: what one domain's authority signs never names anybody of another; a domain whose
bundle is not at hand, or too old, proves nobody; a credential ends when the bundle that judged it does.
SPEC: SPIFFE Federation §4.2 and §7.3, X509-SVID §5, JWT-SVID §4, WIT-SVID §4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from cryptography import x509

from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity import jwt, wit
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.certificate import format_certificate, parse_certificate, uri_names
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.jwt import check_signer, verify_jwt_svid
from citywatch.core.identity.token import parse_compact, text_claim, time_claim
from citywatch.core.identity.wit import BoundToken, read_wit_svid, verify_wit_svid
from citywatch.core.identity.x509 import check_domain, verify_leaf, verify_x509_svid
from citywatch.core.names import SpiffeId, parse_domain, parse_spiffe_id
from citywatch.core.signature import thumbprint

FOR_GOOD = 2**53
"""When a bundle ends that nobody has to fetch."""


class Believed(msgspec.Struct, frozen=True):
    """A trust domain's bundle, and until when (milliseconds, exclusive) it is believed without a newer look."""

    bundle: TrustBundle
    until: int = FOR_GOOD


class Domains(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to believe: the bundle of our own domain, those of others, and which agents the others' papers name.

    `named` gives the agent (`spiffe://<its domain>/agent/<its name here>`) by the SPIFFE ID that its authority vouches
    for. `stale` are domains of the file whose bundle is too old, or was never had. Our own domain is among `others`
    where its authority is not ours.
    """

    home: TrustBundle
    others: Mapping[str, Believed] = {}
    named: Mapping[str, str] = {}
    stale: frozenset[str] = frozenset()

    def of(self, domain: str) -> Believed | None:
        """The bundle of another domain; None for what our own bundle has to judge, which refuses all foreign names."""
        if domain in self.stale:
            raise Refused(Code.CREDENTIAL_UNTRUSTED, f"the bundle of `{domain}` is too old to judge its papers by")
        return self.others.get(domain)


def verify_certificate(chain: Sequence[bytes], domains: Domains) -> Credential:
    """Return the agent's credential that a chain of DER certificates proves, leaf first; raise `Refused` otherwise."""
    believed = domains.of(certified_domain(chain))
    if believed is None:
        return verify_x509_svid(chain, domains.home)
    leaf = verify_leaf(chain, believed.bundle)
    return Credential(
        agent=_agent(leaf.name, domains),
        key=leaf.name,
        proved=thumbprint(leaf.key),
        kind=Kind.X509,
        not_before=leaf.not_before,
        not_after=min(leaf.not_after, believed.until),
        digest=digest(format_certificate(leaf.certificate)),
    )


def check_certificate(chain: Sequence[bytes], domains: Domains) -> None:
    """Refuse a certificate that the authority of the domain which it names did not issue, whoever it is for.

    It is what a handshake asks, where the library has only asked whether any domain's authority did.
    """
    believed = domains.of(certified_domain(chain))
    verify_leaf(chain, domains.home if believed is None else believed.bundle)


def verify_token(token: bytes, domains: Domains, audience: str) -> Credential:
    """Return the credential that a JWT-SVID proves to the gateway named `audience`; raise `Refused` otherwise.

    1. well-formed, ES256, exactly `alg`, `typ`, `kid` · 2. a name of the domain that it says · 3. a key of that
    domain's authority signed it · 4. it is for us and nobody else · 5. the file names its subject.
    """
    credential = validate_token(token, domains, audience)
    if credential.key != credential.agent:
        return credential
    return msgspec.structs.replace(credential, agent=_agent(credential.key, domains))  # 5


def validate_token(token: bytes, domains: Domains, audience: str) -> Credential:
    """Steps 1 to 4: another domain's subject is named as its own authority names it, in `agent` as in `key`."""
    domain = _subject_domain(token, jwt.TYPE)
    believed = domains.of(domain)
    if believed is None:
        return verify_jwt_svid(token, domains.home, audience)
    try:
        compact = parse_compact(token, typ=jwt.TYPE, members=frozenset({"kid"}))  # 1
        subject = text_claim(compact.claims, "sub")
        start = "nbf" if "nbf" in compact.claims else "iat"
        not_before, not_after = time_claim(compact.claims, start), time_claim(compact.claims, "exp")
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_MALFORMED, str(error)) from None
    name = _name(subject, domain)  # 2
    check_signer(compact, believed.bundle.keys)  # 3
    if compact.claims.get("aud") not in (audience, [audience]):  # 4
        raise Refused(Code.CREDENTIAL_WRONG_AUDIENCE, "the token is not for this gateway alone")
    return Credential(
        agent=str(name),
        key=str(name),
        kind=Kind.JWT,
        not_before=not_before,
        not_after=min(not_after, believed.until),
        digest=digest(token),
        audience=audience,
    )


def verify_bound(token: bytes, domains: Domains) -> BoundToken:
    """Return what a WIT-SVID says, by the bundle of the domain that it names; raise `Refused` otherwise."""
    domain = _subject_domain(token, wit.TYPE)
    believed = domains.of(domain)
    if believed is None:
        return verify_wit_svid(token, domains.home)
    found = read_wit_svid(token, believed.bundle, lambda subject: str(_name(subject, domain)))
    return msgspec.structs.replace(
        found,
        agent=_agent(found.agent, domains),
        vouched=found.agent,
        not_after=min(found.not_after, believed.until),
    )


def certified_domain(chain: Sequence[bytes]) -> str:
    """The trust domain that a certificate says it is of; empty if it says none. Nothing of it is believed yet."""
    try:
        names = uri_names(parse_certificate(chain[0])) if chain else []
    except Malformed:
        return ""
    return _domain_of(names[0]) if len(names) == 1 else ""


def check_distinct(bundle: TrustBundle, others: Mapping[str, TrustBundle]) -> None:
    """Refuse a bundle with an authority that bears the name of another domain's.

    TLS looks an issuer up by its name among the authorities of all domains: with the name of somebody else's, one
    domain could have that one's papers held against the wrong key, and refused.
    """
    for other in others.values():
        if other.domain == bundle.domain:
            continue
        taken = {_as_tls_compares(one) for one in other.certificates}
        if any(_as_tls_compares(one) in taken for one in bundle.certificates):
            raise Malformed(f"an authority of `{bundle.domain}` has the name of one of `{other.domain}`")


def _as_tls_compares(certificate: x509.Certificate) -> tuple[frozenset[tuple[str, str]], ...]:
    """SPEC: RFC 5280 §7.1, as OpenSSL does it: case, spaces and the kind of string make no difference."""
    return tuple(
        frozenset((one.oid.dotted_string, " ".join(str(one.value).casefold().split())) for one in rdn)
        for rdn in certificate.subject.rdns
    )


def _agent(name: str, domains: Domains) -> str:
    agent = domains.named.get(name)
    if agent is None:
        raise Refused(Code.AGENT_UNKNOWN, "its trust domain is believed, and the file names no such agent of it")
    return agent


def _name(subject: str, domain: str) -> SpiffeId:
    check_domain(subject, domain)
    try:
        return parse_spiffe_id(subject)
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_BAD_NAME, str(error)) from None


def _subject_domain(token: bytes, typ: str) -> str:
    try:
        compact = parse_compact(token, typ=typ, members=frozenset({"kid"}))
        return _domain_of(text_claim(compact.claims, "sub"))
    except Malformed:
        return ""  # our own domain's rules say what is wrong with it


def _domain_of(name: str) -> str:
    scheme, _, rest = name.partition("://")
    if scheme != "spiffe":
        return ""
    try:
        return parse_domain(rest.partition("/")[0])
    except Malformed:
        return ""
