"""What a process or a machine that died left behind: calls that were open are entered as `lost`, lost power as a `gap`.

Decides nothing about a call's effect, which nobody knows. INVARIANTS: the budget that a lost call took stays spent; it
is never forwarded again; an identical retry is an Ask that shows it (its likeness is a row that `admit` reads) until a
person has found out what became of it (`outcomes`). A loss of power while a gateway ran is entered once, before the
next one takes a call; a stop on purpose never is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from citywatch.core import events
from citywatch.core.enforce.invitation import Invitation, read_invitation
from citywatch.core.enforce.needs import Key, LostCalls, OpenCall, lost_key, read_lost
from citywatch.core.log.entry import encode_event
from citywatch.service.enforcer import WAITING
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Row, Stale, Store

BATCH = 256
WEIGHTS: Key = ("weights", "")
"""Where it is kept which weights the last gateway scanned with."""


async def close_lost_calls(store: Store, clock: Clock, replica: str, is_dead: Callable[[str], bool]) -> int:
    """Close as `lost` each open call of a replica for which `is_dead` holds; return how many there were."""
    dead = [
        (row_id, row.call or row_id, row.likeness)
        for row_id, stored in await store.scan("open")
        if is_dead((row := msgspec.json.decode(stored.value, type=OpenCall)).replica)
    ]
    waiting = {
        msgspec.json.decode(stored.value)["call"]["id"]: (kind, row_id)
        for kind in WAITING
        for row_id, stored in await store.scan(kind)
    }
    for start in range(0, len(dead), BATCH):
        batch = dead[start : start + BATCH]
        puts: list[tuple[Key, bytes | None]] = [(("open", row_id), None) for row_id, _, _ in batch]
        puts += [(waiting[call], None) for _, call, _ in batch if call in waiting]
        entries = tuple(
            NewEntry(encode_event(events.Lost(at=clock.now_ms(), replica=replica, call=call))) for _, call, _ in batch
        )
        while not await _enter(store, entries, puts, batch):
            pass  # somebody said at this instant what became of an identical call: ours comes on top of that
    return len(dead)


async def _enter(
    store: Store,
    entries: tuple[NewEntry, ...],
    puts: Sequence[tuple[Key, bytes | None]],
    batch: Sequence[tuple[str, str, str | None]],
) -> bool:
    """Enter a batch, and remember what its calls are like; False if what was remembered changed meanwhile."""
    alike: dict[Key, list[str]] = {}
    for _, call, likeness in batch:
        if likeness:
            alike.setdefault(lost_key(likeness), []).append(call)
    rows = (await store.load(list(alike), ())).rows
    reads = tuple((key, rows[key].version if key in rows else 0) for key in alike)
    lost = ((key, _more_lost(rows.get(key), calls)) for key, calls in alike.items())
    outcome = await store.append(Append(entries=entries, reads=reads, puts=(*puts, *lost), sync=True))
    return isinstance(outcome, Appended)


def _more_lost(row: Row | None, calls: Sequence[str]) -> bytes:
    lost = read_lost(None if row is None else msgspec.json.decode(row.value, type=str | LostCalls)) or LostCalls()
    return msgspec.json.encode(msgspec.structs.replace(lost, unknown=(*lost.unknown, *calls)))


async def drop_expired(store: Store, clock: Clock) -> int:
    """Forget invitations that nobody took up in their time; return how many there were."""
    gone = [
        (("invited", row_id), None)
        for row_id, stored in await store.scan("invited")
        if (row := read_invitation(msgspec.json.decode(stored.value, type=bool | Invitation))) is None
        or row.until <= clock.now_ms()
    ]
    for start in range(0, len(gone), BATCH):
        await store.append(Append(puts=tuple(gone[start : start + BATCH])))
    return len(gone)


def running_key(replica: str) -> Key:
    """The row that stands while a gateway of that name runs; it holds the run of the machine that it was started in."""
    return ("running", replica)


async def note_boot(store: Store, clock: Clock, replica: str, boot: str, published: int) -> bool:
    """Enter one `gap` if a gateway was running when an earlier run of the machine ended; return whether one was.

    What was committed and not synced when the power went may be gone: entries above `published`, the last published
    head. Each replica answers for itself: one that stopped on purpose says nothing of another that did not, and what
    the command line entered since says nothing at all. A process that merely died loses nothing it had committed.
    """
    while True:
        cut_off = [(running_key(name), row) for name, row in await store.scan("running") if _boot_of(row) != boot]
        if not cut_off:
            return False
        gap = events.Gap(at=clock.now_ms(), replica=replica, checkpoint=published, size=await store.sync())
        append = Append(
            entries=(NewEntry(encode_event(gap)),),
            reads=tuple((key, row.version) for key, row in cut_off),
            puts=tuple((key, None) for key, _ in cut_off),
            sync=True,
        )
        if not isinstance(await store.append(append), Stale):
            return True  # another replica that starts now finds no such row, so that no loss is entered twice


async def note_start(store: Store, started: events.Started, boot: str) -> bool:
    """Enter that a gateway starts, and that it runs from now on; return whether it scans with other weights than the
    one before it, so that the same words may be flagged otherwise from here on.
    """
    before = (await store.load([WEIGHTS], ())).rows.get(WEIGHTS)
    puts = (
        (running_key(started.replica), msgspec.json.encode(boot)),
        (WEIGHTS, msgspec.json.encode(started.weights)),
    )
    await store.append(Append(entries=(NewEntry(encode_event(started)),), puts=puts, sync=True))
    return before is not None and msgspec.json.decode(before.value, type=str) != started.weights


async def note_stop(store: Store, clock: Clock, replica: str, is_dead: Callable[[str], bool]) -> None:
    """Enter that a gateway stopped on purpose. What the dead had committed is synced with it, so they are absolved."""
    absolved = [(running_key(name), row) for name, row in await store.scan("running") if is_dead(name)]
    stopped = NewEntry(encode_event(events.Stopped(at=clock.now_ms(), replica=replica)))
    await store.append(Append(entries=(stopped,), puts=((running_key(replica), None),), sync=True))
    for key, row in absolved:  # unless its name was taken up again meanwhile
        await store.append(Append(reads=((key, row.version),), puts=((key, None),), sync=True))


def _boot_of(row: Row) -> str:
    return msgspec.json.decode(row.value, type=str)
