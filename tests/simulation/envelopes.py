"""A gateway of another trust domain, and the envelopes that it writes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from citywatch.adapters.keys import KeySigner
from citywatch.core.canonical import canonical
from citywatch.core.identity.envelope import TYPE
from citywatch.core.signature import thumbprint
from citywatch.service.authority import bare_signature, p256

DOMAIN = "partner.example"
ISSUER = f"spiffe://{DOMAIN}/gateway"
SENDER = f"spiffe://{DOMAIN}/agent/router"
NOW = 1_800_000_000_000


class Signer(KeySigner):
    """A key that other people's libraries can be given as well."""

    def __init__(self) -> None:
        self._own = ec.derive_private_key(0x1F00DFEED, ec.SECP256R1())
        super().__init__(self._own)

    def private_pem(self) -> bytes:
        return self._own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


SIGNER = Signer()
KEYS = {thumbprint(p256(SIGNER.public)): p256(SIGNER.public)}


def written(claims: Mapping[str, Any], **header: Any) -> str:
    """Claims as the gateway signs them."""
    head = {"alg": "ES256", "kid": next(iter(KEYS)), "typ": TYPE} | header
    signed = f"{_b64url(canonical(head))}.{_b64url(canonical(dict(claims)))}"
    return f"{signed}.{_b64url(bare_signature(SIGNER.sign(signed.encode())))}"


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
