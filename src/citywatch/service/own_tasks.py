"""A message that waits for a person is a task of ours, in its sender's hands (A2A 1.0, `TASK_STATE_AUTH_REQUIRED`).

    told     a message about which a person is asked: what its sender gets in place of the refusal
    taken    whatever speaks of such a task: asked after, followed, called off, or the message sent again

The message is not kept: its sender sends it again, and the ticket's row says whether it goes through. Whatever names a
task that is not the asking agent's own goes on as if there were no such task here. INVARIANTS
1. A task of ours is its agent's alone, under the registration that asked; nobody else learns that there is one.
2. A message that comes back is the one that waits, or is refused; then it is judged anew, with the task's name taken
   out of it. The name lets nothing through.
3. Asking after a task, following it and waiting in it spend nothing, open no ticket and reach no peer.
4. Only its own agent calls an ask off, and only takes something away by it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final

from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.call import Call
from citywatch.core.enforce.needs import likeness
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.identity.credential import Credential
from citywatch.core.wire import a2a, a2a_push, a2a_waiting, mcp
from citywatch.core.wire.a2a_waiting import Stage
from citywatch.service.judged import Judged
from citywatch.service.ports import Clock
from citywatch.service.replies import Delivery, Outcome
from citywatch.service.tickets import Found, Tickets, find_ticket
from citywatch.service.waiting import LONGEST_S, Waiting

_STAGES: Final = {
    State.PENDING: Stage.WAITING,
    State.APPROVED: Stage.ANSWERED,
    State.DENIED: Stage.REFUSED,
    State.EXPIRED: Stage.REFUSED,
    State.USED: Stage.SENT,
    State.SUPERSEDED: Stage.CALLED_OFF,
}
_OVER: Final = frozenset((Stage.REFUSED, Stage.SENT, Stage.CALLED_OFF))


class OwnTasks:
    """The tasks of one gateway in which messages wait."""

    def __init__(
        self,
        *,
        waiting: Waiting,
        tickets: Tickets,
        clock: Clock,
        link: Callable[[str], str],
        longest_s: float = LONGEST_S,
    ) -> None:
        """`link` is the address at which people find a ticket, empty if they have no console; `longest_s` for how long
        a message that comes back is kept waiting."""
        self._waiting = waiting
        self._tickets = tickets
        self._clock = clock
        self._link = link
        self._longest_s = longest_s

    def told(self, judged: Judged) -> Outcome:
        """What the sender of a message that waits is told, and with a stream what becomes of it."""
        call, ticket = judged.call, judged.ticket
        context = a2a_waiting.conversation_of(call, ticket)
        if a2a.streams(call.method):
            return self._followed(call, judged.credential, ticket, context)
        return self._whole(call, Stage.WAITING, ticket, context)

    async def taken(self, call: Call, credential: Credential) -> tuple[Call, Outcome | None]:
        """The request to be judged, without our task's name in it where it was that of its agent; or what is said.

        Raises `Refused` or `Malformed` for what such a task does not take.
        """
        name = a2a_waiting.referred(call)
        found = None if name is None else await self._own(name, call, credential)
        if name is None or found is None:
            return call, None
        if a2a.sends(call.method):
            return await self._again(call, credential, found)
        if call.method in a2a_push.METHODS:
            raise Refused(Code.PUSH_UNSUPPORTED, "a task of the gateway's own pushes nothing: subscribe to it")
        stage = self._stage(found.ticket)
        if call.method == "SubscribeToTask":
            if stage in _OVER:
                raise Refused(Code.NOT_WHAT_WAITS, "this task is over: ask for it once")
            return call, self._followed(call, credential, name, found.ticket.conversation)
        if call.method == "CancelTask" and stage is not Stage.CALLED_OFF:
            if stage in _OVER:
                raise Refused(Code.NOT_WHAT_WAITS, "this task is over, and nothing of it can be called off")
            await self._tickets.call_off(name)  # INVARIANT: 4.
            stage = Stage.CALLED_OFF
        return call, self._whole(call, stage, name, found.ticket.conversation)

    async def _own(self, name: str, call: Call, credential: Credential) -> Found | None:
        """# INVARIANT: 1."""
        try:
            _, since = await self._waiting.present(credential, name), await self._waiting.registered(credential)
        except Malformed:
            return None
        found = await find_ticket(self._tickets.store, name)
        if found is None or not found.ticket.spoken or found.ticket.server != call.server:
            return None
        return found if since <= found.ticket.asked else None

    async def _again(self, call: Call, credential: Credential, found: Found) -> tuple[Call, Outcome | None]:
        """# INVARIANT: 2."""
        name = found.ticket.id
        bare = a2a_waiting.without_reference(call, name)
        if likeness(bare) != found.likeness.partition("\n")[0]:
            raise Refused(Code.NOT_WHAT_WAITS, "in this task another message waits: send that one, with its messageId")
        at_once = call.arguments.get("configuration", {}).get("returnImmediately", False)
        state, _ = await self._waiting.answered(credential, name, 0.0 if at_once else self._longest_s)
        if state is State.EXPIRED:
            raise Refused(Code.APPROVAL_DENIED, f"ticket {name}: nobody let it through in time")
        if state in (State.USED, State.SUPERSEDED):
            raise Refused(Code.NOT_WHAT_WAITS, "nothing waits in this task any more")
        if state is not State.PENDING:
            return bare, None
        context = found.ticket.conversation
        if a2a.streams(call.method):
            return bare, self._followed(call, credential, name, context)
        return bare, self._whole(call, Stage.WAITING, name, context)

    def _stage(self, ticket: Ticket) -> Stage:
        return _STAGES[ticket.by_now(self._clock.now_ms())]

    def _whole(self, call: Call, stage: Stage, ticket: str, context: str) -> Outcome:
        body = a2a_waiting.told(call, stage, ticket, context, self._clock.now_ms(), self._link(ticket))
        return Outcome(status=200, media="json", body=body)

    def _followed(self, call: Call, credential: Credential, ticket: str, context: str) -> Outcome:
        return Outcome(status=200, media="sse", stream=self._stream(call, credential, ticket, context))

    async def _stream(
        self, call: Call, credential: Credential, ticket: str, context: str
    ) -> AsyncGenerator[Delivery, None]:
        """The task as it is, then each time that something can be said of it, until it waits no more."""
        updates, first = self._waiting.updates(credential, ticket), True
        try:
            async for state in updates:
                stage, now = _STAGES[state], self._clock.now_ms()
                worded = a2a_waiting.told if first else a2a_waiting.updated
                yield Delivery(worded(call, stage, ticket, context, now, self._link(ticket)))
                first = False
        except (Malformed, Refused, Unavailable) as failure:
            yield Delivery(mcp.refusal(call, *_said(failure)))
        finally:
            await updates.aclose()


def _said(failure: CitywatchError) -> tuple[Code, str]:
    if isinstance(failure, Refused | Unavailable):
        return failure.code, failure.detail
    return Code.NOT_WHAT_WAITS, "nothing waits in this task any more"
