"""Keys and first links for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from citywatch.adapters.keys.signers import KeySigner
from citywatch.core.delegation.caveats import Caveats
from citywatch.core.delegation.handing import Holder, root_grant
from citywatch.core.signature import parse_spki, thumbprint
from citywatch.service.grants import sign_grant

UNTIL = 2_000_000_000_000
ROUTER = "spiffe://t.example/agent/router"
HELPER = "spiffe://t.example/agent/helper"


class Hand:
    """An agent's key, and a principal who gives it tasks."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.principal = KeySigner(ec.generate_private_key(ec.SECP256R1()))

    @property
    def thumb(self) -> str:
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return thumbprint(parse_spki(public))

    def root(self, task: str = "t-1", depth: int = 2) -> str:
        caveats = Caveats(
            audience=frozenset({"t.example"}), tools=frozenset({"desk/*"}), calls=9, not_after=UNTIL, depth=depth
        )
        thumb = thumbprint(parse_spki(self.principal.public))
        payload = root_grant("c" * 16, task, "principal:alice", thumb, Holder(ROUTER, self.thumb), caveats)
        return sign_grant(payload, self.principal)

    def write(self, folder: Path) -> Path:
        file = folder / "key.pem"
        file.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return file
