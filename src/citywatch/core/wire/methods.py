"""Which MCP methods exist, in which revision and direction, and which parameters each may carry.

Decides whether a method is known and its parameters have the declared types. It decides nothing about permission: it
says which action a policy is asked about, which group the method belongs to and what the method does to the world.

INVARIANTS: a method that is not in the table is refused, never passed; each direction of a method is an action of its
own; an agent's request carries no parameter that the specification does not name, for policy would not see it judged.
SPEC: MCP schema 2024-11-05 to 2025-11-25 (with sessions), 2026-07-28 (stateless).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec

from citywatch.core.call import Direction, Effect
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire import a2a

LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN: Final = ("2026-07-28",)
ASSUMED: Final = "2025-03-26"
"""SPEC: MCP 2025-06-18 basic/transports, "Protocol Version Header": what a request without the header speaks."""


class Group(StrEnum):
    """A family of methods, so that a policy can name "everything about resources" as one action group."""

    LIFECYCLE = "lifecycle"
    TOOLS = "tools"
    RESOURCES = "resources"
    PROMPTS = "prompts"
    COMPLETION = "completion"
    SUBSCRIPTIONS = "subscriptions"
    LOGGING = "logging"
    TASKS = "tasks"
    SAMPLING = "sampling"
    ELICITATION = "elicitation"
    ROOTS = "roots"


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One method in one direction. `named_by` is the parameter that names the tool, prompt, resource or task.

    `params` pairs each known parameter with the types it may have; `required` are those that must be there. `action`
    is the name under which policy knows the method: its own for what an agent asks, `to_agent/<method>` for the rest.
    """

    method: str
    direction: Direction
    notification: bool
    group: Group
    effect: Effect
    named_by: str | None
    params: Mapping[str, tuple[type, ...]]
    required: tuple[str, ...]
    action: str


def find_method(direction: Direction, revision: str, method: str, *, notification: bool) -> Method:
    """The table's row; raise `Refused(METHOD_UNKNOWN)` if this revision has no such method in this direction."""
    row = _ROWS[direction].get(revision, _NOTHING).get(method)
    if row is None or row.notification is not notification:
        kind = "notification" if notification else "request"
        raise Refused(Code.METHOD_UNKNOWN, f"`{_printable(method)}` is not a {kind} of MCP {_printable(revision)}")
    return row


def effect_of_method(direction: Direction, revision: str, method: str) -> Effect:
    """What a method does, whatever it names. Not in the table are only the HTTP methods: a GET listens, a DELETE ends.

    A tool call is more than its method: what a tool does, its operator declares.
    """
    if revision == a2a.REVISION:
        return a2a.effect_of(method)
    row = _ROWS[direction].get(revision, _NOTHING).get(method)
    if row is not None:
        return row.effect
    return Effect.READ if method == "transport/listen" else Effect.WRITE


def all_methods() -> tuple[Method, ...]:
    """Every row once, whatever its revisions: what a policy's schema declares actions for."""
    return tuple({row.action: row for rows in _ROWS.values() for one in rows.values() for row in one.values()}.values())


def check_params(row: Method, params: Mapping[str, Any] | None) -> None:
    """Raise `Malformed` unless the parameters are those of the method and of their declared types.

    What a server sends may carry members we do not know (servers are other people's, and agents ignore them); what an
    agent sends may not, except below `_meta`.
    """
    if params is None:
        params = {}
    for key, value in params.items():
        types = row.params.get(key)
        if types is None:
            if key == "_meta":
                types = (dict,)
            elif row.direction is Direction.TO_AGENT:
                continue
            else:
                raise Malformed(f"`{_printable(key)}` is not a parameter of `{row.method}`")
        # `type() in`, never isinstance: a boolean is an int to Python, and no number to anybody else.
        if type(value) not in types:
            raise Malformed(f"the parameter `{key}` of `{row.method}` has the wrong type")
    for key in row.required:
        if key not in params:
            raise Malformed(f"the parameter `{key}` of `{row.method}` is missing")


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:80])


# ---- the table ---------------------------------------------------------------------------------------------------

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "text": (str,),
    "object": (dict,),
    "array": (list,),
    "integer": (int,),
    "number": (int, float),
    "id": (str, int),
    "any": (str, int, float, bool, dict, list, type(None)),
}

