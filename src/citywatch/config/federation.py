"""The `federation` and `authority` parts of the file: whose papers are believed, and who issues our own domain's.

Decides which declarations make sense; which agents of a domain may call is said under `agents`. INVARIANTS: a domain's
bundle comes over HTTPS or from a file, never over plain HTTP; an endpoint that proves itself by SPIFFE has a bundle to
begin with; our own domain is nobody's neighbour.
SPEC: SPIFFE Federation §5.1 and §5.2.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlunsplit

from citywatch.config.chains import chains
from citywatch.config.document import Node, Table
from citywatch.config.neighbours import Neighbour
from citywatch.config.reader import Notes, Reader, duration, each, instead, named, one_of, shown, text, url, where
from citywatch.config.settings import Spire
from citywatch.config.table import Section, table
from citywatch.core.errors import Malformed
from citywatch.core.label import Label, parse_origin
from citywatch.core.manifest import ANYBODY, Ceiling
from citywatch.core.names import parse_domain, parse_spiffe_id

ANYONE = "anybody"
WEB, SPIFFE = "https_web", "https_spiffe"


def federation(home: str, principals: Collection[str]) -> Reader[dict[str, Neighbour]]:
    """All neighbours of the trust domain `home`; `principals` are the names of the file's own."""

    def neighbour(notes: Notes, node: Node, path: str, domain: str) -> Neighbour | None:
        section = Section(notes, node, path, "federation.*")
        if domain == home:
            notes.wrong(node, path, "this is our own trust domain", "remove it")
        plain = Neighbour(domain=domain)
        found = Neighbour(
            domain=domain,
            bundle=section.maybe("bundle", where),
            endpoint=section.maybe("endpoint", _https),
            endpoint_id=section.get("endpoint_id", spiffe_id_of(domain), ""),
            ca=section.maybe("ca", where),
            refresh_ms=section.get("refresh", duration("1s", "24h"), 0),
            max_age_ms=section.get("max_age", duration("1m", "366d"), plain.max_age_ms),
            ceiling=Ceiling(
                label=section.get("ceiling", _ceiling, plain.ceiling.label),
                speaks_for=frozenset(section.get("speaks_for", each(_principal(principals)), ())),
            ),
            chains=section.maybe("chains", chains),
        )
        if found.chains is not None and not found.ceiling.speaks_for:
            section.wrong("chains", "that domain speaks for nobody here, so no chain of it counts", "add `speaks_for`")
        profile = section.maybe("profile", one_of((WEB, SPIFFE)))
        if isinstance(node, Table):
            _check_endpoint(section, found, profile)
        return found

    return table(named(parse_domain), neighbour)


def _check_endpoint(section: Section, found: Neighbour, profile: str | None) -> None:
    notes, node, path = section.notes, section.node, section.path
    if not section.has("endpoint"):
        if not section.has("bundle"):
            notes.wrong(node, path, "nothing says where its bundle is", "write `bundle: <file>` or `endpoint: <url>`")
        for key in ("profile", "endpoint_id", "ca"):
            if section.has(key):
                section.wrong(key, "this is about an endpoint, and there is none", "write `endpoint: <url>`")
    elif profile == SPIFFE:
        section.need("endpoint_id", named(lambda word: str(parse_spiffe_id(word))), "spiffe://partner.example/gateway")
        if not section.has("bundle"):
            notes.wrong(node, path, "`bundle` is missing: nothing proves the endpoint the first time", "add the file")
        if section.has("ca"):
            section.wrong("ca", f"with {SPIFFE} the domain's own bundle is what is trusted", "remove it")
    elif not section.has("profile"):
        # No default: which authority vouches for the endpoint is a security parameter.
        notes.wrong(node, path, "`profile` is missing", f"write `profile: {WEB}` or `profile: {SPIFFE}`")
    elif section.has("endpoint_id"):
        section.wrong("endpoint_id", f"with {WEB} the endpoint proves its host's name", f"write `profile: {SPIFFE}`")


def _ceiling(notes: Notes, node: Node, path: str) -> Label | None:
    """The origins that shaped all that comes from there, whatever is said of it; `anybody` alone is a list too."""
    names = each(text)(notes, node, path)
    if names is None:
        return None
    if ANYONE in names:
        if len(names) > 1:
            notes.wrong(node, path, f"`{ANYONE}` stands beside others", f"write [{ANYONE}] alone, or name the origins")
        return ANYBODY
    try:
        for name in names:
            parse_origin(name)
    except Malformed as failure:
        notes.wrong(node, path, str(failure), f"write [{ANYONE}], [], or origins such as outside:partner")
        return None
    return Label(frozenset(names), None)


def _principal(principals: Collection[str]) -> Reader[str]:
    def read(notes: Notes, node: Node, path: str) -> str | None:
        name = text(notes, node, path)
        if name is not None and name not in principals:
            notes.wrong(node, path, f"no principal {shown(name)} in this file", instead(name, principals))
            return None
        return name

    return read


def authority(home: str) -> Reader[Spire | None]:
    """Who issues the papers of the trust domain `home`, if it is not this gateway."""

    def read(notes: Notes, node: Node, path: str) -> Spire | None:
        section = Section(notes, node, path, "authority")
        return section.need("spire", spire, "{socket: unix:///run/spire/agent/api.sock}")

    def spire(notes: Notes, node: Node, path: str) -> Spire | None:
        section = Section(notes, node, path, "authority.spire")
        socket = section.need("socket", _socket, "unix:///run/spire/agent/api.sock")
        called = section.get("spiffe_id", spiffe_id_of(home), f"spiffe://{home}/gateway")
        return None if socket is None else Spire(socket, called)

    return read


def _socket(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)
    if word is not None and not re.match(r"unix:///[\x21-\x7e]{1,100}\Z", word):
        notes.wrong(node, path, "not the address of a Workload API", "write unix:///run/spire/agent/api.sock")
        return None
    return None if word is None else word.removeprefix("unix://")


def _https(notes: Notes, node: Node, path: str) -> str | None:
    found = url(notes, node, path)
    if found is not None and found.scheme != "https":
        notes.wrong(node, path, "a bundle over plain HTTP is anybody's", "write an https URL")
        return None
    return None if found is None else urlunsplit(found)


def spiffe_id_of(domain: str) -> Reader[str]:
    """A SPIFFE ID of this trust domain."""

    def read(notes: Notes, node: Node, path: str) -> str | None:
        found = named(lambda word: str(parse_spiffe_id(word)))(notes, node, path)
        if found is not None and parse_spiffe_id(found).domain != domain:
            notes.wrong(node, path, f"{shown(found)} is not of `{domain}`", "name one of that trust domain")
            return None
        return found

    return read
