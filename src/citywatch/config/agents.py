"""The `agents` part of the file: what policy may know of each, how often it may call, how long its papers last.

Decides which declarations of an agent make sense; grants nothing (only a policy does).
INVARIANT: a budget names a tool that the file declares: a typing error cannot leave a tool unlimited in silence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from citywatch.config.addresses import push_places
from citywatch.config.content import content
from citywatch.config.document import Items, Node, Scalar
from citywatch.config.reader import (
    Notes,
    Reader,
    duration,
    each,
    flag,
    instead,
    integer,
    named,
    one_of,
    shown,
    some,
    text,
)
from citywatch.config.settings import Agent
from citywatch.config.table import Section, table
from citywatch.core.enforce.own import SERVER as OWN
from citywatch.core.manifest import EVERYBODY, Budget
from citywatch.core.names import parse_segment, parse_spiffe_id

Attribute = str | bool | int | tuple[str, ...]
Declared = Mapping[str, Collection[str]]
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_GIVEN = {
    "name": "the agent's SPIFFE ID",
    "domain": "the agent's SPIFFE ID",
    "credential": "what was vouched for of the agent",
    "attested": "what was attested of the agent's program",
}
_TTL = duration("1m", "24h")
EVERY = "*"
ISOLATIONS = ("process", "task")


def agents(
    declared: Declared, attestors: Collection[str] = (), domains: Collection[str] = ()
) -> Reader[dict[str, Agent]]:
    """All agents; `declared` names the tools of each server in the file, `attestors` those whose word can be asked,
    `domains` the other trust domains whose authorities may vouch for an agent."""

    called: dict[str, str] = {}
    others = {server: tools for server, tools in declared.items() if server != OWN}
    first: dict[str, tuple[type, str]] = {}

    def agent(notes: Notes, node: Node, path: str, name: str) -> Agent:
        def attribute(notes: Notes, node: Node, path: str, key: str) -> Attribute | None:
            value = _attribute(notes, node, path)
            kind, where = first.setdefault(key, (type(value), path)) if value is not None else (type(value), path)
            if kind is not type(value):  # one attribute has one type in the schema that policies are held against
                notes.wrong(node, path, f"not the type of `{where}`", "quote both, or neither")
            return value

        section = Section(notes, node, path, "agents.*")
        plain = Agent(name=name)
        foreign = section.get("spiffe_id", spiffe_id(domains), "")
        if foreign and (other := called.setdefault(foreign, name)) != name:
            section.wrong("spiffe_id", f"`{other}` has this SPIFFE ID too", "name each agent once")
        for key in ("svid_ttl", "token_ttl"):
            if foreign and section.has(key):
                section.wrong(key, "another authority issues this agent's papers", "remove it")
        return Agent(
            name=name,
            spiffe_id=foreign,
            roles=section.get("roles", each(named(lambda role: parse_segment(role, "role"))), ()),
            attributes=section.get("attributes", table(_attribute_name, attribute), {}),
            budgets=section.get("budgets", _budgets(declared), {}),
            isolation=section.get("isolation", one_of(ISOLATIONS), plain.isolation),
            delegated_only=section.get("delegated_only", flag, False),
            push=section.get("push", push_places, ()),
            attested_by=section.maybe("attested_by", _attestor(attestors)),
            audience=section.maybe("audience", audience),
            content=section.get("content", content, {}),
            handles=section.get("handles", each(_tool(others, EVERY)), ()),
            svid_ttl_ms=section.get("svid_ttl", _TTL, plain.svid_ttl_ms),
            token_ttl_ms=section.get("token_ttl", _TTL, plain.token_ttl_ms),
        )

    return table(named(lambda name: parse_segment(name, "name for an agent")), agent)


def spiffe_id(domains: Collection[str]) -> Reader[str]:
    """The SPIFFE ID of an agent of one of these trust domains."""

    def read(notes: Notes, node: Node, path: str) -> str | None:
        found = named(lambda word: str(parse_spiffe_id(word)))(notes, node, path)
        if found is not None and parse_spiffe_id(found).domain not in domains:
            domain = parse_spiffe_id(found).domain
            known = instead(domain, domains) if domains else f"name it under `federation.{domain}`"
            notes.wrong(node, path, f"no trust domain {shown(domain)} is believed in this file", known)
            return None
        return found

    return read


def audience(notes: Notes, node: Node, path: str) -> tuple[str, ...] | None:
    """Who sees something: names of audiences, or `everybody` alone."""
    names = some(text)(notes, node, path)
    if names is not None and EVERYBODY in names and len(names) > 1:
        notes.wrong(node, path, f"`{EVERYBODY}` stands beside others", f"name the audiences, or write [{EVERYBODY}]")
        return None
    return names


def _attestor(known: Collection[str]) -> Reader[str]:
    def read(notes: Notes, node: Node, path: str) -> str | None:
        name = text(notes, node, path)
        if name is not None and name not in known:
            advice = instead(name, known) if known else "name it under `attestors:` with its key"
            notes.wrong(node, path, f"no attestor {shown(name)} in this file", advice)
            return None
        return name

    return read


def _attribute_name(notes: Notes, node: Node, path: str) -> str | None:
    name = text(notes, node, path)
    if name is not None and not _ATTRIBUTE.match(name):
        notes.wrong(node, path, f"{shown(name)} is not an attribute's name", "use letters, digits, underscores")
        return None
    if name in _GIVEN:
        notes.wrong(node, path, f"`{name}` is what policies read from {_GIVEN[name]}", "choose another name")
        return None
    return name


def _attribute(notes: Notes, node: Node, path: str) -> Attribute | None:
    if isinstance(node, Items):
        return each(text)(notes, node, path)
    if isinstance(node, Scalar) and node.kind == "bool":
        return flag(notes, node, path)
    if isinstance(node, Scalar) and node.kind == "int":
        return integer(-(2**63), 2**63 - 1)(notes, node, path)
    if isinstance(node, Scalar) and node.kind == "float":
        notes.wrong(node, path, "policies know no fractions", "write a whole number of a smaller unit, or quote it")
        return None
    return text(notes, node, path)


def _tool(declared: Declared, every: str = "") -> Reader[tuple[str, str]]:
    """A tool that the file declares, as `<server>/<tool>`; `every` stands for all tools of a server."""

    def read(notes: Notes, node: Node, path: str) -> tuple[str, str] | None:
        name = text(notes, node, path)
        if name is None:
            return None
        server, slash, tool = name.partition("/")
        if not slash or not server or not tool:
            notes.wrong(node, path, f"{shown(name)} is not a tool", "write <server>/<tool>, such as ledger/transfer")
        elif server not in declared:
            notes.wrong(node, path, f"no server {shown(server)} in this file", instead(server, declared))
        elif tool != every and tool not in declared[server]:
            known = declared[server]
            advice = instead(tool, known) if known else f"declare it under servers.{server}.tools"
            notes.wrong(node, path, f"server `{server}` declares no tool {shown(tool)}", advice)
        else:
            return server, tool
        return None

    return read


def _budgets(declared: Declared) -> Reader[dict[tuple[str, str], tuple[Budget, ...]]]:
    tool = _tool(declared)

    def key(notes: Notes, node: Node, path: str) -> str | None:
        found = tool(notes, node, path)
        return None if found is None else "/".join(found)

    def budgets(notes: Notes, node: Node, path: str, _: str) -> tuple[Budget, ...] | None:
        if isinstance(node, Items):
            return some(budget)(notes, node, path)
        found = budget(notes, node, path)
        return None if found is None else (found,)

    def budget(notes: Notes, node: Node, path: str) -> Budget | None:
        section = Section(notes, node, path, "agents.*.budgets.*")
        calls = section.need("calls", integer(0, 2**31 - 1), "100")
        window = section.get("per", duration("1s", "366d"), 0)
        return Budget(calls=calls, window_ms=window) if calls is not None else None

    def read(notes: Notes, node: Node, path: str) -> dict[tuple[str, str], tuple[Budget, ...]]:
        found = table(key, budgets)(notes, node, path) or {}
        pairs = ((name.partition("/"), value) for name, value in found.items())
        return {(server, tool): value for (server, _, tool), value in pairs}

    return read
