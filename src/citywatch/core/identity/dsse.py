"""Did this key sign these bytes, as bytes of this type? A DSSE envelope is opened, or refused.

Decides that one of the envelope's signatures is the named key's, over type and payload in one string. Does not decide
whose key it is, nor what the payload means. The names that an envelope gives its keys (`keyid`) are never read: whoever
sends it writes them.

1. one JSON object without double members, within its size · 2. of the type that was asked for · 3. payload and
signatures in base64, the standard alphabet or that for URLs, each in its one form · 4. one signature is the key's over
the pre-authentication encoding; ES256 comes as r and s, or in DER, for the specification leaves it open.

INVARIANTS: any bytes give a payload or `Malformed`; the payload is the very bytes that were signed, and is read by
nobody before; a signature for one type is none for another.
SPEC: DSSE v1.0, protocol.md and envelope.md (secure-systems-lab/dsse).
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from binascii import Error as Base64Error
from typing import Final

from citywatch.core.errors import Malformed
from citywatch.core.identity.token import parse_object
from citywatch.core.signature import Ed25519Key, Key, verify_ed25519, verify_p256, verify_p256_der

MAX_BYTES: Final = 131_072
MAX_SIGNATURES: Final = 16


def pae(kind: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what is signed. Lengths are of bytes, so that no two pairs have one encoding."""
    name = kind.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def open_envelope(document: bytes, kind: str, key: Key) -> bytes:
    """Return the payload of an envelope of the type `kind` that `key` signed; raise `Malformed` if it did not."""
    if len(document) > MAX_BYTES:  # 1
        raise Malformed(f"an envelope has at most {MAX_BYTES} bytes")
    value = parse_object(document)
    if value.get("payloadType") != kind:  # 2
        raise Malformed(f"the envelope's payload is not of the type `{kind}`")
    listed = value.get("signatures")
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_SIGNATURES:
        raise Malformed(f"an envelope has one to {MAX_SIGNATURES} signatures")
    payload = _decoded(value.get("payload"))  # 3
    signatures = [_decoded(one.get("sig") if isinstance(one, dict) else None) for one in listed]
    message = pae(kind, payload)
    if not any(_signed(key, message, one) for one in signatures):  # 4
        raise Malformed("the key that was named did not sign the envelope")
    return payload


def format_envelope(kind: str, payload: bytes, signature: bytes, keyid: str) -> bytes:
    """An envelope with one signature; `keyid` is a hint for whoever looks for the key, and proves nothing."""
    signed = {"keyid": keyid, "sig": b64encode(signature).decode()}
    whole = {"payload": b64encode(payload).decode(), "payloadType": kind, "signatures": [signed]}
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode("ascii")


def _signed(key: Key, message: bytes, signature: bytes) -> bool:
    try:
        if isinstance(key, Ed25519Key):
            verify_ed25519(key, message, signature)
        elif len(signature) == 64:
            verify_p256(key, message, signature)
        else:
            verify_p256_der(key, message, signature)
    except Malformed:
        return False
    return True


def _decoded(value: object) -> bytes:
    if not isinstance(value, str):
        raise Malformed("an envelope's payload and signatures are texts in base64")
    try:
        data = b64decode(value.translate(_STANDARD), validate=True)
    except (Base64Error, ValueError):
        raise Malformed("an envelope's payload or signature is not base64") from None
    if value.encode("utf-8") not in (b64encode(data), urlsafe_b64encode(data)):  # as `parse_b64url`: one text each
        raise Malformed("an envelope's payload or signature is not base64 in its one form")
    return data


_STANDARD: Final = str.maketrans("-_", "+/")
