"""A message from an agent and its headers → what is asked, in which revision: the pieces of a `Call`.

Decides which MCP revision a message speaks, that its headers say the same as its body, and that method and parameters
exist there. It decides nothing about permission.

The ladder for an agent's message, in this order, the first failure wins (clients and their probes depend on it):
1. no routing header stands twice                                       else HEADER_MISMATCH (-32020)
2. stateless: `_meta` carries protocol version and client capabilities  else Malformed (-32602)
3. headers equal the body                                               else HEADER_MISMATCH (-32020)
4. the revision is one we know                                          else REVISION_UNSUPPORTED (-32022)
5. the method exists in that revision and direction                     else METHOD_UNKNOWN (-32601)
   and has nothing to do with tasks                                     else TASK_UNSUPPORTED (-32601)
6. the parameters are the method's, of their types                      else Malformed (-32602)
7. a tool's `Mcp-Param-*` headers equal its arguments                   else HEADER_MISMATCH (-32020)

INVARIANTS: what a header says never decides alone: if header and body name two revisions, the message is refused; name
and arguments that policy sees come from the same parsed body that is forwarded; forwarded headers are made from it too.
SPEC: MCP 2026-07-28 basic "Per-request protocol fields", basic/transports; 2025-11-25 basic/lifecycle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from citywatch.core.call import Continuation, Direction
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.label import Label
from citywatch.core.wire.claimed import read_label, read_token
from citywatch.core.wire.headers import (
    ParamHeader,
    RoutingHeaders,
    check_header,
    check_params_mirrored,
    encode_value,
    mirror_params,
    read_headers,
)
from citywatch.core.wire.jsonrpc import (
    FROM_SERVER,
    Message,
    Notification,
    Request,
    Response,
    format_message,
    parse_message,
)
from citywatch.core.wire.methods import ASSUMED, LEGACY, MODERN, Group, Method, check_params, find_method

PROTOCOL_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
CLIENT_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"
TASK: Final = "citywatch/task"
"""In `_meta`: for which of its tasks an agent makes a call, as `citywatch task start` printed it."""
CHAIN: Final = "citywatch/chain"
"""In `_meta`: the links of the chain under which an agent makes a call, root first. No server sees them."""
LABEL: Final = "citywatch/label"
"""In `_meta`: what an agent adds to the label that an envelope gives its call."""
ENVELOPE: Final = "citywatch/envelope"
"""In `_meta`: what the gateway says of a call, signed, for servers that are declared to take it."""
_OURS: Final = "citywatch/"
ASSERTION: Final = "citywatch/assertion"
"""In `_meta`: a token of a foreign issuer that says of whom it is. It goes no further than to us."""
RESPONSE: Final = "response"
CONTINUING: Final = frozenset(("inputResponses", "requestState"))
"""The parameters that continue a call; apart from them it is the same call again."""
MAX_NAME: Final = 2_048
MAX_LINKS: Final = 8
_TASK: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_PLAIN: Final = re.compile(r"[\x21-\x7e]{1,512}\Z")

_FREE: Final = frozenset(("initialize", "ping", "server/discover", "tools/list", "prompts/list", "resources/list",
                          "resources/templates/list"))  # fmt: skip
"""What a client asks before it acts."""
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})
_HEADER_NAMED: Final = frozenset(("tools/call", "prompts/get", "resources/read"))


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one message asks for.

    `arguments` is what policy may see: a tool call's arguments, otherwise the params without `_meta`. `name` is the
    tool, prompt, resource URI or task, None if the method names nothing. `session` is what the agent claims; `headers`
    are those to forward. An agent's answer to a server reads as the method `response`: no action, the question was one.
    """

    method: str
    action: str
    revision: str
    name: str | None
    arguments: Mapping[str, Any]
    session: str | None
    headers: Mapping[str, str]


