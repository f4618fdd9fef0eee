"""Whom we believe: the certificates and keys with which one trust domain's authority signs.

Decides whether text is a SPIFFE bundle. Does not decide whether it came from the right place: that is asked of the
channel or the file it came through.
INVARIANTS: `parse_bundle(format_bundle(bundle), bundle.domain) == bundle`; a bundle belongs to one trust domain, named
by the caller and never by the text; an authority for certificates is not one for tokens.
SPEC: SPIFFE Trust Domain and Bundle §4, X509-SVID §6, RFC 7517.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography import x509

from citywatch.core.errors import Malformed
from citywatch.core.identity.certificate import certificate_key, format_certificate, parse_authority_certificate
from citywatch.core.identity.token import parse_object
from citywatch.core.names import parse_domain
from citywatch.core.signature import P256Key, format_jwk, parse_jwk

MAX_BUNDLE_BYTES = 262_144
MAX_AUTHORITIES = 64
_X509, _JWT, _WIT = "x509-svid", "jwt-svid", "wit-svid"
ENVELOPE = "citywatch-envelope"
"""The `use` of a key that signs envelopes. A reader that does not know it passes over it (§4.2.2)."""
PRINCIPALS = "citywatch-principal"
"""The `use` of a key that signs the first link of a chain in the name of a principal of this domain."""


class TrustBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A trust domain's authorities. `certificates` sign X.509-SVIDs; `keys`, by `kid`, JWT-SVIDs; `bound` WIT-SVIDs.

    `envelopes` are its gateway's keys for envelopes of messages, `principals` those that speak for its principals.

    `sequence` grows with every change; `refresh_hint` is the seconds after which to look for a newer one.
    """

    domain: str
    certificates: tuple[x509.Certificate, ...]
    keys: Mapping[str, P256Key]
    sequence: int
    refresh_hint: int
    bound: Mapping[str, P256Key] = {}
    envelopes: Mapping[str, P256Key] = {}
    principals: Mapping[str, P256Key] = {}


def parse_bundle(text: bytes, domain: str) -> TrustBundle:
    """Read a SPIFFE bundle (JWKS) as the bundle of `domain`; raise `Malformed` with what is wrong.

    Entries of an unknown use or key type are ignored, as the specification demands. An entry that we do understand and
    that is wrong refuses the whole bundle: half an authority is a surprise for somebody.
    """
    parse_domain(domain)
    if len(text) > MAX_BUNDLE_BYTES:
        raise Malformed(f"a bundle has at most {MAX_BUNDLE_BYTES} bytes")
    document = parse_object(text)
    certificates: list[x509.Certificate] = []
    keys: dict[str, dict[str, P256Key]] = {_JWT: {}, _WIT: {}, ENVELOPE: {}, PRINCIPALS: {}}
    for entry in _entries(document):
        if entry.get("kty") != "EC" or entry.get("crv") != "P-256":
            continue  # SPEC: §4.2.1; the SVIDs that we know are all on P-256
        if entry.get("use") == _X509:
            certificates.extend(_certificates(entry, domain))
        elif (use := entry.get("use")) in keys:
            kid = _kid(entry)
            if kid in keys[use]:
                raise Malformed("two keys of the bundle have one `kid`")
            keys[use][kid] = _key(entry, use)
    return TrustBundle(
        domain=domain,
        certificates=tuple(certificates),
        keys=keys[_JWT],
        bound=keys[_WIT],
        envelopes=keys[ENVELOPE],
        principals=keys[PRINCIPALS],
        sequence=_count(document, "spiffe_sequence"),
        refresh_hint=_count(document, "spiffe_refresh_hint"),
    )


def parse_token_keys(text: bytes) -> dict[str, P256Key]:
    """Read the keys for JWT-SVIDs that a Workload API gives; raise `Malformed` with what is wrong.

    SPEC: SPIFFE Workload API §6.2.2: a JWK Set for these keys alone, so that SPIRE writes no `use` into it, which a
    bundle has to. What says that it is for something else is passed over.
    """
    if len(text) > MAX_BUNDLE_BYTES:
        raise Malformed(f"a bundle has at most {MAX_BUNDLE_BYTES} bytes")
    keys: dict[str, P256Key] = {}
    for entry in _entries(parse_object(text)):
        if (entry.get("kty"), entry.get("crv"), entry.get("use", _JWT)) != ("EC", "P-256", _JWT):
            continue
        kid = _kid(entry)
        if kid in keys:
            raise Malformed("two keys of the bundle have one `kid`")
        keys[kid] = _key(entry, _JWT)
    return keys


def format_bundle(bundle: TrustBundle) -> bytes:
    """The bundle as text; the inverse of `parse_bundle`."""
    entries: list[dict[str, Any]] = [
        {
            "use": _X509,
            **format_jwk(certificate_key(certificate)),
            "x5c": [b64encode(format_certificate(certificate)).decode("ascii")],
        }
        for certificate in bundle.certificates
    ]
    uses = ((_JWT, bundle.keys), (_WIT, bundle.bound), (ENVELOPE, bundle.envelopes), (PRINCIPALS, bundle.principals))
    for use, keys in uses:
        entries += [{"use": use, "kid": kid, **format_jwk(key)} for kid, key in keys.items()]
    document = {"keys": entries, "spiffe_sequence": bundle.sequence, "spiffe_refresh_hint": bundle.refresh_hint}
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def format_svid_bundle(bundle: TrustBundle) -> bytes:
    """What of a bundle is about X.509-SVIDs and JWT-SVIDs, for who refuses a use that he does not know, as SPIRE does.

    SPEC: SPIFFE Trust Domain and Bundle §4.2.2 has him pass over it.
    """
    return format_bundle(msgspec.structs.replace(bundle, bound={}, envelopes={}))


def _entries(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_AUTHORITIES:
        raise Malformed(f"a bundle has a list `keys` of at most {MAX_AUTHORITIES} entries")
    if not all(isinstance(entry, dict) for entry in entries):
        raise Malformed("an entry of the bundle is not an object")
    return entries


def _certificates(entry: Mapping[str, Any], domain: str) -> list[x509.Certificate]:
    chain = entry.get("x5c")
    if chain is None or chain == []:
        return []  # SPEC: X509-SVID §6.2: such an entry must be ignored
    if not isinstance(chain, list) or not isinstance(chain[0], str):
        raise Malformed("an entry's `x5c` is not a list of texts")
    try:
        der = b64decode(chain[0], validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("an entry's `x5c` is not base64") from None
    certificate = parse_authority_certificate(der, domain)
    if _key(entry, _X509).point != certificate_key(certificate).point:
        raise Malformed("an entry's key is not that of its certificate")
    return [certificate]


def _key(entry: Mapping[str, Any], use: str) -> P256Key:
    key = parse_jwk(entry, use=use)
    if not isinstance(key, P256Key):
        raise Malformed("an entry's key is not on P-256")
    return key


def _kid(entry: Mapping[str, Any]) -> str:
    kid = entry.get("kid")
    if not isinstance(kid, str) or not kid.isascii() or not 0 < len(kid) <= 256:
        raise Malformed("a key for tokens has no `kid`")
    return kid


def _count(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name, 0)
    if type(value) is not int or not 0 <= value < 2**53:
        raise Malformed(f"`{name}` is not a whole number")
    return value
