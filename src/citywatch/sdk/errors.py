"""What a call raises when it gave no reply.

    CitywatchError
    └── Failed                     the call gave no reply
        ├── Refused                the gateway said no; sent again it stays no
        │   ├── ApprovalRequired   a person may let it through: `ticket` waits for their answer
        │   └── Denied             a person was asked about this very call, and said no
        └── Unavailable            the gateway or the server is away, or has no time

Decides only which of them a code is. INVARIANT: a code that this version does not know is `Refused`, never let through.
"""

from __future__ import annotations

from citywatch.core.errors import CitywatchError, Code
from citywatch.core.wire import mcp


class Failed(CitywatchError):
    """A call that gave no reply. `code` is one of docs/reference/codes.md, or `server_error` where the server answered
    with an error of its own; `rules` are the policies that spoke, `detail` is one line for the agent's author, `ticket`
    waits for a person, `decision` finds the entry in the log.
    """

    def __init__(self, told: mcp.Told) -> None:
        super().__init__(f"{told.code}: {told.detail}" if told.detail else told.code)
        self.code = told.code
        self.detail = told.detail
        self.rules = told.policies
        self.ticket = told.ticket
        self.decision = told.decision


class Refused(Failed):
    """The gateway said no."""


class ApprovalRequired(Refused):
    """A person may let this very call through."""


class Denied(Refused):
    """A person was asked about this very call and said no."""


class Unavailable(Failed):
    """Nobody could do it now. A server that did not answer in time may have done it all the same: see the code."""


_ASKING = {Code.APPROVAL_REQUIRED.value: ApprovalRequired, Code.APPROVAL_DENIED.value: Denied}


def raised(told: mcp.Told) -> Failed:
    """The exception that a refusal is."""
    if mcp.is_outage(told.code):
        return Unavailable(told)
    return _ASKING.get(told.code, Refused)(told)


def away(detail: str) -> Unavailable:
    """The gateway did not answer, or not as one."""
    return Unavailable(mcp.Told(code=Code.UPSTREAM_UNAVAILABLE.value, detail=detail))
