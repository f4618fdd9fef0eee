"""The bundles of neighbours over time: newer ones are taken, older ones never, and a silent source has its day."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from citywatch.adapters.memory import MemoryClock, MemoryStore
from citywatch.core import events
from citywatch.core.enforce.chains import bundle_key
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.bundle import TrustBundle, format_bundle
from citywatch.core.identity.elsewhere import verify_certificate
from citywatch.core.log.entry import decode_event
from citywatch.core.signature import format_jwk
from citywatch.service.federation import Federation, Neighbour
from tests.unit.core.identity.forgery import HOUR, NOW, World, authority_certificate, certificate, draw, public

PARTNER, RIVAL = "partner.example", "rival.example"
ROUTER, HERE = "spiffe://partner.example/router", "spiffe://partner.example/agent/router"
HOME = World()
CA, LATER_CA = draw(), draw()


def bundle(sequence: int, ca: object = CA, subject: str = "partner authority", domain: str = PARTNER) -> bytes:
    der = authority_certificate(ca, subject=subject, uris=(f"spiffe://{domain}",))  # type: ignore[arg-type]
    found = TrustBundle(
        domain=domain,
        certificates=(x509.load_der_x509_certificate(der),),
        keys={},
        sequence=sequence,
        refresh_hint=60,
    )
    return format_bundle(found)


FIRST, SECOND, OTHER_FIRST = bundle(1), bundle(2, LATER_CA, "later authority"), bundle(1, LATER_CA, "later authority")


class Told:
    """A source that says what it is told to say."""

    name = "https://partner.example/bundle"

    def __init__(self, *says: bytes | Exception) -> None:
        self.says = list(says)
        self.known: list[TrustBundle | None] = []

    async def fetch(self, known: TrustBundle | None) -> bytes:
        self.known.append(known)
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, Exception):
            raise said
        return said


class Town:
    def __init__(self, source: Told) -> None:
        self.store = MemoryStore()
        self.clock = MemoryClock(NOW)
        self.source = source
        self.changes = 0
        self.federation = self.process()

    def process(self, first: Callable[[], bytes] | None = None) -> Federation:
        made = Federation(
            store=self.store,
            clock=self.clock,
            replica="r1",
            neighbours={PARTNER: Neighbour(PARTNER, self.source, HOUR, 0, first)},
            home=lambda: HOME.bundle,
            named={ROUTER: HERE},
        )

        def count() -> None:
            self.changes += 1

        made.changed = count
        return made

    async def look(self) -> str | None:
        await self.federation.look(PARTNER)
        return self.federation.failed.get(PARTNER)

    async def entries(self) -> list[str]:
        found = [decode_event(leaf) for leaf in await self.store.entries(0, 100)]
        return [type(one).__name__ for one in found]

    def sequence(self) -> int | None:
        found = self.federation.domains().others.get(PARTNER)
        return None if found is None else found.bundle.sequence


async def test_a_bundle_is_fetched_kept_and_on_record_before_it_judges() -> None:
    town = Town(Told(FIRST))
    await town.federation.load()
    assert town.federation.domains().stale == {PARTNER}
    assert await town.look() is None
    assert (town.sequence(), town.source.known, town.changes) == (1, [None], 1)
    assert await town.entries() == ["BundleBelieved"]
    other = town.process()
    await other.load()
    assert other.bundles()[PARTNER] == town.federation.bundles()[PARTNER]
    await town.look()
    assert await town.entries() == ["BundleBelieved"]  # the same one again is nothing new
    assert [one.sequence for one in town.source.known[1:] if one] == [1]


async def test_a_newer_bundle_replaces_it_and_an_older_one_never_does() -> None:
    """Whoever can replay what the endpoint once said would bring a withdrawn authority back."""
    town = Town(Told(FIRST, SECOND, FIRST, SECOND))
    await town.look()
    await town.look()
    assert town.sequence() == 2
    assert "sequence 1, and 2 was seen before" in str(await town.look())
    assert town.sequence() == 2
    assert await town.look() is None
    assert await town.entries() == ["BundleBelieved", "BundleBelieved", "BundleRefused"]


async def test_a_restart_does_not_forget_the_sequence() -> None:
    town = Town(Told(SECOND, FIRST))
    await town.look()
    town.federation = town.process(lambda: FIRST)
    await town.federation.load()
    assert town.sequence() == 2
    assert await town.look() is not None
    assert town.sequence() == 2


async def test_a_bundle_is_the_same_whatever_its_lines_end_with() -> None:
    """The one to begin with is a file that a command printed; refused as another one, it would be given up in time."""
    town = Town(Told(FIRST.strip(), FIRST.strip()))
    town.federation = town.process(lambda: FIRST + b"\n")
    await town.federation.load()
    assert await town.look() is None
    assert await town.look() is None
    assert "BundleRefused" not in await town.entries()


async def test_one_sequence_is_one_bundle() -> None:
    town = Town(Told(FIRST, OTHER_FIRST))
    await town.look()
    assert "two bundles" in str(await town.look())
    assert town.federation.bundles()[PARTNER].certificates[0].subject.rfc4514_string() == "CN=partner authority"


async def test_when_to_look_again_and_spaces_make_no_other_bundle() -> None:
    """SPIRE's command, which gives the first file, writes both otherwise than its endpoint does."""
    said = json.dumps(json.loads(FIRST) | {"spiffe_refresh_hint": 7}, indent=2).encode()
    town = Town(Told(FIRST, said))
    await town.look()
    assert await town.look() is None
    assert town.federation.bundles()[PARTNER].refresh_hint == 7


