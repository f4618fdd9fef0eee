"""Every signer keeps the port's promises: one public key, signatures that it verifies, and nothing else to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from citywatch.adapters.keys import CheckpointSigner, KeyKind, SecretDirectory, create_key
from citywatch.adapters.memory import MemorySigner
from citywatch.core.errors import Malformed
from citywatch.core.log.checkpoint import Checkpoint, format_checkpoint
from citywatch.core.signature import Ed25519Key, parse_spki, verify_ed25519, verify_p256_der
from citywatch.service.ports import Signer

HEAD = format_checkpoint(Checkpoint("acme.example/log", 3, bytes(32))).encode()


@pytest.fixture(params=["memory", "P-256", "Ed25519", "checkpoints"])
def signer(request: pytest.FixtureRequest, tmp_path: Path) -> Signer:
    directory = SecretDirectory(tmp_path / "keys")
    if request.param == "memory":
        return MemorySigner(1)
    if request.param == "checkpoints":
        return CheckpointSigner(
            directory, "log.key", create_key(directory, "log.key", KeyKind.ED25519), "acme.example/log"
        )
    return create_key(directory, "a.key", KeyKind(request.param))


def check(signer: Signer, message: bytes, signature: bytes) -> None:
    key = parse_spki(signer.public)
    if isinstance(key, Ed25519Key):
        verify_ed25519(key, message, signature)
    else:
        verify_p256_der(key, message, signature)


def test_a_signature_is_the_public_keys_over_these_bytes(signer: Signer) -> None:
    signature = signer.sign(HEAD)
    check(signer, HEAD, signature)
    for message, other in ((HEAD + b"x", signature), (HEAD, signature[:-1] + bytes([signature[-1] ^ 1]))):
        with pytest.raises(Malformed):
            check(signer, message, other)


def test_the_public_key_does_not_change(signer: Signer) -> None:
    before = signer.public
    signer.sign(HEAD)
    assert signer.public == before