def read_message(
    headers: Iterable[tuple[bytes, bytes]],
    message: Message,
    mirrored_by: Callable[[str], tuple[ParamHeader, ...]],
    *,
    negotiated: str | None = None,
) -> Reading:
    """What an agent's POST asks. `headers` are the raw lines; `mirrored_by` gives a tool's `param_headers`.

    `negotiated` is the session's revision, if it is known by now. Raises `Malformed` or `Refused` as the ladder says.
    """
    routing = read_headers(headers)
    if isinstance(message, Response):
        return _answer(routing, negotiated)
    params = message.params or _EMPTY
    meta = params.get("_meta")
    if type(meta) is not dict:
        meta = _EMPTY
    if routing.revision in LEGACY or (routing.revision is None and PROTOCOL_VERSION not in meta):
        revision = _with_session(message, routing, meta, negotiated)
    else:
        revision = _stateless(message, routing, meta)
    row = find_method(Direction.TO_SERVER, revision, message.method, notification=type(message) is Notification)
    _refuse_tasks(row, revision, params)
    check_params(row, message.params)
    name, arguments = name_and_arguments(row, message.params)
    return Reading(
        method=row.method,
        action=row.action,
        revision=revision,
        name=name,
        arguments=arguments,
        session=routing.session if revision in LEGACY else None,
        headers=_forwarded(row, revision, routing, name, arguments, mirrored_by),
    )


def read_bodiless(headers: Iterable[tuple[bytes, bytes]]) -> Reading:
    """What an agent's GET (listen) or DELETE (end) says; there are none in a stateless revision."""
    routing = read_headers(headers)
    reading = _answer(routing, None)
    if routing.last_event_id is None:
        return reading
    if not _PLAIN.match(routing.last_event_id):
        raise Malformed("the header `last-event-id` is not one that this gateway gave")
    return msgspec.structs.replace(reading, headers={**reading.headers, "last-event-id": routing.last_event_id})


def read_server_message(message: Request | Notification, revision: str) -> Method:
    """What a server asks of its agent or tells it: the table's row, its parameters checked.

    SPEC: on 2026-07-28 a server sends no requests of its own; it answers `input_required` (results.py).
    """
    if revision in MODERN and type(message) is Request:
        raise Refused(Code.METHOD_UNKNOWN, "a stateless server may not send requests")
    row = find_method(Direction.TO_AGENT, revision, message.method, notification=type(message) is Notification)
    check_params(row, message.params)
    return row


def continuation(message: Message) -> Continuation | None:
    """The answers that a call carries to what a stateless server asked in an earlier reply; None if there are none."""
    params = _EMPTY if isinstance(message, Response) else message.params or _EMPTY
    if not CONTINUING & params.keys():
        return None
    return Continuation(responses=params.get("inputResponses", {}), state=params.get("requestState"))


def shown_chain(message: Message) -> tuple[str, ...]:
    """The links that a message shows, in `_meta`; none if it shows none."""
    params = _EMPTY if isinstance(message, Response) else message.params or _EMPTY
    meta = params.get("_meta")
    if type(meta) is not dict or CHAIN not in meta:
        return ()
    links = meta[CHAIN]
    if type(links) is not list or not 0 < len(links) <= MAX_LINKS or not all(type(one) is str for one in links):
        raise Malformed(f"`{CHAIN}` in `_meta` is a list of one to {MAX_LINKS} links")
    return tuple(links)


def shown_envelope(message: Message) -> str | None:
    """The envelope of a gateway that a message came in, in `_meta`; nothing of it is believed yet."""
    params = _EMPTY if isinstance(message, Response) else message.params or _EMPTY
    meta = params.get("_meta")
    return read_token(meta, ENVELOPE) if type(meta) is dict else None


def claimed_label(message: Message, *, passed_on: bool = False) -> Label | None:
    """What a message adds to the label of its own words. Raises `Malformed` for a member that only a gateway writes.

    `passed_on`: it came in an envelope of another domain's gateway.
    """
    params = _EMPTY if isinstance(message, Response) else message.params or _EMPTY
    meta = params.get("_meta")
    if type(meta) is not dict:
        return None
    for key in meta:
        if passed_on and key == ENVELOPE:
            continue
        if key.startswith(_OURS) and key not in (TASK, CHAIN, LABEL, ASSERTION):
            shown = "".join(letter if letter.isprintable() else "?" for letter in key[:80])
            raise Malformed(f"`{shown}` in `_meta` is written by a gateway")
    return read_label(meta, LABEL)


def with_envelope(body: bytes, envelope: str) -> bytes:
    """A message of ours in its envelope. It is a request: nothing else is put in one."""
    message = parse_message(body, FROM_SERVER)
    if isinstance(message, Response):
        raise Malformed("a response has no `_meta` of ours")
    params = message.params or {}
    shown = {**params, "_meta": {**params.get("_meta", {}), ENVELOPE: envelope}}
    return format_message(msgspec.structs.replace(message, params=shown))


