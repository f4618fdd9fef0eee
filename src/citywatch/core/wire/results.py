"""What a server may answer to a method, which definitions an answer offers, and the same answer with fewer of them.

Decides whether a result has the shape that its method promises, so that nothing else is released; lists what a person
pins (tools, prompts, resource templates, a server's instructions); rebuilds lists with only what may be shown.
It does not decide what is approved or permitted: the caller says which entries to keep.

INVARIANTS: a result is released only if its method is known and its shape was checked; a rebuilt list holds each kept
entry unchanged, in its order, and nothing else of the list; a list rebuilt for one caller is never cacheable by others.
SPEC: MCP schema 2025-11-25 and 2026-07-28, `*Result`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from citywatch.core.call import Direction
from citywatch.core.errors import Malformed
from citywatch.core.wire import a2a
from citywatch.core.wire.jsonrpc import Request, Response, format_message
from citywatch.core.wire.methods import LEGACY, MODERN, check_params, find_method

Check = Callable[[Mapping[str, Any], str | None], None]


OURS: Final = "citywatch/"
"""How the gateway's own names in `_meta` begin."""


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a server says about itself that an agent's model will read: the whole object, as offered.

    `kind` is `tool`, `prompt`, `template` or `instructions`; `name` is the tool's or prompt's name, the template's URI
    pattern, empty for instructions.
    """

    kind: str
    name: str
    value: Mapping[str, Any]


def check_reply(method: str, response: Response, revision: str | None = None, links: tuple[str, ...] = ()) -> None:
    """Raise `Malformed` unless this is an error or a result that `method` may have; None: in any revision.

    `links` are where a part of an A2A message may lead."""
    result = response.result
    if result is None:
        return
    if revision == a2a.REVISION:
        a2a.check_reply(method, response, links)
        return
    if revision not in LEGACY:
        kind = result.get("resultType", "complete")
        if kind == "input_required" and method in _MAY_ASK:
            input_requests(response)
            return
        _expect(kind == "complete", f"`resultType` is not one of `{method}`")
    check = _CHECKS.get(method)
    if check is None:
        raise Malformed(f"`{method[:80]}` has no result")
    _expect(type(result.get("_meta", {})) is dict, "`_meta` is not an object")
    check(result, revision)


def check_agent_reply(method: str, response: Response) -> None:
    """The same for an agent's answer to what a server asked."""
    if response.result is None:
        return
    check = _AGENT_CHECKS.get(method)
    if check is None:
        raise Malformed(f"`{method[:80]}` has no result")
    check(response.result, None)


def input_requests(response: Response) -> tuple[Request, ...]:
    """What a stateless server asks of the agent inside this reply, each under the server's key for it; mostly nothing.

    Each is a call of its own, judged before the reply is released. Raises `Malformed`.
    """
    result = response.result
    if result is None or result.get("resultType") != "input_required":
        return ()
    requests = result.get("inputRequests", {})
    _expect(type(requests) is dict, "`inputRequests` is not an object")
    _expect(type(result.get("requestState", "")) is str, "`requestState` is not a string")
    _expect(len(requests) <= _MAX_ASKED, f"it asks for more than {_MAX_ASKED} things")
    _expect("inputRequests" in result or "requestState" in result, "it asks for nothing")
    asked = []
    for key, request in requests.items():
        method = request.get("method") if type(request) is dict else None
        # The type first: a list is not even hashable, and any other error than `Malformed` would be ours.
        if type(method) is not str or method not in _EMBEDDED:
            raise Malformed("the server's result is malformed: it asks for an unknown method")
        params = request.get("params")
        _expect(params is None or type(params) is dict, "`params` is not an object")
        check_params(find_method(Direction.TO_AGENT, MODERN[-1], method, notification=False), params)
        asked.append(Request(key, method, params, format_message(Request(key, method, params))))
    return tuple(asked)


def negotiated(response: Response) -> str | None:
    """The revision that an `initialize` reply settled on, None if it is none with sessions."""
    revision = (response.result or {}).get("protocolVersion")
    return revision if revision in LEGACY else None


# ---- what is pinned ----------------------------------------------------------------------------------------------

_LISTS: Final = {
    "tools/list": ("tools", "tool", "name"),
    "prompts/list": ("prompts", "prompt", "name"),
    "resources/templates/list": ("resourceTemplates", "template", "uriTemplate"),
}
_GREETINGS: Final = ("initialize", "server/discover")
_COMMON: Final = frozenset(("resultType", "ttlMs", "cacheScope"))
_GREETING_MEMBERS: Final = _COMMON | {"capabilities", "serverInfo", "instructions"}
_MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    **{method: _COMMON | {member, "nextCursor"} for method, (member, _, _) in _LISTS.items()},
    "initialize": _GREETING_MEMBERS | {"protocolVersion"},
    "server/discover": _GREETING_MEMBERS | {"supportedVersions"},
}
"""All that may be released of a reply that defines something: who folds case would take `Tools` for `tools`."""
_CAPABILITIES: Final[Mapping[str, Any]] = {
    "logging": {},
    "completions": {},
    "prompts": {"listChanged": bool},
    "resources": {"subscribe": bool, "listChanged": bool},
    "tools": {"listChanged": bool},
}
"""All that a server may say it can do. SPEC: `ServerCapabilities`, but for `experimental` and `extensions`, which hold
anything at all, and for `tasks`, which are refused: without that capability a client makes plain calls."""
_NAME: Final = re.compile(r"[A-Za-z0-9._/@+-]{1,32}")
_VERSION: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}")
OFFERING: Final = frozenset((*_LISTS, *_GREETINGS))
"""The methods whose replies may define something."""


