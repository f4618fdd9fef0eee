"""What a resource server says of itself as one: RFC 9728, compared with what the operator's file says.

Decides whether the two agree. INVARIANT: nothing a server says here leads anywhere: its resource is not sent to, its
authorization servers are not asked; what differs from the file is a mistake, of the file or of the server.
SPEC: RFC 9728 §2, §3.1 and §3.3.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from citywatch.core.errors import Malformed

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


def metadata_url(reached: str, resource: str) -> str:
    """Where a resource's metadata is, at the address under which we reach its server."""
    there, named = urlsplit(reached), urlsplit(resource)
    path = named.path if named.path != "/" else ""
    return urlunsplit((there.scheme, there.netloc, WELL_KNOWN + path, named.query, ""))


def check_resource(metadata: Any, resource: str, issuer: str) -> None:
    """Raise `Malformed` unless the metadata is that of `resource`, and `issuer` is among those it takes tokens of."""
    if not isinstance(metadata, dict):
        raise Malformed("its protected-resource metadata is no object")
    said = metadata.get("resource")
    if said != resource:  # SPEC: RFC 9728 §3.3: identical, or the metadata is not used
        raise Malformed(f"its metadata is of the resource {_shown(said)}, and the file says `{resource}`")
    servers = metadata.get("authorization_servers")
    # SPEC: RFC 3986 §6.2.3: with an empty path the slash says nothing, and libraries write it
    if not isinstance(servers, list) or not {issuer, f"{issuer}/"}.intersection(map(str, servers)):
        told = ", ".join(_shown(one) for one in servers[:4]) if isinstance(servers, list) else "nobody"
        raise Malformed(f"its metadata names {told or 'nobody'} as those whose tokens it takes, and not `{issuer}`")


def _shown(said: object) -> str:
    """A server's word, on an operator's terminal."""
    return f"`{said[:200]}`" if isinstance(said, str) and said.isascii() and said.isprintable() else "(no plain text)"