@pytest.mark.parametrize("use", ["jwt-svid", "wit-svid", "citywatch-envelope"])
async def test_one_sequence_has_the_same_keys_of_every_kind(use: str) -> None:
    other = json.loads(FIRST)
    other["keys"].append({"use": use, "kid": "new", **format_jwk(public(draw()))})
    town = Town(Told(FIRST, json.dumps(other).encode()))
    await town.look()
    assert "two bundles" in str(await town.look())


async def test_without_sequences_the_newest_look_is_what_there_is() -> None:
    town = Town(Told(bundle(0), bundle(0, LATER_CA, "later authority")))
    await town.look()
    assert await town.look() is None
    assert town.federation.bundles()[PARTNER].certificates[0].subject.rfc4514_string() == "CN=later authority"


async def test_a_source_that_is_away_keeps_the_last_one_for_its_age_and_no_longer() -> None:
    town = Town(Told(FIRST, Unavailable(Code.UPSTREAM_UNAVAILABLE, "nobody is there")))
    await town.look()
    leaf = certificate(draw(), CA, issuer="partner authority", uris=(ROUTER,))
    town.clock.advance(HOUR - 1)
    assert await town.look() == "nobody is there"
    assert verify_certificate([leaf], town.federation.domains()).agent == HERE
    town.clock.advance(1)
    with pytest.raises(Refused, match="too old"):
        verify_certificate([leaf], town.federation.domains())
    town.source.says = [FIRST]
    assert await town.look() is None
    assert verify_certificate([leaf], town.federation.domains()).agent == HERE


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"{", "not a JSON object"),
        (b'{"keys":[]}', "no authority"),
        (b'{"keys":[{"use":"later-use","kty":"EC","crv":"P-256"}]}', "no authority"),
        (bundle(3, domain="acme.example"), "not of the trust domain"),
        (bundle(3, subject="authority"), "has the name of one of"),
        (b"x" * 300_000, "at most"),
    ],
)
async def test_what_is_no_bundle_of_theirs_leaves_the_last_good_one(said: bytes, why: str) -> None:
    town = Town(Told(FIRST, said))
    await town.look()
    for _ in range(3):
        assert why in str(await town.look())
    assert town.sequence() == 1
    assert await town.entries() == ["BundleBelieved", "BundleRefused"]  # said once, however often


async def test_an_endpoint_that_is_not_the_one_is_refused_and_on_record() -> None:
    town = Town(Told(FIRST, Refused(Code.CREDENTIAL_BAD_NAME, "the other end is not who was meant")))
    await town.look()
    assert "not who was meant" in str(await town.look())
    assert await town.entries() == ["BundleBelieved", "BundleRefused"]


async def test_an_operator_s_word_goes_before_sequences_and_is_on_record() -> None:
    town = Town(Told(SECOND))
    await town.look()
    await town.federation.trust(PARTNER, FIRST, "operator:ann")
    assert town.sequence() == 1
    last = decode_event((await town.store.entries(0, 9))[-1])
    assert isinstance(last, events.BundleBelieved)
    assert (last.by, last.domain, last.sequence) == ("operator:ann", PARTNER, 1)
    for domain, text in (("stranger.example", FIRST), (PARTNER, bundle(9, subject="Authority"))):
        with pytest.raises(Malformed):
            await town.federation.trust(domain, text, "operator:ann")


async def test_two_processes_at_one_bundle_leave_one_entry_and_no_older_bundle() -> None:
    town = Town(Told(FIRST))
    await town.look()
    other = town.process()
    await other.load()
    town.source.says = [SECOND]
    await other.look(PARTNER)
    town.source.says = [FIRST]
    assert "sequence 1" in str(await town.look())
    stored = (await town.store.load([bundle_key(PARTNER)], [])).rows[bundle_key(PARTNER)]
    assert msgspec.json.decode(stored.value)["text"].encode() == SECOND


async def test_what_another_process_has_just_found_is_not_asked_again() -> None:
    town = Town(Told(FIRST))
    await town.look()
    other = town.process()
    assert await other._turn(PARTNER) == 60
    assert len(town.source.known) == 1
    town.clock.advance(10_000)
    assert await town.process()._turn(PARTNER) == 50
    town.clock.advance(60_000)
    assert await town.process()._turn(PARTNER) == 60
    assert len(town.source.known) == 2


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
async def test_what_is_believed_is_the_highest_sequence_seen(sequences: list[int]) -> None:
    town = Town(Told(*[BY_SEQUENCE[one] for one in sequences]))
    highest = 0
    for one in sequences:
        await town.look()
        highest = max(highest, one)
        assert town.sequence() == highest


BY_SEQUENCE = {one: bundle(one) for one in range(1, 7)}
