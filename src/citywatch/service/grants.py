"""Links that are signed here: a principal's, at the root of a task, by the key that speaks for principals.

Decides nothing; `core.delegation` says what a link may be. INVARIANT: what is signed is a grant and nothing else (its
bytes begin with a domain of their own), and it was read back as it will be read.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from citywatch.core.delegation.grant import format_link, parse_link, signing_input, verify_link
from citywatch.core.signature import P256Key, parse_spki
from citywatch.service.ports import Signer


def sign_grant(payload: bytes, signer: Signer) -> str:
    """The text of a link, signed; `Malformed` if the payload is no grant of this signer's."""
    key, signature = parse_spki(signer.public), signer.sign(signing_input(payload))
    if isinstance(key, P256Key):
        r, s = decode_dss_signature(signature)
        signature = r.to_bytes(32) + s.to_bytes(32)
    text = format_link(payload, key, signature)
    verify_link(parse_link(text))
    return text
