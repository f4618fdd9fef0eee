"""The life of the authority's keys: founded, prepared, activated, retired.

Decides which generations of keys are believed and which one signs. A rotation takes three steps, so that nobody is ever
shown papers that he cannot check: the next generation is *prepared* (believed, and does not sign yet; agents learn of
it with their next renewal), then *activated* (it signs, the one before is still believed), and once the last paper of
the one before has expired, that one is *retired*.

When a step is due is a matter of the papers' lives: everybody who is believed must have renewed once since the step
before. Taken earlier, it refuses honest papers, which is what somebody wants whose old key was stolen.
INVARIANTS: the active generation is always believed; each step is one transaction with its entry, so that of two
operators at once one wins; a number is never used for two pairs of keys.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from citywatch.core import events
from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.bundle import TrustBundle, format_bundle
from citywatch.core.log.entry import encode_event
from citywatch.service.authority import Generation, bundle_of
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Store

REFRESH_HINT_S = 300


class Change(StrEnum):
    """One step in the life of a generation."""

    FOUNDED = "founded"
    PREPARED = "prepared"
    ACTIVATED = "activated"
    RETIRED = "retired"


class AuthorityRow(msgspec.Struct, frozen=True, kw_only=True):
    """Which generations are believed, by rising number, and which one signs.

    `last` is the highest number ever used, `since` when the row last changed, in milliseconds.
    """

    domain: str
    sequence: int
    active: int
    last: int
    generations: tuple[Generation, ...]
    since: int = 0

    def generation(self, number: int) -> Generation:
        """The generation of that number; `Refused(CONFLICT)` if it is not believed."""
        for generation in self.generations:
            if generation.number == number:
                return generation
        raise Refused(Code.CONFLICT, f"the authority has no generation {number}")

    def bundle(self) -> TrustBundle:
        """Whom to believe, as a SPIFFE bundle."""
        return bundle_of(self.domain, self.generations, sequence=self.sequence, refresh_hint=REFRESH_HINT_S)


class Step(msgspec.Struct, frozen=True):
    """The next step of a rotation: what happens to which generation, and from when on it refuses nothing honest."""

    change: Change
    generation: int
    due: int


def next_step(row: AuthorityRow, longest: int) -> Step:
    """What a rotation does next, where no paper lives longer than `longest` milliseconds.

    1. What signs no longer is retired first, the oldest before others · 2. what is prepared is activated · 3. else a
    new generation is prepared, at any time.
    """
    due = row.since + longest
    first, newest = row.generations[0].number, row.generations[-1].number
    if first < row.active:  # 1
        return Step(Change.RETIRED, first, due)
    if newest > row.active:  # 2
        return Step(Change.ACTIVATED, newest, due)
    return Step(Change.PREPARED, row.last + 1, 0)  # 3


async def load_authority(store: Store, domain: str) -> AuthorityRow | None:
    """The authority of the domain as it stands, None before it is founded."""
    return (await _load(store, domain))[0]


async def found_authority(store: Store, clock: Clock, replica: str, first: Generation, domain: str, by: str) -> None:
    """Make `first` the authority's first generation; `Refused(CONFLICT)` if the authority exists."""
    if first.number != 1:
        raise Malformed("the first generation has the number 1")

    def step(row: AuthorityRow | None) -> AuthorityRow:
        if row is not None:
            raise Refused(Code.CONFLICT, f"the authority of `{domain}` exists already")
        return AuthorityRow(domain=domain, sequence=1, active=1, last=1, generations=(first,))

    await _change(store, clock, replica, domain, Change.FOUNDED, 1, step, by)


async def prepare_generation(
    store: Store, clock: Clock, replica: str, following: Generation, domain: str, by: str
) -> None:
    """Believe the next generation's papers, before it signs any."""

    def step(row: AuthorityRow | None) -> AuthorityRow:
        row = _founded(row, domain)
        if following.number != row.last + 1:
            raise Refused(Code.CONFLICT, f"the next generation has the number {row.last + 1}")
        return msgspec.structs.replace(row, generations=(*row.generations, following), last=following.number)

    await _change(store, clock, replica, domain, Change.PREPARED, following.number, step, by)


async def activate_generation(store: Store, clock: Clock, replica: str, number: int, domain: str, by: str) -> None:
    """Let a prepared generation sign; what the one before has signed stays good."""

    def step(row: AuthorityRow | None) -> AuthorityRow:
        row = _founded(row, domain)
        row.generation(number)
        if number <= row.active:
            raise Refused(Code.CONFLICT, f"generation {row.active} signs already")
        return msgspec.structs.replace(row, active=number)

    await _change(store, clock, replica, domain, Change.ACTIVATED, number, step, by)


async def retire_generation(store: Store, clock: Clock, replica: str, number: int, domain: str, by: str) -> None:
    """Believe a generation no longer: all that it signed is void at once."""

    def step(row: AuthorityRow | None) -> AuthorityRow:
        row = _founded(row, domain)
        row.generation(number)
        if number == row.active:
            raise Refused(Code.CONFLICT, f"generation {number} signs: activate another one first")
        return msgspec.structs.replace(row, generations=tuple(g for g in row.generations if g.number != number))

    await _change(store, clock, replica, domain, Change.RETIRED, number, step, by)


def _founded(row: AuthorityRow | None, domain: str) -> AuthorityRow:
    if row is None:
        raise Refused(Code.CONFLICT, f"the authority of `{domain}` is not founded yet")
    return row


async def _change(
    store: Store,
    clock: Clock,
    replica: str,
    domain: str,
    change: Change,
    number: int,
    step: Callable[[AuthorityRow | None], AuthorityRow],
    by: str,
) -> None:
    """One step, on record. A conflict is told and not retried: the operator should see what the other one did."""
    before, version = await _load(store, domain)
    now = clock.now_ms()
    after = msgspec.structs.replace(step(before), since=now)
    if before is not None:
        after = msgspec.structs.replace(after, sequence=before.sequence + 1)
    generation = (after if change is not Change.RETIRED else _founded(before, domain)).generation(number)
    event = events.AuthorityChanged(
        at=now,
        replica=replica,
        domain=domain,
        change=change.value,
        generation=number,
        certificate=digest(generation.certificate),
        bundle=digest(format_bundle(after.bundle())),
        by=by,
    )
    key = ("authority", domain)
    outcome = await store.append(
        Append(
            entries=(NewEntry(encode_event(event)),),
            reads=((key, version),),
            puts=((key, msgspec.json.encode(after)),),
            sync=True,
        )
    )
    if not isinstance(outcome, Appended):
        raise Unavailable(Code.CONFLICT, "the authority was changed by somebody else in the same moment: look again")


async def _load(store: Store, domain: str) -> tuple[AuthorityRow | None, int]:
    key = ("authority", domain)
    row = (await store.load([key], [])).rows.get(key)
    if row is None:
        return None, 0
    try:
        return msgspec.json.decode(row.value, type=AuthorityRow), row.version
    except msgspec.DecodeError:
        raise Malformed("the row of the authority cannot be read") from None
