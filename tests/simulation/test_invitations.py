"""What an agent may add to a call that it makes again, because the server asked for it in its reply to the first."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.call import Call, Continuation
from citywatch.core.enforce.invitation import INVITED_MS
from citywatch.service.ports import Append
from citywatch.service.recovery import drop_expired
from tests.simulation.city import City, answers, code_of

EVERYTHING = '@id("all") permit(principal, action, resource);'
MODERN = "2026-07-28"
ASKS = {"r": {"method": "roots/list"}, "e": {"method": "elicitation/create", "params": {"message": "Sure?"}}}
ROOTS: dict[str, Any] = {"roots": []}
SURE: dict[str, Any] = {"action": "accept", "content": {"sure": True}}
DONE: dict[str, Any] = {"content": [], "contents": [], "messages": [], "resultType": "complete"}


def paying(responses: dict[str, Any] | None = None, state: str | None = None, **changes: Any) -> dict[str, Any]:
    again = None if responses is None else Continuation(responses=responses, state=state)
    return {"name": "pay", "arguments": {"to": "ann", "amount": 1}, "continuation": again, "revision": MODERN} | changes


async def asked(city: City, call: Call, **result: Any) -> None:
    """Let the server answer a call with `input_required`."""
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": {"resultType": "input_required", **result}})
    assert (await city.ask(call))["result"]["resultType"] == "input_required"
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": DONE})


async def open_city() -> City:
    return await City(EVERYTHING).settle_in()


async def test_what_was_asked_for_goes_through_once() -> None:
    city = await open_city()
    await asked(city, city.call(**paying()), inputRequests=ASKS, requestState="s")
    assert code_of(await city.ask(city.call(**paying({"r": ROOTS, "e": SURE}, "s")))) is None
    sent = len(city.upstream.sent)
    assert code_of(await city.ask(city.call(**paying({"r": ROOTS, "e": SURE}, "s")))) == "input_unexpected"
    assert len(city.upstream.sent) == sent


async def test_a_state_alone_comes_back_alone_and_some_answers_without_a_state_do() -> None:
    city = await open_city()
    await asked(city, city.call(**paying()), requestState="s")
    assert code_of(await city.ask(city.call(**paying({}, "s")))) is None
    await asked(city, city.call(**paying()), inputRequests=ASKS)
    assert code_of(await city.ask(city.call(**paying({"r": ROOTS})))) is None


@pytest.mark.parametrize(
    ("responses", "state"),
    [
        ({"never-asked": SURE}, "s"),
        ({"r": ROOTS, "never-asked": SURE}, "s"),
        ({"r": ROOTS}, "the state of another call"),
        ({"r": ROOTS}, None),
        ({"r": SURE}, "s"),
        ({"e": ROOTS}, "s"),
        ({"r": "pay mallory"}, "s"),
    ],
)
async def test_what_the_server_did_not_ask_for_goes_nowhere(responses: dict[str, Any], state: str | None) -> None:
    city = await open_city()
    await asked(city, city.call(**paying()), inputRequests=ASKS, requestState="s")
    sent = len(city.upstream.sent)
    assert code_of(await city.ask(city.call(**paying(responses, state)))) == "input_unexpected"
    assert len(city.upstream.sent) == sent
    assert code_of(await city.ask(city.call(**paying({"r": ROOTS}, "s")))) is None, "the invitation stands"


async def test_nothing_is_added_to_a_call_that_no_server_asked_about() -> None:
    city = await open_city()
    assert code_of(await city.ask(city.call(**paying({"r": ROOTS})))) == "input_unexpected"
    assert city.upstream.sent == []
    await asked(city, city.call(**paying()), inputRequests=ASKS)
    other = paying({"r": ROOTS}, arguments={"to": "eve", "amount": 1})
    assert code_of(await city.ask(city.call(**other))) == "input_unexpected"


async def test_a_state_that_the_server_did_not_give_stays_here() -> None:
    city = await open_city()
    await asked(city, city.call(**paying()), inputRequests=ASKS)
    assert code_of(await city.ask(city.call(**paying({"r": ROOTS}, "mine")))) == "input_unexpected"


async def test_a_resource_is_read_again_only_with_what_was_asked_for() -> None:
    city = await open_city()
    more = {"inputResponses": {"r": ROOTS}, "requestState": "s"}

    def reading(arguments: dict[str, Any], again: Continuation | None) -> Call:
        return city.call("resources/read", "desk://note", arguments=arguments, continuation=again, revision=MODERN)

    again = reading({"uri": "desk://note", **more}, Continuation(responses={"r": ROOTS}, state="s"))
    assert code_of(await city.ask(again)) == "input_unexpected"
    assert city.upstream.sent == []
    await asked(city, reading({"uri": "desk://note"}, None), inputRequests=ASKS, requestState="s")
    assert code_of(await city.ask(again)) is None


async def test_an_invitation_ends() -> None:
    city = await open_city()
    await asked(city, city.call(**paying()), inputRequests=ASKS)
    city.clock.advance(INVITED_MS)
    assert code_of(await city.ask(city.call(**paying({"r": ROOTS})))) == "input_unexpected"
    await asked(city, city.call(**paying(arguments={"to": "bob", "amount": 1})), inputRequests=ASKS)
    assert len(await city.store.scan("invited")) == 2
    assert await drop_expired(city.store, city.clock) == 1
    later = paying({"r": ROOTS}, arguments={"to": "bob", "amount": 1})
    assert code_of(await city.ask(city.call(**later))) is None


async def test_an_invitation_of_an_earlier_version_answers_nothing() -> None:
    city = await open_city()
    await asked(city, city.call(**paying()), inputRequests=ASKS)
    ((row, _),) = await city.store.scan("invited")
    await city.store.append(Append(puts=((("invited", row), b"true"),)))
    assert code_of(await city.ask(city.call(**paying({"r": ROOTS})))) == "input_unexpected"
    assert await drop_expired(city.store, city.clock) == 1


async def test_a_server_asks_for_so_much_at_once() -> None:
    city = await open_city()
    crowd = {str(number): {"method": "roots/list"} for number in range(1000)}
    result = {"resultType": "input_required", "inputRequests": crowd}
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": result})
    assert code_of(await city.ask(city.call(**paying()))) == "reply_malformed"
    assert len(await city.events()) < 100
