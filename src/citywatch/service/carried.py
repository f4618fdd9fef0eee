"""Who carried a text on, forgotten when it no longer counts.

Decides nothing; `core.enforce.carrying` says what counts, and the rows are written with the decision that they rest on.
INVARIANT: a row is forgotten only as it was read: of one that moved meanwhile nothing is lost.
"""

from __future__ import annotations

import msgspec

from citywatch.core.enforce.carrying import PRINT, Carried, is_over
from citywatch.service.ports import Append, Appended, Store

BATCH = 256


async def drop_carried(store: Store, now: int) -> int:
    """Forget what nobody carried on within the window; return how many rows that were."""
    over = [
        ((PRINT, row_id), row.version)
        for row_id, row in await store.scan(PRINT)
        if is_over(msgspec.json.decode(row.value, type=Carried), now)
    ]
    dropped = 0
    for start in range(0, len(over), BATCH):
        batch = over[start : start + BATCH]
        append = Append(reads=tuple(batch), puts=tuple((key, None) for key, _ in batch))
        if isinstance(await store.append(append), Appended):
            dropped += len(batch)
    return dropped