def with_chain(message: Message, task: str, links: Sequence[str]) -> Message:
    """A message that shows a chain, for the task that it is for: an act that shows none of its own, nothing else."""
    if not isinstance(message, Request) or message.method in _FREE:
        return message
    params = message.params or {}
    meta = params.get("_meta", {})
    if type(meta) is not dict or CHAIN in meta:
        return message
    shown = msgspec.structs.replace(message, params={**params, "_meta": {**meta, TASK: task, CHAIN: list(links)}})
    return msgspec.structs.replace(shown, body=format_message(shown))


def without_chain(body: bytes) -> bytes:
    """A message of ours without the links, the label and the envelope that it showed: no matter of a server's."""
    message = parse_message(body, FROM_SERVER)  # with every digit: it is ours, and may be as long as we let it grow
    if isinstance(message, Response) or message.params is None:
        return body
    meta = {key: value for key, value in message.params["_meta"].items() if key not in (CHAIN, LABEL, ENVELOPE)}
    return format_message(msgspec.structs.replace(message, params={**message.params, "_meta": meta}))


def take_assertion(message: Message) -> tuple[Message, str | None]:
    """A message without the foreign token that it shows, and that token: nothing of it is kept or sent on."""
    params = None if isinstance(message, Response) else message.params
    meta = None if params is None else params.get("_meta")
    if isinstance(message, Response) or params is None or type(meta) is not dict or ASSERTION not in meta:
        return message, None
    token = meta[ASSERTION]
    if type(token) is not str:
        raise Malformed(f"`{ASSERTION}` in `_meta` is a compact token")
    rest = {key: value for key, value in meta.items() if key != ASSERTION}
    without = {**params, "_meta": rest} if rest else {key: value for key, value in params.items() if key != "_meta"}
    bare = msgspec.structs.replace(message, params=without)
    return msgspec.structs.replace(bare, body=format_message(bare)), token


def named_task(message: Message, *, passed_on: bool = False) -> str | None:
    """The task that a message says it is for, in `_meta`; None if it names none.

    `passed_on`: by another domain's gateway, and then it is a task of ours only where a chain of ours goes with it.
    """
    params = _EMPTY if isinstance(message, Response) else message.params or _EMPTY
    meta = params.get("_meta")
    task = meta.get(TASK) if type(meta) is dict and not (passed_on and CHAIN not in meta) else None
    if task is not None and not (type(task) is str and _TASK.match(task)):
        raise Malformed(f"`{TASK}` in `_meta` is the id of a task")
    return task


