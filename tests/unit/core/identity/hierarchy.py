"""Authorities below authorities, as SPIRE has them below a company's own, and leaves below those; with any defect."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from cryptography import x509

from citywatch.core.identity.bundle import TrustBundle
from tests.unit.core.identity.forgery import AGENT, DOMAIN, HOUR, Key, certificate, draw, usage

SIGNS_CERTIFICATES = usage(key_cert_sign=True, crl_sign=True)
ROOT = f"spiffe://{DOMAIN}"


class Tree:
    """A root, authorities one below the other, and the key of a leaf. `changes` are those of one place: 0 is the root.

    Lasts around the machine's time, because TLS libraries read no other clock.
    """

    def __init__(self, between: int, changes: dict[int, dict[str, Any]] | None = None) -> None:
        self.now = time.time_ns() // 1_000_000
        self.keys: list[Key] = [draw() for _ in range(between + 1)]
        self.leaf_key = draw()
        self.ders: list[bytes] = []
        changes = changes or {}
        for place, key in enumerate(self.keys):
            above = max(place - 1, 0)
            self.ders.append(self.authority(key, self.keys[above], place, above, **changes.get(place, {})))

    def authority(self, key: Key, signer: Key, place: int, above: int, **changes: Any) -> bytes:
        defaults: dict[str, Any] = {
            "subject": f"authority {place}",
            "issuer": f"authority {above}",
            "uris": (ROOT,),
            "ca": True,
            "key_usage": SIGNS_CERTIFICATES,
            "extended": None,
            "start": self.now - 10 * HOUR,
            "end": self.now + 10 * HOUR,
            "linked": True,
        }
        return certificate(key, signer, **(defaults | changes))

    def leaf(self, **changes: Any) -> bytes:
        last = len(self.keys) - 1
        defaults: dict[str, Any] = {
            "issuer": f"authority {last}",
            "start": self.now - HOUR,
            "end": self.now + HOUR,
            "uris": (AGENT,),
            "linked": True,
        }
        return certificate(self.leaf_key, self.keys[last], **(defaults | changes))

    def chain(self, **changes: Any) -> list[bytes]:
        """Leaf first, without the root."""
        return [self.leaf(**changes), *reversed(self.ders[1:])]

    def bundle(self, *more: bytes, domain: str = DOMAIN) -> TrustBundle:
        return bundle_of([self.ders[0], *more], domain)


def bundle_of(ders: Sequence[bytes], domain: str = DOMAIN) -> TrustBundle:
    return TrustBundle(
        domain=domain,
        certificates=tuple(map(x509.load_der_x509_certificate, ders)),
        keys={},
        sequence=1,
        refresh_hint=300,
    )
