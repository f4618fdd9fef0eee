"""The key that a program gets with its papers.

Decides nothing. INVARIANTS: drawn for one run, and on no disk; the private half leaves this module only as the Workload
API hands it over, and is in no repr and no pickle.
"""

from __future__ import annotations

from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


class WorkloadKey:
    """A fresh key on P-256. `public` is its DER."""

    __slots__ = ("_key", "public")

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def hand_over(self) -> bytes:
        """The private half, PKCS#8 in DER, for the program that it was drawn for."""
        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        return "WorkloadKey()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not copied")
