"""A witness as its own process: `python -m tests.witness_process FOLDER LOG_KEY` prints key and port, and serves."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citywatch.adapters.system import SystemClock
from citywatch.adapters.witness import WitnessApp, open_heads, serve_witness
from citywatch.core.log.checkpoint import Kind, format_note_key, parse_note_key
from tests.log_world import note_key


class OwnKey:
    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


def main(folder: str, log: str) -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
    key = note_key("witness.example/own", Kind.WITNESS, private)
    app = WitnessApp(
        key=key,
        signer=OwnKey(private),
        logs=[parse_note_key(log)],
        heads=open_heads(Path(folder, "heads.db")),
        clock=SystemClock(),
    )
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        print(format_note_key(key), bound.getsockname()[1], flush=True)
        asyncio.run(serve_witness(app, [bound]))


if __name__ == "__main__":
    main(*sys.argv[1:])
