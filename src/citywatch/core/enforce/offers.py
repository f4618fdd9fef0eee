"""Which definitions that nobody approved are reported: each once, and only so many of one server.

Decides what is reported and remembered; that all of them are withheld is `settle`'s. INVARIANTS: of one server at most
`MAX_OFFERS` are remembered, however many names it invents; what is not remembered is counted; a change of what *was*
approved is remembered with the approval, so that no crowd of new names can hide it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from citywatch.core.enforce.needs import Key, Pin, definition_key, pin_key
from citywatch.core.enforce.pinning import MAX_DIFFERENCE, difference
from citywatch.core.wire.mcp import Definition

MAX_OFFERS = 256
MAX_CHANGES = 32
"""How many changes of one reply are reported; those left over are counted, and reported with the next one."""


class Offers(msgspec.Struct, frozen=True, kw_only=True):
    """What one server offered and nobody approved, as it was reported: kind and name, and the digest.

    `dropped` is how many more a single reply held for which there was no room.
    """

    known: Mapping[str, str] = {}
    dropped: int = 0

    def without(self, keys: Sequence[str]) -> Offers:
        """Forget some of them, and what was dropped: with room again, it is reported when it is offered again."""
        return Offers(known={key: digest for key, digest in self.known.items() if key not in keys})


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A definition that was withheld and not reported before."""

    kind: str
    name: str
    approved: str | None
    offered: str
    difference: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is reported of one reply; `puts` remember it, `dropped` counts what is not."""

    changes: tuple[Change, ...] = ()
    puts: tuple[tuple[Key, bytes | None], ...] = ()
    dropped: int = 0


def offers_key(server: str) -> Key:
    return ("offers", server)


def offer_name(kind: str, name: str) -> str:
    """Under which an offer is remembered; a kind holds no newline, so no two pairs meet."""
    return f"{kind}\n{name}"


def report(server: str, offered: Sequence[Definition], digests: Sequence[str], rows: Mapping[Key, Any]) -> Report:
    """What is owed for these definitions: nothing for one that is approved, or was reported with this very digest."""
    before: Offers = rows.get(offers_key(server)) or Offers()
    known, homeless, dropped = dict(before.known), 0, 0
    room = MAX_OFFERS - len(known)
    changes: list[Change] = []
    puts: list[tuple[Key, bytes | None]] = []
    for one, digest in zip(offered, digests, strict=True):
        key, name = pin_key(server, one.kind, one.name), offer_name(one.kind, one.name)
        pin: Pin | None = rows.get(key)
        if digest in ((pin.digest, pin.offered) if pin is not None else (known.get(name),)):
            continue
        if pin is None and name not in known:
            room -= 1
            homeless += room < 0
        if len(changes) == MAX_CHANGES or (pin is None and name not in known and room < 0):
            dropped += 1
            continue
        if pin is None:
            known[name] = digest
        else:
            puts.append((key, msgspec.json.encode(msgspec.structs.replace(pin, offered=digest))))
        changes.append(_change(server, one, pin, digest, rows))
    after = Offers(known=known, dropped=max(homeless, before.dropped))
    if after != before:
        puts.append((offers_key(server), msgspec.json.encode(after)))
    return Report(changes=tuple(changes), puts=tuple(puts), dropped=dropped)


def _change(server: str, one: Definition, pin: Pin | None, digest: str, rows: Mapping[Key, Any]) -> Change:
    return Change(
        kind=one.kind,
        name=one.name,
        approved=None if pin is None else pin.digest,
        offered=digest,
        difference=difference(rows.get(definition_key(server, one.kind, one.name)), one.value, MAX_DIFFERENCE),
    )
