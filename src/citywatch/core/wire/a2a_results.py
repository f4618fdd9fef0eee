"""What an agent may answer another over A2A 1.0: the shapes of results, and what in them its receiver may use later.

Decides whether a result is one that its method promises. It may say more than we know (peers are other people's, and
all of it is a third party's data), but a part of it is a part: with one content, and no link but those that lead where
the operator lets links of this peer lead (`links`).
INVARIANTS: any result passes or is `Malformed`; what a stream ends with is found by its state, never by what it says.
SPEC: A2A 1.0, a2a.proto: `SendMessageResponse`, `StreamResponse`, `Task`, `Part`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from citywatch.core.errors import Malformed
from citywatch.core.wire.a2a_waiting import START
from citywatch.core.wire.destination import destination_of
from citywatch.core.wire.jsonrpc import Response

Links = tuple[str, ...] | None
"""Where a part that is a link may lead, as an operator writes it (`destination`); None where a gateway judged it."""
PLAIN_ID: Final = re.compile(r"[\x21-\x7e]{1,512}\Z")
WORDS: Final = frozenset(
    (
        *("task", "message", "statusUpdate", "artifactUpdate", "id", "contextId", "taskId", "status", "state"),
        *(
            "timestamp",
            "artifacts",
            "artifactId",
            "history",
            "parts",
            "text",
            "raw",
            "url",
            "data",
            "metadata",
            "filename",
        ),
        *("mediaType", "messageId", "role", "name", "description", "extensions", "referenceTaskIds", "append"),
        *("lastChunk", "ROLE_AGENT", "ROLE_USER"),
    )
)
"""What the specification says in an answer: the names of its members, and who spoke."""
_PART_MEMBERS: Final = frozenset(("text", "raw", "url", "data", "metadata", "filename", "mediaType"))
_GIVING: Final = frozenset(("contextId", "taskId", "id"))
_CONTENTS: Final = ("text", "raw", "url", "data")


def check_part(part: object, links: Links = ()) -> None:
    """Raise `Malformed` unless this is one part that carries its content with it, or leads where `links` let it."""
    if type(part) is dict and len(part) == 1 and type(part.get("text")) is str:
        return  # as nearly all are
    if type(part) is not dict or not part.keys() <= _PART_MEMBERS:
        raise Malformed("a part is not an object, or has a member that A2A does not know")
    contents = [one for one in _CONTENTS if one in part]
    if len(contents) != 1:
        raise Malformed("a part has not exactly one of `text`, `raw`, `url` and `data`")
    if contents == ["url"]:  # whoever wrote it chose where it leads
        address = part["url"]
        if type(address) is not str or (links is not None and destination_of(links, address) is None):
            raise Malformed("a part is a link: send its content as `raw` instead, for nobody fetches it")
    for name in ("text", "raw", "filename", "mediaType"):
        if type(part.get(name, "")) is not str:
            raise Malformed(f"`{name}` in a part is not a string")
    if type(part.get("metadata", {})) is not dict:
        raise Malformed("`metadata` in a part is not an object")


def check_reply(method: str, response: Response, links: Links = ()) -> None:
    """Raise `Malformed` unless this is an error or a result that `method` may have, its parts leading nowhere else."""
    if response.result is not None:
        _CHECKS[method](response.result, links)


def gives(response: Response) -> bool:
    """Whether a reply, checked or not, has the shape of one that names a task or a conversation: most name none."""
    return any(type(value) is not dict or not _GIVING.isdisjoint(value) for value in _bodies(response.result or {}))


def given(response: Response) -> tuple[tuple[str, str], ...]:
    """The tasks and conversations that a checked reply names: from now on they are its receiver's."""
    found: list[tuple[str, str]] = []
    for value in _bodies(response.result or {}):
        for kind, key in (
            ("context", "contextId"),
            ("task", "taskId"),
            *((("task", "id"),) if "status" in value else ()),
        ):
            name = value.get(key)
            if type(name) is str and PLAIN_ID.match(name):
                found.append((kind, name))
    return tuple(dict.fromkeys(found))


def conversation(response: Response) -> str:
    """The conversation that a checked reply belongs to, empty if it says none."""
    found = (value.get("contextId") for value in _bodies(response.result or {}))
    return next((one for one in found if type(one) is str and PLAIN_ID.match(one)), "")


def is_last(response: Response) -> bool:
    """Whether a stream has nothing to say after this: a message, a failure, or a task that is over."""
    return _state(response) in (None, *_OVER)


def may_be_last(response: Response) -> bool:
    """Whether a stream may end here: after the last message, or where the task waits for somebody."""
    return _state(response) in (None, *_RESTING)


def _state(response: Response) -> str | None:
    """The state in which this message says that the task is: none at all after a message or a failure, empty for a
    piece of an artifact."""
    result = response.result
    if result is None or result.keys() == {"message"}:
        return None
    state: str = next(
        (body["status"]["state"] for key, body in result.items() if len(result) == 1 and key in _STATED), ""
    )
    return state


