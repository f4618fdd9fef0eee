"""What a stateless server asked for before it answers a call, and whether a continued call brings that and no more.

Decides which answers an agent may add to a call it makes again. They travel beside the arguments, where no policy sees
them: whatever the server did not ask for would reach it unjudged. SPEC: MCP 2026-07-28 `InputRequiredResult`.

INVARIANTS
1. Each answer is to a question of that reply, and has the shape that its method's answers have.
2. The state that comes back is the state that was given, to the byte; where none was given, none comes back.
3. An invitation ends: used once, or after `INVITED_MS`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from citywatch.core.call import Continuation
from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import Response

INVITED_MS = 3_600_000
"""How long a person may take to answer."""


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """The method of each question by the server's key for it, the digest of its state, and when all that ends.

    `call` is the id of the call that the server has not answered yet.
    """

    asked: Mapping[str, str]
    state: str | None
    until: int
    call: str = ""


def read_invitation(row: bool | Invitation | None) -> Invitation | None:
    """The row of an invitation; an earlier version kept only that there was one, which answers nothing."""
    return row if isinstance(row, Invitation) else None


def invite(response: Response, now: int, call: str = "") -> Invitation | None:
    """What a reply asks for, None if it is no `input_required`. `Malformed` for one that is not well-formed."""
    result = response.result
    if result is None or result.get("resultType") != "input_required":
        return None
    asked = {str(request.id): request.method for request in mcp.input_requests(response)}
    return Invitation(asked=asked, state=_digest(result.get("requestState")), until=now + INVITED_MS, call=call)


def check_invited(continuation: Continuation, invitation: Invitation | None, now: int) -> None:
    """Raise `Refused(INPUT_UNEXPECTED)` unless a call is continued as its server asked for."""
    if invitation is None or now >= invitation.until:
        raise Refused(Code.INPUT_UNEXPECTED, "the server asked for no such input")
    for key, answer in continuation.responses.items():
        method = invitation.asked.get(key)
        if method is None:
            raise Refused(Code.INPUT_UNEXPECTED, "an input answers what the server did not ask")
        if type(answer) is not dict:
            raise Refused(Code.INPUT_UNEXPECTED, f"an input is no answer to `{method}`")
        try:
            mcp.check_agent_reply(method, Response(key, answer, None))
        except Malformed:
            raise Refused(Code.INPUT_UNEXPECTED, f"an input is no answer to `{method}`") from None
    if _digest(continuation.state) != invitation.state:
        raise Refused(Code.INPUT_UNEXPECTED, "the `requestState` is not the one that the server gave")


def _digest(state: str | None) -> str | None:
    return None if state is None else digest(b"citywatch/request-state/v1\n" + state.encode("utf-8", "surrogatepass"))
