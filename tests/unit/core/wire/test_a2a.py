"""What an agent may send another over A2A, what that one may answer, and the words of a refusal."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from citywatch.core.call import Call, Direction, Effect
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire import a2a, a2a_push
from citywatch.core.wire.jsonrpc import FROM_AGENT, FROM_SERVER, Request, Response, parse_message

MESSAGE: dict[str, Any] = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
STATUS = {"state": "TASK_STATE_COMPLETED"}


def request(method: str, **params: Any) -> Request:
    raw = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    message = parse_message(raw, FROM_AGENT)
    assert isinstance(message, Request)
    return message


def send(metadata: dict[str, Any] | None = None, **more: Any) -> Request:
    own = {} if metadata is None else {"metadata": metadata}
    return request("SendMessage", message=MESSAGE | more, **own)


def refused(message: Request) -> str:
    with pytest.raises((Malformed, Refused)) as found:
        a2a.read_request(message)
    return str(found.value)


def test_a_message_names_its_skill_its_task_and_what_it_goes_on_with() -> None:
    own = {a2a.SKILL: "refund", a2a.TASK: "t1", a2a.CHAIN: ["a", "b"], "theirs": 1}
    reading = a2a.read_request(send(own, contextId="c1", taskId="t9", referenceTaskIds=["t8", "t9"]))
    assert (reading.name, reading.task, reading.chain) == ("refund", "t1", ("a", "b"))
    assert reading.things == (("context", "c1"), ("task", "t9"), ("task", "t8"))
    assert reading.arguments["metadata"] == {"theirs": 1}
    assert reading.row.effect is Effect.IRREVERSIBLE
    assert reading.row.sends


def test_what_is_handed_on_is_said_like_the_rest_of_a_message() -> None:
    reading = a2a.read_request(send({a2a.TASK: "t1", a2a.CHAIN: ["a"], a2a.HANDED: ["a", "b"]}))
    assert reading.chain == ("a",)
    assert reading.arguments["metadata"] == {a2a.HANDED: ["a", "b"]}
    for wrong in ("a", [], ["a"] * 9, [7]):
        assert "is a list of one to" in refused(send({a2a.HANDED: wrong}))
    assert "is written by a gateway" in refused(request("GetTask", id="t", metadata={a2a.HANDED: ["a"]}))


def test_a_request_about_a_task_names_it() -> None:
    reading = a2a.read_request(request("GetTask", id="t1", historyLength=2))
    assert (reading.name, reading.things) == ("t1", (("task", "t1"),))
    assert a2a.effect_of("GetTask") is Effect.READ
    assert a2a.effect_of("CancelTask") is Effect.WRITE
    assert a2a.effect_of("anything") is Effect.IRREVERSIBLE


@pytest.mark.parametrize("method", ["message/send", "tools/call", "SendMessage "])
def test_a_method_that_is_not_in_the_table_is_refused(method: str) -> None:
    with pytest.raises(Refused) as found:
        a2a.read_request(request(method))
    assert found.value.code is Code.METHOD_UNKNOWN


def test_what_is_asked_for_pushes_is_a_request_about_its_task() -> None:
    config = {"url": "https://x", "id": "c", "token": "t", "authentication": {"scheme": "Bearer", "credentials": "s"}}
    for message in (
        request("CreateTaskPushNotificationConfig", taskId="t1", **config),
        request("SendMessage", message=MESSAGE | {"taskId": "t1"}, configuration={a2a_push.INLINE: config}),
    ):
        assert a2a.read_request(message).things == (("task", "t1"),)
        plain, target = a2a_push.parted(message)
        assert target == a2a_push.Target(token="t", authorization="Bearer s")
        assert isinstance(plain, Request)
        assert parse_message(plain.body, FROM_AGENT) == plain
        assert a2a.read_request(plain).things == (("task", "t1"),)
        assert not {b'"t"', b'"s"', b"Bearer"} & set(re.findall(rb'"[^"]*"|Bearer', plain.body))
        told = json.loads(a2a_push.readdressed(plain.body, {"id": "o", "url": "https://us"}))["params"]
        told = told.get("configuration", {}).get(a2a_push.INLINE, told)
        assert (told["id"], told["url"]) == ("o", "https://us")
    assert a2a_push.parted(request("GetTask", id="t")) == (request("GetTask", id="t"), None)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"url": 1},
        {"url": "https://x", "id": 1},
        {"url": "https://x", "token": "a\r\nb: c"},
        {"url": "https://x", "authentication": {"scheme": "Bearer x", "credentials": "s"}},
        {"url": "https://x", "authentication": {"scheme": "Bearer", "credentials": "a\nb"}},
        {"url": "https://x", "authentication": {"scheme": "Bearer", "schemes": ["Basic"]}},
        {"url": "https://x", "authentication": {"credentials": "s"}},
        {"url": "https://x", "authentication": []},
        {"url": "https://x", "id": "a b"},
    ],
)
def test_what_is_no_configuration_for_pushes_is_malformed(config: dict[str, Any]) -> None:
    for message in (
        request("CreateTaskPushNotificationConfig", taskId="t1", **config),
        request("SendMessage", message=MESSAGE, configuration={a2a_push.INLINE: config}),
    ):
        with pytest.raises(Malformed):
            a2a.read_request(message)


@pytest.mark.parametrize("method", ["Get", "Delete"])
def test_a_configuration_is_named_with_its_task(method: str) -> None:
    reading = a2a.read_request(request(f"{method}TaskPushNotificationConfig", taskId="t", id="c"))
    assert (reading.name, reading.things) == ("t", (("task", "t"),))
    assert refused(request(f"{method}TaskPushNotificationConfig", id="c"))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (send(task_id="theirs"), "`task_id` is not a member"),
        (send(role="ROLE_AGENT"), "`ROLE_USER`"),
        (send(role=1), "wrong type"),
        (send(parts=[]), "1 to 256 parts"),
        (send(parts=[{"text": "a", "data": 1}]), "exactly one of"),
        (send(parts=[{"url": "http://169.254.169.254/latest"}]), "a part is a link"),
        (send(parts=[{"text": "a", "url": "file:///etc/passwd"}]), "exactly one of"),
        (send(parts=[{"text": "a", "file_uri": "x"}]), "does not know"),
        (send(parts=[{"text": "a", "metadata": 1}]), "no object|not an object"),
        (send(parts=[["text"]]), "not an object"),
        (send(metadata={a2a.HOPS: 0}), "written by a gateway"),
        (send(metadata={a2a.SENDER: "spiffe://x/agent/boss"}), "written by a gateway"),
        (send({a2a.SKILL: "a b"}), "the id of a skill"),
        (send({a2a.TASK: "a b"}), "the id of a task"),
        (send({a2a.CHAIN: []}), "one to 8 links"),
        (send(contextId="a\u00e9"), "printable word"),
        (send(referenceTaskIds=[1]), "strings"),
        (request("SendMessage"), "`message` in `SendMessage` is missing"),
        (request("SendMessage", message=MESSAGE, tenant="other"), "`tenant` is not a member"),
        (request("GetTask", id=""), "printable word"),
        (request("GetTask", id="t", metadata={a2a.SKILL: "x"}), "belongs elsewhere"),
    ],
)
def test_what_is_no_request_is_said_so(message: Request, why: str) -> None:
    assert re.search(why, refused(message))


def test_a_member_that_nobody_knows_goes_no_further() -> None:
    """The honest case: a client of a later version says more than we know. SPEC: A2A 1.0 §5.7 (unknown fields)."""
    config = {"url": "https://x", "pushUrl": "https://y"}
    configuration = {"returnImmediately": True, "later": [1], a2a_push.INLINE: config}
    more = {"message": {**MESSAGE, "later": "on"}, "configuration": configuration, "later": 42}
    reading = a2a.read_request(request("SendMessage", **more))
    assert reading.arguments == {
        "message": MESSAGE,
        "configuration": {"returnImmediately": True, a2a_push.INLINE: {"url": "https://x"}},
    }
    assert dict(a2a.read_request(request("GetTask", id="t", later={"a": 1})).arguments) == {"id": "t"}


@pytest.mark.parametrize(
    "message",
    [
        send(context_id="c"),
        send(reference_task_ids=["t"]),
        send(message_id="m2"),
        request("GetTask", id="t", history_length=0),
        request("SendMessage", message=MESSAGE, configuration={"return_immediately": True}),
        request("ListTasks", tenant="other"),
    ],
)
def test_a_member_that_some_reader_would_take_for_one_of_ours_is_refused(message: Request) -> None:
    """The attack: what we leave out as unknown, a peer's reader of ProtoJSON knows by its other name."""
    assert "is not a member" in refused(message)


