"""Requests that an agent signs, and what an attacker makes of them on the way."""

from __future__ import annotations

import json

import msgspec

from citywatch.adapters.keys import KeySigner
from citywatch.core.http_signature import Head
from citywatch.service.signing import sign_message
from tests.identity_city import BILLING, HOUR, City

BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
TARGET = b"/mcp/bank?a=%41"
Headers = list[tuple[bytes, bytes]]


class Sent(msgspec.Struct, frozen=True):
    """One request as it travels."""

    head: Head
    body: bytes

    def without(self, name: bytes) -> Sent:
        return self._with([(field, value) for field, value in self.head.headers if field != name])

    def put(self, name: bytes, value: bytes) -> Sent:
        return self._with([(field, value if field == name else old) for field, old in self.head.headers])

    def add(self, name: bytes, value: bytes) -> Sent:
        return self._with([*self.head.headers, (name, value)])

    def edit(self, name: bytes, old: bytes, new: bytes) -> Sent:
        found = dict(self.head.headers)[name]
        assert old in found
        return self.put(name, found.replace(old, new))

    def change(self, **changes: object) -> Sent:
        return Sent(msgspec.structs.replace(self.head, **changes), self.body)

    def _with(self, headers: Headers) -> Sent:
        return Sent(msgspec.structs.replace(self.head, headers=headers), self.body)


def wit(city: City, key: KeySigner) -> bytes:
    from citywatch.service.authority import p256

    return city.authority.issue_wit(BILLING, p256(key.public), now=city.clock.now_ms(), ttl=HOUR).value


def send(
    city: City,
    key: KeySigner,
    *,
    body: bytes = BODY,
    method: str = "POST",
    target: bytes = TARGET,
    headers: Headers | None = None,
    nonce: str = "n" * 16,
    token: bytes | None = None,
) -> Sent:
    """A request that `key` signs, in the city's name unless another token is given."""
    sent = [(b"host", b"localhost:8460"), (b"content-type", b"application/json"), *(headers or [])]
    head = Head(method=method, target=target, secure=False, headers=sent)
    shown = wit(city, key) if token is None else token
    added = sign_message(head, body, shown, key, now=city.clock.now_ms(), nonce=nonce)
    return Sent(msgspec.structs.replace(head, headers=[*sent, *added]), body)
