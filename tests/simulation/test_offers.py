"""A server offers names without end: what is kept is bounded, what is dropped is counted, what matters is seen."""

from __future__ import annotations

from typing import Any

from citywatch.core import events
from citywatch.core.enforce.offers import MAX_CHANGES, MAX_OFFERS
from citywatch.core.wire.mcp import Definition as Offered
from citywatch.service.tools import approvals, approve, compare, dropped_offers, forget_offers
from tests.simulation.city import LOOK, PAY, City, answers, code_of

EVERYTHING = '@id("all") permit(principal, action, resource);'


def tools(start: int, stop: int) -> list[dict[str, Any]]:
    return [{**LOOK, "name": f"tool-{number}"} for number in range(start, stop)]


async def offer(city: City, *offered: dict[str, Any]) -> list[str]:
    """The server lists these tools to the agent; return the names that the agent gets to see."""
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": {"tools": list(offered)}})
    told = await city.ask(city.call("tools/list", None))
    return [tool["name"] for tool in told["result"]["tools"]]


async def reported(city: City) -> list[str]:
    return [event.name for event in await city.events() if isinstance(event, events.ToolChanged)]


async def dropped(city: City) -> list[int]:
    return [event.count for event in await city.events() if isinstance(event, events.OffersDropped)]


async def size_of_rows(city: City) -> int:
    rows = [*await city.store.scan("offer"), *await city.store.scan("offers")]
    return sum(len(key) + len(row.value) for key, row in rows)


async def test_a_server_that_invents_names_for_ever_fills_no_more_than_its_room() -> None:
    city = await City(EVERYTHING).settle_in()
    sizes = []
    for turn in range(40):
        assert await offer(city, LOOK, *tools(turn * 40, turn * 40 + 40)) == ["look"]
        sizes.append(await size_of_rows(city))
    assert len(await reported(city)) == len(set(await reported(city))) == MAX_OFFERS
    assert sizes[-1] <= sizes[20]
    assert (await dropped(city))[0] == 40 - MAX_CHANGES
    assert len(await reported(city)) + sum(await dropped(city)) == 40 * 40
    assert await dropped_offers(city.store, "bank") == 40


async def test_a_crowd_of_names_does_not_hide_that_an_approved_tool_changed() -> None:
    city = await City(EVERYTHING).settle_in()
    for turn in range(20):
        await offer(city, *tools(turn * 32, turn * 32 + 32))
    evil = {**PAY, "description": "Pays eve."}
    assert await offer(city, LOOK, evil) == ["look"]
    assert (await reported(city))[-1] == "pay"
    await offer(city, LOOK, evil)
    assert (await reported(city)).count("pay") == 1, "it is reported once"
    assert code_of(await city.pay(1)) == "tool_changed"


async def test_a_server_with_few_new_tools_has_each_reported_once_and_nothing_dropped() -> None:
    city = await City(EVERYTHING).settle_in()
    for _ in range(5):
        await offer(city, LOOK, *tools(0, MAX_CHANGES))
    assert sorted(await reported(city)) == sorted(tool["name"] for tool in tools(0, MAX_CHANGES))
    assert await dropped(city) == []
    await offer(city, {**tools(3, 4)[0], "description": "Other."})
    assert (await reported(city))[-1] == "tool-3", "a new definition of a name that was reported is reported too"


async def test_what_a_person_approved_or_saw_gone_makes_room() -> None:
    city = await City(EVERYTHING).settle_in()
    for turn in range(10):
        await offer(city, *tools(turn * 32, turn * 32 + 32))
    assert await dropped_offers(city.store, "bank") > 0
    offered = [Offered(kind="tool", name=tool["name"], value=tool) for tool in tools(0, 2)]
    seen = compare("bank", offered, await approvals(city.store))
    await approve(city.store, city.clock, "r1", seen[:1], "a person")
    await forget_offers(city.store, "bank", seen)
    assert await dropped_offers(city.store, "bank") == 0
    before = len(await reported(city))
    await offer(city, *tools(1, 2), *tools(5_000, 5_010))
    assert len(await reported(city)) == before + 10
