"""The `peers` part of the file: agents that others speak to over A2A, and who may.

Decides which declarations of a peer make sense. INVARIANTS: nobody can be spoken to without an entry, and nobody speaks
to a peer without being named there; a caller that is named is an agent of the file, and so is the one that the peer is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit, urlunsplit

from citywatch.config.addresses import link_place, push_address
from citywatch.config.agents import audience
from citywatch.config.document import Node, Table
from citywatch.config.reader import Notes, Reader, duration, flag, instead, named, one_of, shown, some, text, url, where
from citywatch.config.servers import reach_over_http
from citywatch.config.settings import PeerAgent
from citywatch.config.table import Section, table
from citywatch.core.errors import Malformed
from citywatch.core.manifest import EVERYBODY, Peer
from citywatch.core.names import parse_segment, parse_spiffe_id

CARD = "/.well-known/agent-card.json"
BINDINGS = ("JSONRPC", "HTTP+JSON")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-+\--~]{1,240}\Z")
_TYPE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def peers(
    agents: Collection[str],
    servers: Collection[str],
    ours: Collection[str],
    audiences: Mapping[str, tuple[str, ...] | None],
) -> Reader[dict[str, PeerAgent]]:
    """All peers; `agents` are the names of the file's agents, `servers` those that no peer may have.

    `ours` are the agents of our own trust domain: of no other it is known here what it has read. `audiences` says who
    sees what each agent sees: whoever tells an agent of ours something tells them.
    """

    def peer(notes: Notes, node: Node, path: str, name: str) -> PeerAgent | None:
        section = Section(notes, node, path, "peers.*")
        if name in servers:
            notes.wrong(node, path, f"`{name}` is a server of this file too", "give the peer another name")
        if not isinstance(node, Table):
            return None
        reach = reach_over_http(section)
        callers = section.need("callers", some(_agent(agents)), "[router]")
        skills = section.get("skills", some(text), ())
        binding = section.get("binding", one_of(BINDINGS), BINDINGS[0])
        if reach is not None and binding != BINDINGS[0] and urlsplit(reach.url).query:
            section.wrong(
                "url", "requests over HTTP+JSON go to addresses below it, and it has a query", "remove the query"
            )
        timeout = section.get("timeout", duration("100ms", "10m"), 30_000)
        agent = section.get("agent", _agent(ours), "")
        elsewhere = section.get("envelope_for", _elsewhere(agent), "")
        in_envelopes = section.get("envelope", flag, bool(agent or elsewhere))
        seen_by = section.get("audience", audience, audiences.get(agent) or (EVERYBODY,))
        card = section.get("card", url, None)
        push = section.maybe("push", push_address)
        links = section.get("links", some(link_place), ())
        extensions = section.get("extensions", some(named(_extension)), ())
        messages = section.get("messages", table(named(_type), _schema), {})
        free_text = section.get("free_text", flag, True)
        if not free_text and not messages:
            section.wrong("free_text", "neither free text nor any `messages`: it could be told nothing", "declare one")
        if reach is None or callers is None:
            return None
        if agent in callers:
            section.wrong("callers", f"`{agent}` is this peer itself", "name those who speak to it")
        if agent and section.has("ca"):
            section.wrong("ca", "an agent of this file shows papers of our own authority", "remove `ca`, or `agent`")
        return PeerAgent(
            name=name,
            reach=reach,
            binding=binding,
            envelope_for=elsewhere,
            envelope=in_envelopes,
            card=reach.url.rstrip("/") + CARD if card is None else urlunsplit(card),
            timeout_ms=timeout,
            messages=messages,
            declared=Peer(
                callers=callers,
                skills=skills,
                audience=seen_by,
                agent=agent,
                free_text=free_text,
                push=push or "",
                links=links,
                extensions=extensions,
            ),
        )

    return table(named(lambda name: parse_segment(name, "name for a peer")), peer)


def _elsewhere(agent: str) -> Reader[str]:
    """The SPIFFE ID of a peer that is no agent of ours."""

    def read(notes: Notes, node: Node, path: str) -> str | None:
        if agent:
            notes.wrong(node, path, f"the peer is our own agent `{agent}`", "remove one of the two")
            return None
        return named(lambda word: str(parse_spiffe_id(word)))(notes, node, path)

    return read


def _extension(uri: str) -> str:
    if not _URI.match(uri):
        raise Malformed(f"{shown(uri)} is not the URI of an extension: no spaces, no commas, at most 256 characters")
    return uri


def _schema(notes: Notes, node: Node, path: str, name: str) -> str | None:
    return Section(notes, node, path, "peers.*.messages.*").need("schema", where, "refund.json")


def _type(name: str) -> str:
    if not _TYPE.match(name):
        raise Malformed(f"{shown(name)} is no type of a message: use letters, digits, `.`, `_`, `-`")
    return name


def _agent(agents: Collection[str]) -> Reader[str]:
    def read(notes: Notes, node: Node, path: str) -> str | None:
        name = text(notes, node, path)
        if name is not None and name not in agents:
            notes.wrong(node, path, f"no agent {shown(name)} in this file", instead(name, agents))
            return None
        return name

    return read
