"""Which message of a program belongs to which call. No program here: what it says is handed over line by line."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from citywatch.adapters.upstream import Patience
from citywatch.adapters.upstream.conversation import Conversation, Pending
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.wire.jsonrpc import FROM_SERVER, Notification, Request, Response
from tests.upstream_world import message


class Talk:
    """A conversation, what went down its pipe, and a clock moved by hand."""

    def __init__(self, *, stateless: bool = False, patience: Patience | None = None) -> None:
        self.clock = 0.0
        self.written: list[dict[str, Any]] = []
        self.held: list[bool] = []
        self.clogged = False
        self.conversation = Conversation(
            self.write,
            self.held.append,
            FROM_SERVER,
            patience or Patience(first_byte=10, idle=10, listen=100),
            lambda: self.clock,
            stateless=stateless,
        )

    def write(self, line: bytes) -> None:
        if self.clogged:
            raise Unavailable(Code.OVERLOADED)
        self.written.append(json.loads(line))

    def ask(self, rpc_id: str | int = 1, method: str = "m", **params: Any) -> Pending:
        return self.conversation.ask(Request(rpc_id, method, params or None))

    def tell(self, method: str, **params: Any) -> None:
        self.conversation.tell(Notification(method, params, message(method=method, params=params)))

    def reply(self, rpc_id: str | int) -> None:
        self.conversation.reply(Response(rpc_id, {"ok": True}, None, message(id=rpc_id, result={"ok": True})))

    def hear(self, **members: Any) -> None:
        self.conversation.receive(message(**members))


async def said(pending: Pending) -> list[dict[str, Any]]:
    """Everything in a call's mailbox that is there now."""
    found = []
    while pending.mailbox._messages:
        body = await pending.mailbox.next()
        assert body is not None
        found.append(json.loads(body))
    return found


async def test_each_answer_finds_its_call_whatever_ids_the_callers_chose() -> None:
    talk = Talk(stateless=True)
    ids: tuple[str | int, ...] = (1, 1, "1", "x")
    calls = [talk.ask(rpc_id, me=place) for place, rpc_id in enumerate(ids)]
    numbers = [line["id"] for line in talk.written]
    assert len(set(numbers)) == 4
    for place in (2, 0, 3, 1):
        talk.hear(id=numbers[place], result={"me": place})
    for place, (call, rpc_id) in enumerate(zip(calls, (1, 1, "1", "x"), strict=True)):
        assert call.mailbox.only_one
        assert await said(call) == [{"jsonrpc": "2.0", "id": rpc_id, "result": {"me": place}}]


async def test_a_request_is_forwarded_with_nothing_changed_but_id_and_token() -> None:
    talk = Talk()
    talk.ask("mine", "tools/call", name="pay", arguments={"a": 2**70}, _meta={"progressToken": "t", "other": 1})
    (line,) = talk.written
    number = line["id"]
    assert line == {
        "jsonrpc": "2.0",
        "id": number,
        "method": "tools/call",
        "params": {"name": "pay", "arguments": {"a": 2**70}, "_meta": {"progressToken": number, "other": 1}},
    }


async def test_progress_goes_to_the_call_whose_token_it_names() -> None:
    talk = Talk(stateless=True)
    one, two = (talk.ask(1, _meta={"progressToken": "same"}) for _ in range(2))
    talk.hear(method="notifications/progress", params={"progressToken": talk.written[1]["id"], "progress": 1})
    assert await said(one) == []
    assert [line["params"]["progressToken"] for line in await said(two)] == ["same"]


@pytest.mark.parametrize("token", [99, "same", 1.0, True, None, [], {}])
async def test_progress_of_nobody_s_call_goes_nowhere(token: Any) -> None:
    talk = Talk()
    asked, silent = talk.ask(1, _meta={"progressToken": "same"}), talk.ask(2)
    talk.hear(method="notifications/progress", params={"progressToken": token, "progress": 1})
    talk.hear(method="notifications/progress", params={"progressToken": silent.number, "progress": 1})
    talk.hear(method="notifications/progress")
    assert await said(asked) == await said(silent) == []


