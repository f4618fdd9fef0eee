"""Whether a message is one that its receiver takes: of a type with a shape, or free text where that is taken.

    no types declared and none named → free text
    a type that the receiver does not take → refused
    a type that it takes → one `data` part that fits the type's schema, and not a word beside
    no type named → free text, unless the receiver takes none (`free_text: false`)

Decides this on the operator's file alone. A message that fits is data all the same: its label is its sender's, and what
it may steer is decided where it is used. INVARIANTS
1. Where free text is not taken, every word of a message stands in a place that a schema has.
2. What a refusal tells holds no word of the message.
"""

from __future__ import annotations

from citywatch.core.call import Call, Deny, Reason
from citywatch.core.enforce.chains import are_links
from citywatch.core.enforce.peers import is_message
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code, Malformed
from citywatch.core.wire import a2a

MAX_TOLD = 16


def mistyped(call: Call, rules: Rules) -> Deny | None:
    """Refuse what is no message that this peer takes; None for a call that is no message."""
    peer = rules.peers.get(call.server) if is_message(call) and a2a.sends(call.method) else None
    if peer is None:
        return None
    types = rules.messages.get(call.server, {})
    if not call.type and peer.free_text:
        return None
    schema = types.get(call.type)
    if schema is None:
        names = ", ".join(sorted(types)[:MAX_TOLD]) or "none"
        return _deny(f"name one of its types in the metadata, as `{a2a.TYPE}`: {names}")
    handed = call.arguments.get("metadata", {}).get(a2a.HANDED, [])
    if not are_links(handed):  # INVARIANT: 1.
        return _deny(f"`{a2a.HANDED}` holds what is no chain")
    try:
        wrong = schema.misfit(a2a.content_of(call.arguments))
    except Malformed as malformed:
        return _deny(str(malformed))
    return None if wrong is None else _deny(f"`{call.type}`: {wrong}")


def _deny(detail: str) -> Deny:
    return Deny(Reason(Code.MESSAGE_UNFIT, detail=detail))
