"""Approving what servers define: compare a survey with what is approved, and pin what a person accepted.

Decides nothing: a person does, and `core.enforce` holds servers to it. INVARIANT: what is pinned is exactly what was
shown: the digest of the whole definition that the comparison printed, never whatever the server says a moment later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from citywatch.core import events
from citywatch.core.enforce.needs import CARD, Key, Pin, definition_key, pin_key
from citywatch.core.enforce.offers import Offers, offer_name, offers_key
from citywatch.core.enforce.pinning import Standing, definition_bytes, definition_digest, difference
from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.log.entry import encode_event
from citywatch.core.wire import a2a_card
from citywatch.core.wire.mcp import Definition
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Store
from citywatch.service.watch import NOTICED

MAX_CONFLICTS = 3


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One definition beside what is approved. `difference` is for a person, empty when nothing changed."""

    server: str
    kind: str
    name: str
    standing: Standing
    digest: str
    approved: str | None
    difference: str
    value: dict[str, Any]


class Approved(msgspec.Struct, frozen=True, kw_only=True):
    """One approval as it stands: what was pinned, and the definition itself."""

    server: str
    kind: str
    name: str
    pin: Pin
    definition: dict[str, Any]


async def approvals(store: Store) -> list[Approved]:
    """Every approval, with its definition; one whose definition is missing or altered is left out: unusable."""
    definitions = {row_id: row.value for row_id, row in await store.scan("definition")}
    found = []
    for row_id, row in await store.scan("pin"):
        server, kind, name = row_id.split("\n", 2)
        body = definitions.get(row_id)
        pin = msgspec.json.decode(row.value, type=Pin)
        if body is not None and definition_digest(body) == pin.digest:
            found.append(Approved(server=server, kind=kind, name=name, pin=pin, definition=msgspec.json.decode(body)))
    return found


def compare(server: str, offered: Sequence[Definition], approved: Sequence[Approved]) -> list[Compared]:
    """Hold a survey of one server against its approvals, in the survey's order."""
    known = {(one.kind, one.name): one for one in approved if one.server == server}
    compared = []
    for one in offered:
        before = known.get((one.kind, one.name))
        digest = definition_digest(definition_bytes(one.value))
        standing = Standing.NEW
        if before is not None:
            same = (before.pin.digest == digest or _says_the_same(one, before)) and before.pin.offered is None
            standing = Standing.APPROVED if same else Standing.CHANGED
        compared.append(
            Compared(
                server=server,
                kind=one.kind,
                name=one.name,
                standing=standing,
                digest=digest,
                approved=None if before is None else before.pin.digest,
                difference="" if standing is Standing.APPROVED else difference(before and before.definition, one.value),
                value=dict(one.value),
            )
        )
    return compared


def _says_the_same(one: Definition, before: Approved) -> bool:
    """A card that an earlier version approved with its author's signature, under whatever signature it is now."""
    return one.kind == CARD and definition_bytes(a2a_card.content(before.definition)) == definition_bytes(one.value)


async def approve(store: Store, clock: Clock, replica: str, chosen: Sequence[Compared], by: str) -> int:
    """Pin each chosen definition, with an entry for each; return how many."""
    for one in chosen:
        body = definition_bytes(one.value)
        now = clock.now_ms()
        event = events.ToolApproved(
            at=now, replica=replica, server=one.server, kind=one.kind, name=one.name, digest=one.digest, by=by
        )
        pin = Pin(digest=one.digest, by=by, at=now)
        puts: tuple[tuple[Key, bytes | None], ...] = (
            (pin_key(one.server, one.kind, one.name), msgspec.json.encode(pin)),
            (definition_key(one.server, one.kind, one.name), body),
        )
        outcome = await store.append(Append(entries=(NewEntry(encode_event(event)),), puts=puts, sync=True))
        if not isinstance(outcome, Appended):
            raise Unavailable(Code.CONFLICT, f"`{one.name[:80]}` was not approved")
    return len(chosen)


async def withdraw(
    store: Store, clock: Clock, replica: str, server: str, name: str, by: str, reason: str, kind: str = "tool"
) -> None:
    """Take an approval back; from the next call on the definition is as one that nobody approved.

    `Malformed` where nothing of that name is approved.
    """
    key = pin_key(server, kind, name)
    for _ in range(MAX_CONFLICTS):
        stored = (await store.load((key,), ())).rows.get(key)
        if stored is None:
            raise Malformed(f"no {kind} `{name[:80]}` of `{server[:80]}` is approved")
        pin = msgspec.json.decode(stored.value, type=Pin)
        event = events.ToolWithdrawn(
            at=clock.now_ms(),
            replica=replica,
            server=server,
            kind=kind,
            name=name,
            digest=pin.digest,
            by=by,
            reason=reason,
        )
        append = Append(
            entries=(NewEntry(encode_event(event)),),
            reads=((key, stored.version),),
            puts=(*NOTICED, (key, None)),
            sync=True,
        )
        if isinstance(await store.append(append), Appended):
            return
    raise Unavailable(Code.CONFLICT, f"`{name[:80]}` was not withdrawn: it kept changing")


async def dropped_offers(store: Store, server: str) -> int:
    """How many definitions a single reply of this server held for which there was no room among its reminders."""
    return (await _offers(store, server))[0].dropped


async def forget_offers(store: Store, server: str, seen: Sequence[Compared]) -> None:
    """Forget the reminders of what a person has approved by now, and of what this server offers no longer.

    `seen` is a survey that a person was shown. What it does not hold is reported again if it is ever offered again.
    """
    waiting = {offer_name(one.kind, one.name) for one in seen if one.server == server}
    approved = {offer_name(one.kind, one.name) for one in await approvals(store) if one.server == server}
    for _ in range(MAX_CONFLICTS):
        offers, version = await _offers(store, server)
        gone = [key for key in offers.known if key in approved or key not in waiting]
        if not gone and not offers.dropped:
            return
        put = (offers_key(server), msgspec.json.encode(offers.without(gone)))
        outcome = await store.append(Append(reads=((offers_key(server), version),), puts=(put,)))
        if isinstance(outcome, Appended):
            return
    raise Unavailable(Code.CONFLICT, f"the reminders of `{server[:80]}` kept changing")


async def _offers(store: Store, server: str) -> tuple[Offers, int]:
    row = (await store.load([offers_key(server)], ())).rows.get(offers_key(server))
    return (Offers(), 0) if row is None else (msgspec.json.decode(row.value, type=Offers), row.version)
