"""What a released reply leaves in rows: in the context of the agent that gets it, and in what is remembered of it.

Decides nothing; `core.enforce.receive` says what enters. INVARIANT: what is named here is written in the transaction
that releases the reply, and in no other.
"""

from __future__ import annotations

from collections.abc import Mapping

from citywatch.core.enforce.context import Context
from citywatch.core.enforce.past import Event
from citywatch.core.enforce.receive import Entering
from citywatch.core.enforce.rules import Rules
from citywatch.core.flow.item import Item
from citywatch.core.plan.temporal import Memory
from citywatch.service import memories
from citywatch.service.contexts import entered, risen
from citywatch.service.ports import Key, Loaded, Puts


def arriving(
    entering: Entering | None,
    item: Item | None,
    event: Event | None,
    rules: Rules,
    past: Mapping[Key, Memory],
    loaded: Loaded,
    contexts: tuple[Key, ...],
    home: Context,
    now: int,
) -> Puts:
    """What changes: what the agent's context holds (its task's, and the key's around it), and what temporal rules
    remember. `home` is the first of the contexts, as it was loaded."""
    if entering is None or item is None:
        return memories.of_reply(event, rules, past, None, home, now)
    context, *around = contexts
    return (
        *entered(context, entering, item, loaded),
        *risen(around, item.label, loaded),
        *memories.of_reply(event, rules, past, item.label, home, now),
    )
