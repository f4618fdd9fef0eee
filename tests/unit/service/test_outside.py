"""What an issuer outside gives us: believed if it is ours and whole, shown until it ends, missed for a day at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from citywatch.adapters.memory import MemoryClock, MemoryStore
from citywatch.core.errors import CitywatchError, Code, Unavailable
from citywatch.core.identity.bundle import format_bundle
from citywatch.core.identity.certificate import format_certificate
from citywatch.core.identity.elsewhere import FOR_GOOD
from citywatch.service.outside import MAX_AGE_MS, Outside, OwnPapers
from tests.unit.core.identity.forgery import HOUR, NOW
from tests.unit.core.identity.test_elsewhere import Neighbour

DOMAIN, GATE = "acme.example", "spiffe://acme.example/gate"
ISSUER, RIVAL = Neighbour(DOMAIN, "issuer"), Neighbour(DOMAIN, "rival")


def papers(issuer: Neighbour = ISSUER, name: str = GATE, told: str = GATE, end: int = NOW + HOUR) -> OwnPapers:
    authorities = tuple(map(format_certificate, ISSUER.bundle.certificates))
    return OwnPapers(told, (issuer.leaf(name, end=end),), b"key", authorities)


class Told:
    """An issuer that says what it is told to, and then waits or is gone."""

    name = "unix:///run/spire.sock"

    def __init__(self, *says: OwnPapers, keys: Mapping[str, bytes] | None = None, gone: bool = False) -> None:
        self.says = list(says)
        self.keys = {f"spiffe://{DOMAIN}": format_bundle(ISSUER.bundle)} if keys is None else keys
        self.gone = gone

    async def papers(self) -> AsyncIterator[OwnPapers]:
        for one in self.says:
            yield one
        await self._end()

    async def token_bundles(self) -> AsyncIterator[Mapping[str, bytes]]:
        yield self.keys
        await self._end()

    async def _end(self) -> None:
        if self.gone:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the issuer is away")
        await asyncio.Event().wait()


class Town:
    def __init__(self, told: Told) -> None:
        self.clock = MemoryClock(NOW)
        self.store = MemoryStore()
        self.changes = 0
        self.outside = Outside(
            identity=told, spiffe_id=GATE, domain=DOMAIN, store=self.store, clock=self.clock, replica="r1"
        )

        def count() -> None:
            self.changes += 1

        self.outside.changed = count

    async def hears(self) -> None:
        """Let it follow both streams to where they stand."""
        task = asyncio.create_task(self.outside.run())
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_papers_that_are_ours_are_believed_and_their_bundle_is_on_record() -> None:
    town = Town(Told(papers()))
    with pytest.raises(Unavailable):
        town.outside.papers()
    await town.hears()
    await town.outside.begin()
    assert town.outside.papers().spiffe_id == GATE
    bundle = town.outside.bundle()
    assert (bundle.certificates, bundle.keys, bundle.bound) == (ISSUER.bundle.certificates, ISSUER.bundle.keys, {})
    assert town.changes >= 2
    assert len(await town.store.entries(0, 9)) == 2
    assert town.outside.until() == FOR_GOOD
    assert repr(town.outside.papers()) == f"OwnPapers({GATE!r})", "and not its key"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (papers(told="spiffe://acme.example/other"), "calls us"),
        (papers(name="spiffe://acme.example/other"), "another's"),
        (papers(name="spiffe://else.example/gate"), "not of the trust domain"),
        (papers(RIVAL), "did not issue"),
        (OwnPapers(GATE, (), b"", papers().authorities), "a chain has"),
        (OwnPapers(GATE, papers().chain, b"", ()), "no authority"),
        (OwnPapers(GATE, papers().chain, b"", papers().chain), "not an authority's"),
    ],
)
async def test_what_is_not_ours_changes_nothing(said: OwnPapers, why: str) -> None:
    good = papers()
    town = Town(Told(good, said))
    await town.hears()
    assert town.outside.papers() is good
    assert town.outside.bundle().certificates == ISSUER.bundle.certificates
    assert why in town.outside.failed


async def test_keys_of_another_domain_are_not_ours() -> None:
    theirs = Neighbour("else.example", "else").bundle
    town = Town(Told(papers(), keys={"spiffe://else.example": format_bundle(theirs)}))
    await town.hears()
    assert town.outside.bundle().keys == {}
    town = Town(Told(papers(), keys={f"spiffe://{DOMAIN}": b"{"}))
    await town.hears()
    assert "not a JSON object" in town.outside.failed


async def test_while_the_issuer_is_away_its_bundle_counts_for_a_day() -> None:
    town = Town(Told(papers(), gone=True))
    await town.hears()
    assert "away" in town.outside.failed
    assert town.outside.papers().spiffe_id == GATE
    assert town.outside.until() == NOW + MAX_AGE_MS


async def test_a_log_that_is_away_believes_nothing_new() -> None:
    town = Town(Told(papers()))

    async def away(append: object) -> None:
        raise Unavailable(Code.STORE_UNAVAILABLE, "the log is away")

    town.store.append = away  # type: ignore[method-assign,assignment]
    await town.hears()
    assert town.outside.bundle().certificates == ()
    with pytest.raises(CitywatchError):
        town.outside.papers()
