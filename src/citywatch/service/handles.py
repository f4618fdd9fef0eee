"""What stands behind a call's handles: loaded before the call is judged, from the rows that earlier replies left.

Decides nothing: `core.enforce.filling` says whose a handle is and what stands in its place. INVARIANT: the rows are
read again with the decision, so that a value that was erased meanwhile goes nowhere.

A recorded call holds values, and its entry says where they came out of handles: `refilled` puts that back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from citywatch.core import events
from citywatch.core.call import Call, Reason
from citywatch.core.enforce.context import Key, home_of
from citywatch.core.enforce.filling import Note, fill, handles_of, noted, parse_note, shelf_rows, shown_instead
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.veiling import Shelf
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.service.contexts import context_of
from citywatch.service.entries import MAX_HANDLES
from citywatch.service.ports import Append, Appended, Loaded, Puts, Reads, Store
from citywatch.service.snapshots import versions_of

BATCH = 256


class Filling(msgspec.Struct, frozen=True):
    """The call with its handles filled in, or why that cannot be; the rows that say so, with their versions."""

    call: Call
    broken: Reason | None = None
    reads: Reads = ()


async def filling(store: Store, call: Call, context: Key, rules: Rules, now: int) -> Filling:
    """Fill in what the agent was given handles for in this context."""
    try:
        handles = handles_of(call, rules)
        if not handles:
            return Filling(call)
        rows = shelf_rows(handles)
        loaded = await store.load((context, *rows), ())
        shelves = _shelves(rows, loaded)
        home = home_of(context, context_of(context, loaded))[1]
        return Filling(fill(call, handles, shelves, home, now), None, versions_of(rows, loaded))
    except Refused as refusal:
        return Filling(call, Reason(refusal.code, detail=refusal.detail))


async def refilled(store: Store, one: events.Decided, call: Call, unkept: str) -> tuple[Call, str]:
    """A recorded call, with what its handles stood for; and why that is not all of it, if it is not.

    `unkept` is why, where a reply's shelf is not there: "" where it would not have been made, and the value shown.
    """
    try:
        notes = [parse_note(text) for text in one.handles]
    except Malformed as failure:
        return call, str(failure)
    if not notes:
        return call, ""
    rows = shelf_rows(tuple(note.name for note in notes))
    shelves = _shelves(rows, await store.load(rows, ()))
    filled, lacking = [], _cut(notes)
    times = Counter(note.path for note in notes)
    for note in notes:
        shelf = shelves.get(note.name.shelf)
        found = None if shelf is None else noted(note, shelf, call, alone=times[note.path] == 1)
        if found is not None:
            filled.append(found)
        elif shelf is None:
            lacking = lacking or unkept
        elif not shown_instead(note, shelf):
            lacking = lacking or "what one of its handles stood for would have been behind another one"
    return msgspec.structs.replace(call, filled=tuple(filled)), lacking


def _cut(notes: Sequence[Note]) -> str:
    if len(notes) >= MAX_HANDLES:
        return f"its entry names {MAX_HANDLES} of its handles: it may have had more"
    return "its entry cuts off where a handle stood" if any(note.is_cut for note in notes) else ""


def _shelves(rows: Sequence[Key], loaded: Loaded) -> dict[str, Shelf]:
    return {one[1]: msgspec.json.decode(loaded.rows[one].value, type=Shelf) for one in rows if one in loaded.rows}


async def drop_shelves(store: Store, now: int) -> int:
    """Forget what expired handles stood for; return how many replies that were."""
    gone: Puts = tuple(
        (("shelf", row_id), None)
        for row_id, row in await store.scan("shelf")
        if msgspec.json.decode(row.value, type=Shelf).expires <= now
    )
    for start in range(0, len(gone), BATCH):
        await store.append(Append(puts=gone[start : start + BATCH]))
    return len(gone)


async def erase_shelves(store: Store, call: str) -> int:
    """Forget what stands behind the handles that the reply to one call gave; return how many rows went."""
    found = [
        (("shelf", row_id), row.version)
        for row_id, row in await store.scan("shelf")
        if msgspec.json.decode(row.value, type=Shelf).call == call
    ]
    if not found:
        return 0
    outcome = await store.append(Append(reads=tuple(found), puts=tuple((key, None) for key, _ in found), sync=True))
    if not isinstance(outcome, Appended):
        raise Unavailable(Code.CONFLICT, "what the handles stood for was not erased; erase again")
    return len(found)
