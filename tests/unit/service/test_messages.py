"""A signed message is taken once, by whichever replica it reaches."""

from __future__ import annotations

import asyncio

import pytest

from citywatch.adapters.memory import MemoryStore
from citywatch.core.errors import Code, Refused
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.message import MessageProof
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.identity.wit import verify_wit_svid
from citywatch.core.signature import thumbprint
from citywatch.service.authority import p256
from citywatch.service.messages import FLOOR, Messages, drop_nonces, nonce_key
from citywatch.service.ports import Append, Appended, Exhausted, Stale
from tests.identity_city import BILLING, LEEWAY, City, signer
from tests.signed import BODY, send, wit

KEY = signer()


def proof(city: City, *, nonce: str = "n" * 16) -> MessageProof:
    sent = send(city, KEY, nonce=nonce)
    return city.messages.verify(sent.head, verify_wit_svid(wit(city, KEY), city.bundle))


async def taken(city: City, shown: MessageProof, messages: Messages | None = None) -> Code | None:
    try:
        found = await (messages or city.messages).take(shown, BODY)
    except Refused as refusal:
        return refusal.code
    assert isinstance(found, Credential)
    return None


@pytest.fixture
async def city() -> City:
    city = City()
    await city.admin.add_agent("billing", KEY.public, "alice")
    return city


async def test_a_message_that_is_sent_again_is_refused_by_every_replica(city: City) -> None:
    other = Messages(city.store, city.clock, LEEWAY)
    shown = proof(city)
    assert await taken(city, shown) is None
    assert await taken(city, shown) is Code.CREDENTIAL_EXPIRED
    assert await taken(city, shown, other) is Code.CREDENTIAL_EXPIRED
    assert await taken(city, proof(city, nonce="m" * 16), other) is None


async def test_of_many_at_once_one_is_taken(city: City) -> None:
    replicas = [Messages(city.store, city.clock, LEEWAY) for _ in range(4)]
    shown = proof(city)
    outcomes = await asyncio.gather(*(taken(city, shown, one) for one in replicas for _ in range(4)))
    assert outcomes.count(None) == 1
    assert set(outcomes) == {None, Code.CREDENTIAL_EXPIRED}


async def test_what_was_taken_is_not_forgotten_in_a_crash(city: City) -> None:
    shown = proof(city)
    assert await taken(city, shown) is None
    assert await taken(city, shown, Messages(city.store.after_crash(), city.clock, LEEWAY)) is Code.CREDENTIAL_EXPIRED


async def test_a_synced_entry_that_comes_after_takes_the_nonce_with_it(city: City) -> None:
    """Why the row is not synced by itself: whatever changes something is, and comes later."""
    shown = proof(city)
    assert await taken(city, shown) is None
    await city.store.append(Append(sync=True, puts=((("call", "1"), b"1"),)))
    revived = city.store.after_power_loss()
    assert await taken(city, shown, Messages(revived, city.clock, LEEWAY)) is Code.CREDENTIAL_EXPIRED


async def test_an_expired_nonce_is_forgotten_and_its_message_stays_refused(city: City) -> None:
    shown = proof(city)
    assert await taken(city, shown) is None
    at = city.clock.now_ms()
    assert await drop_nonces(city.store, shown.expires + LEEWAY - 1, LEEWAY) == 0
    assert await drop_nonces(city.store, shown.expires + LEEWAY, LEEWAY) == 1
    assert nonce_key(shown) not in (await city.store.load((nonce_key(shown),), ())).rows
    # the clock goes back: the message is of this minute again, and is refused still
    assert city.clock.now_ms() == at
    assert await taken(city, shown) is Code.CREDENTIAL_EXPIRED
    city.clock.advance(60_000 + 2 * LEEWAY)
    assert await taken(city, proof(city)) is None


async def test_whoever_is_not_in_good_standing_leaves_no_row(city: City) -> None:
    await city.admin.revoke_agent("billing", "gone", "alice")
    assert await taken(city, proof(city)) is Code.AGENT_REVOKED
    assert await city.store.scan("nonce") == []


async def test_a_stranger_with_papers_leaves_no_row() -> None:
    nobody = City()
    assert await taken(nobody, proof(nobody)) is Code.AGENT_UNKNOWN
    assert await nobody.store.scan("nonce") == []


async def test_another_body_spends_nothing(city: City) -> None:
    shown = proof(city)
    with pytest.raises(Refused):
        await city.messages.take(shown, BODY + b" ")
    assert await taken(city, shown) is None


async def test_a_floor_that_rises_meanwhile_is_asked_again(city: City) -> None:
    """Between load and append another replica forgot this very nonce."""
    shown = proof(city)

    class Other(MemoryStore):
        rose = False

        async def append(self, append: Append) -> Appended | Stale | Exhausted:
            if not self.rose:
                self.rose = True
                await super().append(Append(puts=((FLOOR, str(shown.expires).encode()),)))
            return await super().append(append)

    store = Other()
    await store_agent(store)
    assert await taken(city, shown, Messages(store, city.clock, LEEWAY)) is Code.CREDENTIAL_EXPIRED


async def store_agent(store: MemoryStore) -> None:
    row = AgentRow(agent=str(BILLING), keys=(thumbprint(p256(KEY.public)),), added_at=0)
    await MemoryStore.append(store, Append(puts=((agent_key("billing"), format_row(row)),)))
