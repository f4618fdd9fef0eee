"""What temporal rules remember, written in the transaction of what happened.

Decides nothing; `core.enforce.past` says what happened, what of it is remembered, and for how long. INVARIANT: a memory
changes only together with the entry of the call that is let through, or of the reply that is released; it is forgotten
only as it was read.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from citywatch.core.call import Call
from citywatch.core.enforce.context import Context
from citywatch.core.enforce.needs import Known, Needs
from citywatch.core.enforce.past import Event, arriving, forgettable, happening_of, remembered
from citywatch.core.enforce.rules import Rules
from citywatch.core.label import Label
from citywatch.core.plan.temporal import Happening, Memory
from citywatch.service.ports import Append, Appended, Key, Puts, Store

BATCH = 256


def of_call(call: Call, need: Needs, known: Known, now: int) -> Puts:
    """What is remembered once this call is let through."""
    if need.event is None:
        return ()
    return _puts(known.rules, known.past, happening_of(need.event, known.flow, call, now, known.spread.count))


def of_reply(
    event: Event | None, rules: Rules, past: Mapping[Key, Memory], label: Label | None, context: Context, now: int
) -> Puts:
    """What is remembered once this reply is released; `label` is what it brings, None where contexts are not kept."""
    if event is None:
        return ()
    return _puts(rules, past, arriving(event, label, context.task, context.principal, now))


def _puts(rules: Rules, past: Mapping[Key, Memory], happening: Happening) -> Puts:
    return tuple((key, msgspec.json.encode(memory)) for key, memory in remembered(rules, past, happening))


async def drop_memories(store: Store, rules: Rules, now: int) -> int:
    """Forget what no rule can count any more; return how many rows that were."""
    rows = {("rule", row_id): row for row_id, row in await store.scan("rule")}
    memories = {key: msgspec.json.decode(row.value, type=Memory) for key, row in rows.items()}
    over = tuple(forgettable(rules, memories, now))
    dropped = 0
    for start in range(0, len(over), BATCH):
        batch = over[start : start + BATCH]
        reads = tuple((key, rows[key].version) for key in batch)
        # A row that has moved is none that is over: its batch is looked at again the next time
        if isinstance(await store.append(Append(reads=reads, puts=tuple((key, None) for key in batch))), Appended):
            dropped += len(batch)
    return dropped
