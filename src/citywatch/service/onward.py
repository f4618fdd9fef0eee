"""What a stream brings beside its reply, on its way to the agent: passed on as it comes, or held back a little.

Decides nothing: what is taken out, and how long a message must wait for it, is `core.enforce.holdback`'s; what becomes
of what is left is for the gates. INVARIANTS: messages and the ids that stand between them keep their order, so that a
stream which is resumed goes on behind the last message that the agent has; without a ruling nothing waits.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from citywatch.core.call import Call
from citywatch.core.enforce.deliver import READERS, Places, hides_stream
from citywatch.core.enforce.holdback import Holdback, Ready
from citywatch.core.enforce.hush import HUSHED, TOLD, hush
from citywatch.core.enforce.needs import TOOL_CALL, agent_name
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.sift import is_open
from citywatch.core.flow.fields import UNSEEN
from citywatch.core.wire.jsonrpc import Notification, Request, Response, format_message

HANDLES: Final = "handles"


class Passing(msgspec.Struct, frozen=True):
    """A message that goes on (None: only its event's id), what was taken out of it, or why it may not (`withheld`)."""

    message: Request | Notification | None
    event_id: str | None
    redacted: tuple[str, ...] = ()
    withheld: str = ""


class Onward:
    """One stream of one call."""

    def __init__(self, call: Call, rules: Rules) -> None:
        ruling = rules.cleared(agent_name(call)).content
        self._held = None if is_open(ruling) or rules.observe else Holdback(ruling)
        self._hides = hides_stream(call, rules) and not rules.observe
        self._hushes = rules.hushes(call.agent, call.server, call.name if call.method == TOOL_CALL else None)
        self.known: Places | None = None
        """Once the reply has come: where in it something ends that began before it."""

    def take(self, message: Request | Notification | Response | None, event_id: str | None) -> list[Passing]:
        """What goes on now that this has come; a reply itself is not among it."""
        if isinstance(message, Response):
            return self.end(message)
        if self._held is None or (message is None and event_id is None):
            return [self._hidden(message, event_id)]
        waits = message is None or (isinstance(message, Notification) and message.method in TOLD)
        kind = "" if message is None else message.method
        one = self._hidden(message, event_id)
        params: Any = {} if one.message is None else one.message.params or {}
        return [self._ready(ready) for ready in self._held.push(one, kind, params, waits=waits)]

    def end(self, reply: Response | None = None) -> list[Passing]:
        """All that is still held."""
        if self._held is None:
            return []
        value: Any = {} if reply is None else reply.result if reply.error is None else reply.error
        self.known = self._held.known(value)
        return [self._ready(ready) for ready in self._held.end(value)]

    def _ready(self, ready: Ready) -> Passing:
        one: Passing = ready.token
        if ready.withheld:
            return msgspec.structs.replace(one, withheld=ready.withheld)
        if not ready.redacted or one.message is None:
            return one
        changed = msgspec.structs.replace(one.message, params=ready.value)
        changed = msgspec.structs.replace(changed, body=format_message(changed))
        return Passing(changed, one.event_id, (*one.redacted, *ready.redacted), one.withheld)

    def _hidden(self, message: Request | Notification | None, event_id: str | None) -> Passing:
        """# INVARIANT: what a server tells of a call whose reply is not for this agent is not for it either, and what
        it tells of one whose reply is hidden is hidden. A question that policy puts is seen, or nobody could answer.
        """
        if message is None or not (self._hides or self._hushes):
            return Passing(message, event_id)
        if isinstance(message, Request):
            asked = self._hides and message.params is not None
            return Passing(message, event_id, withheld=READERS if asked else "")
        why, mark = (READERS, UNSEEN) if self._hides else (HANDLES, HUSHED)
        changed = hush(message, mark)
        if changed is None:
            return Passing(message, event_id, withheld=why)
        return Passing(changed, event_id, () if changed.params == message.params else (f"{why} 1",))
