"""How our certificates are written, and signed by a key that this process may not hold.

Decides the fields; which name, how long and whether at all is `service.authority`'s.
INVARIANT: what the port signs is exactly what stands in the certificate.
SPEC: X509-SVID §3 and §4, RFC 5280 §4, X.690 §8 (DER).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from citywatch.core.identity.certificate import ECDSA_WITH_SHA256, certificate_key
from citywatch.core.signature import P256Key, thumbprint
from citywatch.service.ports import Signer

_TEMPLATE_KEY = ec.derive_private_key(1, ec.SECP256R1())
"""Anybody's key. It signs only templates, and that signature is thrown away."""


def write_authority(
    domain: str, key: P256Key, signer: Signer, *, serial: bytes, not_before: int, not_after: int
) -> bytes:
    """A self-signed certificate of `domain`'s authority, which may issue leaves and no further authority. DER."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "citywatch"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"authority {thumbprint(key)[:16]}"),
        ]
    )
    template = (
        _template(key, subject, subject, serial, not_before, not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(leaf=False), critical=True)
        .add_extension(x509.SubjectAlternativeName([_uri(f"spiffe://{domain}")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.native), critical=False)
    )
    return _sign(template, signer)


def write_leaf(
    name: str,
    hosts: Sequence[str],
    key: P256Key,
    authority: x509.Certificate,
    signer: Signer,
    *,
    serial: bytes,
    not_before: int,
    not_after: int,
) -> bytes:
    """A certificate that names one SPIFFE ID, and for ordinary TLS clients hosts (DNS names, addresses). DER."""
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(certificate_key(authority).native)
    names = x509.SubjectAlternativeName([_uri(name), *map(_host, hosts)])
    template = (
        _template(key, x509.Name([]), authority.subject, serial, not_before, not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(leaf=True), critical=True)
        .add_extension(both, critical=False)
        .add_extension(names, critical=True)  # SPEC: RFC 5280 §4.2.1.6: critical because there is no subject
        .add_extension(issuer_key, critical=False)
    )
    return _sign(template, signer)


def _template(
    key: P256Key, subject: x509.Name, issuer: x509.Name, serial: bytes, not_before: int, not_after: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key.native)
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(int.from_bytes(serial, "big") >> 1 or 1)  # SPEC: RFC 5280 §4.1.2.2: positive
        .not_valid_before(_moment(not_before))
        .not_valid_after(_moment(not_after))
    )


def _sign(template: x509.CertificateBuilder, signer: Signer) -> bytes:
    """Have the port sign a certificate.

    The library signs only with a key that it holds. So it signs with a key that is nobody's, and we put the port's
    signature where that one stood: what is signed is the same, for it names the algorithm and not the signer's key.
    """
    body = template.sign(_TEMPLATE_KEY, SHA256()).tbs_certificate_bytes
    return _der(0x30, body + ECDSA_WITH_SHA256 + _der(0x03, b"\x00" + signer.sign(body)))


def _der(tag: int, content: bytes) -> bytes:
    count = len(content)
    if count < 0x80:  # SPEC: X.690 §8.1.3: the length, or how many octets it takes and those octets
        return bytes([tag, count]) + content
    octets = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


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


def _uri(name: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(name)


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=ms // 1000)
