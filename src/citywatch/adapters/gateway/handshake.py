"""What a failed TLS handshake says of the papers that were shown in it.

TLS judges a client's certificate before any of our code sees it, and shows it to nobody when it refuses: all that is
left is the library's number. Decides which of our codes that number is, and how to say it; not whether the certificate
was good. INVARIANTS: each way to be refused has a detail of its own; nothing that the client wrote is in it; what says
nothing about papers (no TLS at all, an old version, a client that hangs up) is not blamed on papers.
SPEC: RFC 5280 §6.1; the numbers are OpenSSL's X509_V_ERR_* (openssl-verification-options(1)).
"""

from __future__ import annotations

import ssl

from citywatch.core.errors import Code, Refused

_FOREIGN = "an authority that is not ours issued the certificate: another trust domain's, or a stranger's"
_NO_ISSUER = "whoever issued the certificate may not issue any: a leaf, or an authority below ours"
_VERIFIED: dict[int, tuple[Code, str]] = {
    2: (Code.CREDENTIAL_UNTRUSTED, _FOREIGN),
    7: (Code.CREDENTIAL_UNTRUSTED, "the certificate names our authority, which has not signed it"),
    9: (Code.CREDENTIAL_NOT_YET_VALID, "the certificate is not valid yet"),
    10: (Code.CREDENTIAL_EXPIRED, "the certificate has expired"),
    18: (Code.CREDENTIAL_UNTRUSTED, "the certificate is signed by itself"),
    19: (Code.CREDENTIAL_UNTRUSTED, "the certificate came with an authority of its own, which is not ours"),
    20: (Code.CREDENTIAL_UNTRUSTED, _FOREIGN),
    21: (Code.CREDENTIAL_UNTRUSTED, _FOREIGN),
    22: (Code.CREDENTIAL_MALFORMED, "the chain of certificates is too long"),
    25: (Code.CREDENTIAL_NOT_A_LEAF, _NO_ISSUER),
    26: (Code.CREDENTIAL_NOT_A_LEAF, "the certificate is not for clients: an authority's own, or for another use"),
    32: (Code.CREDENTIAL_NOT_A_LEAF, _NO_ISSUER),
    34: (Code.CREDENTIAL_MALFORMED, "the certificate has a critical extension that nobody here knows"),
    79: (Code.CREDENTIAL_NOT_A_LEAF, _NO_ISSUER),
    83: (Code.CREDENTIAL_NOT_A_LEAF, _NO_ISSUER),  # papers without a subject are a leaf's: ours have none
}
# Who shows a certificate whose key he lacks has only read it somewhere: it is public.
_UNPROVEN = frozenset({"BAD_SIGNATURE", "WRONG_SIGNATURE_TYPE", "WRONG_SIGNATURE_SIZE"})
_UNREADABLE = frozenset({"ASN1_LIB", "X509_LIB", "CERT_LENGTH_MISMATCH", "LENGTH_MISMATCH", "UNKNOWN_CERTIFICATE_TYPE"})
_UNREADABLE_BY = ("ASN1 lib", "X509 lib")  # a reader's failure within the library has words and, here, no name


def papers_refused(failure: ssl.SSLError) -> Refused | None:
    """Why the handshake refused the client's papers; None if it failed for another reason."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        code, detail = _VERIFIED.get(failure.verify_code, (Code.CREDENTIAL_MALFORMED, _read(failure)))
        return Refused(code, detail)
    if failure.reason in _UNPROVEN:
        return Refused(Code.CREDENTIAL_UNTRUSTED, "the client does not hold the certificate's key")
    if failure.reason in _UNREADABLE or any(reader in str(failure) for reader in _UNREADABLE_BY):
        return Refused(Code.CREDENTIAL_MALFORMED, "the certificate cannot be read")
    return None


def _read(failure: ssl.SSLCertVerificationError) -> str:
    """In the library's own words, which are a fixed list."""
    return f"the certificate is irregular: {failure.verify_message}".lower()
