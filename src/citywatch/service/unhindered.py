"""Work that a cancellation must not cut in two: what was begun for a call is closed, though nobody waits for it.

Decides nothing. INVARIANTS: the work runs to its end, however often its caller is cancelled meanwhile; no cancellation
is swallowed: it is raised when the work is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from citywatch.core.errors import Unavailable

T = TypeVar("T")


async def unhindered(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end and return what it returns; `CancelledError` afterwards if one arrived meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as arrived:
            cancelled = arrived
    if cancelled is not None:
        with suppress(Unavailable):  # nobody is left to be told; what stayed open is closed at the next start
            task.result()
        raise cancelled
    return task.result()
