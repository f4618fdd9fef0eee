"""A2A 1.0: what an agent asks of another, as JSON-RPC says it. `a2a_rest` reads the other binding into the same.

Decides which methods, parameters and shapes exist; it decides nothing about permission. Of an agent's request goes on
what is named here: a member that nobody knows is left out, as the specification asks. One that a reader could take for
a member which we know is refused, for it would be missed: ProtoJSON readers know a field under two names (`taskId` and
`task_id`), and `tenant` says whose agent is meant.

`a2a_results` says what a peer may answer, `a2a_errors` how a no is worded; whoever stands outside of `core.wire` has
them from here.

Past 400 lines, and one thing because what an agent may send, and what of it goes on, is one table with its checks.

INVARIANTS
1. Any bytes give a reading, `Malformed` or `Refused`, never another error.
2. A method that is not in the table is refused, and a member that is not goes no further.
3. A part that is sent has one content, and it is in the message: a link is fetched by nobody, for whoever wrote it
   chose where to.
4. The members of our metadata that only a gateway may write are taken from no agent.
5. What a sender hands on (`HANDED`, a chain for the receiver) is a part of what it says: whoever may not see the one
   may not see the other, or links would be a way around.
6. A task or conversation that a request goes on with is among those that it names (`things`): all of ours look like
   one client to a peer, so whose it is, nobody but us can tell.
SPEC: A2A 1.0 (a2a.proto, and §9 JSON-RPC binding).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from citywatch.core.call import Call, Effect
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.label import Label
from citywatch.core.wire.a2a_errors import read_info, refusal
from citywatch.core.wire.a2a_list import LIST, read_filter
from citywatch.core.wire.a2a_push import CREATE, INLINE, WITHIN, check_config
from citywatch.core.wire.a2a_results import (
    PLAIN_ID,
    WORDS,
    check_part,
    check_reply,
    conversation,
    given,
    gives,
    is_last,
    may_be_last,
)
from citywatch.core.wire.claimed import read_label, read_token
from citywatch.core.wire.jsonrpc import Message, Request, format_message

REVISION: Final = "a2a/1.0"
VERSION: Final = "1.0"
TASK: Final = "citywatch/task"
CHAIN: Final = "citywatch/chain"
SKILL: Final = "citywatch/skill"
TYPE: Final = "citywatch/type"
SENDER: Final = "citywatch/sender"
HOPS: Final = "citywatch/hops"
HANDED: Final = "citywatch/handed"
LABEL: Final = "citywatch/label"
ASSERTION: Final = "citywatch/assertion"
"""A token of a foreign issuer that says of whom it is, as over MCP. It goes no further than to us."""
OURS: Final = "citywatch/"
ENVELOPE: Final = "urn:citywatch:envelope:1"
"""The URI of our extension: under it a gateway puts the envelope of a message (docs/reference/envelope.md)."""
_OURS: Final = (TASK, CHAIN, SKILL, TYPE, HANDED, LABEL)
"""Of our members, those that an agent may write."""
_GATEWAYS: Final = (ENVELOPE, SENDER, HOPS)
MAX_LINKS: Final = 8
MAX_PARTS: Final = 256
_TASK: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_TYPE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_MEDIA: Final = re.compile(r"[A-Za-z0-9.+*-]{1,64}/[A-Za-z0-9.+*-]{1,64}\Z")
_SKILL: Final = re.compile(r"[A-Za-z0-9._/@+-]{1,128}\Z")
__all__ = [
    "ASSERTION",
    "CHAIN",
    "ENVELOPE",
    "HANDED",
    "HOPS",
    "LABEL",
    "LIST",
    "REVISION",
    "SENDER",
    "SKILL",
    "TASK",
    "TYPE",
    "VERSION",
    "WORDS",
    "Method",
    "Reading",
    "carries",
    "check_reply",
    "check_version",
    "content_of",
    "conversation",
    "effect_of",
    "forwarded",
    "given",
    "gives",
    "is_last",
    "may_be_last",
    "methods",
    "read_info",
    "read_request",
    "refusal",
    "sends",
    "streams",
    "take_assertion",
    "visible",
    "with_chain",
]
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})
_MEANT: Final = frozenset(("tenant",))
"""Members of the specification that change what is asked, and that we do not carry."""


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One method: what it does, and each parameter with the type that it has; `required` must be there."""

    method: str
    effect: Effect
    sends: bool
    streams: bool
    params: Mapping[str, type]
    required: tuple[str, ...]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks. `name` is the skill that a message says it is for, or the task that another names.

    `arguments` is what policy may see: the parameters without our own metadata. `things` are the tasks and
    conversations that the request goes on with, as `(kind, id)`. `task` and `chain` are the sender's own, as in MCP.
    `tightened` is what it adds to the label of its own words, `envelope` that of another trust domain's gateway, as
    it came: nothing of it is believed yet. `type` is a message's, empty if it names none.
    """

    row: Method
    name: str | None
    arguments: Mapping[str, Any]
    things: tuple[tuple[str, str], ...]
    task: str | None
    chain: tuple[str, ...]
    tightened: Label | None = None
    envelope: str | None = None
    type: str = ""


def methods() -> tuple[Method, ...]:
    """Every method that an agent may ask for, in a fixed order."""
    return tuple(_METHODS.values())


def effect_of(method: str) -> Effect:
    """What a method does; what is not in the table cannot be undone."""
    row = _METHODS.get(method)
    return Effect.IRREVERSIBLE if row is None else row.effect


def sends(method: str) -> bool:
    """Whether a method carries a message to the peer."""
    return method in _SENDING


def carries(method: str) -> bool:
    """Whether a method brings the peer anything that its sender wrote, beside the names of what the peer gave."""
    return method in _CARRYING


def streams(method: str) -> bool:
    """Whether a method is answered by a stream."""
    return method in _STREAMING


def check_version(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise `Refused` unless the one `A2A-Version` is ours. SPEC: A2A 1.0 §3.6: without the header it is 0.3."""
    said = [value for name, value in headers if len(name) == 11 and name.lower() == b"a2a-version"]
    if said != [VERSION.encode()]:
        raise Refused(Code.REVISION_UNSUPPORTED, f"this gateway speaks A2A {VERSION}: send `A2A-Version: {VERSION}`")


