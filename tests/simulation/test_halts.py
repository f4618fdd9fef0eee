"""The emergency stop, keys and approvals that are taken back: whom they cover, whom they leave alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from citywatch.core import events
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.service.halts import Halts
from citywatch.service.ports import Append
from citywatch.service.tools import withdraw
from tests.simulation.city import AGENT, KEY, City, code_of
from tests.simulation.test_attacks import EVERYTHING, SECRET
from tests.simulation.test_chains import Town
from tests.simulation.test_revocation import DONE, Silent, admin, opened, rest, watch_of


def halts(city: City) -> Halts:
    return Halts(store=city.store, clock=city.clock, replica="another process")


@pytest.fixture
async def city() -> City:
    return await City(EVERYTHING).settle_in()


@pytest.mark.parametrize(("what", "named"), [("clerk", AGENT), ("agent:clerk", AGENT), ("all", "all")])
async def test_what_is_stopped_is_refused_until_it_is_resumed(city: City, what: str, named: str) -> None:
    assert code_of(await city.ask(city.call())) is None
    assert await halts(city).halt(what, "op", "fire") == named
    assert code_of(await city.ask(city.call())) == "halted"
    assert await halts(city).halted() == [named]
    assert await halts(city).resume(what, "op", "out") == named
    assert code_of(await city.ask(city.call())) is None
    assert await halts(city).halted() == []
    told = [event for event in await city.events() if isinstance(event, events.Halted | events.Resumed)]
    assert [(type(event), event.what, event.by, event.reason) for event in told] == [
        (events.Halted, named, "op", "fire"),
        (events.Resumed, named, "op", "out"),
    ]


async def test_a_stop_of_another_agent_or_task_leaves_an_agent_alone(city: City) -> None:
    row = AgentRow(agent=AGENT.replace("clerk", "other"), keys=("k",), added_at=0)
    await city.store.append(Append(puts=((agent_key("other"), format_row(row)),)))
    await halts(city).halt("other", "op", "fire")
    assert code_of(await city.ask(city.call())) is None


async def test_a_stop_outlives_a_crash_and_a_loss_of_power(city: City) -> None:
    await halts(city).halt("all", "op", "fire")
    for store in (city.store.after_crash(), city.store.after_power_loss()):
        later = City(EVERYTHING, store=store)
        assert code_of(await later.ask(later.call())) == "halted"


@pytest.mark.parametrize("what", ["clerk", "all"])
async def test_the_reply_to_a_call_that_was_under_way_is_withheld_and_the_call_settled(city: City, what: str) -> None:
    send = city.upstream.send

    async def late(*given: Any, **more: Any) -> Any:
        answer = await send(*given, **more)
        await halts(city).halt(what, "op", "fire")
        return answer

    city.upstream.send = late  # type: ignore[method-assign]
    told = await city.ask(city.call())
    assert code_of(told) == "halted"
    settled = (await city.events())[-1]
    assert isinstance(settled, events.Settled)
    assert (settled.outcome, settled.code) == ("withheld", "halted")
    assert await city.store.scan("open") == []


@pytest.mark.parametrize("what", ["clerk", "all"])
async def test_a_stop_while_the_decision_is_being_committed_wins(city: City, what: str) -> None:
    append, once = city.store.append, [True]

    async def stopped_first(asked: Append) -> Any:
        if once and any(b'"decided"' in entry.leaf for entry in asked.entries):
            once.clear()
            city.store.append = append  # type: ignore[method-assign]
            await halts(city).halt(what, "op", "fire")
        return await append(asked)

    city.store.append = stopped_first  # type: ignore[assignment,method-assign]
    assert code_of(await city.ask(city.call())) == "halted"
    assert city.upstream.sent == []


@pytest.mark.parametrize("what", ["clerk", "all"])
async def test_a_stop_closes_open_streams(city: City, what: str) -> None:
    looks = watch_of(city)
    await looks.look()
    reading = asyncio.ensure_future(rest(await opened(city, Silent(DONE))))
    await looks.look()
    await halts(city).halt(what, "op", "fire")
    await looks.look()
    assert b"halted" in (await reading)[-1]


async def test_a_stopped_task_is_refused_to_each_agent_under_it_and_another_task_goes_on() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    assert await town.does("clerk", chain, of="orders") is None
    assert await halts(town).halt(town.task, "op", "fire") == f"task:{town.task}"
    assert await town.does("clerk", chain, of="orders") == "halted"
    assert await town.does("router", town.root, of="orders") == "halted"
    await halts(town).resume(town.task, "op", "out")
    assert await town.does("clerk", chain, of="orders") is None


async def test_what_a_stopped_agent_handed_on_is_stopped_with_it() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    await halts(town).halt("router", "op", "fire")
    assert await town.does("clerk", chain, of="orders") == "chain_revoked"
    await halts(town).resume("router", "op", "out")
    assert await town.does("clerk", chain, of="orders") is None


async def test_a_new_key_ends_no_stop(city: City) -> None:
    await halts(city).halt("clerk", "op", "fire")
    await admin(city).revoke_agent("clerk", "turned", "op")
    with pytest.raises(Refused) as refused:
        await halts(city).resume("clerk", "op", "out")
    assert refused.value.code is Code.AGENT_REVOKED


@pytest.mark.parametrize("what", ["nobody", "task:clerk", "agent:x", ""])
async def test_what_nobody_knows_is_not_stopped(city: City, what: str) -> None:
    with pytest.raises(Malformed, match="no agent and no task"):
        await halts(city).halt(what, "op", "fire")


async def test_a_name_that_means_two_things_has_to_say_which(city: City) -> None:
    task = {"agent": AGENT, "principal": "anna", "started": 1}
    await city.store.append(Append(puts=((("task", "clerk"), json.dumps(task).encode()),)))
    with pytest.raises(Malformed, match="say `agent:` or `task:`"):
        await halts(city).halt("clerk", "op", "fire")
    assert await halts(city).halt("task:clerk", "op", "fire") == "task:clerk"
    assert code_of(await city.ask(city.call())) is None
    assert await halts(city).halted() == ["task:clerk"]


async def test_a_stop_said_twice_is_one_entry(city: City) -> None:
    for _ in range(2):
        await halts(city).halt("all", "op", "fire")
    assert sum(isinstance(event, events.Halted) for event in await city.events()) == 1


async def test_one_key_is_revoked_and_the_other_goes_on(city: City) -> None:
    row = AgentRow(agent=AGENT, keys=(KEY, "second"), added_at=0)
    await city.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
    after = await admin(city).revoke_key("clerk", KEY, "in a crash report", "op")
    assert (after.keys, after.void) == (("second",), (KEY,))
    assert await admin(city).revoke_key("clerk", KEY, "again", "op") == after
    assert code_of(await city.ask(city.call())) == "key_revoked"
    assert code_of(await city.ask(city.call(), city.credential(key="second"))) is None
    told = [event for event in await city.events() if isinstance(event, events.KeyRevoked)]
    assert [(event.agent, event.key, event.reason) for event in told] == [(AGENT, KEY, "in a crash report")]
    for name, key, code in (("nobody", KEY, Code.AGENT_UNKNOWN), ("clerk", "other", Code.KEY_NOT_REGISTERED)):
        with pytest.raises(Refused) as refused:
            await admin(city).revoke_key(name, key, "x", "op")
        assert refused.value.code is code


async def test_an_approval_that_is_taken_back_ends_calls_and_open_streams_of_it_alone(city: City) -> None:
    looks = watch_of(city)
    reading = asyncio.ensure_future(rest(await opened(city, Silent(DONE))))
    other = Silent(SECRET)
    paying = asyncio.ensure_future(rest(await opened(city, other, name="pay", arguments={"to": "a", "amount": 1})))
    await looks.look()
    await withdraw(city.store, city.clock, "r2", "bank", "look", "op", "it lies")
    await looks.look()
    assert b"tool_not_approved" in (await reading)[-1]
    assert not paying.done()
    other.goes_on.set()
    assert b"the secret" in (await paying)[-1]
    assert code_of(await city.ask(city.call())) == "tool_not_approved"
    with pytest.raises(Malformed, match="no tool `look` of `bank` is approved"):
        await withdraw(city.store, city.clock, "r2", "bank", "look", "op", "it lies")
