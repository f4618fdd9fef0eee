"""An authenticator in software, for tests: it makes credentials and signs, honestly or not."""

from __future__ import annotations

import hashlib
import json
import random
from base64 import urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citywatch.core.approvals.people import Passkeys
from citywatch.core.approvals.webauthn import AT, UP, UV, Assertion, Registration

RP = Passkeys(rp_id="console.acme.example", origins=("https://console.acme.example",))


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def cbor(value: Any) -> bytes:
    """CBOR of what authenticators write, in its shortest form."""

    def head(major: int, count: int) -> bytes:
        if count < 24:
            return bytes([major << 5 | count])
        size = 1 if count < 1 << 8 else 2 if count < 1 << 16 else 4 if count < 1 << 32 else 8
        return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size]]) + count.to_bytes(size)

    if isinstance(value, bool) or value is None:
        return bytes([{False: 0xF4, True: 0xF5, None: 0xF6}[value]])
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())


class Authenticator:
    """One credential. Whatever a test changes of `client`, `data` or `flags` is signed as it is then."""

    def __init__(self, seed: int = 1, *, ed25519: bool = False) -> None:
        draw = random.Random(seed)
        self.id = draw.randbytes(32)
        self.count = 0
        self.key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey = (
            Ed25519PrivateKey.from_private_bytes(draw.randbytes(32))
            if ed25519
            else ec.derive_private_key(draw.getrandbits(250) + 1, ec.SECP256R1())
        )

    def cose(self) -> dict[Any, Any]:
        if isinstance(self.key, Ed25519PrivateKey):
            return {1: 1, 3: -8, -1: 6, -2: self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)}
        numbers = self.key.public_key().public_numbers()
        return {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}

    def data(self, rp_id: str, flags: int, credential: bool = False) -> bytes:
        more = bytes(16) + len(self.id).to_bytes(2) + self.id + cbor(self.cose()) if credential else b""
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + self.count.to_bytes(4) + more

    def register(self, challenge: bytes, rp: Passkeys = RP, /, **changed: Any) -> Registration:
        told = {"fmt": "none", "attStmt": {}, "authData": self.data(rp.rp_id, changed.pop("flags", UP | UV | AT), True)}
        told |= changed.pop("told", {})
        return Registration(
            attestation=b64(cbor(told)), client=b64(client("webauthn.create", challenge, rp, **changed))
        )

    def sign(self, challenge: bytes, rp: Passkeys = RP, /, **changed: Any) -> Assertion:
        self.count += changed.pop("steps", 1)
        data = changed.pop("data", None) or self.data(changed.pop("rp_id", rp.rp_id), changed.pop("flags", UP | UV))
        said = client("webauthn.get", challenge, rp, **changed)
        return Assertion(
            id=b64(self.id), authenticator=b64(data), client=b64(said), signature=b64(self._sign(data, said))
        )

    def _sign(self, data: bytes, said: bytes) -> bytes:
        message = data + hashlib.sha256(said).digest()
        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(message)
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))


def client(kind: str, challenge: bytes, rp: Passkeys, /, **changed: Any) -> bytes:
    """What the browser collected."""
    told = {"type": kind, "challenge": b64(challenge), "origin": rp.origins[0], "crossOrigin": False} | changed
    return json.dumps({name: value for name, value in told.items() if value is not ...}).encode()
