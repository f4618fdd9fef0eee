"""The plain facts a decision depends on: who asks, for which action, of whom, in which context.

Decides how a call is named in policies, never whether it is permitted.

    a tool call                  Agent::"spiffe://d/agent/n"   Action::"ledger/transfer"       Server::"ledger"
    any other method             Agent::"spiffe://d/agent/n"   Action::"mcp:tools/list"        Server::"ledger"
    a message to an agent        Agent::"spiffe://d/agent/n"   Action::"a2a:SendMessage"       Peer::"billing"
    a token in exchange          Agent::"spiffe://d/agent/n"   Action::"oauth:token"           Resource::"warehouse"
    a server asks an agent       Server::"ledger"              Action::"to_agent:roots/list"   Agent::"spiffe://d/agent/n"

INVARIANTS: an action exists only through `tool_action` or `method_action`, so that a policy without a scope cannot
permit what nobody declared; no two (server, tool) pairs share an action (a server's name holds no slash); names become
pairs of type and id, never one text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from citywatch.core.call import Direction, Effect
from citywatch.core.errors import Code, Refused
from citywatch.core.names import AgentId
from citywatch.core.policy.values import CedarSet, Datetime, Uid

ASSERTED = "asserted"
"""In every context: what a foreign issuer asserts. Permits do not see it (`decide`)."""
AGENT, ROLE, SERVER, PEER, RESOURCE, ACTION = "Agent", "Role", "Server", "Peer", "Resource", "Action"
CALL_TOOL = Uid(ACTION, "call_tool")

Attribute = str | bool | int | tuple[str, ...]


class Entity(msgspec.Struct, frozen=True):
    """One entity: its name, its attributes as Cedar values, and itself with all that it is in (roles, groups)."""

    uid: Uid
    attributes: dict[str, Any]
    line: frozenset[Uid]


class Facts(msgspec.Struct, frozen=True):
    """All that policies see of one call. Every value in `attributes` and `context` is a Cedar value of `values`."""

    principal: Entity
    action: Entity
    resource: Entity
    context: dict[str, Any]


def entity(uid: Uid, attributes: Mapping[str, Any] | None = None, inside: Iterable[Uid] = ()) -> Entity:
    """An entity that is in each of `inside` (the whole closure: nothing is looked up later)."""
    return Entity(uid, dict(attributes or {}), frozenset((uid, *inside)))


def agent_entity(
    agent: AgentId, roles: Iterable[str] = (), attributes: Mapping[str, Attribute] | None = None
) -> Entity:
    """An agent with its roles. `name` and `domain` are what its SPIFFE ID says, whatever is configured as such."""
    plain = {name: CedarSet(value) if isinstance(value, tuple) else value for name, value in (attributes or {}).items()}
    plain |= {"name": agent.name, "domain": agent.domain}
    return entity(Uid(AGENT, str(agent)), plain, (Uid(ROLE, role) for role in roles))


def server_entity(name: str) -> Entity:
    """A configured server, by its name."""
    return entity(Uid(SERVER, name), {"name": name})


def peer_entity(name: str) -> Entity:
    """A configured agent that others speak to, by its name."""
    return entity(Uid(PEER, name), {"name": name})


def resource_entity(name: str) -> Entity:
    """A configured resource server, by its name."""
    return entity(Uid(RESOURCE, name), {"name": name})


def tool_action(server: str, tool: str, effect: Effect) -> Entity:
    """The action of calling one tool: in `call_tool` and in the group of its effect."""
    return entity(Uid(ACTION, f"{server}/{tool}"), None, (CALL_TOOL, Uid(ACTION, effect.value)))


def method_action(method: str, direction: Direction) -> Entity:
    """The action of any other MCP method; raises `Refused(METHOD_UNKNOWN)` for a method that has none."""
    found = _METHOD_ACTIONS.get((direction, method))
    if found is None:
        raise Refused(Code.METHOD_UNKNOWN, f"`{method[:80]}` is no method of this direction")
    return found


def peer_action(method: str) -> Entity:
    """The action of speaking to an agent; raises `Refused(METHOD_UNKNOWN)` for a method that has none."""
    found = PEER_ACTIONS.get(method)
    if found is None:
        raise Refused(Code.METHOD_UNKNOWN, f"`{method[:80]}` is no way to speak to an agent")
    return found


def peer_context(name: str | None, params: str, now: int, spread: int = 0, kind: str = "") -> dict[str, Any]:
    """The context of a message: the skill or the task that it names (empty: none), and all of it as one text.

    `spread` is how many agents carried its text on after it had come to them, whoever sends it now included; `kind` its
    type, whose schema it fits (empty: free text).
    """
    said = {"params": params, "name": name or "", "type": kind}
    return {"now": now, "time": Datetime(now), "spread": spread, **said}


def token_context(scopes: Iterable[str], now: int) -> dict[str, Any]:
    """The context of a request for a token: the scopes that it asks for."""
    return {"now": now, "time": Datetime(now), "scopes": CedarSet(tuple(scopes))}


def with_asserted(facts: Facts, issuer: str, subject: str, actors: Sequence[str]) -> Facts:
    """The same facts, and what a foreign issuer asserts; `actor` is the present one, empty if nobody acts for them."""
    said = {
        "issuer": issuer,
        "subject": subject,
        "actor": actors[-1] if actors else "",
        "actors": CedarSet(tuple(actors)),
    }
    return msgspec.structs.replace(facts, context={**facts.context, ASSERTED: said})


def tool_context(tool: str, arguments: dict[str, Any], now: int, spread: int = 0) -> dict[str, Any]:
    """The context of a tool call; `arguments` come from `ArgumentMap.read`, `now` is milliseconds since the epoch.

    `spread` is how many agents carried on text that these arguments hold; 0 for a tool that only reads.
    """
    return {"now": now, "time": Datetime(now), "spread": spread, "name": tool, "args": arguments}


def method_context(method: str, name: str | None, params: str, now: int) -> dict[str, Any]:
    """The context of any other method: the prompt or resource URI that it names, and its params as one text."""
    context: dict[str, Any] = {"now": now, "time": Datetime(now), "params": params}
    if method in NAMED:
        if name is None:
            raise Refused(Code.MALFORMED, f"`{method}` names nothing")
        context["name"] = name
    return context


NAMED = frozenset(
    {
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "prompts/get",
        "tasks/get",
        "tasks/result",
        "tasks/cancel",
        "notifications/resources/updated",
        "notifications/tasks/status",
    }
)
"""The methods whose one object is known to policies as `context.name`."""


_TO_SERVER: Mapping[str, tuple[str, ...]] = {
    "session": (
        "initialize",
        "ping",
        "server/discover",
        "logging/setLevel",
        "notifications/initialized",
        "transport/listen",  # no MCP methods: HTTP GET, the stream on which a server speaks first; and DELETE
        "transport/end",
    ),
    "list": ("tools/list", "resources/list", "resources/templates/list", "prompts/list"),
    "read_resource": ("resources/read",),
    "subscribe": ("resources/subscribe", "resources/unsubscribe", "subscriptions/listen"),
    "get_prompt": ("prompts/get",),
    "complete": ("completion/complete",),
    "task": ("tasks/get", "tasks/list", "tasks/result", "tasks/cancel"),
    "notify": (
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
        "notifications/tasks/status",
    ),
}

_TO_AGENT: Mapping[str, tuple[str, ...]] = {
    "ask_agent": (
        "sampling/createMessage",
        "elicitation/create",
        "roots/list",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tasks/cancel",
    ),
    "notify_agent": (
        "ping",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/message",
        "notifications/resources/updated",
        "notifications/resources/list_changed",
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/subscriptions/acknowledged",
        "notifications/elicitation/complete",
        "notifications/tasks/status",
    ),
}

_TO_PEER: Mapping[str, tuple[str, ...]] = {
    "send_message": ("SendMessage", "SendStreamingMessage"),
    "peer_push": (
        "CreateTaskPushNotificationConfig",
        "GetTaskPushNotificationConfig",
        "ListTaskPushNotificationConfigs",
        "DeleteTaskPushNotificationConfig",
    ),
    "peer_task": ("GetTask", "ListTasks", "CancelTask", "SubscribeToTask"),
}
EXCHANGE = "exchange_token"
GROUPS: tuple[str, ...] = (
    CALL_TOOL.id,
    *(effect.value for effect in Effect),
    *_TO_SERVER,
    *_TO_AGENT,
    *_TO_PEER,
    EXCHANGE,
)
TOKEN_ACTION = entity(Uid(ACTION, "oauth:token"), None, (Uid(ACTION, EXCHANGE),))
"""The action of asking for a token."""
PEER_ACTIONS: Mapping[str, Entity] = {
    method: entity(Uid(ACTION, f"a2a:{method}"), None, (Uid(ACTION, group),))
    for group, methods in _TO_PEER.items()
    for method in methods
}
"""Every way to speak to an agent, in a fixed order."""
SEND_MESSAGE = Uid(ACTION, "send_message")


def _actions() -> dict[tuple[Direction, str], Entity]:
    directions = ((Direction.TO_SERVER, "mcp:", _TO_SERVER), (Direction.TO_AGENT, "to_agent:", _TO_AGENT))
    return {
        (direction, method): entity(Uid(ACTION, prefix + method), None, (Uid(ACTION, group),))
        for direction, prefix, groups in directions
        for group, methods in groups.items()
        for method in methods
    }


_METHOD_ACTIONS = _actions()


def method_actions() -> Iterable[tuple[Direction, str, Entity]]:
    """Every method that has an action, in a fixed order."""
    return ((direction, method, found) for (direction, method), found in _METHOD_ACTIONS.items())