def definitions(method: str, response: Response) -> tuple[Definition, ...]:
    """What a checked reply offers to pin, in its order; empty for an error and for a method that offers nothing."""
    result = response.result
    if result is None:
        return ()
    if method in _LISTS:
        member, kind, key = _LISTS[method]
        return tuple(Definition(kind=kind, name=entry[key], value=entry) for entry in result[member])
    if method in _GREETINGS and "instructions" in result:
        return (Definition(kind="instructions", name="", value={"instructions": result["instructions"]}),)
    return ()


def keep_only(method: str, response: Response, keep: Sequence[bool]) -> Response:
    """The same reply with only those definitions whose flag is set; one flag for each of `definitions`, in order.

    Beside them it says nothing in words of the server's: a model reads greetings and lists, and nobody approved those.
    """
    offered = definitions(method, response)
    if len(offered) != len(keep):
        raise ValueError("one flag for each definition")
    if response.result is None or method not in OFFERING:
        return private(response)
    kept = {name: value for name, value in response.result.items() if name in _MEMBERS[method]}
    for name, plain in _PLAIN.items():
        if name in kept and (value := plain(kept.pop(name))) is not None:
            kept[name] = value
    if method in _LISTS:
        kept[_LISTS[method][0]] = [one.value for one, flag in zip(offered, keep, strict=True) if flag]
    elif offered and not keep[0]:
        del kept["instructions"]
    return private(msgspec.structs.replace(response, result=kept))