def _bodies(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a checked result is about: the one thing in it, or itself (a task may have members of any name)."""
    return [value for key, value in result.items() if key in _STREAMED] if len(result) == 1 else [result]


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Malformed(f"the peer's result is malformed: {otherwise}")


_IDS: Final = ("messageId", "contextId", "taskId")


def _checked_message(value: object, links: Links) -> None:
    _expect(type(value) is dict and type(value.get("parts")) is list, "a message has no `parts`")
    assert isinstance(value, dict)
    for key in _IDS:
        if key in value and type(value[key]) is not str:
            _expect(False, "an id is no string")
    for part in value["parts"]:
        check_part(part, links)


def _checked_status(value: object, links: Links) -> None:
    _expect(type(value) is dict, "a status is no object")
    assert isinstance(value, dict)
    state = value.get("state")
    _expect(type(state) is str and state in STATES, "a status has no known `state`")
    if "message" in value:
        _checked_message(value["message"], links)


def _checked_artifact(value: object, links: Links) -> None:
    _expect(type(value) is dict and type(value.get("parts")) is list, "an artifact has no `parts`")
    assert isinstance(value, dict)
    for part in value["parts"]:
        check_part(part, links)


def _checked_name(name: str, links: Links) -> None:
    """# INVARIANT: no peer says in the gateway's name that something waits for a person, and where people answer."""
    _expect(links is None or not name.startswith(START), "it is called as a task of the gateway's own")


def _checked_task(value: object, links: Links) -> None:
    _expect(type(value) is dict and type(value.get("id")) is str, "a task has no `id`")
    assert isinstance(value, dict)
    _checked_name(value["id"], links)
    _checked_status(value.get("status"), links)
    for key, check in (("artifacts", _checked_artifact), ("history", _checked_message)):
        _expect(type(value.get(key, [])) is list, f"`{key}` of a task is not a list")
        for one in value.get(key, []):
            check(one, links)


def _checked_update(value: object, links: Links) -> None:
    _expect(type(value) is dict and type(value.get("taskId")) is str, "an update has no `taskId`")
    assert isinstance(value, dict)
    _checked_name(value["taskId"], links)
    _checked_status(value.get("status"), links)


def _checked_piece(value: object, links: Links) -> None:
    _expect(type(value) is dict and type(value.get("taskId")) is str, "an update has no `taskId`")
    assert isinstance(value, dict)
    _checked_name(value["taskId"], links)
    _checked_artifact(value.get("artifact"), links)


_SENT: Final[Mapping[str, Callable[[object, Links], None]]] = {"task": _checked_task, "message": _checked_message}
_STREAMED: Final = {**_SENT, "statusUpdate": _checked_update, "artifactUpdate": _checked_piece}
_STATED: Final = frozenset(("task", "statusUpdate"))
STATES: Final = frozenset(
    f"TASK_STATE_{one}"
    for one in "SUBMITTED WORKING COMPLETED FAILED CANCELED INPUT_REQUIRED REJECTED AUTH_REQUIRED".split()
)
_WAITING: Final = frozenset(("TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"))
_RESTING: Final = STATES - {"TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"}
_OVER: Final = _RESTING - _WAITING


def _checked_list(result: Mapping[str, Any], links: Links) -> None:
    _expect(type(result.get("tasks")) is list, "`tasks` is no list")
    for one in result["tasks"]:
        _checked_task(one, links)


def _checked_config(result: Mapping[str, Any], links: Links) -> None:
    _expect(all(type(result.get(key)) is str for key in ("id", "taskId", "url")), "it is no configuration for pushes")


def _checked_configs(result: Mapping[str, Any], links: Links) -> None:
    _expect(type(result.get("configs")) is list, "`configs` is no list")
    for one in result["configs"]:
        _expect(type(one) is dict, "a configuration is no object")
        _checked_config(one, links)


def _checked_nothing(result: Mapping[str, Any], links: Links) -> None:
    _expect(not result, "it is not empty")


def _one_of(kinds: Mapping[str, Callable[[object, Links], None]]) -> Callable[[Mapping[str, Any], Links], None]:
    otherwise = f"it is not one of {', '.join(kinds)}"

    def check(result: Mapping[str, Any], links: Links) -> None:
        _expect(len(result) == 1 and result.keys() <= kinds.keys(), otherwise)
        for key, value in result.items():
            kinds[key](value, links)

    return check


_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any], Links], None]]] = {
    "SendMessage": _one_of(_SENT),
    "SendStreamingMessage": _one_of(_STREAMED),
    "SubscribeToTask": _one_of(_STREAMED),
    "GetTask": _checked_task,
    "ListTasks": _checked_list,
    "CancelTask": _checked_task,
    "CreateTaskPushNotificationConfig": _checked_config,
    "GetTaskPushNotificationConfig": _checked_config,
    "ListTaskPushNotificationConfigs": _checked_configs,
    "DeleteTaskPushNotificationConfig": _checked_nothing,
}
