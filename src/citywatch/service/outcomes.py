"""Calls of unknown outcome, and what a person found out about one of them.

Decides nothing: a person looks at the server, and `core.enforce` holds identical calls to what they said.
INVARIANTS: what was said is an entry in the same transaction; it is said once, of a call that was lost and of no other;
the budget that the call took stays spent, whatever became of it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from citywatch.core import events
from citywatch.core.enforce.needs import LostCalls, lost_key, read_lost
from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Store

MAX_CONFLICTS = 3
MAX_REASON = 500
HAPPENED_MS = 24 * 3_600_000
"""How long an identical call counts as the repetition of one that happened; after that it is a new one."""


class Outcome(StrEnum):
    """What became of a lost call."""

    HAPPENED = "happened"
    DID_NOT_HAPPEN = "did_not_happen"


async def lost_calls(store: Store) -> tuple[str, ...]:
    """The ids of all calls whose outcome nobody knows yet."""
    return tuple(call for _, lost, _ in await _scan(store) for call in lost.unknown)


async def resolve(
    store: Store, clock: Clock, replica: str, call: str, outcome: Outcome, reason: str, by: str
) -> events.Resolved:
    """Enter what became of a lost call, and let identical ones be judged by it from the next request on.

    Of a call that did not happen, a repetition is an ordinary call. Of one that happened, it is refused as such for
    `HAPPENED_MS`. As long as the outcome of *another* identical call is unknown, it is still asked about. `Malformed`
    for a call of no unknown outcome.
    """
    for _ in range(MAX_CONFLICTS):
        found = [one for one in await _scan(store) if call in one[1].unknown]
        if not found:
            raise Malformed(
                f"no call `{call[:80]}` has an unknown outcome: `citywatch calls lost` lists those that have"
            )
        likeness, lost, version = found[0]
        now = clock.now_ms()
        lost = msgspec.structs.replace(lost, unknown=tuple(one for one in lost.unknown if one != call))
        if outcome is Outcome.HAPPENED:
            lost = msgspec.structs.replace(lost, happened=call, until=now + HAPPENED_MS)
        event = events.Resolved(
            at=now, replica=replica, call=call, outcome=outcome.value, by=by, reason=reason[:MAX_REASON]
        )
        key, left = lost_key(likeness), lost.unknown or lost.happened
        append = Append(
            entries=(NewEntry(encode_event(event)),),
            reads=((key, version),),
            puts=((key, msgspec.json.encode(lost) if left else None),),
            sync=True,
        )
        if isinstance(await store.append(append), Appended):
            return event
    raise Unavailable(Code.CONFLICT, f"the outcome of `{call[:80]}` was not entered: it kept changing")


async def _scan(store: Store) -> list[tuple[str, LostCalls, int]]:
    """Every row of lost calls: what they have in common, which they are, and the row's version."""
    found = []
    for likeness, row in await store.scan("lost"):
        lost = read_lost(msgspec.json.decode(row.value, type=str | LostCalls))
        if lost is not None:
            found.append((likeness, lost, row.version))
    return found
