"""What a server tells beside its reply, without its words: a step forward, a change of a list, and nothing else.

Decides what of a notification says nothing that anybody else could have written. It is what an agent gets where the
reply that the server works on is not for it (`deliver`), or reaches it as handles (`veiling`): a server that reports as
it goes tells what will stand there. Questions are not for this: they cannot be answered unseen.

INVARIANT: what is left is numbers, ids as short as ids are, words of the protocol's own, and one mark of ours; a
notification of which nothing can be left so is none (`None`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from citywatch.core.wire.jsonrpc import Notification, format_message

TOLD: Final = {
    "notifications/progress": "message",
    "notifications/message": "data",
    "notifications/cancelled": "reason",
}
"""Notifications with words in them, and where; nobody waits for those."""
CHANGED: Final = frozenset(f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))
LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""SPEC: RFC 5424, as MCP writes them."""
HUSHED: Final = "[hidden]"
"""What stands for the words of a server whose reply reaches the agent as handles."""
_NUMBERS: Final = ("progress", "total")
_IDS: Final = ("progressToken", "requestId")
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def is_hushed(method: str, params: Mapping[str, Any], body: bytes) -> bool:
    """Whether a notification is one that `hush` made, with the mark for what is behind handles."""
    made = hush(Notification(method, dict(params)), HUSHED)
    return made is not None and (made.params or {}) == params and b'"_meta"' not in body


def hush(message: Notification, mark: str) -> Notification | None:
    """The notification with a mark in the place of its words; None if it cannot be told without them."""
    if message.method in CHANGED:
        return _written(message, {})
    words, params = TOLD.get(message.method), message.params or {}
    if words is None:
        return None
    kept: dict[str, Any] = {name: params[name] for name in _NUMBERS if type(params.get(name)) in (int, float)}
    for name in _IDS:
        if name in params:
            if not _is_id(params[name]):
                return None
            kept[name] = params[name]
    if "level" in params:
        kept["level"] = params["level"] if params["level"] in LEVELS else LEVELS[1]
    return _written(message, {**kept, words: mark})


def _is_id(value: object) -> bool:
    return type(value) is int or (isinstance(value, str) and _ID.fullmatch(value) is not None)


def _written(message: Notification, params: dict[str, Any]) -> Notification:
    changed = Notification(message.method, params)
    return msgspec.structs.replace(changed, body=format_message(changed))
