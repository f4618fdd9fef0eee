"""A2A 1.0 over HTTP+JSON ⇄ the same request over JSON-RPC: two spellings of one message.

Decides which paths, verbs, query parameters and bodies there are, and what request each is; what the request may hold
is `a2a`'s, for there is one reading for both bindings. A path variable may stand in the body again, as clients of the
SDK write it, if it says the same.

INVARIANTS
1. `read` and `write` are inverse: what is written from a request reads as that request.
2. Any bytes give a request, `Malformed` or `Refused`, never another error.
3. An id in a path is a plain word, in both directions: no spelling of it names another resource where it is read.
4. A query parameter that the method does not have is refused, and so is one that is there twice.
SPEC: A2A 1.0, a2a.proto (google.api.http), §11 HTTP+JSON binding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import msgspec
import orjson

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire.a2a import CHAIN, TASK
from citywatch.core.wire.a2a_errors import format_status, parse_status, refusal
from citywatch.core.wire.jsonrpc import (
    Id,
    Limits,
    Request,
    Response,
    format_message,
    parse_json,
    parse_message,
)
from citywatch.core.wire.refusals import error_number, status_of

BINDING: Final = "HTTP+JSON"
MEDIA: Final = "application/a2a+json"
TASK_HEADER: Final = b"citywatch-task"
CHAIN_HEADER: Final = b"citywatch-chain"
"""Where a request without a body says its task and its chain; the links are parted by commas."""
_ID: Final = r"(?!\.{1,2}(?:[:/]|\Z))[A-Za-z0-9._-]{1,256}"
_NUMBER: Final = re.compile(r"-?[0-9]{1,10}\Z")
_FLAGS: Final[Mapping[str, bool]] = MappingProxyType({"true": True, "false": False})
_RPC_ID: Final = 1


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where one method is: its verbs (the first is what we send), its path, and what its query may hold.

    Without a query there is a body.
    """

    method: str
    verbs: tuple[str, ...]
    path: str
    pattern: re.Pattern[str]
    query: Mapping[str, str] | None


_ROUTES: Final = """
SendMessage                      | POST     | /message:send                                   | body
SendStreamingMessage             | POST     | /message:stream                                 | body
GetTask                          | GET      | /tasks/{id}                                     | historyLength:integer
ListTasks                        | GET      | /tasks | contextId:text status:text pageSize:integer pageToken:text historyLength:integer statusTimestampAfter:text includeArtifacts:flag
CancelTask                       | POST     | /tasks/{id}:cancel                              | body
SubscribeToTask                  | GET POST | /tasks/{id}:subscribe                           |
CreateTaskPushNotificationConfig | POST     | /tasks/{taskId}/pushNotificationConfigs         | body
GetTaskPushNotificationConfig    | GET      | /tasks/{taskId}/pushNotificationConfigs/{id}    |
ListTaskPushNotificationConfigs  | GET      | /tasks/{taskId}/pushNotificationConfigs | pageSize:integer pageToken:text
DeleteTaskPushNotificationConfig | DELETE   | /tasks/{taskId}/pushNotificationConfigs/{id}    |
GetExtendedAgentCard             | GET      | /extendedAgentCard                              |
"""  # noqa: E501


def _routes() -> tuple[Route, ...]:
    rows = []
    for line in _ROUTES.strip().splitlines():
        method, verbs, path, query = (cell.strip() for cell in line.split("|"))
        pattern = re.sub(r"\{(\w+)\}", lambda found: f"(?P<{found[1]}>{_ID})", path)
        members = None if query == "body" else MappingProxyType(dict(one.split(":") for one in query.split()))
        rows.append(
            Route(
                method=method,
                verbs=tuple(verbs.split()),
                path=path,
                pattern=re.compile(pattern + r"\Z"),
                query=members,
            )
        )
    return tuple(rows)


ROUTES: Final = _routes()
_BY_METHOD: Final[Mapping[str, Route]] = MappingProxyType({one.method: one for one in ROUTES})


# ---- what an agent asks ------------------------------------------------------------------------------------------


def read(
    verb: str, path: bytes, query: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes, limits: Limits
) -> Request:
    """The request that this is, `path` being what stands behind the agent's address. Raises `Malformed`, `Refused`."""
    route, named = _found(verb, path)
    if route.query is None:
        params = _object(body, limits)
        if query:
            raise Malformed(f"`{route.method}` has no query")
    elif body:
        raise Malformed(f"`{route.method}` has no body")
    else:
        params = _queried(route.query, query)
    for key, value in named.items():
        if params.setdefault(key, value) != value:
            raise Malformed(f"`{key}` in the body is another than in the path")
    _own(params, headers)
    message = parse_message(format_message(Request(_RPC_ID, route.method, params)), limits)
    assert isinstance(message, Request)
    return message


