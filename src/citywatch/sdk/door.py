"""The gateway's own door: what became of a ticket, which plan holds; and waiting until a person has answered.

Decides nothing. INVARIANT: waiting asks for the ticket and not by the call, and ends with the ticket.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult

from citywatch.core.errors import Code
from citywatch.core.wire import mcp
from citywatch.sdk.errors import ApprovalRequired, Denied, Unavailable, away, raised

FIRST_PAUSE_S, LONGEST_PAUSE_S, SLOWER = 0.5, 30.0, 1.5
LONGEST_WAIT_S = 20.0
"""For how long one request asks to be kept waiting; the gateway may answer sooner."""
Given = TypeVar("Given")


async def own(http: Any, place: SplitResult, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the gateway answers at a path of its own; `Refused` or `Unavailable` otherwise."""
    import httpx2

    try:
        response = await http.request(method, f"{place.scheme}://{place.netloc}{path}", json=body)
        value = json.loads(response.content)
    except (httpx2.HTTPError, ValueError) as failure:
        raise away(f"the gateway does not answer at {path}: {type(failure).__name__.lower()}") from None
    if response.status_code == 200 and type(value) is dict:
        return value
    error = value.get("error") if type(value) is dict else None
    told = mcp.read_error(error.get("data")) if type(error) is dict else None
    if told is None:
        raise away(f"the gateway does not answer at {path}: status {response.status_code}")
    raise raised(told)


async def ticket_state(http: Any, place: SplitResult, ticket: str, wait_s: float = 0.0) -> tuple[str, int]:
    """What became of a ticket and when it expires, in milliseconds since the epoch: at once, or as soon as it was
    answered, `wait_s` from now at the latest."""
    wait_ms = int(1000 * min(wait_s, LONGEST_WAIT_S))
    body = {"ticket": ticket, "wait_ms": wait_ms} if wait_ms > 0 else {"ticket": ticket}
    value = await own(http, place, "POST", "/citywatch/ticket", body)
    return str(value.get("state")), int(value.get("expires") or 0)


StateOf = Callable[[str, float], Awaitable[tuple[str, int]]]
"""What became of a ticket; it may take so many seconds to say that it still waits."""


async def let_through(
    send: Callable[[], Awaitable[Given]], state_of: StateOf, *, wait: bool, patience_s: float | None
) -> Given:
    """What `send` gives; with `wait` it is sent once more, word for word, after a person let it through."""
    try:
        return await send()
    except ApprovalRequired as asked:
        if not wait or not asked.ticket:
            raise
        await _answered(asked, state_of, patience_s)
    return await send()


async def _answered(asked: ApprovalRequired, state_of: StateOf, patience_s: float | None) -> None:
    """Return when the call may be sent again; raise what it will get otherwise.

    The gateway answers as soon as a person did. Where it has no place to keep this agent waiting it says at once that
    the ticket waits, and then it is asked again after a pause.
    """
    import anyio

    end = math.inf if patience_s is None else anyio.current_time() + patience_s
    pause = FIRST_PAUSE_S
    while True:
        began = anyio.current_time()
        try:
            state, _ = await state_of(asked.ticket, max(0.0, min(LONGEST_WAIT_S, end - began)))
        except Unavailable as busy:
            if busy.code != Code.OVERLOADED.value:
                raise
            state = "pending"  # this agent asks too often at once: later
        if state in ("approved", "used"):
            return
        if state == "denied":
            denied = mcp.Told(code=Code.APPROVAL_DENIED.value, detail=asked.detail, ticket=asked.ticket)
            raise Denied(denied) from None
        now = anyio.current_time()
        if state != "pending" or now >= end:
            raise asked
        if now - began >= pause:
            continue  # it was kept waiting
        if now + pause > end:
            raise asked
        await anyio.sleep(pause)
        pause = min(pause * SLOWER, LONGEST_PAUSE_S)
