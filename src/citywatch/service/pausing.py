"""A tool call that waits for a person and comes back with a sealed state (MCP 2026-07-28, `input_required`).

    told      a call about which a person is asked: what its client gets in place of a refusal, if it can take that
    resumed   the same call with our state: kept waiting; then judged anew, or refused, or told to come back

The state is in the hands of an attacker: it is sealed, and it is no permission. It says which ticket a retry waits for;
whether the call goes through is decided anew, from the ticket's own row. INVARIANTS
1. A state is good for one agent, key, server, tool, task, chain and one set of arguments, until the ticket expires.
2. A state is good once: not after its ticket was used, answered late, or replaced by another.
3. What waits is not judged, spends nothing and opens no ticket; what was answered is judged like any call.
4. What comes back with the state answers our question, and approves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from citywatch.core.approvals.ticket import State
from citywatch.core.call import Call
from citywatch.core.canonical import canonical, digest
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.credential import Credential
from citywatch.core.wire import mcp
from citywatch.service.judged import Judged
from citywatch.service.ports import Clock
from citywatch.service.replies import Outcome
from citywatch.service.waiting import LONGEST_S, Waiting

MAX_STATE: Final = 2_048


class Sealer(Protocol):
    """Seals texts under keys that nobody outside of this gateway's state folder has."""

    def seal(self, text: bytes, about: bytes) -> str:
        """The sealed text; it opens only beside the same `about`."""
        ...

    def open(self, sealed: str, about: bytes) -> bytes | None:
        """The text, None for anything that was not sealed here about this, under a key that still counts."""
        ...


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What is in a state; `asked`: a question went with it."""

    ticket: str
    until: int
    asked: bool


class Pausing:
    """The calls of one gateway that wait in their clients' hands."""

    def __init__(
        self,
        *,
        sealer: Sealer,
        waiting: Waiting,
        clock: Clock,
        link: Callable[[str], str],
        longest_s: float = LONGEST_S,
    ) -> None:
        """`link` is the address at which people find a ticket, empty if they have no console; `longest_s` for how long
        a retry is kept waiting."""
        self._sealer = sealer
        self._waiting = waiting
        self._clock = clock
        self._link = link
        self._longest_s = longest_s

    async def told(self, judged: Judged) -> Outcome | None:
        """What the client of a call that waits is told, None where it gets the refusal."""
        call = judged.call
        can = mcp.takes(call)
        if not can.waiting or call.continuation is not None:  # a server's question is answered by the call itself
            return None
        _, until = await self._waiting.present(judged.credential, judged.ticket)
        link = self._link(judged.ticket) if can.address else ""
        return self._paused(call, judged.credential, Sealed(judged.ticket, until, bool(link)), link)

    async def resumed(self, call: Call, credential: Credential) -> tuple[Call, Outcome | None]:
        """The call as it was made first, to be judged anew, or what its client is told instead.

        Raises `Refused(INPUT_UNEXPECTED)` for a state that is not this call's, or is good no more.
        """
        continuation = call.continuation
        if continuation is None or call.method != "tools/call":
            raise Refused(Code.INPUT_UNEXPECTED, "no tool call waits for this state")
        bare = mcp.without_input(call)
        sealed = self._opened(bare, credential, continuation.state or "")
        try:
            leaves = mcp.declined(continuation.responses, sealed.asked)  # INVARIANT: 4.
        except Malformed as failure:
            raise Refused(Code.INPUT_UNEXPECTED, str(failure)) from None
        try:
            state, until = await self._waiting.answered(credential, sealed.ticket, 0 if leaves else self._longest_s)
        except Malformed:
            raise Refused(Code.INPUT_UNEXPECTED, "what this state waits for was replaced by another call") from None
        if state is State.EXPIRED:
            why = f"ticket {sealed.ticket}: nobody let it through in time"
            return bare, _refused(bare, Code.APPROVAL_DENIED, why, "")
        if state in (State.USED, State.SUPERSEDED):  # INVARIANT: 2.
            raise Refused(Code.INPUT_UNEXPECTED, "this state was used")
        if state is not State.PENDING:
            return bare, None
        if leaves:
            return bare, _refused(bare, Code.APPROVAL_REQUIRED, "", sealed.ticket)
        return bare, self._paused(bare, credential, Sealed(sealed.ticket, until, False), "")

    def _paused(self, call: Call, credential: Credential, sealed: Sealed, link: str) -> Outcome:
        state = self._sealer.seal(msgspec.json.encode(sealed), _about(call, credential))
        body = mcp.input_required(call, sealed.ticket, f"{mcp.SEALED}{state}", link)
        return Outcome(status=200, media="json", body=body)

    def _opened(self, call: Call, credential: Credential, state: str) -> Sealed:
        """# INVARIANT: 1."""
        if len(state) > MAX_STATE:
            raise Refused(Code.INPUT_UNEXPECTED, "this state was not given for this call")
        text = self._sealer.open(state.removeprefix(mcp.SEALED), _about(call, credential))
        if text is None:
            raise Refused(Code.INPUT_UNEXPECTED, "this state was not given for this call")
        sealed = msgspec.json.decode(text, type=Sealed)
        if self._clock.now_ms() >= sealed.until + LATE_MS:
            raise Refused(Code.INPUT_UNEXPECTED, "this state has expired")
        return sealed


LATE_MS: Final = 60_000
"""How long after its ticket expired a state still tells its client that nobody answered."""


def _about(call: Call, credential: Credential) -> bytes:
    """Whose call it is, and which one. # INVARIANT: 1."""
    return canonical(
        {
            "v": "citywatch/request-state/v1",
            "agent": credential.agent,
            "key": credential.key,
            "server": call.server,
            "method": call.method,
            "name": call.name,
            "arguments": digest(canonical(dict(call.arguments))),
            "task": call.task,
            "chain": list(call.chain),
        }
    )


def _refused(call: Call, code: Code, detail: str, ticket: str) -> Outcome:
    return Outcome(status=200, media="json", body=mcp.refusal(call, code, detail, ticket=ticket))
