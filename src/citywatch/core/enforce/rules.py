"""The static facts a decision may depend on, prepared once: who is configured, what is approved, what policy says.

Decides nothing. INVARIANTS: frozen and complete, so that replaying a call under the same rules gives the same decision;
both digests stand in every decision's entry; a tool's effect comes from its operator's manifest, never from itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.approvals.people import Approvals, Person
from citywatch.core.call import Effect
from citywatch.core.delegation.frontier import Frontier
from citywatch.core.enforce.places import named_members
from citywatch.core.errors import Malformed
from citywatch.core.flow.fields import Fields
from citywatch.core.flow.prints import fingerprints
from citywatch.core.identity.foreign import ForeignIssuer
from citywatch.core.manifest import SILENT, Budget, Ceiling, Clearance, Peer, Principal, ResourceServer, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.plan.formula import Rule, Then
from citywatch.core.plan.temporal import Automaton, compile_rule
from citywatch.core.policy.arguments import ArgumentMap
from citywatch.core.policy.cedar import Policy
from citywatch.core.policy.decide import Policies, compile_policies
from citywatch.core.policy.facts import ACTION, AGENT, SERVER, Entity, agent_entity
from citywatch.core.policy.values import Uid
from citywatch.core.policy.world import AgentFacts, ToolFacts, World, build_world
from citywatch.core.wire.headers import ParamHeader, param_headers
from citywatch.core.wire.schema import Schema, read_schema

Tool = tuple[str, str]
"""A server's name and a tool's."""
_NAMED: Final = re.compile(r"\bspread\b|\\u")
_SPREAD: Final = re.compile(r"""\bcontext\s*(?:\.\s*spread\b|\[\s*"spread"\s*\]|has\s+"?spread\b)""")


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """An approved tool's definition, as it was pinned under `digest`."""

    digest: str
    value: Mapping[str, Any]


MAX_HOPS: Final = 8
HOP_MEMORY_MS: Final = 600_000
PUSH_MEMORY_MS: Final = 30 * 86_400_000


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator's file says, in the terms of the gates. `digest` names all of it; `observe` is
    `unsafe_observe`.
    """

    domain: str
    agents: tuple[AgentFacts, ...]
    servers: Mapping[str, Mapping[str, ToolManifest]]
    budgets: Mapping[str, Mapping[Tool, tuple[Budget, ...]]]
    digest: str
    leeway_ms: int
    principals: Mapping[str, Principal] = {}
    clearances: Mapping[str, Clearance] = {}
    clearance: Clearance = Clearance()
    """That of agents that are registered and not configured."""
    observe: bool = False
    temporal: tuple[Rule, ...] = ()
    isolated: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()
    roots: frozenset[str] = frozenset()
    peers: Mapping[str, Peer] = {}
    ceilings: Mapping[str, Ceiling] = {}
    frontiers: Mapping[str, Frontier] = {}
    max_hops: int = MAX_HOPS
    hop_memory_ms: int = HOP_MEMORY_MS
    push_memory_ms: int = PUSH_MEMORY_MS
    resources: Mapping[str, ResourceServer] = {}
    issuers: Mapping[str, ForeignIssuer] = {}
    """By their `iss`, those whose word of whoever calls is recorded."""
    handles: Mapping[str, frozenset[Tool]] = {}
    """Of which tools each agent, by name, is given handles beyond what their manifests hide; a tool `*` is all of a
    server's."""
    boilerplate: tuple[str, ...] = ()
    """Texts of the operator's that agents may say to each other as often as they like."""
    messages: Mapping[str, Mapping[str, Any]] = {}
    """By peer, the types of messages that it takes, each with its JSON Schema."""
    attestors: Mapping[str, str] = {}
    """By the name of a builder, the thumb of the key under which its word counts on what agents run."""
    attested_by: Mapping[str, str] = {}
    """By the name of an agent, the attestor without whose word it does not act."""
    ticket_ms: int = 24 * 3_600_000
    not_own: tuple[str, ...] = ()
    people: Mapping[str, Person] = {}
    approvals: Approvals = Approvals()


