"""A message to an agent that waits for a person, said in A2A's own words: a task of the gateway's, `AUTH_REQUIRED`.

Decides how such a task is named and worded, and what of a message that comes back is about it; not what became of the
ticket, nor whether the message then goes through. INVARIANTS
1. What is judged of a message that comes back is the message as it was sent the first time: it differs from it in the
   name of our task alone.
2. All that the task says is ours: no word of the agent's, of a peer's or of a person's stands in it.
3. It leads to an address and holds nothing to answer with.
SPEC: A2A 1.0 §7.6 (In-Task Authorization), §4.1.3 (TaskState), §3.1.2 and §3.1.6 (streams of a task).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from citywatch.core.call import Call
from citywatch.core.errors import Malformed
from citywatch.core.wire.jsonrpc import FROM_SERVER, Request, Response, format_message, parse_message

START: Final = "citywatch-ticket-"
"""How the name of a task of ours begins, and of the conversation that is made up for it."""
TICKET: Final = "citywatch/ticket"
"""Where in the task's metadata the ticket is named."""
_OURS: Final = re.compile(START + r"([0-9a-f]{12})\Z")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REFERRING: Final = ("taskId", "contextId")
_SENDING: Final = frozenset(("SendMessage", "SendStreamingMessage"))


class Stage(StrEnum):
    """How far it is, as the state of a task. The value is A2A's."""

    WAITING = "TASK_STATE_AUTH_REQUIRED"
    ANSWERED = "TASK_STATE_INPUT_REQUIRED"
    """The message may be sent again: a task that was over could take none."""
    REFUSED = "TASK_STATE_REJECTED"
    SENT = "TASK_STATE_COMPLETED"
    CALLED_OFF = "TASK_STATE_CANCELED"


_AGAIN: Final = (
    "the very same message again, with its messageId, and with this task's id as its taskId unless it goes on with "
    "another task"
)
_SAYS: Final[Mapping[Stage, str]] = {
    Stage.WAITING: f"A person has to let this message through. It is not held here: once they have, send {_AGAIN}.",
    Stage.ANSWERED: f"A person let it through. Send {_AGAIN}: it is judged once more and goes on once.",
    Stage.REFUSED: "Nobody lets this message through. Do not send it again.",
    Stage.SENT: "The message was sent on; what its receiver answered came with it.",
    Stage.CALLED_OFF: "Nobody is asked about this message any more.",
}


def task_name(ticket: str) -> str:
    """The id of the task of a ticket."""
    return START + ticket


def parse_task_name(name: str) -> str | None:
    """The ticket whose task is called so; None for every other name."""
    found = _OURS.match(name)
    return None if found is None else found[1]


def referred(call: Call) -> str | None:
    """The ticket whose task a request speaks of, if it is one of ours by its name."""
    names = (
        parse_task_name(name) for kind, name in call.things if name.startswith(START) and kind in ("task", "context")
    )
    return next((one for one in names if one is not None), None)


def without_reference(call: Call, ticket: str) -> Call:
    """# INVARIANT: 1. A message as it was sent first; `Malformed` for what carries none."""
    if call.method not in _SENDING:
        raise Malformed("only a message is sent again")
    name = task_name(ticket)
    message = parse_message(call.body, FROM_SERVER)  # with every digit: it is ours
    assert isinstance(message, Request)
    params = _without(message.params or {}, name)
    body = format_message(msgspec.structs.replace(message, params=params))
    arguments = _without(call.arguments, name)
    left = {("context", name)} | (
        {("task", name)} if name not in arguments["message"].get("referenceTaskIds", ()) else set()
    )
    things = tuple(one for one in call.things if one not in left)
    return msgspec.structs.replace(call, arguments=arguments, body=body, things=things)


def conversation_of(call: Call, ticket: str) -> str:
    """The conversation that the task belongs to: the one that the message names, or one made up for it."""
    message: Mapping[str, Any] = call.arguments.get("message", {})
    return str(message.get("contextId") or task_name(ticket))


def told(call: Call, stage: Stage, ticket: str, context: str, now: int, link: str = "") -> bytes:
    """Answer a request with the task: as it is (`GetTask`, `CancelTask`), or as what became of a message."""
    task = {"id": task_name(ticket), "contextId": context, "status": _status(stage, ticket, context, now, link)}
    task["metadata"] = {TICKET: ticket}
    return _answer(call, task if call.method in ("GetTask", "CancelTask") else {"task": task})


def updated(call: Call, stage: Stage, ticket: str, context: str, now: int, link: str = "") -> bytes:
    """One message of a stream: where the task stands now."""
    status = _status(stage, ticket, context, now, link)
    return _answer(call, {"statusUpdate": {"taskId": task_name(ticket), "contextId": context, "status": status}})


def waits_in(result: Mapping[str, Any]) -> str:
    """The ticket that a result says the message waits for, "" where it is anything else: for whoever sent it."""
    task = result.get("task", result)
    if type(task) is not dict or type(task.get("status")) is not dict:
        return ""
    name = task.get("id")
    waits = task["status"].get("state") == Stage.WAITING.value and type(name) is str
    return (parse_task_name(name) or "") if waits and name is not None else ""


def _without(params: Mapping[str, Any], name: str) -> dict[str, Any]:
    message = {key: one for key, one in params["message"].items() if not (key in _REFERRING and one == name)}
    return {**params, "message": message}


def _status(stage: Stage, ticket: str, context: str, now: int, link: str) -> dict[str, Any]:
    """# INVARIANT: 2, 3."""
    parts: list[dict[str, Any]] = [{"text": _SAYS[stage]}]
    if link and stage is Stage.WAITING:
        parts.append({"text": f"What was asked, and the place to answer, is shown to people at {link}"})
    said = {
        "messageId": f"{task_name(ticket)}-{stage.name.lower()}",
        "contextId": context,
        "taskId": task_name(ticket),
        "role": "ROLE_AGENT",
        "parts": parts,
    }
    at = _EPOCH + timedelta(milliseconds=now)
    stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    return {"state": stage.value, "message": said, "timestamp": stamp}


def _answer(call: Call, result: dict[str, Any]) -> bytes:
    return format_message(Response(call.rpc_id, result))
