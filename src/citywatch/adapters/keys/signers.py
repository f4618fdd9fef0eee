"""Private keys that sign and are never shown.

Decides nothing. `KeySigner` is `service.ports.Signer` for a P-256 key (ECDSA with SHA-256, the signature in DER) or an
Ed25519 key (64 bytes).
INVARIANTS: the private half leaves this module only into a file of a `SecretDirectory`; what is drawn from it for
another purpose does not lead back to it; it is in no repr, no pickle and
no error's text; a key file holds exactly one unencrypted PKCS#8 key of a kind that we use.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from citywatch.adapters.keys.files import SecretDirectory
from citywatch.core.errors import Malformed

_ES256 = ec.ECDSA(SHA256())


class KeyKind(StrEnum):
    """What a key is for decides its kind: papers and TLS take P-256, the log takes Ed25519."""

    P256 = "P-256"
    ED25519 = "Ed25519"


class KeySigner:
    """Signs with one private key."""

    __slots__ = ("_key", "kind", "public")

    def __init__(self, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> None:
        self._key = key
        self.kind = KeyKind.ED25519 if isinstance(key, Ed25519PrivateKey) else KeyKind.P256
        self.public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        """P-256: an ECDSA signature in DER; Ed25519: 64 bytes."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, _ES256)

    def drawn(self, purpose: bytes) -> bytes:
        """32 bytes that follow from this key and the purpose, and from which nobody learns anything of this key."""
        if isinstance(self._key, Ed25519PrivateKey):
            secret = self._key.private_bytes_raw()
        else:
            secret = self._key.private_numbers().private_value.to_bytes(32, "big")
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret)

    def __repr__(self) -> str:
        return f"KeySigner({self.kind.value})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not copied")


def create_key(directory: SecretDirectory, name: str, kind: KeyKind) -> KeySigner:
    """Draw a key and keep it in a new file; `Malformed` if there is one of that name."""
    key = _draw(kind)
    directory.create(name, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return KeySigner(key)


def load_key(directory: SecretDirectory, name: str, kind: KeyKind | None) -> KeySigner:
    """Read a key that was kept; `Malformed` if the file is not private or holds anything but such a key.

    None: a key of either kind.
    """
    try:
        key = load_pem_private_key(directory.read(name), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise Malformed(f"`{directory.path / name}` does not hold an unencrypted PKCS#8 key in PEM") from None
    if isinstance(key, Ed25519PrivateKey) and kind in (KeyKind.ED25519, None):
        return KeySigner(key)
    if (
        isinstance(key, ec.EllipticCurvePrivateKey)
        and isinstance(key.curve, ec.SECP256R1)
        and kind in (KeyKind.P256, None)
    ):
        return KeySigner(key)
    wanted = "an Ed25519 or a P-256" if kind is None else f"a {kind.value}"
    raise Malformed(f"`{directory.path / name}` does not hold {wanted} key")


def open_key(directory: SecretDirectory, name: str, kind: KeyKind) -> KeySigner:
    """Read the key, or draw it if there is none; of two processes that do so at once, both get the first one's."""
    if not directory.exists(name):
        try:
            return create_key(directory, name, kind)
        except Malformed:
            if not directory.exists(name):
                raise
    return load_key(directory, name, kind)


def replace_key(directory: SecretDirectory, name: str, kind: KeyKind) -> KeySigner:
    """Draw a key in place of whatever was kept there: for keys that last no longer than their process."""
    key = _draw(kind)
    directory.replace(name, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return KeySigner(key)


def _draw(kind: KeyKind) -> ec.EllipticCurvePrivateKey | Ed25519PrivateKey:
    return Ed25519PrivateKey.generate() if kind is KeyKind.ED25519 else ec.generate_private_key(ec.SECP256R1())
