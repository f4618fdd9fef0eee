"""The agent's half of a signed message: what it adds to a request so that the request proves its key.

Decides nothing; `core.identity.message` says what is signed and judges it.
INVARIANT: what is written here is what `verify_message` accepts, once, for a minute; every header that is there and
could steer the call is signed.
"""

from __future__ import annotations

from base64 import b64encode

import msgspec

from citywatch.core.http_signature import LONGEST_MS, Head, component_values, content_digest, signed_lines
from citywatch.core.identity.message import ALWAYS, PROFILE, TAG, TOKEN_HEADER
from citywatch.service.authority import bare_signature
from citywatch.service.ports import Signer


def sign_message(
    head: Head, body: bytes, token: bytes, signer: Signer, *, now: int, nonce: str
) -> list[tuple[bytes, bytes]]:
    """The headers to add to a request; `head` has all the others, `host` among them. `now` is milliseconds.

    `token` is a WIT-SVID for the signer's key; `nonce` is unguessable and never used before.
    """
    added = [(TOKEN_HEADER, token)]
    if body:
        added.append((b"content-digest", content_digest(body).encode("ascii")))
    whole = msgspec.structs.replace(head, headers=[*head.headers, *added])
    others = dict.fromkeys(name for raw, _ in whole.headers if PROFILE.must_be_covered(name := raw.decode("latin-1")))
    components = (*ALWAYS, *others)
    covered = " ".join(f'"{name}"' for name in components)
    created = now // 1000
    parameters = f'({covered});created={created};expires={created + LONGEST_MS // 1000};nonce="{nonce}";tag="{TAG}"'
    signature = bare_signature(signer.sign(signed_lines(component_values(whole, components, PROFILE), parameters)))
    return [
        *added,
        (b"signature-input", f"wimse={parameters}".encode("ascii")),
        (b"signature", b"wimse=:" + b64encode(signature) + b":"),
    ]