def _capable(said: Any, known: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is known of what a server says it can do: flags, and objects that hold nothing else."""
    if type(said) is not dict:
        return None
    kept = {}
    for name, inner in known.items():
        value = said.get(name)
        if inner is not bool:
            value = _capable(value, inner)
        if value is not None and (inner is not bool or type(value) is bool):
            kept[name] = value
    return kept


def _server(said: Any) -> dict[str, str] | None:
    """Who a server says it is, in one short word and a number: its title, and all else that it tells, is left out."""
    if type(said) is not dict:
        return None
    name, version = _NAME.match(str(said.get("name"))), _VERSION.match(str(said.get("version")))
    return {"name": name[0] if name else "server", "version": version[0] if version else "0"}


_PLAIN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "capabilities": lambda said: _capable(said, _CAPABILITIES),
    "serverInfo": _server,
    "supportedVersions": lambda said: [one for one in said if one in (*LEGACY, *MODERN)],
    "resultType": lambda said: said if said == "complete" else None,
    "ttlMs": lambda said: said if type(said) is int else None,
}
"""What is left of the members that are no definitions; None: nothing."""


def disowned(response: Response) -> Response:
    """The same reply without the names in `_meta` that only the gateway uses."""
    meta = None if response.result is None else response.result.get("_meta")
    if response.result is None or type(meta) is not dict or not any(key.startswith(OURS) for key in meta):
        return response
    kept = {key: value for key, value in meta.items() if not key.startswith(OURS)}
    changed = Response(response.id, {**response.result, "_meta": kept}, None)
    return msgspec.structs.replace(changed, body=format_message(changed))


def private(response: Response) -> Response:
    """The same reply, to be cached by its receiver alone: a shared cache would serve it to a caller we never judged."""
    result = response.result
    if result is not None and "cacheScope" in result:
        result = {**result, "cacheScope": "private"}
    changed = Response(response.id, result, response.error)
    return msgspec.structs.replace(changed, body=format_message(changed))


# ---- shapes ------------------------------------------------------------------------------------------------------

_MAY_ASK: Final = frozenset(("tools/call", "prompts/get", "resources/read"))
_EMBEDDED: Final = frozenset(("sampling/createMessage", "elicitation/create", "roots/list"))
_MAX_NAME: Final = 512
_MAX_ASKED: Final = 64


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Malformed(f"the server's result is malformed: {otherwise}")


def _entries(result: Mapping[str, Any], member: str, **members: type) -> None:
    """`member` is a list of objects, each with these members of these types; `_` after a name makes it optional."""
    entries = result.get(member)
    _expect(type(entries) is list, f"`{member}` is not an array")
    for entry in entries or ():
        _expect(type(entry) is dict, f"an entry of `{member}` is not an object")
        for key, wanted in members.items():
            if key.endswith("_"):
                _expect(type(entry.get(key[:-1], wanted())) is wanted, f"`{key[:-1]}` in `{member}` has a wrong type")
            else:
                _expect(type(entry.get(key)) is wanted, f"`{key}` in `{member}` is missing or has a wrong type")


def _named_list(member: str, key: str, **members: type) -> Check:
    """A list whose entries are found by `key`: two entries of one name would let one hide behind the other's pin.

    Resources are not pinned, and servers do list one twice.
    """

    def check(result: Mapping[str, Any], revision: str | None) -> None:
        _entries(result, member, **{key: str}, **members)
        names = [entry[key] for entry in result[member]]
        _expect(key == "uri" or len(set(names)) == len(names), f"`{member}` has two entries of one `{key}`")
        _expect(all(0 < len(name) <= _MAX_NAME for name in names), f"a `{key}` in `{member}` is empty or too long")
        _expect(type(result.get("nextCursor", "")) is str, "`nextCursor` is not a string")

    return check


def _tool_call(result: Mapping[str, Any], revision: str | None) -> None:
    _entries(result, "content", type=str)
    _expect(type(result.get("isError", False)) is bool, "`isError` is not a boolean")
    if revision in LEGACY:
        _expect(type(result.get("structuredContent", {})) is dict, "`structuredContent` is not an object")


def _read(result: Mapping[str, Any], revision: str | None) -> None:
    _entries(result, "contents", uri=str, text_=str, blob_=str)


def _prompt(result: Mapping[str, Any], revision: str | None) -> None:
    _entries(result, "messages", role=str, content=dict)
    _expect(type(result.get("description", "")) is str, "`description` is not a string")


def _completion(result: Mapping[str, Any], revision: str | None) -> None:
    completion = result.get("completion")
    values = completion.get("values") if type(completion) is dict else None
    _expect(type(values) is list and all(type(value) is str for value in values), "`completion` has no string `values`")


def _initialized(result: Mapping[str, Any], revision: str | None) -> None:
    # A revision that we do not know is one whose methods we cannot judge: there is no session to be had.
    _expect(result.get("protocolVersion") in LEGACY, "`protocolVersion` is not a known revision with sessions")
    _expect(type(result.get("serverInfo")) is dict, "`serverInfo` is not an object")
    _greeting(result)


def _discovered(result: Mapping[str, Any], revision: str | None) -> None:
    versions = result.get("supportedVersions")
    _expect(type(versions) is list and all(type(v) is str for v in versions), "`supportedVersions` holds no strings")
    _greeting(result)


def _greeting(result: Mapping[str, Any]) -> None:
    _expect(type(result.get("capabilities")) is dict, "`capabilities` is not an object")
    _expect(type(result.get("instructions", "")) is str, "`instructions` is not a string")


def _anything(result: Mapping[str, Any], revision: str | None) -> None:
    """An empty result, or one whose content nobody acts on unread."""


def _sampled(result: Mapping[str, Any], revision: str | None) -> None:
    _expect(type(result.get("role")) is str and type(result.get("model")) is str, "`role` or `model` is not a string")
    _expect(type(result.get("content")) in (dict, list), "`content` is missing")


def _elicited(result: Mapping[str, Any], revision: str | None) -> None:
    _expect(result.get("action") in ("accept", "decline", "cancel"), "`action` is not accept, decline or cancel")
    _expect(type(result.get("content", {})) in (dict, type(None)), "`content` is not an object")


def _rooted(result: Mapping[str, Any], revision: str | None) -> None:
    _entries(result, "roots", uri=str, name_=str)


_CHECKS: Final[Mapping[str, Check]] = {
    "initialize": _initialized,
    "server/discover": _discovered,
    "ping": _anything,
    "tools/list": _named_list("tools", "name", inputSchema=dict, description_=str, title_=str),
    "tools/call": _tool_call,
    "resources/list": _named_list("resources", "uri", name=str, description_=str),
    "resources/templates/list": _named_list("resourceTemplates", "uriTemplate", name=str, description_=str),
    "resources/read": _read,
    "resources/subscribe": _anything,
    "resources/unsubscribe": _anything,
    "subscriptions/listen": _anything,
    "prompts/list": _named_list("prompts", "name", description_=str),
    "prompts/get": _prompt,
    "completion/complete": _completion,
    "logging/setLevel": _anything,
    "tasks/get": _anything,
    "tasks/result": _anything,
    "tasks/list": _anything,
    "tasks/cancel": _anything,
}
_AGENT_CHECKS: Final[Mapping[str, Check]] = {
    "ping": _anything,
    "sampling/createMessage": _sampled,
    "elicitation/create": _elicited,
    "roots/list": _rooted,
    "tasks/get": _anything,
    "tasks/result": _anything,
    "tasks/list": _anything,
    "tasks/cancel": _anything,
}
