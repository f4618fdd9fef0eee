"""An operator lets the label of a context down: what its program has read no longer shapes all that it does next.

Decides what is left of a context's label; that the program has forgotten what it read is the operator's own knowledge,
and stands in the log as their reason. With `released` the only place that lets a label down (see ADR 0017).

INVARIANTS
1. The items stay. A value that stands in one of them keeps its label: it is as tainted, and as confidential, as before.
2. What is left entitles to nothing: until a person speaks again, nothing is their context.
3. Who may see what was read is let down only where the operator says so.
"""

from __future__ import annotations

import msgspec

from citywatch.core.call import Release
from citywatch.core.enforce.context import Context
from citywatch.core.flow.release import Way, release
from citywatch.core.label import Label, join


def cleared(context: Context, by: str, reason: str, readers: bool) -> tuple[Context, Release]:
    """The context with its label let down, and the receipt; `readers` lets down who may see it as well.

    Raises `ValueError` without a reason.
    """
    low = Label(frozenset(), None if readers else context.label.readers)  # INVARIANT: 2, 3
    receipt = release(context.label, low, Way.CLEARED, role="context", source=by, reason=reason)
    before = join(context.before, context.label)
    return msgspec.structs.replace(context, label=low, before=before), receipt
