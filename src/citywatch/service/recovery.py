"""What a process that died left behind: every call it had let through and not closed is entered as `lost`.

Decides nothing about a call's effect, which nobody knows. INVARIANTS: the budget that a lost call took stays spent; it
is never forwarded again; an identical retry is an Ask that shows it (its likeness is a row that `admit` reads) until a
person has found out what became of it (`outcomes`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from citywatch.core import events
from citywatch.core.enforce.invitation import Invitation, read_invitation
from citywatch.core.enforce.needs import Key, LostCalls, OpenCall, lost_key, read_lost
from citywatch.core.log.entry import decode_event, encode_event
from citywatch.service.enforcer import WAITING
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Row, Store

BATCH = 256
BOOT: Key = ("machine", "boot")


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


async def note_boot(store: Store, clock: Clock, replica: str, boot: str, published: int) -> bool:
    """Remember which run of the machine this is; enter a `gap` if an earlier run ended while a gateway ran.

    What was committed and not synced when the power went may be gone: entries above the last published head. Returns
    whether that happened. A gateway that stops on purpose syncs its last entry, so that nothing is missing then.
    """
    stored = (await store.load((BOOT,), ())).rows.get(BOOT)
    before = None if stored is None else msgspec.json.decode(stored.value, type=str)
    if before == boot:
        return False
    last = None
    size = await store.sync()
    if size:
        (leaf,) = await store.entries(size - 1, size)
        last = decode_event(leaf)
    lost_power = before is not None and not isinstance(last, events.Stopped)
    entries: tuple[NewEntry, ...] = ()
    if lost_power:
        gap = events.Gap(at=clock.now_ms(), replica=replica, checkpoint=published, size=size)
        entries = (NewEntry(encode_event(gap)),)
    await store.append(Append(entries=entries, puts=((BOOT, msgspec.json.encode(boot)),), sync=True))
    return lost_power