def read_request(message: Message) -> Reading:
    """What an agent asks of another. Raises `Malformed` or `Refused`."""
    if not isinstance(message, Request):
        raise Malformed("an A2A message is a request, with an `id`")
    if message.method == _EXTENDED:
        raise Refused(Code.CARD_UNSUPPORTED, "what an agent adds to its card for some callers, nobody approved")
    row = _METHODS.get(message.method)
    if row is None:
        raise Refused(Code.METHOD_UNKNOWN, f"`{_printable(message.method)}` is not a method of A2A {VERSION} here")
    params = _members(message.params or {}, row.params, row.required, row.method)
    metadata = params.get("metadata", _EMPTY)
    passed_on = ENVELOPE in metadata  # by a gateway, which also says who sends it and for which task of its own
    _own_only(metadata, (*(_OURS if row.sends else (TASK, CHAIN)), *(_GATEWAYS if passed_on and row.sends else ())))
    params, things = _sent(params) if row.sends else (params, _named(params))
    if row.method == LIST:
        read_filter(params)
    if row.method == CREATE:
        check_config(params)
    if HANDED in metadata:
        _links(metadata, HANDED)
    skill = metadata.get(SKILL)
    if skill is not None and not (type(skill) is str and _SKILL.match(skill)):
        raise Malformed(f"`{SKILL}` in `metadata` is the id of a skill")
    kind = metadata.get(TYPE, "")
    if TYPE in metadata and not (type(kind) is str and _TYPE.match(kind)):
        raise Malformed(f"`{TYPE}` in `metadata` is the name of a type of message")
    return Reading(
        row=row,
        name=skill if row.sends else params.get("taskId", params.get("id")),
        arguments=visible(params),
        things=things,
        task=None if passed_on and CHAIN not in metadata else _task(metadata),
        chain=_chain(metadata),
        tightened=read_label(metadata, LABEL),
        envelope=read_token(metadata, ENVELOPE),
        type=kind,
    )


def content_of(arguments: Mapping[str, Any]) -> Any:
    """The one value that a typed message carries; `Malformed` where it carries any other word that its sender chose."""
    metadata, message = arguments.get("metadata", _EMPTY), arguments["message"]
    modes = arguments.get("configuration", _EMPTY).get("acceptedOutputModes", ())
    beside = (message.get("metadata"), message.get("extensions"), metadata.keys() - {HANDED})
    if any(beside) or not PLAIN_ID.match(message["messageId"]) or not all(_MEDIA.match(one) for one in modes):
        raise Malformed(
            "a typed message says nothing beside its content: no metadata, no extensions, ids that are words"
        )
    (part, *more) = message["parts"]
    if more or not part.keys() <= {"data", "mediaType"} or "data" not in part:
        raise Malformed("a typed message has one part, which is `data`")
    if part.get("mediaType", "application/json") != "application/json":
        raise Malformed("the `mediaType` of a typed message's part is `application/json` or absent")
    return part["data"]


