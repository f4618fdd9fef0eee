"""An X.509 certificate, read strictly and without a clock.

Decides whether bytes are a certificate that we can read whole, and whether one may stand in a trust bundle as an
authority's. Does not decide whether a leaf is trusted (`x509`).
INVARIANTS: any bytes give a certificate or `Malformed`; a key that is not on P-256 is no key of ours.
SPEC: RFC 5280 §4.1 and §4.2, X509-SVID §3.2, §4.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID

from citywatch.core.errors import Malformed
from citywatch.core.signature import P256Key, parse_spki, verify_p256_der

MAX_CERTIFICATE_BYTES = 16_384
ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""The algorithm identifier of every signature we believe. SPEC: RFC 5758 §3.2: without parameters."""
_KNOWN_CRITICAL = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)


def parse_certificate(der: bytes, *, issues: bool = False) -> x509.Certificate:
    """Read one DER certificate with all that we shall ask of it; the library parses lazily, and errors belong here.

    `issues`: constraints on names are known, which `path` asks of each authority.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise Malformed(f"a certificate has at most {MAX_CERTIFICATE_BYTES} bytes")
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
        _ = certificate.issuer, certificate.subject, certificate.signature_algorithm_parameters
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise Malformed("the bytes are not an X.509 certificate that we know") from None
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Malformed("the certificate's extensions are not well formed") from None
    except CryptographyDeprecationWarning:  # where warnings are errors; where they are not, the checks below refuse
        raise Malformed("the certificate is irregular") from None
    if certificate.serial_number <= 0:  # SPEC: RFC 5280 §4.1.2.2
        raise Malformed("the certificate's serial number is not positive")
    for extension in extensions:
        known = extension.oid in _KNOWN_CRITICAL or (issues and extension.oid == ExtensionOID.NAME_CONSTRAINTS)
        if extension.critical and not known:  # SPEC: RFC 5280 §4.2
            raise Malformed("the certificate has a critical extension that we do not know")
    return certificate


def format_certificate(certificate: x509.Certificate) -> bytes:
    """The certificate's DER; the inverse of `parse_certificate`."""
    return certificate.public_bytes(Encoding.DER)


def parse_authority_certificate(der: bytes, domain: str) -> x509.Certificate:
    """Read a certificate that may issue SVIDs of `domain`: CA:true, keyCertSign, P-256, and no foreign name.

    SPEC: X509-SVID §3.2: a signing certificate's SPIFFE ID, if it has one, has no path.
    """
    certificate = parse_certificate(der, issues=True)
    constraints, usage = basic_constraints(certificate), key_usage(certificate)
    if constraints is None or not constraints.ca or usage is None or not usage.key_cert_sign:
        raise Malformed("the certificate is not an authority's")
    if uri_names(certificate) not in ([], [f"spiffe://{domain}"]):
        raise Malformed(f"the certificate is not of the trust domain `{domain}`")
    certificate_key(certificate)
    return certificate


def certificate_key(certificate: x509.Certificate) -> P256Key:
    """The key that the certificate is about, if it is on P-256; `Malformed` otherwise."""
    written = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = parse_spki(written)
    if not isinstance(key, P256Key):
        raise Malformed("the certificate's key is not on P-256")
    if written not in certificate.tbs_certificate_bytes:  # the library reads points in other forms, and writes this one
        raise Malformed("the certificate's key is not in its one form")
    return key


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """True if `authority`'s name and P-256 key stand behind the certificate. Reads no clock and follows no chain."""
    if certificate.issuer != authority.subject:
        return False
    # The algorithm that stands outside is not signed: with a second spelling, one certificate would have two digests.
    ending = b"\x03" + bytes([len(certificate.signature) + 1, 0]) + certificate.signature
    if len(certificate.signature) > 72 or not format_certificate(certificate).endswith(ECDSA_WITH_SHA256 + ending):
        return False
    try:
        verify_p256_der(certificate_key(authority), certificate.tbs_certificate_bytes, certificate.signature)
    except Malformed:
        return False
    return True


def basic_constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None


def key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    """The key usage if the certificate has it and marks it critical, as X509-SVID §4.3 demands; None otherwise."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        return None
    return extension.value if extension.critical else None


def extended_usages(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier] | None:
    try:
        return frozenset(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return None


def name_constraints(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def uri_names(certificate: x509.Certificate) -> list[str]:
    """All URI names of the certificate, in order."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))