@pytest.mark.parametrize("rpc_id", [99, "1", 0, -1])
async def test_an_answer_to_nothing_goes_nowhere(rpc_id: Any) -> None:
    talk = Talk()
    call = talk.ask(1)
    assert call.number == 1
    talk.hear(id=rpc_id, result={})
    assert await said(call) == []
    talk.hear(id=1, result={"right": True})
    talk.hear(id=1, result={"twice": True})
    assert [line["result"] for line in await said(call)] == [{"right": True}]


async def test_an_error_without_an_id_fails_the_only_call_there_is() -> None:
    talk = Talk()
    call = talk.ask("a")
    talk.hear(id=None, error={"code": -32700, "message": "what?"})
    assert [(line["id"], line["error"]["code"]) for line in await said(call)] == [("a", -32700)]
    one, two = talk.ask("b"), talk.ask("c")
    talk.hear(id=None, error={"code": -32700, "message": "what?"})
    assert await said(one) == await said(two) == []


async def test_what_names_no_call_goes_to_the_only_one_or_to_the_listener() -> None:
    talk = Talk()
    log = {"method": "notifications/message", "params": {"level": "info", "data": 1}}
    call = talk.ask(1)
    talk.hear(**log)
    assert len(await said(call)) == 1
    other = talk.ask(2)
    listener = talk.conversation.listen()
    assert listener is not None
    talk.hear(**log)
    assert await said(call) == await said(other) == []
    assert json.loads(await listener.next() or b"")["method"] == "notifications/message"
    assert talk.conversation.listen() is None


async def test_what_comes_before_anybody_listens_is_kept_within_bounds() -> None:
    talk = Talk()
    for number in range(300):
        talk.hear(method="notifications/message", params={"level": "info", "data": number})
    listener = talk.conversation.listen()
    assert listener is not None
    kept = [json.loads(body)["params"]["data"] for body in listener._messages]
    assert kept == list(range(44, 300))


async def test_a_listener_that_left_is_replaced_and_its_words_weigh_nothing() -> None:
    talk = Talk()
    listener = talk.conversation.listen()
    assert listener is not None
    for _ in range(300):
        talk.hear(method="notifications/message", params={"level": "info", "data": 1})
    assert talk.held == [True]
    talk.conversation.unlisten(listener)
    assert talk.held == [True, False]
    assert talk.conversation.listen() is not None


# ---- what servers ask --------------------------------------------------------------------------------------------


async def test_a_server_s_question_gets_exactly_one_answer_under_its_own_id() -> None:
    talk = Talk()
    call = talk.ask(1)
    talk.hear(id="q", method="roots/list")
    assert [line["id"] for line in await said(call)] == ["q"]
    talk.reply("q")
    assert talk.written[-1] == {"jsonrpc": "2.0", "id": "q", "result": {"ok": True}}
    with pytest.raises(Refused) as caught:
        talk.reply("q")
    assert caught.value.code is Code.REPLY_UNEXPECTED


@pytest.mark.parametrize("rpc_id", ["q", 1, 7])
async def test_an_answer_to_what_the_server_did_not_ask_does_not_reach_it(rpc_id: str | int) -> None:
    talk = Talk()
    talk.ask(1)
    talk.hear(id="other", method="roots/list")
    with pytest.raises(Refused):
        talk.reply(rpc_id)
    assert len(talk.written) == 1


async def test_a_stateless_server_s_question_is_refused_for_the_agent() -> None:
    talk = Talk(stateless=True)
    call = talk.ask(1)
    talk.hear(id="q", method="roots/list")
    assert await said(call) == []
    assert talk.written[-1]["id"] == "q"
    assert talk.written[-1]["error"]["code"] == -32601