class ApprovedTool(msgspec.Struct, frozen=True, kw_only=True):
    """An approved tool: its digest, what it does, how its replies are read, how policy sees it and its arguments.

    `options` are the arguments that can only be one of a few words, or a yes or no; `vouched`: no field of its replies
    can be a third party's; `hides`: some field reaches the model as a handle. `feeds`: some tool of its server feeds a
    set of known parties; `nouns` has, for each set that its server knows, what people call a member of it. `members`
    are the names inside of arguments that its definition has, each with where it stands.
    """

    digest: str
    effect: Effect
    manifest: ToolManifest
    fields: Fields
    vouched: bool
    hides: bool
    options: frozenset[str]
    action: Entity
    arguments: ArgumentMap
    mirrored: tuple[ParamHeader, ...]
    feeds: bool = False
    nouns: Mapping[str, tuple[str, ...]] = {}
    members: frozenset[tuple[str, str]] = frozenset()


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, ready to decide."""

    domain: str
    servers: Mapping[str, Entity]
    tools: Mapping[Tool, ApprovedTool]
    budgets: Mapping[str, Mapping[Tool, tuple[Budget, ...]]]
    policies: Policies
    world: World
    manifest: str
    leeway_ms: int
    principals: Mapping[str, Principal]
    clearances: Mapping[str, Clearance] = {}
    clearance: Clearance = Clearance()
    observe: bool = False
    temporal: tuple[Automaton, ...] = ()
    asks: bool = False
    """Whether some temporal rule asks a person."""
    isolated: frozenset[str] = frozenset()
    """The agents, by name, that keep their tasks apart: *honest runtime*."""
    bound: frozenset[str] = frozenset()
    """The agents, by name, that act only under a chain."""
    roots: frozenset[str] = frozenset()
    """The thumbs of the keys that speak for principals at the root of a chain."""
    hiding: Mapping[str, Mapping[Tool, ApprovedTool]] = {}
    """By an agent's name, the tools of which it is given more handles than others are, as they hide."""
    ceilings: Mapping[str, Ceiling] = {}
    """How far the words of other trust domains are believed, by domain."""
    frontiers: Mapping[str, Frontier] = {}
    """How far chains reach that other trust domains rooted, by domain; their keys are in their bundles."""
    peers: Mapping[str, Peer] = {}
    """The agents, by the name that the file gives them, that can be spoken to."""
    heard: frozenset[str] = frozenset()
    """Those agents of ours, by their own names, that can be spoken to."""
    max_hops: int = MAX_HOPS
    """How many agents a message may have come through."""
    hop_memory_ms: int = HOP_MEMORY_MS
    """For how long what an agent does may belong to what it was told."""
    push_memory_ms: int = PUSH_MEMORY_MS
    """How long after its last push a configuration for pushes is good."""
    resources: Mapping[str, ResourceServer] = {}
    """The resource servers that agents go to by themselves."""
    issuers: Mapping[str, ForeignIssuer] = {}
    """By their `iss`, those whose word of whoever calls is recorded."""
    follows: bool = False
    """Whether a policy or a rule asks how far a text has spread; or nobody takes its fingerprints."""
    boilerplate: frozenset[int] = frozenset()
    """The fingerprints of what the operator wrote or approved: its copies are nobody's."""
    messages: Mapping[str, Mapping[str, Schema]] = {}
    """By peer, the types of messages that it takes, with their shapes."""
    attestors: Mapping[str, str] = {}
    attested_by: Mapping[str, str] = {}
    ticket_ms: int = 24 * 3_600_000
    """How long a person has to answer, and how long a yes can be used."""
    not_own: tuple[str, ...] = ()
    """Acts that nobody approves in the name of the principal whose authority they use."""
    people: Mapping[str, Person] = {}
    """Those who answer, where the file names any: a yes counts as long as it would be theirs to give (`approvals`)."""
    approvals: Approvals = Approvals()

    def knows(self, name: str) -> bool:
        """Whether this names something that the file configures: a server, a peer, or a resource."""
        return name in self.servers or name in self.peers or name in self.resources

    def shown(self, agent: str, server: str, tool: str | None) -> ApprovedTool | None:
        """An approved tool, as its replies are shown to this agent."""
        found = (server, tool or "")
        own = self.hiding.get(agent.rpartition("/")[2]) if self.hiding else None
        return own[found] if own is not None and found in own else self.tools.get(found)

    def hushes(self, agent: str, server: str, tool: str | None) -> bool:
        """Whether what a server tells of its work on this tool reaches the agent without its words: the tool hides.

        None is no tool, and could be about any of them.
        """
        if not self.principals or self.observe:
            return False
        names = [tool] if tool is not None else [name for of, name in self.tools if of == server]
        return any(one is not None and one.hides for one in (self.shown(agent, server, name) for name in names))

    def is_isolated(self, agent: str) -> bool:
        """Whether an agent, by its SPIFFE ID, keeps its tasks apart."""
        return bool(self.isolated) and agent.rpartition("/")[2] in self.isolated

    def cleared(self, name: str) -> Clearance:
        """What the agent of that name may be given."""
        return self.clearances.get(name, self.clearance)

    def agent(self, agent: str, name: str) -> Entity:
        """An agent as policy sees it; one that is registered but not configured has neither roles nor attributes."""
        return self.world.entities.get(Uid(AGENT, agent)) or agent_entity(AgentId(self.domain, name))

    def links(self, peer: str) -> tuple[str, ...]:
        """Where a part may lead that this peer sends as a link."""
        found = self.peers.get(peer)
        return () if found is None else found.links

    def mirrored(self, server: str, tool: str | None) -> tuple[ParamHeader, ...]:
        """The arguments of an approved tool that `Mcp-Param-*` headers must repeat."""
        found = self.tools.get((server, tool or ""))
        return () if found is None else found.mirrored