# Per direction: one line a method. `revisions | method | group | effect | named by | parameters`; `!` marks a required
# parameter. Effects are read against the method: what starts, changes or sends something is no read.
_TO_SERVER: Final = """
legacy | initialize               | lifecycle     | write | -      | protocolVersion:text! capabilities:object! clientInfo:object!
legacy | ping                     | lifecycle     | read  | -      |
modern | server/discover          | lifecycle     | read  | -      |
all    | tools/list               | tools         | read  | -      | cursor:text
legacy | tools/call               | tools         | irreversible | name | name:text! arguments:object task:object
modern | tools/call               | tools         | irreversible | name | name:text! arguments:object inputResponses:object requestState:text
all    | resources/list           | resources     | read  | -      | cursor:text
all    | resources/templates/list | resources     | read  | -      | cursor:text
legacy | resources/read           | resources     | read  | uri    | uri:text!
modern | resources/read           | resources     | read  | uri    | uri:text! inputResponses:object requestState:text
legacy | resources/subscribe      | subscriptions | write | uri    | uri:text!
legacy | resources/unsubscribe    | subscriptions | write | uri    | uri:text!
modern | subscriptions/listen     | subscriptions | read  | -      | notifications:object!
all    | prompts/list             | prompts       | read  | -      | cursor:text
legacy | prompts/get              | prompts       | read  | name   | name:text! arguments:object
modern | prompts/get              | prompts       | read  | name   | name:text! arguments:object inputResponses:object requestState:text
all    | completion/complete      | completion    | read  | ref    | ref:object! argument:object! context:object
legacy | logging/setLevel         | logging       | write | -      | level:text!
latest | tasks/get                | tasks         | read  | taskId | taskId:text!
latest | tasks/result             | tasks         | read  | taskId | taskId:text!
latest | tasks/list               | tasks         | read  | -      | cursor:text
latest | tasks/cancel             | tasks         | write | taskId | taskId:text!
"""  # noqa: E501
_TO_SERVER_NOTIFICATIONS: Final = """
legacy | notifications/initialized        | lifecycle | write | -      |
all    | notifications/cancelled          | lifecycle | write | -      | requestId:id! reason:text
legacy | notifications/progress           | lifecycle | write | -      | progressToken:id! progress:number! total:number message:text
legacy | notifications/roots/list_changed | roots     | write | -      |
latest | notifications/tasks/status       | tasks     | write | taskId | taskId:text! status:text! statusMessage:text createdAt:text lastUpdatedAt:text ttl:any pollInterval:number
"""  # noqa: E501
_TO_AGENT: Final = """
legacy | ping                   | lifecycle   | read         | -      |
legacy | sampling/createMessage | sampling    | irreversible | -      | messages:array! maxTokens:number!
legacy | elicitation/create     | elicitation | irreversible | -      | message:text!
legacy | roots/list             | roots       | read         | -      |
modern | sampling/createMessage | sampling    | irreversible | -      | messages:array! maxTokens:number!
modern | elicitation/create     | elicitation | irreversible | -      | message:text!
modern | roots/list             | roots       | read         | -      |
latest | tasks/get              | tasks       | read         | taskId | taskId:text!
latest | tasks/result           | tasks       | read         | taskId | taskId:text!
latest | tasks/list             | tasks       | read         | -      | cursor:text
latest | tasks/cancel           | tasks       | write        | taskId | taskId:text!
"""
_TO_AGENT_NOTIFICATIONS: Final = """
all    | notifications/cancelled                  | lifecycle     | write | -   | requestId:id! reason:text
all    | notifications/progress                   | lifecycle     | read  | -   | progressToken:id! progress:number! total:number message:text
all    | notifications/message                    | logging       | read  | -   | level:text! logger:text data:any!
all    | notifications/tools/list_changed         | tools         | read  | -   |
all    | notifications/prompts/list_changed       | prompts       | read  | -   |
all    | notifications/resources/list_changed     | resources     | read  | -   |
all    | notifications/resources/updated          | resources     | read  | uri | uri:text!
latest | notifications/elicitation/complete       | elicitation   | read  | -   | elicitationId:text!
latest | notifications/tasks/status               | tasks         | read  | taskId | taskId:text! status:text!
modern | notifications/subscriptions/acknowledged | subscriptions | read  | -   | notifications:object!
"""  # noqa: E501

# On the stateless revision a server asks by answering `input_required`: these rows never arrive as messages there, but
# each embedded request is judged under its own action (results.py). `latest` is the last revision with sessions.
_SPAN: Final = {"legacy": LEGACY, "modern": MODERN, "all": LEGACY + MODERN, "latest": LEGACY[-1:]}


def _read_rows(direction: Direction, *tables: tuple[str, bool]) -> Mapping[str, Mapping[str, Method]]:
    rows: dict[str, dict[str, Method]] = {revision: {} for revision in LEGACY + MODERN}
    for text, notification in tables:
        for line in text.strip().splitlines():
            span, method, group, effect, named_by, members = (cell.strip() for cell in line.split("|"))
            pairs = [member.rstrip("!").split(":") for member in members.split()]
            row = Method(
                method=method,
                direction=direction,
                notification=notification,
                group=Group(group),
                effect=Effect(effect),
                named_by=None if named_by == "-" else named_by,
                params=MappingProxyType({key: _TYPES[kind] for key, kind in pairs}),
                required=tuple(member.split(":")[0] for member in members.split() if member.endswith("!")),
                action=method if direction is Direction.TO_SERVER else f"to_agent/{method}",
            )
            for revision in _SPAN[span]:
                rows[revision][method] = row
    return MappingProxyType({revision: MappingProxyType(one) for revision, one in rows.items()})


_NOTHING: Final[Mapping[str, Method]] = MappingProxyType({})
_ROWS: Final = MappingProxyType(
    {
        Direction.TO_SERVER: _read_rows(Direction.TO_SERVER, (_TO_SERVER, False), (_TO_SERVER_NOTIFICATIONS, True)),
        Direction.TO_AGENT: _read_rows(Direction.TO_AGENT, (_TO_AGENT, False), (_TO_AGENT_NOTIFICATIONS, True)),
    }
)
