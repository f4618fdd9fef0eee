"""A small authority made with the libraries alone, and papers with any defect one may wish for.

Nothing of `citywatch.service` is used, so that what issues and what verifies cannot share a mistake.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.signature import P256Key, parse_p256_key, thumbprint

DOMAIN = "acme.example"
AUDIENCE = "spiffe://acme.example/gateway"
AGENT = "spiffe://acme.example/agent/billing"
NOW = 1_800_000_000_000
HOUR = 3_600_000

Key = ec.EllipticCurvePrivateKey
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def draw() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: Key) -> P256Key:
    return parse_p256_key(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def spki(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)


def usage(**on: bool) -> x509.KeyUsage:
    off = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**(off | on))


SIGNS = usage(digital_signature=True)


def certificate(
    key: Any,
    signer: Key,
    *,
    issuer: str = "authority",
    subject: str | None = None,
    uris: tuple[str, ...] = (AGENT,),
    dns: tuple[str, ...] = (),
    ca: bool | None = False,
    path_length: int | None = None,
    key_usage: x509.KeyUsage | None = SIGNS,
    key_usage_critical: bool = True,
    extended: tuple[x509.ObjectIdentifier, ...] | None = BOTH,
    start: int = NOW - HOUR,
    end: int = NOW + HOUR,
    critical_stranger: bool = False,
    hash_with: Any = None,
    serial: int | None = None,
    constraints: x509.NameConstraints | None = None,
    constraints_critical: bool = False,
    linked: bool = False,
) -> bytes:
    """A certificate for `key`, signed by `signer`; without a defect asked for, a good leaf.

    `linked`: with the names of both keys, which libraries want in a chain.
    """
    builder = (
        x509.CertificateBuilder()
        .public_key(key.public_key())
        .subject_name(x509.Name([]) if subject is None else name(subject))
        .issuer_name(name(issuer))
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(moment(start))
        .not_valid_after(moment(end))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=key_usage_critical)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=subject is None)
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=constraints_critical)
    if linked:
        own, above = key.public_key(), signer.public_key()
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
    if critical_stranger:
        stranger = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
        builder = builder.add_extension(stranger, critical=True)
    return builder.sign(signer, hash_with or SHA256()).public_bytes(Encoding.DER)


def authority_certificate(key: Key, *, subject: str = "authority", **changes: Any) -> bytes:
    defaults: dict[str, Any] = {
        "issuer": subject,
        "subject": subject,
        "uris": (f"spiffe://{DOMAIN}",),
        "ca": True,
        "path_length": 0,
        "key_usage": usage(key_cert_sign=True),
        "extended": None,
        "start": NOW - 10 * HOUR,
        "end": NOW + 10 * HOUR,
    }
    return certificate(key, key, **(defaults | changes))


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def es256(key: Key, signing_input: str) -> bytes:
    r, s = decode_dss_signature(key.sign(signing_input.encode(), ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class World:
    """A trust domain: its authority's keys, one agent's key, and the bundle that believes the authority."""

    def __init__(self) -> None:
        self.ca, self.tokens, self.agent = draw(), draw(), draw()
        self.kid = "tokens-1"
        self.ca_der = authority_certificate(self.ca)
        self.bundle = TrustBundle(
            domain=DOMAIN,
            certificates=(x509.load_der_x509_certificate(self.ca_der),),
            keys={self.kid: public(self.tokens)},
            sequence=1,
            refresh_hint=300,
        )
        self.thumbprint = thumbprint(public(self.agent))

    def leaf(self, **changes: Any) -> bytes:
        return certificate(self.agent, self.ca, **changes)

    def header(self, **changes: Any) -> dict[str, Any]:
        return _changed({"alg": "ES256", "typ": "JWT", "kid": self.kid}, changes)

    def claims(self, **changes: Any) -> dict[str, Any]:
        claims = {
            "sub": AGENT,
            "aud": [AUDIENCE],
            "iat": NOW // 1000,
            "exp": (NOW + HOUR) // 1000,
            "citywatch_key": self.thumbprint,
        }
        return _changed(claims, changes)

    def token(
        self,
        header: dict[str, Any] | None = None,
        claims: dict[str, Any] | None = None,
        *,
        header_text: str | None = None,
        claims_text: str | None = None,
        sign: Callable[[str], bytes] | None = None,
    ) -> bytes:
        """A token; each part can be replaced, by value or as the very text that is signed."""
        head = header_text if header_text is not None else json.dumps(self.header() if header is None else header)
        body = claims_text if claims_text is not None else json.dumps(self.claims() if claims is None else claims)
        signing_input = f"{b64url(head.encode())}.{b64url(body.encode())}"
        signature = es256(self.tokens, signing_input) if sign is None else sign(signing_input)
        return f"{signing_input}.{b64url(signature)}".encode()


def _changed(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Ellipsis takes a member away."""
    return {key: value for key, value in (members | changes).items() if value is not ...}