def test_hops_and_sender_in_a_message_are_taken_from_no_agent() -> None:
    assert "written by a gateway" in refused(send({a2a.HOPS: 0}))


@pytest.mark.parametrize(
    "headers", [[], [(b"a2a-version", b"0.3")], [(b"A2A-Version", b"1.0"), (b"a2a-version", b"0.3")]]
)
def test_only_the_version_that_is_judged_is_spoken(headers: list[tuple[bytes, bytes]]) -> None:
    a2a.check_version([(b"A2A-Version", b"1.0")])
    with pytest.raises(Refused) as found:
        a2a.check_version(headers)
    assert found.value.code is Code.REVISION_UNSUPPORTED


def call(message: Request) -> Call:
    reading = a2a.read_request(message)
    return Call(
        id="c1",
        direction=Direction.TO_SERVER,
        agent="spiffe://d.example/agent/router",
        server="billing",
        method=reading.row.method,
        name=reading.name,
        arguments=reading.arguments,
        body=message.body,
        revision=a2a.REVISION,
        rpc_id=message.id,
        chain=reading.chain,
    )


def test_a_peer_is_told_who_sends_and_how_far_it_came_and_no_chain() -> None:
    told = json.loads(a2a.forwarded(call(send({a2a.SKILL: "refund", a2a.CHAIN: ["a"]})), 2))["params"]
    assert told["message"] == MESSAGE
    assert told["metadata"] == {a2a.SKILL: "refund", a2a.SENDER: "spiffe://d.example/agent/router", a2a.HOPS: 2}
    alone = json.loads(a2a.forwarded(call(send()), None))["params"]
    assert alone["metadata"] == {a2a.SENDER: "spiffe://d.example/agent/router"}
    told = json.loads(a2a.forwarded(call(request("GetTask", id="t", metadata={a2a.CHAIN: ["a"]})), 2))["params"]
    assert told == {"id": "t"}


