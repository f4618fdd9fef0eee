"""The agent's half of a renewal: it proves its key, and the next one if it changes keys.

Decides nothing; `core.identity.renewal` says what a proof is and judges it.
INVARIANT: what is written here is what `verify_renewal` accepts, once, for a minute.
"""

from __future__ import annotations

import json
from typing import Any

from citywatch.core.identity.renewal import LONGEST_PROOF_MS, NEXT_TYPE, PROOF_TYPE
from citywatch.core.names import AgentId
from citywatch.core.signature import format_jwk, thumbprint
from citywatch.service.authority import p256, sign_token
from citywatch.service.ports import Signer


def prove_renewal(
    agent: AgentId, audience: str, signer: Signer, *, now: int, nonce: str, following: Signer | None = None
) -> bytes:
    """Write the body of `POST /citywatch/renew`. `now` is milliseconds, `nonce` unguessable and never used before.

    With `following` the agent changes its key for that one. If no answer comes, the gateway may have changed it or not:
    the agent keeps both keys and asks again with the next one first.
    """
    key = p256(signer.public)
    issued = now // 1000
    claims: dict[str, Any] = {
        "sub": str(agent),
        "aud": audience,
        "iat": issued,
        "exp": issued + LONGEST_PROOF_MS // 1000,
        "jti": nonce,
    }
    request: dict[str, Any] = {"key": format_jwk(key)}
    if following is not None:
        next_key = p256(following.public)
        request["next"] = format_jwk(next_key)
        request["next_proof"] = sign_token(following, NEXT_TYPE, {**claims, "by": thumbprint(key)})
        claims["next"] = thumbprint(next_key)
    request["proof"] = sign_token(signer, PROOF_TYPE, claims)
    return json.dumps(request).encode("ascii")
