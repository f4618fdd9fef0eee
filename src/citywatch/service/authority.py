"""The trust domain's authority: it issues papers, with keys that it can use and never sees.

Decides what stands in an SVID: one name, no power to sign for others, a short life that never outlasts the authority's
own. Does not decide who may have one (`service.admin`).
INVARIANTS: every signature is made behind the `Signer` port; certificates and tokens are signed by different keys, so
that no bytes of one kind are ever good for the other; what is issued here is what `core.identity` accepts.
SPEC: X509-SVID §3 and §4, JWT-SVID §2 and §3, RFC 5280 §4.1.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.certificate import certificate_key, parse_authority_certificate
from citywatch.core.identity.credential import Kind
from citywatch.core.identity.jwt import KEY_CLAIM, TYPE
from citywatch.core.identity.x509 import gateway_id
from citywatch.core.names import AgentId
from citywatch.core.signature import P256Key, parse_spki, thumbprint
from citywatch.service.ports import Chance, Signer

BACKDATED_MS = 60_000
"""A certificate begins a minute early: TLS libraries forgive no difference of clocks."""

_TEMPLATE_KEY = ec.derive_private_key(1, ec.SECP256R1())
"""Anybody's key. It signs only templates, whose signature is thrown away."""


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

    def __init__(self, domain: str, generation: Generation, *, certificates: Signer, tokens: Signer, chance: Chance):
        """`certificates` and `tokens` are the generation's signers; `Malformed` if they are not."""
        self._certificate = parse_authority_certificate(generation.certificate, domain)
        if p256(certificates.public) != certificate_key(self._certificate):
            raise Malformed("the authority's key is not that of its certificate")
        if tokens.public != generation.token_key or tokens.public == certificates.public:
            raise Malformed("the authority's key for tokens is not that of its generation")
        self.domain = domain
        self._certificates = certificates
        self._tokens = tokens
        self._kid = thumbprint(p256(tokens.public))
        self._chance = chance

    def issue_x509(self, agent: AgentId, key: P256Key, *, now: int, ttl: int) -> Issued:
        """Certify that `key` is this agent's for `ttl` milliseconds."""
        return self._issue_leaf(str(agent), key, [], now=now, ttl=ttl)

    def issue_gateway(self, key: P256Key, names: Sequence[str], *, now: int, ttl: int) -> Issued:
        """Certify the gateway's key under its SPIFFE ID and the DNS and IP names that ordinary clients check."""
        return self._issue_leaf(gateway_id(self.domain), key, list(map(_host, names)), now=now, ttl=ttl)

    def issue_jwt(self, agent: AgentId, key: str, audience: str, *, now: int, ttl: int) -> Issued:
        """Write a bearer token for one audience, void once the key with the thumbprint `key` is revoked."""
        self._check_domain(str(agent))
        end = self._end(now, ttl) // 1000
        claims = {
            "sub": str(agent),
            "aud": [audience],
            "iat": now // 1000,
            "exp": end,
            "jti": self._chance.salt().hex(),
            KEY_CLAIM: key,
        }
        token = sign_token(self._tokens, TYPE, claims, kid=self._kid).encode("ascii")
        return Issued(kind=Kind.JWT, value=token, digest=digest(token), not_after=end * 1000)

    def _issue_leaf(self, name: str, key: P256Key, hosts: list[x509.GeneralName], *, now: int, ttl: int) -> Issued:
        self._check_domain(name)
        end = self._end(now, ttl)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name), *hosts])
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        template = (
            _blank(key, x509.Name([]), self._certificate.subject, now - BACKDATED_MS, end, self._chance)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(leaf=True), critical=True)
            .add_extension(both, critical=False)
            .add_extension(names, critical=True)  # SPEC: RFC 5280 §4.2.1.6: critical because there is no subject
            .add_extension(_names_key(certificate_key(self._certificate)), critical=False)
        )
        der = _sign_certificate(template, self._certificates)
        return Issued(kind=Kind.X509, value=der, digest=digest(der), not_after=end // 1000 * 1000)

    def _check_domain(self, name: str) -> None:
        if not name.startswith(f"spiffe://{self.domain}/"):
            raise Malformed(f"`{name}` is not of the trust domain `{self.domain}`")

    def _end(self, now: int, ttl: int) -> int:
        last = int(self._certificate.not_valid_after_utc.timestamp()) * 1000
        if ttl <= 0 or now >= last:
            raise Unavailable(Code.CREDENTIAL_EXPIRED, "the authority's certificate has expired: rotate it")
        return min(now + ttl, last)


def found_generation(
    domain: str, number: int, certificates: Signer, tokens: Signer, *, now: int, ttl: int, chance: Chance
) -> Generation:
    """Make a generation of the authority: a self-signed certificate that may issue leaves and nothing else."""
    key = p256(certificates.public)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "citywatch"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"authority {thumbprint(key)[:16]}"),
        ]
    )
    template = (
        _blank(key, subject, subject, now - BACKDATED_MS, now + ttl, chance)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(leaf=False), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{domain}")]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.native), critical=False)
    )
    certificate = _sign_certificate(template, certificates)
    parse_authority_certificate(certificate, domain)
    p256(tokens.public)
    return Generation(number=number, certificate=certificate, token_key=tokens.public)


