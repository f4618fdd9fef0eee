"""What is configured, as policies see it: agents, servers, tools; and the Cedar schema that follows from it.

Decides which entities, actions and attributes exist, so that a policy can be held against them; never decides a call.
INVARIANTS: the schema is generated, never written by hand: it says of each tool exactly what `ArgumentMap` returns; two
agents that give one attribute two types are a mistake, not a choice; a tool without a manifest is irreversible.
SPEC: https://docs.cedarpolicy.com/schema/json-schema.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from citywatch.core.call import Direction
from citywatch.core.errors import Malformed
from citywatch.core.manifest import SILENT, Peer, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.policy.arguments import ArgumentMap, argument_map, cedar_type
from citywatch.core.policy.facts import (
    ACTION,
    AGENT,
    ASSERTED,
    GROUPS,
    NAMED,
    PEER,
    PEER_ACTIONS,
    RESOURCE,
    ROLE,
    SERVER,
    TOKEN_ACTION,
    Attribute,
    Entity,
    agent_entity,
    entity,
    method_actions,
    peer_entity,
    resource_entity,
    server_entity,
    tool_action,
)
from citywatch.core.policy.values import CedarSet, Uid


class AgentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration tells policies of one agent."""

    id: AgentId
    roles: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = {}


class ToolFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One tool: as its operator declares it, and the input schema that was approved (None: none yet)."""

    server: str
    name: str
    manifest: ToolManifest = SILENT
    input_schema: Mapping[str, Any] | None = None


class Act(msgspec.Struct, frozen=True):
    """One action with all that can do it, all that it can be done to, and the Cedar type of its context."""

    action: Entity
    direction: Direction
    principals: tuple[Entity, ...]
    resources: tuple[Entity, ...]
    context: dict[str, Any]
    far: str = SERVER

    @property
    def types(self) -> tuple[str, str]:
        """The entity types of principal and resource."""
        return (AGENT, self.far) if self.direction is Direction.TO_SERVER else (self.far, AGENT)


class World(msgspec.Struct, frozen=True):
    """All that exists for policies. `tools` is keyed by (server, tool); `schema` is the JSON form of Cedar's schema.

    `peers` are the agents that can be spoken to, as the file declares them.
    """

    agents: tuple[Entity, ...]
    servers: tuple[Entity, ...]
    tools: Mapping[tuple[str, str], ArgumentMap]
    acts: tuple[Act, ...]
    entities: Mapping[Uid, Entity]
    schema: str
    peers: Mapping[str, Peer] = {}


def build_world(
    agents: Iterable[AgentFacts],
    servers: Iterable[str],
    tools: Iterable[ToolFacts],
    peers: Mapping[str, Peer] = MappingProxyType({}),
    resources: Iterable[str] = (),
    *,
    asserted: bool = False,
) -> World:
    """Put together what policies can speak of. Raises `Malformed`: an attribute of two types, a tool of no server."""
    people = tuple(agent_entity(agent.id, agent.roles, agent.attributes) for agent in agents)
    places = {name: server_entity(name) for name in servers}
    maps: dict[tuple[str, str], ArgumentMap] = {}
    acts = [_method_act(found, people, tuple(places.values())) for found in method_actions()]
    for tool in tools:
        if tool.server not in places or (tool.server, tool.name) in maps:
            raise Malformed(f"tool `{tool.server}/{tool.name}` is on no configured server, or declared twice")
        maps[tool.server, tool.name] = mapping = argument_map(tool.manifest, tool.input_schema)
        action = tool_action(tool.server, tool.name, tool.manifest.effect)
        context = _context({"spread": _LONG, "name": _STRING, "args": cedar_type(mapping.shape)})
        acts.append(Act(action, Direction.TO_SERVER, people, (places[tool.server],), context))
    heard = tuple(peer_entity(name) for name in peers)
    if heard:
        said = _context({"spread": _LONG, "params": _STRING, "name": _STRING, "type": _STRING})
        acts += [Act(action, Direction.TO_SERVER, people, heard, said, PEER) for action in PEER_ACTIONS.values()]
    beyond = tuple(resource_entity(name) for name in resources)
    if beyond:
        scopes = {"scopes": {"type": "Set", "element": dict(_STRING)}}
        acts.append(Act(TOKEN_ACTION, Direction.TO_SERVER, people, beyond, _context(scopes), RESOURCE))
    groups = (entity(Uid(ACTION, name)) for name in GROUPS)
    roles = (entity(uid) for uid in sorted({uid for agent in people for uid in agent.line if uid.type == ROLE}))
    everything = (*people, *places.values(), *heard, *beyond, *roles, *groups, *(act.action for act in acts))
    if asserted:
        acts = [_with_asserted(act) for act in acts]
    schema = json.dumps(_schema(people, acts))
    entities = {found.uid: found for found in everything}
    return World(people, tuple(places.values()), maps, tuple(acts), entities, schema, peers)


_STRING, _LONG = {"type": "String"}, {"type": "Long"}
CREDENTIAL = "credential"
"""The attribute of an agent that holds what its credential says; the file cannot set it."""
_CLAIM = {"type": "String", "required": False}
_CREDENTIAL_TYPE = {
    "type": "Record",
    "required": False,
    "attributes": {
        **{name: {"type": "String", "required": True} for name in ("issuer", "owner")},
        **dict.fromkeys(("model", "configuration", "prompt"), _CLAIM),
        "capabilities": {"type": "Set", "element": dict(_STRING), "required": True},
    },
}


ATTESTED = "attested"
"""The attribute of an agent that holds what a builder says of what it runs; the file cannot set it."""
_ATTESTED_TYPE = {
    "type": "Record",
    "required": False,
    "attributes": {
        **{name: {"type": "String", "required": True} for name in ("by", "kind", "builder")},
        "subjects": {"type": "Set", "element": dict(_STRING), "required": True},
    },
}


_ASSERTED_TYPE = {
    "type": "Record",
    "required": False,
    "attributes": {
        **{name: {"type": "String", "required": True} for name in ("issuer", "subject", "actor")},
        "actors": {"type": "Set", "element": dict(_STRING), "required": True},
    },
}


def _context(own: Mapping[str, Any]) -> dict[str, Any]:
    common = {"now": {"type": "Long"}, "time": {"type": "Extension", "name": "datetime"}}
    return {"type": "Record", "attributes": {**common, **own}}


def _with_asserted(act: Act) -> Act:
    """The same act, in whose context there may be what a foreign issuer asserts."""
    attributes = {**act.context["attributes"], ASSERTED: _ASSERTED_TYPE}
    return Act(
        act.action, act.direction, act.principals, act.resources, {**act.context, "attributes": attributes}, act.far
    )


def _method_act(found: tuple[Direction, str, Entity], agents: tuple[Entity, ...], servers: tuple[Entity, ...]) -> Act:
    direction, method, action = found
    context = _context({"params": _STRING, **({"name": _STRING} if method in NAMED else {})})
    if direction is Direction.TO_SERVER:
        return Act(action, direction, agents, servers, context)
    return Act(action, direction, servers, agents, context)


def _schema(agents: Sequence[Entity], acts: Sequence[Act]) -> dict[str, Any]:
    actions: dict[str, Any] = {name: {} for name in GROUPS}
    for act in acts:
        principal, resource = act.types
        actions[act.action.uid.id] = {
            "memberOf": [{"id": uid.id} for uid in sorted(act.action.line) if uid != act.action.uid],
            "appliesTo": {"principalTypes": [principal], "resourceTypes": [resource], "context": act.context},
        }
    shape = {"type": "Record", "attributes": attribute_types(agents)}
    types = {
        AGENT: {"memberOfTypes": [ROLE], "shape": shape},
        ROLE: {},
        SERVER: {"shape": {"type": "Record", "attributes": {"name": _STRING}}},
        PEER: {"shape": {"type": "Record", "attributes": {"name": _STRING}}},
        RESOURCE: {"shape": {"type": "Record", "attributes": {"name": _STRING}}},
    }
    return {"": {"entityTypes": types, "actions": actions}}


def attribute_types(agents: Sequence[Entity]) -> dict[str, Any]:
    """The Cedar type of each attribute that an agent has; one that some agent lacks is not required."""
    found: dict[str, dict[str, Any]] = {"name": dict(_STRING), "domain": dict(_STRING)}
    for agent in agents:
        for name, value in agent.attributes.items():
            kind = _attribute_type(value)
            if found.setdefault(name, kind)["type"] != kind["type"]:
                raise Malformed(f"agents disagree about the type of attribute `{name}`: quote it, or do so nowhere")
    types = {
        name: {**kind, "required": all(name in agent.attributes for agent in agents)} for name, kind in found.items()
    }
    return {**types, CREDENTIAL: _CREDENTIAL_TYPE, ATTESTED: _ATTESTED_TYPE}


def _attribute_type(value: Any) -> dict[str, Any]:
    if type(value) is bool:
        return {"type": "Boolean"}
    if type(value) is int:
        return {"type": "Long"}
    return {"type": "Set", "element": dict(_STRING)} if type(value) is CedarSet else dict(_STRING)
