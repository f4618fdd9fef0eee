"""The bundles of other trust domains: fetched, held against what was believed before, kept, and in time given up.

Decides whether what a domain's endpoint or file gives is its newest bundle, and how long the one at hand may judge that
domain's papers. How it is fetched, and what proves the endpoint, is an adapter's behind `Source`; how papers are judged
is `core.identity.elsewhere`'s.
INVARIANTS: a domain's bundle comes from its own source and replaces nothing but its own row; a sequence never goes
back, and one sequence is one bundle; a source that fails, or gives what is refused, leaves the last good bundle, and
after `max_age` that one judges nothing; each bundle is on record before it judges anything.
SPEC: SPIFFE Federation §4.1 and §4.2, SPIFFE Trust Domain and Bundle §4.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from citywatch.core import events
from citywatch.core.canonical import digest
from citywatch.core.enforce.chains import bundle_key
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.identity.bundle import TrustBundle, parse_bundle
from citywatch.core.identity.elsewhere import Believed, Domains, check_distinct
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Row, Store

DEFAULT_HINT_S = 300
SHORTEST_LOOK_S, LONGEST_LOOK_S = 5, 86_400
RETRY_S = 30.0
STEP_S = 0.5
MAX_DETAIL = 500


class Source(Protocol):
    """Where a domain's bundle is. Raises `Unavailable` when it does not answer, `Refused` for who is not the one."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    async def fetch(self, known: TrustBundle | None) -> bytes:
        """The bundle as text; `known` is the one that is believed, which may have to prove the source."""
        ...


class Neighbour(msgspec.Struct, frozen=True):
    """Another trust domain. `first` gives the bundle to begin with, if the source needs one; times milliseconds."""

    domain: str
    source: Source
    max_age: int
    refresh: int = 0
    first: Callable[[], bytes] | None = None


class BundleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A domain's bundle as it was given, and when a look last found it or a newer one (milliseconds)."""

    domain: str
    text: str
    seen: int
    by: str

    def bundle(self) -> TrustBundle:
        """What the text says."""
        return parse_bundle(self.text.encode("utf-8"), self.domain)