def bundle_of(domain: str, generations: Sequence[Generation], *, sequence: int, refresh_hint: int = 300) -> TrustBundle:
    """The trust bundle in which all these generations are believed."""
    keys = [p256(generation.token_key) for generation in generations]
    return TrustBundle(
        domain=domain,
        certificates=tuple(parse_authority_certificate(each.certificate, domain) for each in generations),
        keys={thumbprint(key): key for key in keys},
        sequence=sequence,
        refresh_hint=refresh_hint,
    )


def sign_token(signer: Signer, typ: str, claims: Mapping[str, Any], *, kid: str | None = None) -> str:
    """Write claims as a compact ES256 token of the type `typ`, signed behind the port."""
    header = {"alg": "ES256", "typ": typ} | ({} if kid is None else {"kid": kid})
    signing_input = f"{_segment(header)}.{_segment(claims)}"
    r, s = decode_dss_signature(signer.sign(signing_input.encode("ascii")))
    signature = urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).rstrip(b"=").decode("ascii")
    return f"{signing_input}.{signature}"


def p256(spki: bytes) -> P256Key:
    """Read a DER public key that must be on P-256; `Malformed` otherwise."""
    key = parse_spki(spki)
    if not isinstance(key, P256Key):
        raise Malformed("the key is not on P-256")
    return key


def _segment(value: Mapping[str, Any]) -> str:
    data = json.dumps(value, separators=(",", ":")).encode("ascii")
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _blank(
    key: P256Key, subject: x509.Name, issuer: x509.Name, start: int, end: int, chance: Chance
) -> x509.CertificateBuilder:
    serial = int.from_bytes(chance.salt(), "big") >> 1 or 1  # SPEC: RFC 5280 §4.1.2.2: positive, at most 20 octets
    return (
        x509.CertificateBuilder()
        .public_key(key.native)
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(serial)
        .not_valid_before(_moment(start))
        .not_valid_after(_moment(end))
    )


def _sign_certificate(template: x509.CertificateBuilder, signer: Signer) -> bytes:
    """Have the port sign a certificate.

    The library signs only with a key that it holds. So it signs with a key that is nobody's, and we put the port's
    signature where that one stood; what is signed is the same, because it names the algorithm and not the key.
    """
    body = template.sign(_TEMPLATE_KEY, SHA256()).tbs_certificate_bytes
    return _sequence(body + _ECDSA_WITH_SHA256 + _bit_string(signer.sign(body)))


_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def _sequence(content: bytes) -> bytes:
    return b"\x30" + _length(len(content)) + content


def _bit_string(content: bytes) -> bytes:
    return b"\x03" + _length(len(content) + 1) + b"\x00" + content


def _length(count: int) -> bytes:
    """SPEC: X.690 §8.1.3: short below 128, else the number of octets and the octets."""
    if count < 0x80:
        return bytes([count])
    octets = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets


def _usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        key_cert_sign=not leaf,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names_key(key: P256Key) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.native)


def _host(name: str) -> x509.GeneralName:
    try:
        address: IPv4Address | IPv6Address = ip_address(name)
    except ValueError:
        return x509.DNSName(name)
    return x509.IPAddress(address)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=ms // 1000)
