"""What temporal rules remember, written in the transaction of what happened.

Decides nothing; `core.enforce.past` says what happened and what of it is remembered. INVARIANT: a memory changes only
together with the entry of the call that is let through, or of the reply that is released.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from citywatch.core.call import Call
from citywatch.core.enforce.context import Context
from citywatch.core.enforce.needs import Known, Needs
from citywatch.core.enforce.past import Event, arriving, happening_of, remembered
from citywatch.core.enforce.rules import Rules
from citywatch.core.label import Label
from citywatch.core.plan.temporal import Happening, Memory
from citywatch.service.ports import Key, Puts


def of_call(call: Call, need: Needs, known: Known, now: int) -> Puts:
    """What is remembered once this call is let through."""
    if need.event is None:
        return ()
    return _puts(known.rules, known.past, happening_of(need.event, known.flow, call, now))


def of_reply(
    event: Event | None, rules: Rules, past: Mapping[Key, Memory], label: Label | None, context: Context, now: int
) -> Puts:
    """What is remembered once this reply is released; `label` is what it brings, None where contexts are not kept."""
    if event is None:
        return ()
    return _puts(rules, past, arriving(event, label, context.task, context.principal, now))


def _puts(rules: Rules, past: Mapping[Key, Memory], happening: Happening) -> Puts:
    return tuple((key, msgspec.json.encode(memory)) for key, memory in remembered(rules, past, happening))