class Federation:
    """What this process knows of its neighbours; every process of one state folder shares the rows."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        replica: str,
        neighbours: Mapping[str, Neighbour],
        home: Callable[[], TrustBundle],
        named: Mapping[str, str],
        until: Callable[[], int] | None = None,
    ) -> None:
        """`named` are the agents of other domains (`Domains.named`). `until`: when our own bundle ends, where another
        authority than ours issues our papers."""
        self._store = store
        self._clock = clock
        self._replica = replica
        self._neighbours = neighbours
        self._home = home
        self._until = until
        self._named = named
        self._believed: dict[str, Believed] = {}
        self._seen: dict[str, BundleRow] = {}
        self._due: dict[str, float] = {}
        self.failed: dict[str, str] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called each time that what is believed may be another than before."""

    def domains(self) -> Domains:
        """Whom to believe now."""
        home, believed, wanted = self._home(), self._believed, set(self._neighbours)
        if self._until is not None:  # its papers are another authority's: none of them is judged as one that we wrote
            believed = {**believed, home.domain: Believed(home, self._until())}
            wanted = wanted | {home.domain}
            home = TrustBundle(domain=home.domain, certificates=(), keys={}, sequence=0, refresh_hint=0)
        if not wanted:
            return Domains(home=home)
        now = self._clock.now_ms()
        others = {name: one for name, one in believed.items() if now < one.until}
        return Domains(home=home, others=others, named=self._named, stale=frozenset(wanted - others.keys()))

    def bundles(self) -> dict[str, TrustBundle]:
        """The bundles that are believed now, by their domains."""
        return {name: one.bundle for name, one in self.domains().others.items() if name in self._neighbours}

    async def load(self) -> None:
        """Read what any process has found, and begin with the files of the configuration where nothing was."""
        for domain, neighbour in self._neighbours.items():
            row, _ = await self._row(domain)
            if row is None and neighbour.first is not None:
                await self._take(neighbour, neighbour.first(), "the file to begin with")
            elif row is not None:
                self._believe(neighbour, row)

    async def look(self, domain: str) -> None:
        """Ask the domain's source once. Never raises for what it says: `failed` has why, and what was known stays."""
        neighbour = self._neighbours[domain]
        known = self._believed.get(domain)
        try:
            text = await neighbour.source.fetch(None if known is None else known.bundle)
            await self._take(neighbour, text, neighbour.source.name)
        except (Malformed, Refused) as failure:
            await self._refused(neighbour, str(failure))
        except CitywatchError as failure:
            self.failed[domain] = str(failure)
        else:
            self.failed.pop(domain, None)

    async def trust(self, domain: str, text: bytes, by: str) -> TrustBundle:
        """Believe a bundle at an operator's word, whatever was believed before. SPEC: SPIFFE Federation §4.2."""
        if domain not in self._neighbours:
            raise Malformed(f"`{domain[:80]}` is not under `federation` in the file")
        return await self._take(self._neighbours[domain], text, by, whatever=True)

    async def run(self) -> None:
        """Look as often as each bundle says, until cancelled; what another process just found is not asked again."""
        loop = asyncio.get_running_loop()
        while True:
            for domain in self._neighbours:
                if loop.time() >= self._due.get(domain, 0.0):
                    self._due[domain] = loop.time() + await self._turn(domain)
            await asyncio.sleep(STEP_S)

    def rows(self) -> Mapping[str, BundleRow]:
        """What is on file, by domain, as it was when this process last looked."""
        return self._seen

    def until(self, domain: str) -> int:
        """Until when the domain's bundle judges anything without a newer look; 0 if there is none."""
        return self._believed[domain].until if domain in self._believed else 0

    async def _turn(self, domain: str) -> float:
        """Look, unless somebody did; return after how many seconds to come back."""
        try:
            row, _ = await self._row(domain)
        except CitywatchError:
            return RETRY_S
        if row is not None and row != self._seen.get(domain):
            self._believe(self._neighbours[domain], row)
            self.failed.pop(domain, None)
            left = self._pause(domain) - (self._clock.now_ms() - row.seen) / 1000
            if 0 < left <= self._pause(domain):
                return left
        await self.look(domain)
        return self._pause(domain)

    def _pause(self, domain: str) -> float:
        if domain in self.failed or domain not in self._believed:
            wanted = RETRY_S
        else:
            hint = self._believed[domain].bundle.refresh_hint or DEFAULT_HINT_S
            wanted = float(min(max(hint, SHORTEST_LOOK_S), LONGEST_LOOK_S))
        refresh = self._neighbours[domain].refresh / 1000
        return min(wanted, refresh) if refresh else wanted

    async def _take(self, neighbour: Neighbour, text: bytes, by: str, *, whatever: bool = False) -> TrustBundle:
        """1. a bundle, with something to judge by · 2. not older than the one before · 3. nobody else's authority."""
        bundle = parse_bundle(text, neighbour.domain)  # 1
        if not (bundle.certificates or bundle.keys or bundle.bound):
            raise Malformed(f"the bundle of `{neighbour.domain}` has no authority that we know")
        row, version = await self._row(neighbour.domain)
        if row is not None and not whatever:
            _check_newer(row, bundle)  # 2
        others = {name: one.bundle for name, one in self._believed.items()}
        check_distinct(bundle, {"": self._home(), **others})  # 3
        now = self._clock.now_ms()
        after = BundleRow(domain=neighbour.domain, text=text.decode("utf-8"), seen=now, by=by)
        entries: tuple[NewEntry, ...] = ()
        if row is None or row.text != after.text:
            event = events.BundleBelieved(
                at=now,
                replica=self._replica,
                domain=neighbour.domain,
                sequence=bundle.sequence,
                bundle=digest(text),
                by=by,
            )
            entries = (NewEntry(encode_event(event)),)
        append = Append(
            entries=entries,
            reads=((bundle_key(neighbour.domain), version),),
            puts=((bundle_key(neighbour.domain), msgspec.json.encode(after)),),
            sync=bool(entries),
        )
        if not isinstance(await self._store.append(append), Appended):
            raise Unavailable(Code.CONFLICT, "another process was at this bundle in the same moment")
        self._believe(neighbour, after)
        return bundle

    def _believe(self, neighbour: Neighbour, row: BundleRow) -> None:
        self._seen[neighbour.domain] = row
        self._believed[neighbour.domain] = Believed(row.bundle(), row.seen + neighbour.max_age)
        self.changed()

    async def _refused(self, neighbour: Neighbour, why: str) -> None:
        """Say it once, however often the source says the same."""
        detail = " ".join(why.split())[:MAX_DETAIL]
        if self.failed.get(neighbour.domain) == detail:
            return
        self.failed[neighbour.domain] = detail
        event = events.BundleRefused(
            at=self._clock.now_ms(),
            replica=self._replica,
            domain=neighbour.domain,
            by=neighbour.source.name,
            detail=detail,
        )
        try:
            await self._store.append(Append(entries=(NewEntry(encode_event(event)),)))
        except CitywatchError:
            return  # a log that is away: it was refused all the same

    async def _row(self, domain: str) -> tuple[BundleRow | None, int]:
        found: Row | None = (await self._store.load([bundle_key(domain)], [])).rows.get(bundle_key(domain))
        if found is None:
            return None, 0
        try:
            return msgspec.json.decode(found.value, type=BundleRow), found.version
        except msgspec.DecodeError:
            raise Malformed(f"the row of the bundle of `{domain}` cannot be read") from None


def _check_newer(row: BundleRow, bundle: TrustBundle) -> None:
    """# INVARIANT: a sequence never goes back; without sequences the newest look is what there is.

    What makes two bundles of one sequence is another authority. Spaces, and when to look again, are none: SPIRE's
    command writes both otherwise than its endpoint.
    """
    before = row.bundle()
    if bundle.sequence < before.sequence:
        raise Refused(
            Code.CREDENTIAL_UNTRUSTED,
            f"the bundle of `{row.domain}` has the sequence {bundle.sequence}, and {before.sequence} was seen before",
        )
    if bundle.sequence == before.sequence > 0 and _authorities(bundle) != _authorities(before):
        raise Refused(Code.CREDENTIAL_UNTRUSTED, f"two bundles of `{row.domain}` have the sequence {bundle.sequence}")


def _authorities(bundle: TrustBundle) -> tuple[object, ...]:
    return frozenset(bundle.certificates), bundle.keys, bundle.bound, bundle.envelopes
