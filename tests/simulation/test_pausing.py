"""MCP 2026-07-28: a call that waits for a person comes back with our sealed state; what attackers do with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from citywatch.adapters.keys import GenerationSealer
from citywatch.adapters.memory import MemoryAnswer
from citywatch.core.call import Call, Continuation
from citywatch.core.errors import Code, Refused
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.wire import mcp
from citywatch.service.pausing import LATE_MS, Pausing
from citywatch.service.ports import Append
from citywatch.service.waiting import Waiting
from tests.simulation.city import AGENT, code_of
from tests.simulation.flow_city import MALLORY, FlowCity
from tests.simulation.test_answers import read_letter

MODERN = "2026-07-28"
DAY = 24 * 3_600_000
WAITS: dict[str, Any] = {"extensions": {"citywatch/waits": {}}}
LOOKS: dict[str, Any] = {"elicitation": {"url": {}}}
CONSOLE = "https://city.acme.example/tickets/"
PAID: dict[str, Any] = {"to": MALLORY, "amount": 900}


async def waiting_city(believed: Callable[[], set[int]] = lambda: {1}, link: str = "") -> FlowCity:
    """A city whose agent has read a stranger's letter, and in which calls may wait in their clients' hands."""
    here = await read_letter()
    sealer = GenerationSealer(lambda: max(believed()), believed, lambda number: bytes([number]) * 32)
    waits = Waiting(store=here.store, clock=here.clock, leeway_ms=lambda: 0, bus=here.store)
    here.exchange.pausing = Pausing(
        sealer=sealer,
        waiting=waits,
        clock=here.clock,
        link=lambda ticket: f"{link}{ticket}" if link else "",
        longest_s=0.0,
    )
    return here


def paying(
    here: FlowCity,
    declares: dict[str, Any],
    state: str | None = None,
    responses: dict[str, Any] | None = None,
    **changes: Any,
) -> Call:
    arguments = changes.pop("arguments", PAID)
    params: dict[str, Any] = {"name": changes.get("name", "pay"), "arguments": arguments}
    params["_meta"] = {"io.modelcontextprotocol/clientCapabilities": declares}
    continuation = None
    if state is not None:
        params |= {"requestState": state} | ({} if responses is None else {"inputResponses": responses})
        continuation = Continuation(responses=responses or {}, state=state)
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    call = here.call(name="pay", arguments=arguments, revision=MODERN, continuation=continuation)
    return msgspec.structs.replace(call, body=json.dumps(message).encode(), **changes)


async def begun(here: FlowCity, declares: dict[str, Any] = WAITS) -> tuple[str, str, dict[str, Any]]:
    """The call that a person is asked about: the state, the ticket, and all that its client is told."""
    result = (await here.ask(paying(here, declares)))["result"]
    assert result["resultType"] == "input_required"
    assert result["_meta"]["citywatch/code"] == "approval_required"
    return result["requestState"], result["_meta"]["citywatch/ticket"], result


async def refused(here: FlowCity, call: Call, **papers: Any) -> Code:
    with pytest.raises(Refused) as caught:
        await here.ask(call, here.credential(**papers))
    return caught.value.code


def paid(here: FlowCity) -> list[dict[str, Any]]:
    """What the bank was sent of payments."""
    sent = [json.loads(body) for _, body in here.upstream.sent]
    return [one["params"] for one in sent if one["params"].get("name") == "pay"]


async def test_a_call_that_waits_comes_back_goes_through_once_and_brings_nothing_of_ours_to_the_server() -> None:
    here = await waiting_city()
    state, ticket, _ = await begun(here)
    await here.tickets.answer(ticket, True, "on call", "she said so", principal="alice")
    assert code_of(await here.ask(paying(here, WAITS, state))) is None
    (sent,) = paid(here)
    assert sent["arguments"] == PAID
    assert not {"requestState", "inputResponses"} & sent.keys()
    assert await refused(here, paying(here, WAITS, state)) is Code.INPUT_UNEXPECTED, "good once"
    assert len(paid(here)) == 1


@pytest.mark.parametrize("declares", [{}, {"elicitation": {}}, {"elicitation": {"form": {}}}, {"extensions": {}}])
async def test_a_client_that_did_not_say_that_it_can_wait_gets_the_refusal(declares: dict[str, Any]) -> None:
    here = await waiting_city()
    told = await here.ask(paying(here, declares))
    assert (code_of(told), told["result"]["resultType"]) == ("approval_required", "complete")
    assert "requestState" not in told["result"]


async def test_a_revision_with_sessions_gets_the_refusal_and_sends_the_call_again() -> None:
    here = await waiting_city()
    told = await here.ask(paying(here, WAITS, revision="2025-11-25"))
    assert code_of(told) == "approval_required"
    ticket = told["result"]["_meta"]["citywatch/ticket"]
    await here.tickets.answer(ticket, True, "on call", "so", principal="alice")
    assert code_of(await here.ask(paying(here, WAITS, revision="2025-11-25"))) is None


async def test_while_nobody_has_answered_it_is_told_to_come_back_spends_nothing_and_leaves_no_entry() -> None:
    here = await waiting_city()
    state, ticket, first = await begun(here)
    assert first["_meta"]["citywatch/retry_ms"] > 0
    before = len(await here.events())
    for _ in range(20):
        result = (await here.ask(paying(here, WAITS, state)))["result"]
        assert (result["resultType"], result["_meta"]["citywatch/ticket"]) == ("input_required", ticket)
        state = result["requestState"]
    assert len(await here.events()) == before
    assert paid(here) == []


async def test_a_no_is_told_as_a_no() -> None:
    here = await waiting_city()
    state, ticket, _ = await begun(here)
    await here.tickets.answer(ticket, False, "on call", "no")
    assert code_of(await here.ask(paying(here, WAITS, state))) == "approval_denied"
    assert paid(here) == []


async def test_time_out_is_a_no_and_later_the_state_is_worth_nothing() -> None:
    here = await waiting_city()
    state, ticket, _ = await begun(here)
    await here.tickets.answer(ticket, True, "on call", "yes", principal="alice")
    here.clock.advance(DAY)
    told = await here.ask(paying(here, WAITS, state))
    assert code_of(told) == "approval_denied"
    assert "in time" in told["result"]["_meta"]["citywatch/detail"]
    here.clock.advance(LATE_MS)
    assert await refused(here, paying(here, WAITS, state)) is Code.INPUT_UNEXPECTED
    assert paid(here) == []


async def test_a_state_that_was_tampered_with_is_refused_wherever_it_was() -> None:
    here = await waiting_city()
    state, ticket, _ = await begun(here)
    await here.tickets.answer(ticket, True, "on call", "so", principal="alice")
    for place in range(len(mcp.SEALED), len(state)):
        other = state[:place] + ("A" if state[place] != "A" else "B") + state[place + 1 :]
        assert await refused(here, paying(here, WAITS, other)) is Code.INPUT_UNEXPECTED, place
    for other in (state[:-1], state + "A", state + "=", mcp.SEALED, f"{mcp.SEALED}1.", f"{state}{'A' * 5000}"):
        assert await refused(here, paying(here, WAITS, other)) is Code.INPUT_UNEXPECTED
    assert paid(here) == []


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": {"to": MALLORY, "amount": 901}},
        {"arguments": {"to": "GB29NWBK60161331926819", "amount": 900}},
        {"name": "delete_file"},
        {"server": "other"},
        {"task": "t-other"},
        {"chain": ("a-link",)},
        {"method": "prompts/get"},
    ],
)
async def test_the_state_of_an_approved_call_opens_no_other_call(change: dict[str, Any]) -> None:
    here = await waiting_city()
    state, ticket, _ = await begun(here)
    await here.tickets.answer(ticket, True, "on call", "so", principal="alice")
    assert await refused(here, paying(here, WAITS, state, **change)) is Code.INPUT_UNEXPECTED
    assert paid(here) == []


async def test_a_state_is_worth_nothing_in_another_agents_hands_or_under_another_key() -> None:
    here = await waiting_city()
    state, ticket, _ = await begun(here)
    await here.tickets.answer(ticket, True, "on call", "so", principal="alice")
    row = AgentRow(agent=AGENT.replace("clerk", "other"), keys=("another",), added_at=0)
    await here.store.append(Append(puts=((agent_key("other"), format_row(row)),)))
    theirs = paying(here, WAITS, state, agent=row.agent)
    assert await refused(here, theirs, agent=row.agent, key="another") is Code.INPUT_UNEXPECTED
    assert await refused(here, paying(here, WAITS, state), key="another") is Code.INPUT_UNEXPECTED
    assert paid(here) == []


async def test_a_state_ends_with_the_keys_that_it_was_sealed_under() -> None:
    generations = {1}
    here = await waiting_city(lambda: generations)
    state, ticket, _ = await begun(here)
    generations.add(2)
    fresh = (await here.ask(paying(here, WAITS, state)))["result"]["requestState"]
    generations.remove(1)
    await here.tickets.answer(ticket, True, "on call", "so", principal="alice")
    assert await refused(here, paying(here, WAITS, state)) is Code.INPUT_UNEXPECTED
    assert code_of(await here.ask(paying(here, WAITS, fresh))) is None


async def test_who_was_revoked_meanwhile_is_refused_although_a_person_said_yes() -> None:
    here = await waiting_city()
    state, ticket, _ = await begun(here)
    await here.tickets.answer(ticket, True, "on call", "so", principal="alice")
    row = AgentRow(agent=AGENT, keys=(here.credential().key,), added_at=0, revoked=True)
    await here.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
    assert await refused(here, paying(here, WAITS, state)) is Code.AGENT_REVOKED
    assert paid(here) == []


# ---- a question that leads to the console ------------------------------------------------------------------------


async def test_a_client_that_can_show_an_address_is_given_the_console_s_and_no_button() -> None:
    here = await waiting_city(link=CONSOLE)
    state, ticket, first = await begun(here, LOOKS)
    asked = first["inputRequests"]["citywatch/approval"]
    assert asked["method"] == "elicitation/create"
    assert (asked["params"]["mode"], asked["params"]["url"]) == ("url", CONSOLE + ticket)
    assert "requestedSchema" not in asked["params"]
    accepted = {"citywatch/approval": {"action": "accept"}}
    result = (await here.ask(paying(here, LOOKS, state, accepted)))["result"]
    assert result["resultType"] == "input_required", "the answer in the agent's client approves nothing"
    assert "inputRequests" not in result
    assert paid(here) == []
    await here.tickets.answer(ticket, True, "on call", "so", principal="alice")
    assert code_of(await here.ask(paying(here, LOOKS, result["requestState"]))) is None


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_person_who_does_not_want_to_look_denies_nothing(action: str) -> None:
    here = await waiting_city(link=CONSOLE)
    state, ticket, _ = await begun(here, LOOKS)
    told = await here.ask(paying(here, LOOKS, state, {"citywatch/approval": {"action": action}}))
    assert (code_of(told), told["result"]["_meta"]["citywatch/ticket"]) == ("approval_required", ticket)
    assert [one.id for one in await here.tickets.pending()] == [ticket]


@pytest.mark.parametrize(
    "responses",
    [
        {"other": {"action": "accept"}},
        {"citywatch/approval": {"action": "approve"}},
        {"citywatch/approval": True},
        {"citywatch/approval": {"action": "accept"}, "note": {"action": "accept"}},
    ],
)
async def test_what_answers_no_question_of_ours_is_refused(responses: dict[str, Any]) -> None:
    here = await waiting_city(link=CONSOLE)
    state, _, _ = await begun(here, LOOKS)
    assert await refused(here, paying(here, LOOKS, state, responses)) is Code.INPUT_UNEXPECTED


async def test_where_no_question_went_out_none_is_answered() -> None:
    here = await waiting_city()
    state, _, first = await begun(here, LOOKS)
    assert "inputRequests" not in first
    accepted = {"citywatch/approval": {"action": "accept"}}
    assert await refused(here, paying(here, LOOKS, state, accepted)) is Code.INPUT_UNEXPECTED


async def test_a_servers_own_state_passes_both_ways_as_it_is() -> None:
    here = await waiting_city()
    state, ticket, _ = await begun(here)
    await here.tickets.answer(ticket, True, "on call", "so", principal="alice")
    answers = [
        {"resultType": "input_required", "requestState": "the-bank's-own"},
        {"resultType": "complete", "content": [{"type": "text", "text": "paid"}]},
    ]

    def answer(body: bytes) -> MemoryAnswer:
        reply = {"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": answers.pop(0)}
        return MemoryAnswer([(json.dumps(reply).encode(), None)])

    here.answer = answer
    result = (await here.ask(paying(here, WAITS, state)))["result"]
    assert (result["resultType"], result["requestState"]) == ("input_required", "the-bank's-own")
    assert "requestState" not in paid(here)[0]
    here.exchange.pausing, kept = None, here.exchange.pausing
    told = await here.ask(paying(here, WAITS, "the-bank's-own"))
    here.exchange.pausing = kept
    assert code_of(told) == "approval_required", "what was approved was one call; the next is asked about as before"