def world_of(configured: Configured, definitions: Mapping[Tool, Definition]) -> World:
    """All that policies can speak of: every declared or approved tool, with its input schema once approved."""
    named = {(server, tool) for server, tools in configured.servers.items() for tool in tools}
    named |= {tool for tool in definitions if tool[0] in configured.servers}
    return build_world(
        configured.agents,
        configured.servers,
        (
            ToolFacts(
                server=server,
                name=tool,
                manifest=configured.servers[server].get(tool, SILENT),
                input_schema=_schema(definitions.get((server, tool))),
            )
            for server, tool in sorted(named)
        ),
        configured.peers,
        configured.resources,
        asserted=bool(configured.issuers),
    )


def build_rules(configured: Configured, definitions: Mapping[Tool, Definition], policies: Iterable[Policy]) -> Rules:
    """Prepare everything a decision may depend on; raises `Malformed` for what contradicts itself."""
    world, policies = world_of(configured, definitions), tuple(policies)
    nouns = {server: _nouns(manifests) for server, manifests in configured.servers.items()}
    tools = {
        tool: ApprovedTool(
            digest=definition.digest,
            effect=configured.servers[tool[0]].get(tool[1], SILENT).effect,
            manifest=configured.servers[tool[0]].get(tool[1], SILENT),
            options=_options(_schema(definition) or {}),
            members=named_members(
                _schema(definition) or {}, configured.servers[tool[0]].get(tool[1], SILENT).parameters
            ),
            fields=Fields(configured.servers[tool[0]].get(tool[1], SILENT).output),
            vouched=_vouched(configured.servers[tool[0]].get(tool[1], SILENT)),
            hides=configured.servers[tool[0]].get(tool[1], SILENT).hides,
            action=world.entities[Uid(ACTION, f"{tool[0]}/{tool[1]}")],
            arguments=world.tools[tool],
            mirrored=param_headers(_schema(definition) or {}),
            feeds=any(
                one.party for manifest in configured.servers[tool[0]].values() for one in manifest.output.values()
            ),
            nouns=nouns[tool[0]],
        )
        for tool, definition in definitions.items()
        if tool[0] in configured.servers
    }
    follows = _follows(policies, configured.temporal)
    return Rules(
        domain=configured.domain,
        servers={name: world.entities[Uid(SERVER, name)] for name in configured.servers},
        tools=tools,
        budgets=configured.budgets,
        policies=compile_policies(policies, world.entities),
        world=world,
        manifest=configured.digest,
        leeway_ms=configured.leeway_ms,
        principals=configured.principals,
        clearances=configured.clearances,
        clearance=configured.clearance,
        observe=configured.observe,
        temporal=tuple(compile_rule(rule) for rule in configured.temporal),
        asks=any(rule.then is Then.ASK for rule in configured.temporal),
        isolated=configured.isolated,
        bound=configured.bound,
        roots=configured.roots,
        peers=configured.peers,
        ceilings=configured.ceilings,
        frontiers=configured.frontiers,
        messages={peer: _schemas(peer, types) for peer, types in configured.messages.items()},
        heard=frozenset(peer.agent for peer in configured.peers.values() if peer.agent),
        max_hops=configured.max_hops,
        hop_memory_ms=configured.hop_memory_ms,
        push_memory_ms=configured.push_memory_ms,
        resources=configured.resources,
        issuers=configured.issuers,
        follows=follows,
        boilerplate=_boilerplate(configured, definitions) if follows else frozenset(),
        attestors=configured.attestors,
        attested_by=configured.attested_by,
        ticket_ms=configured.ticket_ms,
        not_own=configured.not_own,
        people=configured.people,
        approvals=configured.approvals,
        hiding={
            agent: {tool: _hidden(one) for tool, one in tools.items() if not chosen.isdisjoint((tool, (tool[0], "*")))}
            for agent, chosen in configured.handles.items()
        },
    )


