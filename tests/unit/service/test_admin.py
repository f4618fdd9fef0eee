"""Agents are added, revoked and listed; each change is on record, and a key belongs to one agent for good."""

from __future__ import annotations

import asyncio

import pytest

from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.events import AgentAdded, AgentRevoked, PolicyLoaded
from citywatch.core.signature import thumbprint
from citywatch.service.admin import Admin
from citywatch.service.authority import p256
from tests.identity_city import BILLING, DOMAIN, City, signer


async def refusal(coroutine: object) -> Code:
    with pytest.raises(Refused) as caught:
        await coroutine  # type: ignore[misc]
    return caught.value.code


async def test_an_agent_is_added_with_its_entry() -> None:
    city, key = City(), signer()
    row = await city.admin.add_agent("billing", key.public, "alice")
    assert (row.agent, row.keys, row.revoked) == (str(BILLING), (thumbprint(p256(key.public)),), False)
    assert await city.admin.list_agents() == [("billing", row)]
    (event,) = await city.events()
    assert event == AgentAdded(at=city.clock.now_ms(), replica="r1", agent=str(BILLING), key=row.keys[0], by="alice")


async def test_a_name_in_good_standing_is_not_overwritten() -> None:
    city, key = City(), signer()
    row = await city.admin.add_agent("billing", key.public, "alice")
    assert await refusal(city.admin.add_agent("billing", signer().public, "mallory")) is Code.CONFLICT
    assert await city.admin.list_agents() == [("billing", row)]
    assert len(await city.events()) == 1


async def test_a_key_belongs_to_one_agent_for_good() -> None:
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    assert await refusal(city.admin.add_agent("other", key.public, "alice")) is Code.CONFLICT
    await city.admin.revoke_agent("billing", "stolen", "alice")
    assert await refusal(city.admin.add_agent("other", key.public, "alice")) is Code.CONFLICT
    assert await refusal(city.admin.add_agent("billing", key.public, "alice")) is Code.CONFLICT


async def test_a_revoked_name_comes_back_with_a_fresh_key_only() -> None:
    city, old, new = City(), signer(), signer()
    await city.admin.add_agent("billing", old.public, "alice")
    await city.admin.revoke_agent("billing", "stolen", "alice")
    row = await city.admin.add_agent("billing", new.public, "alice")
    assert (row.keys, row.revoked) == ((thumbprint(p256(new.public)),), False)


async def test_a_revocation_is_on_the_disk_with_its_entry() -> None:
    city = City()
    await city.admin.add_agent("billing", signer().public, "alice")
    row = await city.admin.revoke_agent("billing", "stolen", "bob")
    assert (row.revoked, row.reason) == (True, "stolen")
    event = (await city.events())[-1]
    assert event == AgentRevoked(at=city.clock.now_ms(), replica="r1", agent=str(BILLING), by="bob", reason="stolen")
    after = Admin(store=city.store.after_power_loss(), clock=city.clock, replica="r2", domain=DOMAIN)
    assert await after.list_agents() == [("billing", row)]


async def test_a_second_revocation_changes_nothing() -> None:
    city = City()
    await city.admin.add_agent("billing", signer().public, "alice")
    first = await city.admin.revoke_agent("billing", "stolen", "bob")
    assert await city.admin.revoke_agent("billing", "again", "carol") == first
    assert len(await city.events()) == 2


async def test_nobody_is_revoked_who_is_not_there() -> None:
    assert await refusal(City().admin.revoke_agent("billing", "x", "alice")) is Code.AGENT_UNKNOWN


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a\n", "é", "x" * 129, "../agent"])
async def test_what_is_no_name_is_malformed(name: str) -> None:
    with pytest.raises(Malformed):
        await City().admin.add_agent(name, signer().public, "alice")


@pytest.mark.parametrize("public", [b"", b"nonsense", b"0" * 5000])
async def test_what_is_no_key_is_malformed(public: bytes) -> None:
    with pytest.raises(Malformed):
        await City().admin.add_agent("billing", public, "alice")


async def test_of_two_operators_at_once_one_adds() -> None:
    city = City()
    outcomes = await asyncio.gather(
        *(city.admin.add_agent("billing", signer().public, by) for by in ("alice", "bob")), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert [outcome.code for outcome in refused] == [Code.CONFLICT]
    assert len(await city.events()) == 1


async def test_two_names_race_for_one_key_and_one_gets_it() -> None:
    city, key = City(), signer()
    outcomes = await asyncio.gather(
        *(city.admin.add_agent(name, key.public, "alice") for name in ("one", "two")), return_exceptions=True
    )
    assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 1
    assert len(await city.admin.list_agents()) == 1


async def test_a_store_that_does_not_answer_adds_nobody() -> None:
    city = City()
    city.store.broken = Unavailable(Code.STORE_UNAVAILABLE, "the disk is full")
    with pytest.raises(Unavailable):
        await city.admin.add_agent("billing", signer().public, "alice")
    city.store.broken = None
    assert await city.admin.list_agents() == []


async def test_a_change_of_policies_is_an_entry_and_none_is_none() -> None:
    city = City()
    for digest in ("one", "one", "two", "one"):
        await city.admin.note_policy(digest, "alice")
    assert [event.policy for event in await city.events() if isinstance(event, PolicyLoaded)] == ["one", "two", "one"]
    after = Admin(store=city.store.after_power_loss(), clock=city.clock, replica="r2", domain=DOMAIN)
    await after.note_policy("one", "alice")
    assert len(await city.events()) == 3


async def test_two_that_load_the_same_policies_at_once_enter_it_once() -> None:
    city = City()
    await asyncio.gather(*(city.admin.note_policy("one", by) for by in ("alice", "bob")))
    assert len(await city.events()) == 1