def visible(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters without what is about the exchange and not about the act."""
    metadata = params.get("metadata")
    if metadata is None:
        return params
    kept = {key: value for key, value in metadata.items() if key == HANDED or not _is_ours(key)}
    rest = {key: value for key, value in params.items() if key != "metadata"}
    return {**rest, "metadata": kept} if kept else rest


def forwarded(call: Call, hops: int | None, envelope: str | None = None, context: str | None = None) -> bytes:
    """What a peer is sent: the request that was judged without its chain, with who sends it, in its envelope if any.

    `hops` is the number of agents that its task came through, None where no chain says so. `context` is what the
    peer is told in the place of a conversation that the sender named itself (`a2a_own`).
    """
    if call.rpc_id is None:
        raise Malformed("an A2A message is a request, with an `id`")
    params = {key: value for key, value in call.arguments.items() if key != "metadata"}
    if call.method in _CARRYING:
        skill = call.name if call.method in _SENDING else None
        ours = {
            SKILL: skill,
            TYPE: call.type or None,
            TASK: call.task,
            SENDER: call.agent,
            HOPS: hops,
            ENVELOPE: envelope,
        }
        told = {key: value for key, value in ours.items() if value is not None}
        params["metadata"] = {**call.arguments.get("metadata", _EMPTY), **told}
    if context is not None:
        params["message"] = {**params["message"], "contextId": context}
    return format_message(Request(call.rpc_id, call.method, params))


def take_assertion(message: Message) -> tuple[Message, str | None]:
    """A message without the foreign token that it shows, and that token: nothing of it is kept or sent on."""
    params = (message.params or _EMPTY) if isinstance(message, Request) else _EMPTY
    metadata = params.get("metadata")
    if not isinstance(message, Request) or type(metadata) is not dict or ASSERTION not in metadata:
        return message, None
    token = metadata[ASSERTION]
    if type(token) is not str:
        raise Malformed(f"`{ASSERTION}` in `metadata` is a compact token")
    kept = {key: value for key, value in metadata.items() if key != ASSERTION}
    rest = {key: value for key, value in params.items() if key != "metadata"}
    bare = msgspec.structs.replace(message, params={**rest, "metadata": kept} if kept else rest)
    return msgspec.structs.replace(bare, body=format_message(bare)), token


def with_chain(message: Message, task: str, links: Sequence[str]) -> Message:
    """The same request under a chain; one that shows a chain of its own stays as it is."""
    if not isinstance(message, Request):
        return message
    params = message.params or {}
    metadata = params.get("metadata", {})
    if type(metadata) is not dict or CHAIN in metadata:
        return message
    shown = {**params, "metadata": {**metadata, TASK: task, CHAIN: list(links)}}
    changed = msgspec.structs.replace(message, params=shown)
    return msgspec.structs.replace(changed, body=format_message(changed))


# ---- what an agent may send --------------------------------------------------------------------------------------

# `method | effect | parameters`; `!` marks a required one. The effect is read against the method.
_TABLE: Final = """
SendMessage          | irreversible | message:object! configuration:object metadata:object
SendStreamingMessage | irreversible | message:object! configuration:object metadata:object
GetTask              | read         | id:text! historyLength:integer metadata:object
ListTasks            | read         | contextId:text status:text pageSize:integer pageToken:text historyLength:integer statusTimestampAfter:text includeArtifacts:flag metadata:object
CancelTask           | write        | id:text! metadata:object
SubscribeToTask      | read         | id:text! metadata:object
CreateTaskPushNotificationConfig | write | taskId:text! id:text url:text! token:text authentication:object metadata:object
GetTaskPushNotificationConfig    | read  | taskId:text! id:text! metadata:object
ListTaskPushNotificationConfigs  | read  | taskId:text! pageSize:integer pageToken:text metadata:object
DeleteTaskPushNotificationConfig | write | taskId:text! id:text! metadata:object
"""  # noqa: E501
_EXTENDED: Final = "GetExtendedAgentCard"
_SENDING: Final = frozenset(("SendMessage", "SendStreamingMessage"))
_CARRYING: Final = _SENDING | {"CancelTask"}
"""The methods whose parameters have `metadata` in the specification; in the others it is for us alone."""
_STREAMING: Final = frozenset(("SendStreamingMessage", "SubscribeToTask"))
_TYPES: Final[Mapping[str, type]] = {"text": str, "object": dict, "array": list, "integer": int, "flag": bool}


def _pairs(text: str) -> Mapping[str, type]:
    return MappingProxyType({one.split(":")[0]: _TYPES[one.rstrip("!").split(":")[1]] for one in text.split()})


def _needed(text: str) -> tuple[str, ...]:
    return tuple(one.split(":")[0] for one in text.split() if one.endswith("!"))


def _rows() -> Mapping[str, Method]:
    rows = {}
    for line in _TABLE.strip().splitlines():
        method, effect, members = (cell.strip() for cell in line.split("|"))
        rows[method] = Method(
            method=method,
            effect=Effect(effect),
            sends=method in _SENDING,
            streams=method in _STREAMING,
            params=_pairs(members),
            required=_needed(members),
        )
    return MappingProxyType(rows)


_METHODS: Final = _rows()
_MESSAGE: Final = (
    "messageId:text! role:text! parts:array! contextId:text taskId:text metadata:object "
    "extensions:array referenceTaskIds:array"
)
_CONFIGURATION: Final = (
    "acceptedOutputModes:array historyLength:integer returnImmediately:flag taskPushNotificationConfig:object"
)
_MESSAGE_MEMBERS: Final = _pairs(_MESSAGE)
_MESSAGE_NEEDED: Final = _needed(_MESSAGE)
_CONFIGURED: Final = _pairs(_CONFIGURATION)
_WITHIN: Final = _pairs(WITHIN)
_WITHIN_NEEDS: Final = _needed(WITHIN)


def _sent(given: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[tuple[str, str], ...]]:
    """Check a message and how it is to be answered: what goes on of it, and the tasks and the conversation that it goes
    on with."""
    message = _members(given["message"], _MESSAGE_MEMBERS, _MESSAGE_NEEDED, "message")
    configuration = _members(given.get("configuration", _EMPTY), _CONFIGURED, (), "configuration")
    if INLINE in configuration:
        within = _members(configuration[INLINE], _WITHIN, _WITHIN_NEEDS, INLINE)
        configuration = {**configuration, INLINE: within} if within is not configuration[INLINE] else configuration
        check_config(within)
    params = given
    if message is not given["message"] or configuration is not given.get("configuration", _EMPTY):
        params = {**given, "message": message, **({"configuration": configuration} if "configuration" in given else {})}
    _texts(configuration.get("acceptedOutputModes", []), "acceptedOutputModes")
    if message["role"] != "ROLE_USER":
        raise Malformed("the `role` of a message that is sent is `ROLE_USER`")
    if not 0 < len(message["parts"]) <= MAX_PARTS:
        raise Malformed(f"a message has 1 to {MAX_PARTS} parts")
    for part in message["parts"]:
        check_part(part)
    _own_only(message.get("metadata", _EMPTY), ())
    _texts(message.get("extensions", []), "extensions")
    tasks = _texts(message.get("referenceTaskIds", []), "referenceTaskIds")
    found = [("context", message["contextId"])] if "contextId" in message else []
    found += [("task", one) for one in ([message["taskId"]] if "taskId" in message else []) + tasks]
    return params, _identified(found)


def _named(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    named = params.get("taskId", params.get("id"))
    return _identified([] if named is None else [("task", named)])


def _identified(found: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    for kind, name in found:
        if not PLAIN_ID.match(name):
            raise Malformed(f"the id of a {kind} is a printable word of at most 512 characters")
    return tuple(dict.fromkeys(found))


def _is_ours(key: str) -> bool:
    return key.startswith(OURS) or key == ENVELOPE


def _own_only(metadata: Mapping[str, Any], may: tuple[str, ...]) -> None:
    """# INVARIANT: 4."""
    for key in metadata:
        if _is_ours(key) and key not in may:
            raise Malformed(f"`{_printable(key)}` in `metadata` is written by a gateway, or belongs elsewhere")


def _task(metadata: Mapping[str, Any]) -> str | None:
    task = metadata.get(TASK)
    if task is not None and not (type(task) is str and _TASK.match(task)):
        raise Malformed(f"`{TASK}` in `metadata` is the id of a task")
    return task


def _chain(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    return _links(metadata, CHAIN) if CHAIN in metadata else ()


def _links(metadata: Mapping[str, Any], key: str) -> tuple[str, ...]:
    links = metadata[key]
    if type(links) is not list or not 0 < len(links) <= MAX_LINKS or not all(type(one) is str for one in links):
        raise Malformed(f"`{key}` in `metadata` is a list of one to {MAX_LINKS} links")
    return tuple(links)


def _members(
    value: Mapping[str, Any], known: Mapping[str, type], required: tuple[str, ...], of: str
) -> Mapping[str, Any]:
    """What of it is known, each of its type. # INVARIANT: 2."""
    unknown = False
    for key, one in value.items():
        if key not in known:
            unknown = True
            if key in _MEANT or _camel(key) in known:
                raise Malformed(f"`{_printable(key)}` is not a member of `{of}` here")
        elif type(one) is not known[key]:
            raise Malformed(f"`{key}` in `{of}` has the wrong type")
    for key in required:
        if key not in value:
            raise Malformed(f"`{key}` in `{of}` is missing")
    return {key: one for key, one in value.items() if key in known} if unknown else value


def _camel(key: str) -> str:
    """The name by which a reader of ProtoJSON may know this one."""
    first, *rest = key.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _texts(value: list[Any], what: str) -> list[str]:
    if len(value) > MAX_PARTS or not all(type(one) is str for one in value):
        raise Malformed(f"`{what}` is not a list of at most {MAX_PARTS} strings")
    return value


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:80])
