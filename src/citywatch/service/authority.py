"""The trust domain's authority: it issues papers, with keys that it can use and never sees.

Decides what stands in an SVID: one name of its own domain, a short life that never outlasts the authority's. Does not
decide who may have one (`service.admin`).
INVARIANTS: every signature is made behind the `Signer` port; certificates and tokens are signed by different keys, so
that no bytes of one kind are ever good for the other; what is issued here is what `core.identity` accepts.
SPEC: X509-SVID §3 and §4, JWT-SVID §2 and §3, WIT-SVID §2 and §3.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.identity import wit
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.certificate import certificate_key, parse_authority_certificate
from citywatch.core.identity.credential import Kind
from citywatch.core.identity.jwt import KEY_CLAIM, TYPE
from citywatch.core.identity.token import ALGORITHM
from citywatch.core.identity.x509 import gateway_id
from citywatch.core.names import AgentId
from citywatch.core.signature import P256Key, format_jwk, parse_b64url, parse_spki, thumbprint
from citywatch.service.certificates import write_authority, write_leaf
from citywatch.service.ports import Chance, Signer

BACKDATED_MS = 60_000
"""A certificate begins a minute early: TLS libraries forgive no difference of clocks."""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A paper: the DER of a certificate or the bytes of a token. `digest` is its SHA-256 in hex; times milliseconds."""

    kind: Kind
    value: bytes
    digest: str
    not_after: int


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One pair of the authority's keys: the certificate's DER, and the public key (DER) that checks tokens."""

    number: int
    certificate: bytes
    token_key: bytes


class Authority:
    """Issues SVIDs of one trust domain with the keys of one generation."""

    def __init__(
        self, domain: str, generation: Generation, *, certificates: Signer, tokens: Signer, chance: Chance
    ) -> None:
        """`certificates` and `tokens` are that generation's P-256 signers; `Malformed` if they are others."""
        self._certificate = parse_authority_certificate(generation.certificate, domain)
        if p256(certificates.public) != certificate_key(self._certificate):
            raise Malformed("the authority's key is not that of its certificate")
        if tokens.public != generation.token_key or tokens.public == certificates.public:
            raise Malformed("the authority's key for tokens is not that of its generation")
        self.domain = domain
        self.number = generation.number
        self._certificates = certificates
        self._tokens = tokens
        self._kid = thumbprint(p256(tokens.public))
        self._chance = chance

    def issue_x509(self, agent: AgentId, key: P256Key, *, now: int, ttl: int) -> Issued:
        """Certify that `key` is this agent's, for `ttl` milliseconds from `now`."""
        return self._issue_leaf(str(agent), (), key, now, ttl)

    def issue_gateway(self, key: P256Key, hosts: Sequence[str], *, now: int, ttl: int) -> Issued:
        """Certify the gateway's key under its SPIFFE ID, and the DNS names and addresses that TLS clients check."""
        return self._issue_leaf(gateway_id(self.domain), hosts, key, now, ttl)

    def issue_jwt(self, agent: AgentId, key: str, audience: str, *, now: int, ttl: int) -> Issued:
        """Write a bearer token for one audience; it is void once the key with the thumbprint `key` is."""
        self._check_domain(str(agent))
        if len(parse_b64url(key)) != 32:
            raise Malformed("a token is issued to a key's thumbprint")
        end = self._end(now, ttl)
        claims = {
            "sub": str(agent),
            "aud": [audience],
            "iat": now // 1000,
            "exp": end // 1000,
            "jti": self._chance.salt().hex(),
            KEY_CLAIM: key,
        }
        token = sign_token(self._tokens, TYPE, claims, kid=self._kid).encode("ascii")
        return Issued(kind=Kind.JWT, value=token, digest=digest(token), not_after=end)

    def issue_wit(self, agent: AgentId, key: P256Key, *, now: int, ttl: int) -> Issued:
        """Say that `key` is this agent's, in a token that is worth nothing without a signature of that key."""
        self._check_domain(str(agent))
        end = self._end(now, ttl)
        claims = {
            "sub": str(agent),
            "iat": now // 1000,
            "exp": end // 1000,
            "jti": self._chance.salt().hex(),
            "cnf": {"jwk": {**format_jwk(key), "alg": ALGORITHM}},
        }
        token = sign_token(self._tokens, wit.TYPE, claims, kid=self._kid).encode("ascii")
        return Issued(kind=Kind.WIT, value=token, digest=digest(token), not_after=end)

    def _issue_leaf(self, name: str, hosts: Sequence[str], key: P256Key, now: int, ttl: int) -> Issued:
        self._check_domain(name)
        end = self._end(now, ttl)
        der = write_leaf(
            name,
            hosts,
            key,
            self._certificate,
            self._certificates,
            serial=self._chance.salt(),
            not_before=now - BACKDATED_MS,
            not_after=end,
        )
        return Issued(kind=Kind.X509, value=der, digest=digest(der), not_after=end)

    def _check_domain(self, name: str) -> None:
        if not name.startswith(f"spiffe://{self.domain}/"):
            raise Malformed(f"`{name}` is not of the trust domain `{self.domain}`")

    def _end(self, now: int, ttl: int) -> int:
        """When a paper ends, in whole seconds as papers write it; never after the authority's own end."""
        last = int(self._certificate.not_valid_after_utc.timestamp()) * 1000
        if now >= last:
            raise Unavailable(Code.CREDENTIAL_EXPIRED, "the authority's certificate has expired: rotate the authority")
        return min(now + ttl, last) // 1000 * 1000


def found_generation(
    domain: str, number: int, certificates: Signer, tokens: Signer, *, now: int, ttl: int, chance: Chance
) -> Generation:
    """Make a generation of the authority from two fresh keys; its certificate lives `ttl` milliseconds."""
    key = p256(certificates.public)
    p256(tokens.public)
    certificate = write_authority(
        domain, key, certificates, serial=chance.salt(), not_before=now - BACKDATED_MS, not_after=now + ttl
    )
    return Generation(number=number, certificate=certificate, token_key=tokens.public)


def bundle_of(domain: str, generations: Sequence[Generation], *, sequence: int, refresh_hint: int) -> TrustBundle:
    """The trust bundle in which all these generations are believed; `refresh_hint` in seconds."""
    keys = {thumbprint(key): key for key in (p256(generation.token_key) for generation in generations)}
    return TrustBundle(
        domain=domain,
        certificates=tuple(parse_authority_certificate(each.certificate, domain) for each in generations),
        keys=keys,
        bound=keys,
        sequence=sequence,
        refresh_hint=refresh_hint,
    )


def sign_token(signer: Signer, typ: str, claims: Mapping[str, Any], *, kid: str | None = None) -> str:
    """Write claims as a compact ES256 token of the type `typ`, signed behind the port."""
    header = {"alg": ALGORITHM, "typ": typ} | ({} if kid is None else {"kid": kid})
    signing_input = f"{_segment(header)}.{_segment(claims)}"
    return f"{signing_input}.{_b64url(bare_signature(signer.sign(signing_input.encode('ascii'))))}"


def bare_signature(der: bytes) -> bytes:
    """What a P-256 signer made as r and s, 32 bytes each. SPEC: RFC 7518 §3.4, RFC 9421 §3.3.4."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def p256(spki: bytes) -> P256Key:
    """Read a DER public key that must be on P-256; `Malformed` otherwise."""
    key = parse_spki(spki)
    if not isinstance(key, P256Key):
        raise Malformed("the key is not on P-256")
    return key


def _segment(value: Mapping[str, Any]) -> str:
    return _b64url(json.dumps(value, separators=(",", ":")).encode("ascii"))


def _b64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
