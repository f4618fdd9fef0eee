"""The grammar of names: trust domains, SPIFFE IDs of agents, servers, actions. Parse and format are inverse.

Decides whether a text is a name, never whether its holder may do anything.
INVARIANTS: `format_x(parse_x(text)) == text` for every accepted text; a name never needs quoting in a path segment.
SPEC: SPIFFE-ID §2 (https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md).
"""

from __future__ import annotations

import re

import msgspec

from citywatch.core.errors import Malformed

_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
MAX_ID_BYTES = 2048


class AgentId(msgspec.Struct, frozen=True, order=True):
    """`spiffe://<domain>/agent/<name>`; the name is a label, the key behind it is the identity."""

    domain: str
    name: str

    def __str__(self) -> str:
        return f"spiffe://{self.domain}/agent/{self.name}"


def parse_domain(text: str) -> str:
    """Return `text` if it is a SPIFFE trust domain; raise `Malformed` otherwise."""
    if not _DOMAIN.match(text):
        raise Malformed(
            f"`{text[:80]}` is not a trust domain: use lower-case letters, digits, dots, dashes, underscores"
        )
    return text


def parse_segment(text: str, what: str = "name") -> str:
    """Return `text` if it may stand as one path segment of an ID (agent, server); raise `Malformed` otherwise."""
    if not _SEGMENT.match(text) or text in (".", ".."):
        raise Malformed(f"`{text[:80]}` is not a {what}: use letters, digits, dots, dashes, underscores, at most 128")
    return text


class SpiffeId(msgspec.Struct, frozen=True, order=True):
    """A name that a trust domain gave to whatever it likes: `spiffe://<domain>/<segment>/<segment>...`."""

    domain: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join((f"spiffe://{self.domain}", *self.path))


def parse_spiffe_id(text: str) -> SpiffeId:
    """Parse the SPIFFE ID of a workload of any trust domain; raise `Malformed` for every other text.

    The trust domain's own ID, without a path, names its authority and no workload.
    """
    if len(text) > MAX_ID_BYTES or not text.startswith("spiffe://"):
        raise Malformed(f"`{text[:80]}` is not a SPIFFE ID: write spiffe://<trust-domain>/<path>")
    domain, *path = text[len("spiffe://") :].split("/")
    if not path:
        raise Malformed(f"`{text[:80]}` names no workload: write spiffe://<trust-domain>/<path>")
    return SpiffeId(parse_domain(domain), tuple(parse_segment(one, "segment of a SPIFFE ID") for one in path))


def parse_agent_id(text: str) -> AgentId:
    """Parse a SPIFFE ID that names an agent of any trust domain; raise `Malformed` for every other text."""
    if len(text) > MAX_ID_BYTES or not text.startswith("spiffe://"):
        raise Malformed(f"`{text[:80]}` is not a SPIFFE ID")
    parts = text[len("spiffe://") :].split("/")
    if len(parts) != 3 or parts[1] != "agent":
        raise Malformed(f"`{text[:80]}` does not name an agent: expected spiffe://<trust-domain>/agent/<name>")
    return AgentId(parse_domain(parts[0]), parse_segment(parts[2], "agent name"))


def format_agent_id(agent: AgentId) -> str:
    """The inverse of `parse_agent_id`."""
    return str(agent)