# ---- replies ---------------------------------------------------------------------------------------------------------


def reply(**result: Any) -> Response:
    return Response(1, result)


def test_what_a_peer_gives_its_receiver_may_use() -> None:
    task = {"id": "t1", "contextId": "c1", "status": STATUS}
    a2a.check_reply("SendMessage", reply(task=task))
    assert set(a2a.given(reply(task=task))) == {("task", "t1"), ("context", "c1")}
    assert set(a2a.given(reply(**task))) == {("task", "t1"), ("context", "c1")}
    assert set(a2a.given(reply(message={"contextId": "c2", "parts": []}))) == {("context", "c2")}
    assert a2a.given(Response(1, None, {"code": 1, "message": ""})) == ()


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("SendMessage", {}),
        ("SendMessage", {"task": {"id": "t", "status": STATUS}, "message": {"parts": []}}),
        ("SendMessage", {"statusUpdate": {"taskId": "t", "status": STATUS}}),
        ("SendMessage", {"message": {"parts": [{"url": "http://127.0.0.1/"}]}}),
        ("SendMessage", {"message": {"parts": [{"text": "a"}], "taskId": 1}}),
        ("SendMessage", {"message": [], "resultType": "input_required"}),
        ("SendMessage", {"task": {"id": "t", "status": {"state": []}}}),
        ("SendMessage", {"task": {"id": "t", "status": {"state": "DONE"}}}),
        ("GetTask", {"id": "t"}),
        ("GetTask", {"id": "t", "status": STATUS, "artifacts": [{"parts": [{"url": "x"}]}]}),
        ("GetTask", {"id": "t", "status": STATUS, "history": [{"parts": [{}]}]}),
        ("GetTask", {"id": "t", "status": {**STATUS, "message": 1}}),
        ("SendStreamingMessage", {"artifactUpdate": {"taskId": "t", "artifact": {}}}),
        ("SendStreamingMessage", {"artifactUpdate": {"artifact": {"parts": []}}}),
    ],
)
def test_a_result_of_another_shape_is_none(method: str, result: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        a2a.check_reply(method, reply(**result))


def test_a_stream_ends_with_a_task_that_is_over_or_waits() -> None:
    for state, last, may_be in (
        ("WORKING", False, False),
        ("SUBMITTED", False, False),
        ("COMPLETED", True, True),
        ("INPUT_REQUIRED", False, True),
        ("AUTH_REQUIRED", False, True),
    ):
        update = {"taskId": "t", "status": {"state": f"TASK_STATE_{state}"}}
        a2a.check_reply("SendStreamingMessage", reply(statusUpdate=update))
        assert a2a.is_last(reply(statusUpdate=update)) is last
        assert a2a.may_be_last(reply(statusUpdate=update)) is may_be
    assert a2a.is_last(reply(message={"parts": []}))
    assert not a2a.is_last(reply(artifactUpdate={"taskId": "t", "artifact": {"parts": []}}))
    assert a2a.is_last(Response(1, None, {"code": 1, "message": ""}))


def test_a_refusal_has_the_numbers_and_the_details_of_a2a() -> None:
    raw = a2a.refusal(7, Code.NO_PERMIT, 1403, "why", "c1")
    parse_message(raw, FROM_SERVER)
    error = json.loads(raw)["error"]
    assert (error["code"], error["message"]) == (1403, "citywatch: no_permit: why")
    assert error["data"][0]["metadata"]["code"] == "no_permit"
    assert error["data"][0]["metadata"]["decision"] == "c1"
    assert json.loads(a2a.refusal(None, Code.PEER_TASK_UNKNOWN, 1403))["error"]["code"] == -32001


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://files.example/a", True),
        ("https://files.example/../a", False),
        ("https://evil.example/a", False),
        ("http://169.254.169.254/latest", False),
        (1, False),
    ],
)
def test_a_link_leads_where_the_operator_lets_it(url: Any, fine: bool) -> None:
    status = {"state": "TASK_STATE_COMPLETED"}
    task = {"id": "t", "status": status, "artifacts": [{"artifactId": "a", "parts": [{"url": url}]}]}
    for method, result in (("GetTask", task), ("SendMessage", {"task": task})):
        for links, passes in ((("https://files.example/*",), fine), ((), False), (None, type(url) is str)):
            try:
                a2a.check_reply(method, Response(1, result), links)
            except Malformed:
                assert not passes
            else:
                assert passes
