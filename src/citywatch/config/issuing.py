"""Access tokens, as frozen values of the file: what servers are shown, and whose word is recorded.

Decides nothing and reads nothing (`tokens` does). INVARIANT: no secret is in here, and no key but by the file it is in.
"""

from __future__ import annotations

import msgspec


class Lending(msgspec.Struct, frozen=True, kw_only=True):
    """A server's own authorization server: its `iss`, where it gives tokens, our name there, and what we send it.

    `ca` is a PEM file that alone is trusted for its address.
    """

    issuer: str
    token_endpoint: str
    client_id: str
    grant: str
    ca: str | None = None


class Exchanged(msgspec.Struct, frozen=True, kw_only=True, tag="exchange"):
    """An access token that the gateway writes for each message. `resource` is its audience (RFC 8707), `scopes` are
    those that every token has. `at`: it is one of the server's own authorization server, which the gateway asks."""

    resource: str
    scopes: tuple[str, ...] = ()
    at: Lending | None = None


class KnownIssuer(msgspec.Struct, frozen=True, kw_only=True):
    """A foreign issuer whose word of whoever calls is recorded: its `iss`, our name at it, the file with its keys."""

    issuer: str
    audience: str
    keys: str
