"""`ListTasks` of A2A 1.0: which tasks an agent asks for, and the page of them that it gets.

Decides which of an agent's tasks are on a page, in which order, and how much of each is shown. Whose tasks there are
is not decided here. A page's token is a place in the agent's own list, and means nothing anywhere else.
INVARIANTS: any parameters give a `Filter` or `Malformed`; a page holds nothing but what it was made of; its counts are
counts of that.
SPEC: A2A 1.0 §3.1.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.wire.a2a_results import STATES

LIST: Final = "ListTasks"
PAGE: Final = 50
MAX_PAGE: Final = 100
_TOKEN: Final = re.compile(r"[1-9][0-9]{0,3}\Z")
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})\Z"
)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent asks for: of which conversation, in which state, since when, and which part of the list."""

    context: str | None
    state: str | None
    after: datetime | None
    start: int
    size: int
    history: int | None
    artifacts: bool


def read_filter(params: Mapping[str, Any]) -> Filter:
    """The filter in these parameters, whose types were checked. Raises `Malformed`."""
    state, since, token = (params.get(key) or None for key in ("status", "statusTimestampAfter", "pageToken"))
    size, history = params.get("pageSize", PAGE), params.get("historyLength")
    if state == "TASK_STATE_UNSPECIFIED":
        state = None
    if state is not None and state not in STATES:
        raise Malformed("`status` is not the state of a task")
    if not 1 <= size <= MAX_PAGE:
        raise Malformed(f"`pageSize` is a number from 1 to {MAX_PAGE}")
    if history is not None and history < 0:
        raise Malformed("`historyLength` is less than nothing")
    if token is not None and not _TOKEN.match(token):
        raise Malformed("`pageToken` is none that this gateway gave")
    after = None if since is None else _time(since)
    if since is not None and after is None:
        raise Malformed("`statusTimestampAfter` is not a time as RFC 3339 writes it, with its zone")
    return Filter(
        context=params.get("contextId") or None,
        state=state,
        after=after,
        start=0 if token is None else int(token),
        size=size,
        history=history,
        artifacts=params.get("includeArtifacts", False),
    )


def page(asked: Filter, tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result for this filter over an agent's tasks, each of which was checked."""
    dated = [(_time(_said(one)), one) for one in tasks if _passes(asked, one)]
    kept = [(at, one) for at, one in dated if asked.after is None or (at is not None and at >= asked.after)]
    # SPEC: §3.1.4: by the time of their status, the newest first; what says no time is last.
    kept.sort(key=lambda pair: pair[0].timestamp() if pair[0] is not None else float("-inf"), reverse=True)
    shown = [_shown(one, asked) for _, one in kept[asked.start : asked.start + asked.size]]
    end = asked.start + len(shown)
    return {
        "tasks": shown,
        "nextPageToken": str(end) if shown and end < len(kept) else "",
        "pageSize": len(shown),
        "totalSize": len(kept),
    }


def _passes(asked: Filter, task: Mapping[str, Any]) -> bool:
    return (asked.state is None or task["status"]["state"] == asked.state) and (
        asked.context is None or task.get("contextId") == asked.context
    )


def _shown(task: Mapping[str, Any], asked: Filter) -> dict[str, Any]:
    left_out = () if asked.artifacts else ("artifacts",)
    return {key: value for key, value in task.items() if key not in left_out}


def _said(task: Mapping[str, Any]) -> object:
    return task["status"].get("timestamp")


def _time(text: object) -> datetime | None:
    if type(text) is not str or not _TIME.match(text):
        return None
    # Python reads no more than six digits of a second.
    plain = re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text).replace("Z", "+00:00")
    try:
        return datetime.fromisoformat(plain)
    except ValueError:
        return None
