"""Access tokens in the file: for which resource a server is shown them, and under which name the gateway issues them.

Decides which declarations make sense. INVARIANTS: a token goes only where its resource is named; no two servers share
one, for each could show the other what it was shown; whoever verifies a token finds its issuer over TLS, or on this
machine.
SPEC: RFC 8707 §2 (a resource is an absolute URI without a fragment), RFC 8414 §2 and §3 (an issuer has no query).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import SplitResult, urlsplit, urlunsplit

from citywatch.config.agents import audience
from citywatch.config.document import Node
from citywatch.config.issuing import Exchanged, KnownIssuer, Lending
from citywatch.config.reader import Notes, Reader, each, named, one_of, shown, some, text, url, where
from citywatch.config.settings import Http
from citywatch.config.table import Section, table
from citywatch.core.manifest import EVERYBODY, ResourceServer
from citywatch.core.names import parse_segment
from citywatch.core.wire.token_grant import GRANTS, TOKEN_EXCHANGE

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}\Z")
_NEEDS_ISSUER = "write the address at which servers reach this gateway, such as `issuer: https://gateway.acme.example`"


def exchanged(notes: Notes, node: Node, path: str) -> Exchanged | None:
    """What `credential: {exchange: …}` says."""
    section = Section(notes, node, path, "servers.*.credential.exchange")
    resource = section.need("resource", _resource, "https://ledger.acme.example/mcp")
    scopes = section.get("scopes", each(_scope), ())
    at = section.maybe("at", _lending)
    return None if resource is None else Exchanged(resource=resource, scopes=scopes, at=at)


def _lending(notes: Notes, node: Node, path: str) -> Lending | None:
    """The server's own authorization server; nothing of it is looked up, so that nobody else can say where it is."""
    section = Section(notes, node, path, "servers.*.credential.exchange.at")
    issuer = section.need("issuer", _resource, "https://login.ledger.example")
    endpoint = section.need("token_endpoint", _resource, "https://login.ledger.example/token")
    client = section.need("client_id", text, "https://gateway.acme.example")
    grant = section.need("grant", one_of(GRANTS), TOKEN_EXCHANGE)
    if issuer is None or endpoint is None or client is None or grant is None:
        return None
    ca = section.maybe("ca", where)
    return Lending(issuer=issuer, token_endpoint=endpoint, client_id=client, grant=grant, ca=ca)


def issuer(notes: Notes, node: Node, path: str) -> str | None:
    """The name of the gateway as an issuer: what stands in `iss`, and where its keys are found."""
    parts = _public(notes, node, path)
    if parts is not None and (parts.path.strip("/") or parts.query):
        notes.wrong(node, path, "an issuer with a path", "write the scheme and the host alone, https://gateway.example")
        return None
    return None if parts is None else urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def issuers(notes: Notes, node: Node, path: str) -> dict[str, KnownIssuer] | None:
    """Foreign issuers, by a name of the operator's; no two have one `iss`."""
    found = table(named(lambda name: parse_segment(name, "name for an issuer")), _known_issuer)(notes, node, path) or {}
    if len({one.issuer for one in found.values()}) < len(found):
        notes.wrong(node, path, "two issuers have one `issuer`", "keep one of them: which keys hold would be a guess")
        return None
    return found


def _known_issuer(notes: Notes, node: Node, path: str, name: str) -> KnownIssuer | None:
    section = Section(notes, node, path, "issuers.*")
    known = section.need("issuer", url, "https://idp.acme.example")
    ours = section.need("audience", text, "https://gateway.acme.example")
    keys = section.need("keys", where, "idp-keys.json")
    if known is None or ours is None or keys is None:
        return None
    return KnownIssuer(issuer=urlunsplit(known), audience=ours, keys=keys)


def resources(taken: Collection[str]) -> Reader[dict[str, ResourceServer]]:
    """The resource servers that agents go to by themselves; `taken` are the names of servers and peers."""

    def resource(notes: Notes, node: Node, path: str, name: str) -> ResourceServer | None:
        section = Section(notes, node, path, "resources.*")
        if name in taken:
            notes.wrong(node, path, f"`{name}` is a server or peer of this file too", "give the resource another name")
        identifier = section.need("resource", _resource, "https://warehouse.acme.example/")
        scopes = section.need("scopes", some(_scope), "[orders.read]")
        seen_by = section.get("audience", audience, (EVERYBODY,))
        if identifier is None or scopes is None:
            return None
        return ResourceServer(identifier=identifier, scopes=scopes, audience=seen_by)

    return table(named(lambda name: parse_segment(name, "name for a resource")), resource)


def check_resources(
    section: Section,
    reached: Iterable[tuple[str, Http]],
    beyond: Mapping[str, ResourceServer],
    issuer: str | None,
) -> None:
    """Note what does not fit together: tokens without an issuer, one resource for two servers."""
    taken: dict[str, str] = {}
    for name, one in beyond.items():
        if issuer is None:
            section.wrong("resources", f"`{name}` takes access tokens, and nobody issues them", _NEEDS_ISSUER)
            return
        if (other := taken.setdefault(_same(one.identifier), name)) != name:
            why = f"`{other}` and `{name}` are one resource: a token for the one would be good for the other"
            section.wrong("resources", why, "give each a resource of its own")
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
            if other in beyond:
                why = f"agents are given tokens for `{other}`, which is `{name}`: they would go around the gateway"
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
