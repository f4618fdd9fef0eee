"""Push notifications of A2A 1.0: where an agent wants them, what a peer is told in its place, and whose a push is.

Decides what in a request is a secret of the agent's (it goes beside the call, and into no log), and which task a push
is about. Whether pushes may go there, `core.enforce.peers` says.
INVARIANTS: a call holds no token and no credential of the agent's; what a peer is told holds nothing that the agent
wrote but the task; a push names one task.
SPEC: A2A 1.0 §3.1.7 to §3.1.10, §3.5.3; §4.3 (TaskPushNotificationConfig, AuthenticationInfo).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from citywatch.core.call import Call
from citywatch.core.errors import Malformed
from citywatch.core.wire.a2a_results import PLAIN_ID, check_reply
from citywatch.core.wire.jsonrpc import FROM_SERVER, Message, Request, Response, format_message, parse_message

CREATE: Final = "CreateTaskPushNotificationConfig"
GET: Final = "GetTaskPushNotificationConfig"
LIST: Final = "ListTaskPushNotificationConfigs"
DELETE: Final = "DeleteTaskPushNotificationConfig"
METHODS: Final = frozenset((CREATE, GET, LIST, DELETE))
INLINE: Final = "taskPushNotificationConfig"
WITHIN: Final = "id:text url:text! token:text authentication:object"
"""The members of a configuration in a message."""
_AUTHENTICATION: Final = frozenset(("scheme", "credentials"))
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}\Z")
_SECRET: Final = re.compile(r"[\x20-\x7e]{0,4096}\Z")
_SECRETS: Final = ("token", "authentication")
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent wants to be shown with each push, so that it knows whose it is; both may be empty."""

    token: str = ""
    authorization: str = ""


def check_config(config: Mapping[str, Any]) -> None:
    """Raise `Malformed` for secrets that could not stand in a header; the types of the members were checked."""
    told = config.get("authentication", _NOTHING)
    scheme, credentials = told.get("scheme", ""), told.get("credentials", "")
    if not told.keys() <= _AUTHENTICATION or type(scheme) is not str or type(credentials) is not str:
        raise Malformed("`authentication` is no `scheme` and `credentials`")
    if told and not _SCHEME.match(scheme):
        raise Malformed("the `scheme` of an authentication is one plain word")
    if not _SECRET.match(credentials) or not _SECRET.match(config.get("token", "")):
        raise Malformed("a `token` or credentials are no line of printable ASCII")
    if "id" in config and not PLAIN_ID.match(config["id"]):
        raise Malformed("the id of a configuration is a printable word of at most 512 characters")


def parted(message: Message) -> tuple[Message, Target | None]:
    """The request without the agent's secrets, and those; None where it asks for no pushes. It was checked before."""
    if not isinstance(message, Request) or (config := _config(message.method, message.params or {})) is None:
        return message, None
    told = config.get("authentication", _NOTHING)
    shown = f"{told['scheme']} {told.get('credentials', '')}" if told else ""
    target = Target(token=config.get("token", ""), authorization=shown)
    plain = {key: value for key, value in config.items() if key not in _SECRETS}
    return _with(message, plain), target


def asked(call: Call) -> Mapping[str, Any] | None:
    """The configuration that a call asks for, None if it asks for no pushes."""
    return _config(call.method, call.arguments)


def readdressed(body: bytes, config: Mapping[str, Any]) -> bytes:
    """The same request with our configuration in the place of the agent's."""
    message = parse_message(body, FROM_SERVER)
    assert isinstance(message, Request)
    return _with(message, config).body


def pushed(value: object, links: tuple[str, ...] = ()) -> tuple[Response, str]:
    """What was pushed, as a reply to who listens to the task, and the task that it is about. Raises `Malformed`."""
    if type(value) is not dict:
        raise Malformed("a push is not one JSON object")
    plain = Response(0, value)
    response = Response(0, value, None, format_message(plain))
    check_reply("SubscribeToTask", response, links)
    (kind, inner), *_ = value.items()
    name = inner.get("id" if kind == "task" else "taskId")
    if type(name) is not str or not PLAIN_ID.match(name):
        raise Malformed("a push names no task")
    return response, name


def _config(method: str, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if method == CREATE:
        return {key: value for key, value in params.items() if key not in ("taskId", "metadata")}
    if "configuration" not in params:
        return None
    found: Mapping[str, Any] | None = params["configuration"].get(INLINE)
    return found


def _with(message: Request, config: Mapping[str, Any]) -> Request:
    params = message.params or {}
    if message.method == CREATE:
        kept = {key: value for key, value in params.items() if key in ("taskId", "metadata")}
        changed = msgspec.structs.replace(message, params={**kept, **config})
    else:
        configuration = {**params["configuration"], INLINE: dict(config)}
        changed = msgspec.structs.replace(message, params={**params, "configuration": configuration})
    return msgspec.structs.replace(changed, body=format_message(changed))