def _schemas(peer: str, types: Mapping[str, Any]) -> dict[str, Schema]:
    found = {}
    for name, document in types.items():
        try:
            found[name] = read_schema(document)
        except Malformed as mistake:
            raise Malformed(f"peers.{peer}.messages.{name}: {mistake}") from None
    return found


def asks_for_spread(policy: Policy) -> bool:
    """Whether a policy asks how far a text has spread; a tool of that name is another thing."""
    return _SPREAD.search(policy.text) is not None


def _follows(policies: Iterable[Policy], temporal: Iterable[Rule]) -> bool:
    """One-sided: the name by itself, or spelt out of escapes, is asking too."""
    asked = any(_NAMED.search(one.text) for one in policies)
    return asked or any("spread" in compile_rule(rule).attributes for rule in temporal)


def _boilerplate(configured: Configured, definitions: Mapping[Tool, Definition]) -> frozenset[int]:
    """The operator's own texts, and the words of the definitions that were approved, each by itself."""
    found = set[int]()
    for text in configured.boilerplate:
        found |= fingerprints(text)
    for definition in definitions.values():
        pending: list[Any] = [definition.value]
        while pending:
            one = pending.pop()
            if isinstance(one, str):
                found |= fingerprints(one)
            elif isinstance(one, Mapping):
                pending += one.values()
            elif isinstance(one, list):
                pending += one
    return frozenset(found)


def _nouns(manifests: Mapping[str, ToolManifest]) -> dict[str, tuple[str, ...]]:
    """By set of known parties: its own name, and each parameter's in which a member of it may stand."""
    found: dict[str, set[str]] = {}
    for manifest in manifests.values():
        for path, parameter in manifest.parameters.items():
            if parameter.party is not None:
                found.setdefault(parameter.party, {parameter.party}).add(path.partition("[")[0].partition(".")[0])
    return {party: tuple(sorted(names)) for party, names in found.items()}


def _hidden(tool: ApprovedTool) -> ApprovedTool:
    manifest = tool.manifest.hidden()
    return msgspec.structs.replace(tool, manifest=manifest, fields=Fields(manifest.output), hides=manifest.hides)


def _vouched(manifest: ToolManifest) -> bool:
    return "$" in manifest.output and all(one.trusted for one in manifest.output.values())


def _schema(definition: Definition | None) -> Mapping[str, Any] | None:
    schema = None if definition is None else definition.value.get("inputSchema")
    return schema if isinstance(schema, dict) else None


def _options(schema: Mapping[str, Any]) -> frozenset[str]:
    """The arguments whose values the approved definition enumerates: none of them can carry an instruction."""
    properties, shared = schema.get("properties"), schema.get("$defs")
    if not isinstance(properties, dict):
        return frozenset()
    found = set()
    for name, one in properties.items():
        ref = one.get("$ref") if isinstance(one, dict) else None
        if isinstance(ref, str) and ref.startswith("#/$defs/") and isinstance(shared, dict):
            one = shared.get(ref.removeprefix("#/$defs/"), one)
        if isinstance(one, dict) and (one.get("type") == "boolean" or isinstance(one.get("enum"), list)):
            found.add(name)
    return frozenset(found)
