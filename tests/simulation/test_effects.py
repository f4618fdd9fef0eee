"""What is synced before it leaves, and what may leave twice: by what a call does, whatever its method is called."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core import events
from citywatch.core.call import Call, Continuation
from citywatch.core.wire.jsonrpc import Response
from tests.simulation.city import LEGACY, City, answers

EVERYTHING = '@id("all") permit(principal, action, resource);'


class Watched(City):
    """Notes for each message that reaches the server how often the store was synced by then, and if it may be sent
    twice."""

    def __init__(self) -> None:
        super().__init__(EVERYTHING)
        self.left: list[tuple[int, bool]] = []
        send = self.upstream.send

        async def watch(*arguments: Any, repeatable: bool) -> Any:
            self.left.append((self.store.syncs, repeatable))
            return await send(*arguments, repeatable=repeatable)

        self.upstream.send = watch  # type: ignore[assignment,method-assign]


def called(city: City, method: str, **more: Any) -> Call:
    name = "desk://note" if method.startswith("resources/") else None
    return city.call(method, name, revision=LEGACY, **more)


@pytest.mark.parametrize("method", ["initialize", "resources/subscribe", "resources/unsubscribe", "logging/setLevel"])
async def test_a_method_that_changes_something_is_synced_before_it_leaves_and_leaves_once(method: str) -> None:
    city = Watched()
    await city.settle_in()
    syncs = city.store.syncs
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": {}})
    await city.exchange.request(called(city, method), city.credential(), {})
    assert city.left == [(syncs + 1, False)]
    (decided,) = [one for one in await city.events() if isinstance(one, events.Decided)]
    assert decided.effect == "write"


@pytest.mark.parametrize("method", ["ping", "tools/list", "resources/read", "prompts/list", "completion/complete"])
async def test_a_method_that_only_reads_waits_for_no_disk(method: str) -> None:
    city = Watched()
    await city.settle_in()
    syncs = city.store.syncs
    await city.exchange.request(called(city, method), city.credential(), {})
    assert city.left == [(syncs, True)]
    (decided,) = [one for one in await city.events() if isinstance(one, events.Decided)]
    assert decided.effect == "read"


async def test_a_notification_to_a_server_leaves_once() -> None:
    city = Watched()
    await city.settle_in()
    syncs = city.store.syncs
    city.answer = answers(media="none", status=202)
    told = called(city, "notifications/cancelled", rpc_id=None, arguments={"requestId": 1})
    await city.exchange.notify(told, city.credential(), {})
    assert city.left == [(syncs + 1, False)]


async def test_what_an_agent_answers_a_server_is_synced_before_it_leaves() -> None:
    city = Watched()
    await city.settle_in()
    city.answer = answers({"jsonrpc": "2.0", "id": 9, "method": "roots/list"}, media="sse")
    outcome = await city.exchange.request(city.call(), city.credential(), {})
    assert outcome.stream is not None
    await anext(outcome.stream)
    syncs = city.store.syncs
    city.answer = answers(media="none", status=202)
    await city.exchange.answer(city.call("response", None), Response(9, {"roots": []}), city.credential(), {})
    assert city.left[-1] == (syncs + 1, False)
    await outcome.stream.aclose()


async def test_answers_that_travel_with_a_reading_call_are_synced_too() -> None:
    city = Watched()
    await city.settle_in()
    asks = {"resultType": "input_required", "inputRequests": {"r": {"method": "roots/list"}}}
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": asks})
    await city.ask(city.call(revision="2026-07-28"))
    syncs = city.store.syncs
    again = Continuation(responses={"r": {"roots": []}}, state=None)
    await city.ask(city.call(revision="2026-07-28", continuation=again))
    assert city.left == [(syncs, True), (syncs + 1, False)]