async def test_a_second_question_under_one_id_is_left_to_the_gates_and_a_flood_of_questions_is_refused() -> None:
    talk = Talk()
    call = talk.ask(1)
    talk.hear(id="q", method="roots/list")
    talk.hear(id="q", method="sampling/createMessage")
    assert [line["method"] for line in await said(call)] == ["roots/list", "sampling/createMessage"]
    assert not any("error" in line for line in talk.written), "the server would take it for the first one's answer"
    for number in range(100):
        talk.hear(id=number, method="roots/list")
    assert len(await said(call)) == 63
    assert sum("error" in line for line in talk.written) == 37


# ---- cancelling --------------------------------------------------------------------------------------------------


async def test_a_cancellation_names_the_call_by_the_number_on_the_pipe() -> None:
    talk = Talk()
    talk.ask("a")
    call = talk.ask("b")
    talk.tell("notifications/cancelled", requestId="b", reason="bored")
    assert talk.written[-1]["params"] == {"requestId": call.number, "reason": "bored"}


@pytest.mark.parametrize("rpc_id", ["z", "2", 1, True, 2.0, None])
async def test_a_cancellation_of_nothing_goes_nowhere(rpc_id: Any) -> None:
    talk = Talk()
    talk.ask("1")
    talk.ask(2)
    talk.written.clear()
    talk.tell("notifications/cancelled", requestId=rpc_id)
    assert talk.written == []


async def test_without_a_session_nobody_cancels_by_an_id_that_others_may_have_chosen_too() -> None:
    talk = Talk(stateless=True)
    talk.ask(1)
    talk.tell("notifications/cancelled", requestId=1)
    assert len(talk.written) == 1


async def test_a_stateless_caller_that_goes_away_cancels_its_call() -> None:
    talk = Talk(stateless=True)
    call = talk.ask("a")
    talk.conversation.forget(call)
    assert talk.written[-1]["method"] == "notifications/cancelled"
    assert talk.written[-1]["params"]["requestId"] == call.number
    talk.hear(id=call.number, result={})
    assert not talk.conversation.busy


async def test_in_a_session_a_lost_connection_cancels_nothing() -> None:
    talk = Talk()
    call = talk.ask("a")
    talk.conversation.forget(call)
    assert len(talk.written) == 1
    talk.hear(id=call.number, result={})
    assert await said(call) == []


async def test_other_notifications_pass_unchanged() -> None:
    talk = Talk()
    talk.tell("notifications/progress", progressToken="theirs", progress=1)
    assert talk.written == [
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "theirs", "progress": 1}}
    ]


# ---- subscriptions -----------------------------------------------------------------------------------------------

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


async def test_a_subscription_hears_what_carries_its_id_and_nothing_else() -> None:
    talk = Talk(stateless=True)
    one = talk.ask("listen-1", "subscriptions/listen", notifications={})
    two = talk.ask("listen-1", "subscriptions/listen", notifications={})
    call = talk.ask(5, "tools/call")
    talk.hear(method="notifications/tools/list_changed", params={"_meta": {SUBSCRIPTION: two.number}})
    talk.hear(method="notifications/tools/list_changed", params={"_meta": {SUBSCRIPTION: call.number}})
    talk.hear(method="notifications/message", params={"level": "info", "data": 1})
    assert await said(one) == []
    assert [line["params"]["_meta"][SUBSCRIPTION] for line in await said(two)] == ["listen-1"]
    assert [line["method"] for line in await said(call)] == ["notifications/message"]
    talk.hear(id=two.number, result={"_meta": {SUBSCRIPTION: two.number}})
    assert [line["result"]["_meta"][SUBSCRIPTION] for line in await said(two)] == ["listen-1"]


# ---- bounds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        message(method="notifications/progress", params={"progressToken": 7, "progress": 1}),
        message(id=7, result={}),
        message(method="notifications/message", params={"level": "info", "data": 1}),
        message(id=1, method="roots/list"),
    ],
)
async def test_a_server_that_babbles_is_cut_off(line: bytes) -> None:
    talk = Talk(stateless=True)
    for _ in range(1000):
        talk.conversation.receive(line)
    with pytest.raises(Malformed, match="floods"):
        talk.conversation.receive(line)


