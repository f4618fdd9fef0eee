"""The known parties of each set, for an operator: who is in it since when, and who is taken out.

Decides nothing of who is known; `enforce.receive` and the calls that add parties do. INVARIANTS: whoever is taken out
is gone under each of their names, in the transaction that enters it; nobody is put in from here.
"""

from __future__ import annotations

import msgspec

from citywatch.core import events
from citywatch.core.enforce.context import Party, party_forms, party_key
from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Row, Store
from citywatch.service.rejections import MAX_DETAIL

MAX_CONFLICTS = 8


class Listed(msgspec.Struct, frozen=True):
    """One name of a party: the set, the name as it is compared (`=bob`, `iban:…`), and how it is known."""

    party: str
    name: str
    how: Party


class Parties:
    """The known parties of one store."""

    def __init__(self, *, store: Store, clock: Clock, replica: str) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica

    async def listed(self, party: str | None = None) -> tuple[Listed, ...]:
        """All names of a set, or of every set, in order."""
        found = []
        for form, row in await self._store.scan("party"):
            of, _, name = form.partition("\n")
            if party in (None, of):
                found.append(Listed(of, name, msgspec.json.decode(row.value, type=Party)))
        return tuple(sorted(found, key=lambda one: (one.party, one.name)))

    async def forget(self, party: str, value: str, by: str, reason: str) -> int:
        """Take one party out of a set, under each of its names; return how many there were. `Malformed` if none."""
        return await self._forget(party, value, frozenset(party_forms(party, value)), by, reason)

    async def clear(self, party: str, by: str, reason: str) -> int:
        """Take all parties out of a set; return how many names there were. `Malformed` if none."""
        return await self._forget(party, None, None, by, reason)

    async def _forget(self, party: str, value: str | None, forms: frozenset[str] | None, by: str, reason: str) -> int:
        if not reason.strip():
            raise Malformed("who is no longer known is so for a reason: it stands in the log")
        for _ in range(MAX_CONFLICTS):
            rows = {form: row for form, row in await self._store.scan("party") if _meant(form, party, forms)}
            if not rows:
                what = f"`{party[:80]}` knows nobody" if value is None else f"`{party[:80]}` knows no `{value[:80]}`"
                raise Malformed(f"{what}: `citywatch parties list` shows who is known")
            outcome = await self._store.append(self._forgetting(party, value, rows, by, reason))
            if isinstance(outcome, Appended):
                return len(rows)
        raise Unavailable(Code.CONFLICT, f"the set `{party[:80]}` kept changing")

    def _forgetting(self, party: str, value: str | None, rows: dict[str, Row], by: str, reason: str) -> Append:
        event = events.PartiesForgotten(
            at=self._clock.now_ms(),
            replica=self._replica,
            party=party[:MAX_DETAIL],
            value=None if value is None else value[:MAX_DETAIL],
            count=len(rows),
            by=by,
            reason=reason[:MAX_DETAIL],
        )
        return Append(
            entries=(NewEntry(encode_event(event)),),
            reads=tuple((party_key(form), row.version) for form, row in rows.items()),
            puts=tuple((party_key(form), None) for form in rows),
            sync=True,
        )


def _meant(form: str, party: str, forms: frozenset[str] | None) -> bool:
    """Whether a row is that party's, or (no forms) anybody's of the set; in whatever notation it was listed."""
    of, _, name = form.partition("\n")
    if forms is None or form in forms:
        return of == party
    return of == party and name.startswith("=") and not forms.isdisjoint(party_forms(party, name[1:]))
