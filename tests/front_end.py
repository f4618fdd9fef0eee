"""A front end of somebody's own: signs its requests by the RFC alone, without a line of ours."""

from __future__ import annotations

import hashlib
import itertools
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from citywatch.adapters.memory import MemorySigner

ORIGIN = "http://city-1.localhost:8470"
HOST = ORIGIN.partition("://")[2]
_NONCES = itertools.count()


def b64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def key_name(signer: MemorySigner) -> str:
    """RFC 7638, as RFC 8037 has it for Ed25519."""
    raw = load_der_public_key(signer.public).public_bytes(Encoding.Raw, PublicFormat.Raw)
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{b64url(raw)}"}}'
    return b64url(hashlib.sha256(jwk.encode()).digest())


def signed_headers(
    signer: MemorySigner,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    now: int,
    host: str = HOST,
    **changed: Any,
) -> dict[str, str]:
    """What has to be added to a request. `changed`: nonce, created, expires, keyid, tag, covered, alg."""
    headers: dict[str, str] = {}
    values = {"@method": method, "@authority": host, "@request-target": target}
    if body:
        values["content-digest"] = f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:"
        headers |= {"content-digest": values["content-digest"], "content-type": "application/json"}
    covered = changed.get("covered", tuple(values))
    created = changed.get("created", now // 1000)
    told: dict[str, Any] = {
        "created": created, "expires": created + 60, "nonce": f"{next(_NONCES):016d}", "keyid": key_name(signer),
        "tag": "citywatch-approvals", **{name: value for name, value in changed.items() if name != "covered"},
    }  # fmt: skip
    written = (f";{name}={value}" if isinstance(value, int) else f';{name}="{value}"' for name, value in told.items())
    names = " ".join(f'"{one}"' for one in covered)
    parameters = f"({names}){''.join(written)}"
    lines = [f'"{one}": {values[one]}' for one in covered] + [f'"@signature-params": {parameters}']
    made = b64encode(signer.sign("\n".join(lines).encode())).decode()
    return headers | {"signature-input": f"sig={parameters}", "signature": f"sig=:{made}:"}


class FrontEnd:
    """One person's: `get` and `post` sign as they are meant to."""

    def __init__(self, app: Any, signer: MemorySigner, now_ms: Callable[[], int], origin: str = ORIGIN) -> None:
        self.signer, self._now = signer, now_ms
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=origin)

    async def get(self, target: str, **changed: Any) -> httpx.Response:
        return await self.send("GET", target, b"", self.headers("GET", target, **changed))

    async def post(self, target: str, told: Any = None, **changed: Any) -> httpx.Response:
        body = b"" if told is None else json.dumps(told).encode()
        return await self.send("POST", target, body, self.headers("POST", target, body, **changed))

    def headers(self, method: str, target: str, body: bytes = b"", **changed: Any) -> dict[str, str]:
        return signed_headers(self.signer, method, target, body, now=self._now(), **changed)

    async def send(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return await self.http.request(method, target, content=body, headers=headers)

    async def say(self, ticket: str, decision: str, **draft: Any) -> httpx.Response:
        """Prepare, sign and give an answer."""
        at = f"/api/v1/tickets/{ticket}"
        prepared = await self.post(f"{at}/prepare", {"decision": decision, **draft})
        if prepared.status_code != 200:
            return prepared
        return await self.post(f"{at}/vote", answer(self.signer, prepared.json()["statement"]))


def answer(signer: MemorySigner, statement: str) -> dict[str, Any]:
    made = signer.sign(b"citywatch/approval/v1\n" + statement.encode())
    return {"statement": statement, "proof": {"method": "ed25519", "signature": b64url(made)}}