async def test_a_server_that_errs_now_and_then_is_forgiven() -> None:
    talk = Talk()
    for _ in range(5000):
        talk.clock += 0.02
        talk.hear(id=7, result={})


async def test_a_flood_in_answer_to_a_call_stops_the_pipe_until_it_is_read() -> None:
    talk = Talk()
    call = talk.ask(1, _meta={"progressToken": "t"})
    for number in range(400):
        talk.hear(method="notifications/progress", params={"progressToken": call.number, "progress": number})
    assert talk.held == [True]
    assert len(await said(call)) == 400
    assert talk.held == [True, False]


async def test_large_messages_stop_the_pipe_as_well() -> None:
    talk = Talk()
    call = talk.ask(1)
    talk.hear(method="notifications/message", params={"level": "info", "data": "x" * (2 << 20)})
    assert talk.held == [True]
    talk.conversation.forget(call)
    assert talk.held == [True, False]


async def test_only_so_many_calls_are_in_flight() -> None:
    talk = Talk()
    for number in range(256):
        talk.ask(number)
    with pytest.raises(Unavailable) as caught:
        talk.ask(256)
    assert caught.value.code is Code.OVERLOADED
    assert len(talk.written) == 256


async def test_a_call_that_cannot_be_written_is_not_waited_for() -> None:
    talk = Talk()
    talk.clogged = True
    with pytest.raises(Unavailable):
        talk.ask(1)
    assert not talk.conversation.busy


# ---- time --------------------------------------------------------------------------------------------------------


async def test_a_call_without_an_answer_times_out_alone_and_its_late_answer_is_dropped() -> None:
    talk = Talk()
    slow = talk.ask("slow")
    talk.clock = 5
    other = talk.ask("other")
    talk.clock = 11
    assert talk.conversation.expire(talk.clock) is None
    with pytest.raises(Unavailable) as caught:
        await slow.mailbox.next()
    assert caught.value.code is Code.UPSTREAM_TIMEOUT
    assert talk.written[-1]["params"]["requestId"] == slow.number
    talk.hear(id=slow.number, result={"late": True})
    talk.hear(id=other.number, result={"in": "time"})
    assert [line["result"] for line in await said(other)] == [{"in": "time"}]


async def test_a_session_that_does_not_begin_is_not_cancelled() -> None:
    talk = Talk()
    talk.ask(1, "initialize")
    talk.conversation.expire(11)
    assert len(talk.written) == 1


async def test_a_call_that_makes_progress_is_given_more_time() -> None:
    talk = Talk()
    call = talk.ask(1, _meta={"progressToken": "t"})
    for _ in range(10):
        talk.clock += 9
        talk.hear(method="notifications/progress", params={"progressToken": call.number, "progress": 1})
        talk.conversation.expire(talk.clock)
    assert talk.conversation.busy


async def test_while_the_pipe_is_stopped_nobody_times_out_but_not_for_ever() -> None:
    talk = Talk(patience=Patience(first_byte=10, idle=50))
    call = talk.ask(1, _meta={"progressToken": "t"})
    for _ in range(300):
        talk.hear(method="notifications/progress", params={"progressToken": call.number, "progress": 1})
    assert talk.conversation.expire(49) is None
    failure = talk.conversation.expire(51)
    assert failure is not None
    assert failure.code is Code.OVERLOADED


async def test_the_end_fails_every_call_once_and_ends_the_listener() -> None:
    talk = Talk()
    answered, waiting = talk.ask(1), talk.ask(2)
    listener = talk.conversation.listen()
    assert listener is not None
    talk.hear(id=answered.number, result={})
    reader = asyncio.create_task(listener.next())
    talk.conversation.end(Unavailable(Code.UPSTREAM_UNAVAILABLE, "it died"))
    assert await reader is None
    assert len(await said(answered)) == 1
    with pytest.raises(Unavailable, match="it died"):
        await waiting.mailbox.next()
    for act in (lambda: talk.ask(3), lambda: talk.tell("x"), lambda: talk.reply(1), talk.conversation.listen):
        with pytest.raises(Unavailable, match="it died"):
            act()
