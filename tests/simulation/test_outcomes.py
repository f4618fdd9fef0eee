"""What a person found out about a lost call decides whether an identical one is its repetition or a call of its own."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from citywatch.core import events
from citywatch.core.errors import Malformed
from citywatch.service.outcomes import HAPPENED_MS, Outcome, lost_calls, resolve
from citywatch.service.ports import Append
from citywatch.service.recovery import close_lost_calls
from tests.simulation.city import City, code_of


async def after_a_crash(*amounts: int) -> tuple[City, list[str]]:
    """A city in which payments were under way when its process died; their ids."""
    city = await City().settle_in()
    lost = []
    for amount in amounts:
        call = city.call(name="pay", arguments={"to": "ann", "amount": amount})
        assert (await city.enforcer.judge(call, city.credential())).allowed
        lost.append(call.id)
    after = City(store=city.store.after_crash())
    await close_lost_calls(after.store, after.clock, "r2", lambda replica: True)
    return after, lost


async def say(city: City, call: str, outcome: Outcome) -> events.Resolved:
    return await resolve(city.store, city.clock, "r2", call, outcome, "I looked", "operator:ann")


async def test_one_that_did_not_happen_may_be_made_again() -> None:
    city, (lost,) = await after_a_crash(1)
    assert code_of(await city.pay(1)) == "outcome_unknown"
    assert await lost_calls(city.store) == (lost,)
    entered = await say(city, lost, Outcome.DID_NOT_HAPPEN)
    assert (await city.events())[-1] == entered
    assert (entered.call, entered.outcome, entered.by, entered.reason) == (
        lost,
        "did_not_happen",
        "operator:ann",
        "I looked",
    )
    assert await lost_calls(city.store) == ()
    assert code_of(await city.pay(1)) is None
    assert len(city.upstream.sent) == 1


async def test_the_repetition_of_one_that_happened_is_refused_for_a_while_and_another_call_is_not() -> None:
    """An agent that never heard of it tries again, and again: being told once is no protection."""
    city, (lost,) = await after_a_crash(1)
    await say(city, lost, Outcome.HAPPENED)
    for _ in range(3):
        told = await city.pay(1)
        assert code_of(told) == "already_happened"
        assert lost in told["result"]["content"][0]["text"]
    assert city.upstream.sent == []
    assert code_of(await city.pay(2)) is None
    city.clock.advance(HAPPENED_MS)
    for _ in range(2):
        assert code_of(await city.pay(1)) is None, "the same sum may go to the same person again"
    assert await city.store.scan("lost") == []


@pytest.mark.parametrize("first", list(Outcome))
async def test_of_identical_calls_each_needs_its_answer(first: Outcome) -> None:
    city, lost = await after_a_crash(1, 1)
    assert set(await lost_calls(city.store)) == set(lost)
    await say(city, lost[0], first)
    assert code_of(await city.pay(1)) == "outcome_unknown"
    await say(city, lost[1], Outcome.DID_NOT_HAPPEN)
    assert code_of(await city.pay(1)) == ("already_happened" if first is Outcome.HAPPENED else None)


async def test_a_call_lost_again_is_unknown_again() -> None:
    city, (lost,) = await after_a_crash(1)
    await say(city, lost, Outcome.HAPPENED)
    city.clock.advance(HAPPENED_MS)
    again = city.call(name="pay", arguments={"to": "ann", "amount": 1})
    assert (await city.enforcer.judge(again, city.credential())).allowed
    await close_lost_calls(city.store, city.clock, "r2", lambda replica: True)
    assert await lost_calls(city.store) == (again.id,)
    assert code_of(await city.pay(1)) == "outcome_unknown"


async def test_nothing_is_said_of_a_call_that_was_not_lost_and_nothing_twice() -> None:
    city, (lost,) = await after_a_crash(1)
    for call in ("", "nobody's", lost[:-1]):
        with pytest.raises(Malformed):
            await say(city, call, Outcome.DID_NOT_HAPPEN)
    results = await asyncio.gather(
        *(say(city, lost, outcome) for outcome in (*Outcome, *Outcome)), return_exceptions=True
    )
    assert len([one for one in results if isinstance(one, events.Resolved)]) == 1
    assert len([event for event in await city.events() if isinstance(event, events.Resolved)]) == 1


async def test_a_row_of_an_earlier_version_is_understood() -> None:
    city, (lost,) = await after_a_crash(1)
    ((likeness, _),) = await city.store.scan("lost")
    await city.store.append(Append(puts=((("lost", likeness), msgspec.json.encode(lost)),)))
    assert code_of(await city.pay(1)) == "outcome_unknown"
    assert await lost_calls(city.store) == (lost,)
    await say(city, lost, Outcome.DID_NOT_HAPPEN)
    assert code_of(await city.pay(1)) is None
