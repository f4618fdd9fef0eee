"""How much of the disk a server fills by talking: what is denied is counted, what is permitted is kept."""

from __future__ import annotations

from citywatch.core import events
from citywatch.core.errors import Code
from tests.simulation.city import City, answers

QUIET = '@id("calls") permit(principal is Agent, action, resource);'
CHATTY = '@id("all") permit(principal, action, resource);'
NEWS = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 100_000}}
DONE = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}


async def kept(city: City) -> tuple[int, int]:
    """How many entries there are, and how many bytes of payloads."""
    size = len(await city.events())
    payloads = [await city.store.payload(index) for index in range(size)]
    return size, sum(len(one.body) for one in payloads if one is not None)


async def stream(city: City, messages: int) -> int:
    city.answer = answers(*[NEWS] * messages, DONE, media="sse")
    outcome = await city.exchange.request(city.call(), city.credential(), {})
    assert outcome.stream is not None
    return len([delivery async for delivery in outcome.stream])


async def test_a_flood_of_denied_messages_of_a_server_is_counted_and_not_written_one_by_one() -> None:
    city = await City(QUIET).settle_in()
    before = await kept(city)
    assert await stream(city, 300) == 1
    city.clock.advance(1_000)
    await city.enforcer.rejections.fold()
    entries, size = await kept(city)
    assert entries - before[0] < 20
    assert size - before[1] < 10_000
    written = (await city.events())[before[0] :]
    denied = [one for one in written if isinstance(one, events.Decided) and one.decision == "deny"]
    (folded,) = [one for one in written if isinstance(one, events.Rejected)]
    assert (folded.code, folded.server, folded.peer) == ("no_permit", "bank", "the server")
    assert len(denied) + folded.count == 300


async def test_a_few_denied_messages_have_an_entry_each_and_permitted_ones_their_payload() -> None:
    city = await City(QUIET).settle_in()
    assert await stream(city, 2) == 1
    denied = [one for one in await city.events() if isinstance(one, events.Decided) and one.direction == "to_agent"]
    assert [one.code for one in denied] == ["no_permit"] * 2
    city = await City(CHATTY).settle_in()
    before = await kept(city)
    assert await stream(city, 30) == 31
    entries, size = await kept(city)
    assert entries - before[0] >= 31
    assert size - before[1] > 30 * 100_000


async def test_a_servers_flood_does_not_hide_who_else_was_refused() -> None:
    city = await City(QUIET).settle_in()
    await stream(city, 300)
    before = len(await city.events())
    await city.enforcer.rejections.add(Code.CREDENTIAL_MISSING, "", "10.0.0.1", "bank")
    (refused,) = (await city.events())[before:]
    assert isinstance(refused, events.Rejected)
    assert refused.peer == "10.0.0.1"
