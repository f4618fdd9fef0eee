"""What an agent needs to know beside its key: its name, for whom it asks papers, and whom to believe.

Decides nothing; it is what `citywatch agent add` hands over and what a renewal brings back.
INVARIANT: `parse_x(format_x(papers)) == papers`; neither holds a private key.

Evolution rule: never rename, remove or re-type a member; readers ignore members they do not know.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any, TypeGuard

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.identity.bundle import TrustBundle, format_bundle, parse_bundle
from citywatch.core.identity.token import parse_object, text_claim
from citywatch.core.names import AgentId, parse_agent_id

MAX_PAPERS_BYTES = 524_288


class Introduction(msgspec.Struct, frozen=True, kw_only=True):
    """Who the agent is, what its gateway is called, and the bundle that proves the gateway to it."""

    agent: AgentId
    gateway: str
    bundle: TrustBundle


class Papers(msgspec.Struct, frozen=True, kw_only=True):
    """Fresh papers, as a renewal brings them; times are milliseconds. The bundle is today's.

    `bound` is a WIT-SVID and lives as long as the certificate; an older gateway gives none (empty).
    """

    certificate: bytes
    certificate_until: int
    token: str
    token_until: int
    bundle: TrustBundle
    bound: str = ""


def format_introduction(introduction: Introduction) -> bytes:
    """The introduction as JSON that a person can read."""
    return json.dumps(
        {
            "agent": str(introduction.agent),
            "gateway": introduction.gateway,
            "bundle": json.loads(format_bundle(introduction.bundle)),
        },
        indent=2,
    ).encode("ascii")


def parse_introduction(data: bytes) -> Introduction:
    """The inverse of `format_introduction`. The file is trusted: whoever can write it can name another gateway."""
    members = _members(data)
    agent = parse_agent_id(text_claim(members, "agent"))
    return Introduction(agent=agent, gateway=text_claim(members, "gateway"), bundle=_bundle(members, agent.domain))


def format_papers(papers: Papers) -> bytes:
    """The papers as JSON."""
    return json.dumps(
        {
            "certificate": b64encode(papers.certificate).decode("ascii"),
            "certificate_until": papers.certificate_until,
            "token": papers.token,
            "token_until": papers.token_until,
            "bound": papers.bound,
            "bundle": json.loads(format_bundle(papers.bundle)),
        }
    ).encode("ascii")


def parse_papers(data: bytes, domain: str) -> Papers:
    """The inverse of `format_papers`, from the gateway of `domain`."""
    members = _members(data)
    token, bound = members.get("token"), members.get("bound", "")
    if not _is_plain(token) or not _is_plain(bound):
        raise Malformed("the new papers hold no token")
    try:
        certificate = b64decode(str(members.get("certificate")), validate=True)
    except (Base64Error, ValueError):
        raise Malformed("the new papers' certificate is not base64") from None
    return Papers(
        certificate=certificate,
        certificate_until=_time(members, "certificate_until"),
        token=token,
        bound=bound,
        token_until=_time(members, "token_until"),
        bundle=_bundle(members, domain),
    )


def _members(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_PAPERS_BYTES:
        raise Malformed("the papers are too long")
    return parse_object(data)


def _is_plain(token: object) -> TypeGuard[str]:
    return isinstance(token, str) and token.isascii() and token.isprintable() and " " not in token


def _bundle(members: Mapping[str, Any], domain: str) -> TrustBundle:
    return parse_bundle(json.dumps(members.get("bundle")).encode("ascii"), domain)


def _time(members: Mapping[str, Any], name: str) -> int:
    value = members.get(name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise Malformed(f"the new papers' `{name}` is not a time")
    return value
