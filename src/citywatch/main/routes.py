"""What the gateway answers itself, beside the servers: its bundle, a renewal of papers, how it is.

Decides nothing; `service` does. A handler takes the body and returns a status, a media type and a body.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from citywatch.adapters.gateway.app import Route
from citywatch.service.issuer import Issuer
from citywatch.service.publisher import Publisher

JSON = "application/json"


def routes(issuer: Issuer, publisher: Publisher, *, enforcing: bool) -> Mapping[tuple[str, str], Route]:
    """The gateway's own addresses, by method and path. What watches it is told if it enforces nothing."""

    async def bundle(_: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, issuer.bundle()

    async def renew(body: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, await issuer.renew(body)

    async def health(_: bytes) -> tuple[int, str, bytes]:
        log = publisher.health
        status = "ok" if log.failed is None else "the log is not published for now: its disk or a witness is away"
        if log.refused is not None:
            status = "the log is not published: a witness or the signer refused"
        if not enforcing:
            status = f"UNSAFE: observing, nothing is enforced; {status}"
        return 200, JSON, msgspec.json.encode({"status": status, "published": log.size, "enforcing": enforcing})

    return {
        ("GET", "/citywatch/bundle"): bundle,
        ("POST", "/citywatch/renew"): renew,
        ("GET", "/citywatch/health"): health,
    }
