"""Access tokens in the file: for which resource a server is shown them, and under which name the gateway issues them.

Decides which declarations make sense. INVARIANTS: a token goes only where its resource is named; no two servers share
one, for each could show the other what it was shown; whoever verifies a token finds its issuer over TLS, or on this
machine.
SPEC: RFC 8707 §2 (a resource is an absolute URI without a fragment), RFC 8414 §2 and §3 (an issuer has no query).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit, urlunsplit

from citywatch.config.document import Node
from citywatch.config.reader import Notes, each, shown, text, url
from citywatch.config.settings import Exchanged, Http
from citywatch.config.table import Section

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}\Z")
_NEEDS_ISSUER = "write the address at which servers reach this gateway, such as `issuer: https://gateway.acme.example`"


def exchanged(notes: Notes, node: Node, path: str) -> Exchanged | None:
    """What `credential: {exchange: …}` says."""
    section = Section(notes, node, path, "servers.*.credential.exchange")
    resource = section.need("resource", _resource, "https://ledger.acme.example/mcp")
    scopes = section.get("scopes", each(_scope), ())
    return None if resource is None else Exchanged(resource=resource, scopes=scopes)


def issuer(notes: Notes, node: Node, path: str) -> str | None:
    """The name of the gateway as an issuer: what stands in `iss`, and where its keys are found."""
    parts = _public(notes, node, path)
    if parts is not None and (parts.path.strip("/") or parts.query):
        notes.wrong(node, path, "an issuer with a path", "write the scheme and the host alone, https://gateway.example")
        return None
    return None if parts is None else urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def check_resources(section: Section, reached: Iterable[tuple[str, Http]], issuer: str | None) -> None:
    """Note what does not fit together: tokens without an issuer, one resource for two servers."""
    taken: dict[str, str] = {}
    for name, reach in reached:
        if not isinstance(reach.credential, Exchanged):
            continue
        place = "servers" if section.has("servers") else "peers"
        if issuer is None:
            section.wrong(place, f"`{name}` takes access tokens, and nobody issues them", _NEEDS_ISSUER)
            return
        key = _same(reach.credential.resource)
        other = taken.setdefault(key, name)
        if other != name:
            why = f"`{other}` and `{name}` are one resource: each could use a token that the other was shown"
            section.wrong(place, why, "give each server a resource of its own")


def _same(resource: str) -> str:
    """What two spellings of one resource have in common."""
    parts = urlsplit(resource)
    default = {"https": ":443", "http": ":80"}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(default)}{parts.path.rstrip('/')}?{parts.query}"


def _resource(notes: Notes, node: Node, path: str) -> str | None:
    parts = _public(notes, node, path)
    return None if parts is None else urlunsplit(parts)


def _public(notes: Notes, node: Node, path: str) -> SplitResult | None:
    parts = url(notes, node, path)
    if parts is not None and parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1"):
        notes.wrong(node, path, "plain http, and not on this machine", "write it with https")
        return None
    return parts


def _scope(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)
    if word is not None and not _SCOPE.match(word):
        notes.wrong(node, path, f"{shown(word)} is no scope", "write one word, without spaces, quotes and backslashes")
        return None
    return word