def _found(verb: str, path: bytes) -> tuple[Route, Mapping[str, str]]:
    text = path.decode("ascii", "replace")
    for route in ROUTES:
        found = route.pattern.match(text)
        if found is not None and verb in route.verbs:
            return route, found.groupdict()
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:80])
    raise Refused(Code.METHOD_UNKNOWN, f"`{verb[:16]} {shown}` is not a request of A2A over {BINDING}")


def _object(body: bytes, limits: Limits) -> dict[str, Any]:
    value, _ = parse_json(body, limits) if body else ({}, b"")
    if type(value) is not dict:
        raise Malformed("the body is not one JSON object")
    return value


def _queried(known: Mapping[str, str], query: bytes) -> dict[str, Any]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query.decode("ascii"), True, True, errors="strict", max_num_fields=len(known) + 1)
    except ValueError:
        raise Malformed("the query is none, or holds more than the method has") from None
    params: dict[str, Any] = {}
    for key, value in pairs:
        if key not in known:
            raise Malformed("a query parameter is not one of the method's")
        if key in params:  # INVARIANT: 4.
            raise Malformed(f"`{key}` is in the query twice")
        params[key] = _typed(key, value, known[key])
    return params


def _typed(key: str, value: str, kind: str) -> str | int | bool:
    if kind == "flag" and value in _FLAGS:
        return _FLAGS[value]
    if kind == "integer" and _NUMBER.match(value):
        return int(value)
    if kind == "text":
        return value
    raise Malformed(f"`{key}` in the query has the wrong type")


def _own(params: dict[str, Any], headers: Iterable[tuple[bytes, bytes]]) -> None:
    """What is about the exchange, where a request has no body to say it in."""
    found: dict[str, Any] = {}
    for name, value in headers:
        key = {TASK_HEADER: TASK, CHAIN_HEADER: CHAIN}.get(name)
        if key is None:
            continue
        text = value.decode("ascii", "replace")
        if key in found:
            raise Malformed(f"`{name.decode()}` is there twice")
        found[key] = text if key == TASK else [one.strip() for one in text.split(",")]
    if not found:
        return
    metadata = params.setdefault("metadata", {})
    if type(metadata) is not dict or metadata.keys() & found.keys():
        raise Malformed("`metadata` is no object, or says what a header says too")
    metadata.update(found)


# ---- what a peer is asked ----------------------------------------------------------------------------------------


def write(request: Request) -> tuple[str, str, bytes | None]:
    """Verb, path with its query, and body of this request, to be put behind the peer's address.

    Raises `Refused` for what cannot be said in a path.
    """
    route = _BY_METHOD[request.method]
    params = dict(request.params or {})
    path = route.path
    for key in route.pattern.groupindex:
        value = params.pop(key, None)
        if type(value) is not str or not re.fullmatch(_ID, value):  # INVARIANT: 3.
            raise Refused(Code.PEER_TASK_UNKNOWN, "the peer is reached over HTTP+JSON, where this is no id")
        path = path.replace("{" + key + "}", value)
    if route.query is None:
        return route.verbs[0], path, orjson.dumps(params)
    text = urlencode([(key, _spelt(value)) for key, value in params.items()])
    return route.verbs[0], f"{path}?{text}" if text else path, None


def _spelt(value: Any) -> str:
    return str(value).lower() if type(value) is bool else str(value)


def heard(rpc_id: Id, status: int, raw: bytes | None, limits: Limits) -> bytes:
    """A peer's answer to a request as JSON-RPC says it; `Malformed` if it is neither a result nor an error."""
    value, _ = parse_json(raw, limits) if raw else ({}, b"")
    if status >= 400:
        return format_message(Response(rpc_id, None, parse_status(value, status)))
    return _said(rpc_id, value)


def streamed(rpc_id: Id, kind: str, raw: bytes, limits: Limits) -> bytes:
    """One event of a peer's stream as JSON-RPC says it: a message, or the error that the stream ends with."""
    value, _ = parse_json(raw, limits)
    return format_message(Response(rpc_id, None, parse_status(value, 0))) if kind == "error" else _said(rpc_id, value)


def _said(rpc_id: Id, value: object) -> bytes:
    if type(value) is not dict:
        raise Malformed("the peer's answer is not one JSON object")
    return format_message(Response(rpc_id, value))


# ---- what the agent is told --------------------------------------------------------------------------------------


def turned_away(code: Code, detail: str = "") -> tuple[int, bytes]:
    """Status and body for a sender whose request never became a call."""
    found = status_of(code)
    return told(refusal(None, code, error_number(code), detail), 0 if found == 200 else found)


def told(body: bytes, status: int) -> tuple[int, bytes]:
    """Status and body of an answer of ours that JSON-RPC says in `body`; `status` is an error's, if it has its own."""
    value = orjson.loads(body)
    if "error" in value:
        return format_status(value["error"], status)
    return 200, orjson.dumps(value["result"])