def visible(params: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The parameters without `_meta`, which is about the exchange and not about the act."""
    if params is None:
        return {}
    return {key: value for key, value in params.items() if key != "_meta"}


def name_and_arguments(row: Method, params: Mapping[str, Any] | None) -> tuple[str | None, Mapping[str, Any]]:
    """Whom or what a checked message names, and what policy may see of it."""
    if params is None:
        return None, {}
    name = None if row.named_by is None else _name(row, params)
    if name is not None and len(name) > MAX_NAME:
        raise Malformed(f"the name in `{row.method}` has more than {MAX_NAME} characters")
    if row.method == "tools/call":
        return name, params.get("arguments", {})
    return name, visible(params)


def _forwarded(
    row: Method,
    revision: str,
    routing: RoutingHeaders,
    name: str | None,
    arguments: Mapping[str, Any],
    mirrored_by: Callable[[str], tuple[ParamHeader, ...]],
) -> Mapping[str, str]:
    if revision in LEGACY:
        # `initialize` negotiates and so names no revision yet; older clients name none at all.
        return {} if routing.revision is None or row.method == "initialize" else {"mcp-protocol-version": revision}
    headers = {"mcp-protocol-version": revision, "mcp-method": row.method}
    if name is None or row.method not in _HEADER_NAMED:
        return headers
    headers["mcp-name"] = encode_value(name)
    mirrored = mirrored_by(name) if row.method == "tools/call" else ()
    if mirrored:
        check_params_mirrored(mirrored, routing.params, arguments)
        headers |= mirror_params(mirrored, arguments)
    return headers


def _refuse_tasks(row: Method, revision: str, params: Mapping[str, Any]) -> None:
    """A task outlives its call: what comes of it is fetched by an id that the server gave, under our credential.

    The server cannot tell two agents of ours apart, and so neither whose task that is. See ADR 8.
    """
    if row.group is Group.TASKS:
        raise Refused(Code.TASK_UNSUPPORTED, f"`{row.method}` is about tasks, which this gateway does not carry")
    if row.method == "tools/call" and revision in LEGACY and "task" in params:
        raise Refused(Code.TASK_UNSUPPORTED, "the parameter `task` of `tools/call` is not carried by this gateway")


def _answer(routing: RoutingHeaders, negotiated: str | None) -> Reading:
    if routing.revision is not None and routing.revision not in LEGACY:
        raise Refused(Code.REVISION_UNSUPPORTED, "a stateless revision has only requests, by POST")
    revision = negotiated or routing.revision or ASSUMED
    return Reading(
        method=RESPONSE,
        action=RESPONSE,
        revision=revision,
        name=None,
        arguments={},
        session=routing.session,
        headers={} if routing.revision is None else {"mcp-protocol-version": routing.revision},
    )


def _with_session(
    message: Request | Notification, headers: RoutingHeaders, meta: Mapping[str, Any], negotiated: str | None
) -> str:
    if PROTOCOL_VERSION in meta:
        raise Refused(Code.HEADER_MISMATCH, "the header `mcp-protocol-version` does not match the body")
    _compare_if_sent(message, headers)
    if message.method == "initialize":
        # The header is not negotiated yet and some clients send none; every revision knows the same `initialize`.
        offered = (message.params or _EMPTY).get("protocolVersion")
        return offered if offered in LEGACY else LEGACY[-1]
    if negotiated is not None and headers.revision not in (None, negotiated):
        raise Refused(Code.HEADER_MISMATCH, "the header `mcp-protocol-version` does not match the session")
    return negotiated or headers.revision or ASSUMED


def _stateless(message: Request | Notification, headers: RoutingHeaders, meta: Mapping[str, Any]) -> str:
    claimed = meta.get(PROTOCOL_VERSION)
    if type(message) is Request:
        if PROTOCOL_VERSION not in meta or type(meta.get(CLIENT_CAPABILITIES)) is not dict:
            raise Malformed(f"`_meta` must carry `{PROTOCOL_VERSION}` and the object `{CLIENT_CAPABILITIES}`")
        # A version that is no text equals no header.
        if headers.revision is None or headers.revision != claimed:
            raise Refused(Code.HEADER_MISMATCH, "the header `mcp-protocol-version` does not match the body")
        check_header("mcp-method", headers.method, message.method)
        named = (message.params or _EMPTY).get("uri" if message.method == "resources/read" else "name")
        if message.method in _HEADER_NAMED and type(named) is str:
            check_header("mcp-name", headers.name, named)
    elif headers.revision is None or claimed not in (None, headers.revision):
        raise Refused(Code.HEADER_MISMATCH, "the header `mcp-protocol-version` does not match the body")
    _compare_if_sent(message, headers)
    revision = headers.revision or ""
    if revision not in MODERN:
        raise Refused(Code.REVISION_UNSUPPORTED, f"this gateway knows {', '.join(MODERN)}")
    return revision


def _compare_if_sent(message: Request | Notification, headers: RoutingHeaders) -> None:
    """Headers that this revision or method does not ask for are compared all the same: somebody may route on them."""
    if headers.method is not None and headers.method != message.method:
        raise Refused(Code.HEADER_MISMATCH, "the header `mcp-method` does not match the body")
    if headers.name is not None and message.method in _HEADER_NAMED:
        named = (message.params or _EMPTY).get("uri" if message.method == "resources/read" else "name")
        if type(named) is str:
            check_header("mcp-name", headers.name, named)


def _name(row: Method, params: Mapping[str, Any]) -> str | None:
    if row.named_by != "ref":
        name: str | None = params.get(row.named_by or "")
        return name
    ref = params["ref"]
    named = {"ref/prompt": ref.get("name"), "ref/resource": ref.get("uri")}.get(str(ref.get("type")))
    if type(named) is not str:
        raise Malformed("the parameter `ref` names neither a prompt nor a resource")
    return named
