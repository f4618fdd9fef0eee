"""DSSE envelopes beside `securesystemslib`: each opens what the other signs, and neither opens what was changed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner

from citywatch.adapters.keys import KeySigner
from citywatch.core.errors import Malformed
from citywatch.core.identity.dsse import format_envelope, open_envelope, pae
from citywatch.core.signature import parse_spki

KEYS: list[Any] = [Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())]
KINDS = ("application/vnd.in-toto+json", "application/vnd.exämple+json", "x", "a 1 b")
IDS = ("ed25519", "p256")


@pytest.mark.parametrize("private", KEYS, ids=IDS)
def test_what_the_library_signs_is_opened_here(private: Any) -> None:
    draw, key = random.Random(37), parse_spki(KeySigner(private).public)
    for _ in range(100):
        kind, payload = draw.choice(KINDS), draw.randbytes(draw.randrange(0, 90))
        theirs = Envelope(payload, kind, {})
        theirs.sign(CryptoSigner(private))
        assert theirs.pae() == pae(kind, payload)
        assert open_envelope(json.dumps(theirs.to_dict()).encode(), kind, key) == payload


@pytest.mark.parametrize("private", KEYS, ids=IDS)
def test_what_is_signed_here_the_library_opens_and_nothing_that_was_changed(private: Any) -> None:
    draw, signer = random.Random(38), KeySigner(private)
    shown = CryptoSigner(private).public_key
    for _ in range(100):
        kind, payload = draw.choice(KINDS), draw.randbytes(draw.randrange(1, 90))
        ours = json.loads(format_envelope(kind, payload, signer.sign(pae(kind, payload)), shown.keyid))
        Envelope.from_dict(json.loads(json.dumps(ours))).verify([shown], 1)
        place = draw.randrange(len(payload))
        changed = payload[:place] + bytes([payload[place] ^ 1 << draw.randrange(8)]) + payload[place + 1 :]
        forged = json.loads(format_envelope(kind, changed, signer.sign(pae(kind, payload)), shown.keyid))
        with pytest.raises(VerificationError):
            Envelope.from_dict(json.loads(json.dumps(forged))).verify([shown], 1)
        with pytest.raises(Malformed):
            open_envelope(json.dumps(forged).encode(), kind, parse_spki(signer.public))
