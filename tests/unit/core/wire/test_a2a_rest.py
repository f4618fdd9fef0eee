"""A2A over HTTP+JSON: which requests there are, what each is over JSON-RPC, and how answers cross over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire import a2a, a2a_errors, a2a_rest
from citywatch.core.wire.jsonrpc import FROM_AGENT, FROM_SERVER, Request, Response, parse_message

MESSAGE = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}}


def read(verb: str, path: str, body: Any = None, query: str = "", **headers: str) -> Request:
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return a2a_rest.read(verb, path.encode(), query.encode(), sent, raw, FROM_AGENT)


@pytest.mark.parametrize(
    ("verb", "path", "body", "query", "method", "params"),
    [
        ("POST", "/message:send", MESSAGE, "", "SendMessage", MESSAGE),
        ("POST", "/message:stream", MESSAGE, "", "SendStreamingMessage", MESSAGE),
        ("GET", "/tasks/t-1", None, "historyLength=0", "GetTask", {"id": "t-1", "historyLength": 0}),
        ("GET", "/tasks", None, "pageSize=2&includeArtifacts=true&contextId=a%20b", "ListTasks",
         {"pageSize": 2, "includeArtifacts": True, "contextId": "a b"}),
        ("POST", "/tasks/t:cancel", None, "", "CancelTask", {"id": "t"}),
        ("POST", "/tasks/t:cancel", {"id": "t", "metadata": {"a": 1}}, "", "CancelTask",
         {"id": "t", "metadata": {"a": 1}}),
        ("GET", "/tasks/t:subscribe", None, "", "SubscribeToTask", {"id": "t"}),
        ("POST", "/tasks/t:subscribe", None, "", "SubscribeToTask", {"id": "t"}),
        ("POST", "/tasks/t/pushNotificationConfigs", {"url": "https://x"}, "", "CreateTaskPushNotificationConfig",
         {"taskId": "t", "url": "https://x"}),
        ("DELETE", "/tasks/t/pushNotificationConfigs/c", None, "", "DeleteTaskPushNotificationConfig",
         {"taskId": "t", "id": "c"}),
        ("GET", "/extendedAgentCard", None, "", "GetExtendedAgentCard", {}),
    ],
)  # fmt: skip
def test_each_request_is_the_one_that_json_rpc_would_carry(
    verb: str, path: str, body: Any, query: str, method: str, params: dict[str, Any]
) -> None:
    found = read(verb, path, body, query)
    assert (found.method, found.params) == (method, params)
    assert parse_message(found.body, FROM_AGENT) == found


@pytest.mark.parametrize(
    ("verb", "path", "body", "query", "why"),
    [
        ("GET", "/tasks/t", None, "history_length=1", "not one of the method's"),
        ("GET", "/tasks/t", None, "historyLength=1&historyLength=2", "twice"),
        ("GET", "/tasks/t", None, "historyLength=1e3", "wrong type"),
        ("GET", "/tasks/t", None, "historyLength", "the query is none"),
        ("GET", "/tasks", None, "includeArtifacts=yes", "wrong type"),
        ("GET", "/tasks", None, "contextId=%ff", "the query is none"),
        ("GET", "/tasks/t", {}, "", "has no body"),
        ("POST", "/message:send", [], "", "not one JSON object"),
        ("POST", "/message:send", b"{", "", "not JSON"),
        ("POST", "/message:send", MESSAGE, "a=b", "has no query"),
        ("POST", "/tasks/t:cancel", {"id": "other"}, "", "`id` in the body is another"),
        ("POST", "/message:send", b'{"message":{},"message":{}}', "", "more than once"),
    ],
)
def test_what_is_no_request_is_said_so(verb: str, path: str, body: Any, query: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read(verb, path, body, query)


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("PUT", "/message:send"),
        ("GET", "/message:send"),
        ("GET", "/tasks/a%2Fb"),
        ("GET", "/tasks/a/b"),
        ("GET", "/tasks/.."),
        ("GET", "/tasks/..:subscribe"),
        ("GET", "/tasks/a:other"),
        ("GET", "/tasks/"),
        ("GET", "//tasks"),
        ("GET", "/tenant/tasks"),
        ("GET", "/tasks/t\n"),
    ],
)
def test_any_other_path_is_none(verb: str, path: str) -> None:
    with pytest.raises(Refused) as found:
        read(verb, path)
    assert found.value.code is Code.METHOD_UNKNOWN


def test_a_request_without_a_body_says_its_task_and_chain_in_headers_of_its_own() -> None:
    found = read("GET", "/tasks/t", citywatch_task="t1", citywatch_chain="a.b.c, d.e.f")
    reading = a2a.read_request(found)
    assert (reading.task, reading.chain) == ("t1", ("a.b.c", "d.e.f"))
    both = read("POST", "/message:send", MESSAGE, citywatch_task="t1")
    assert a2a.read_request(both).task == "t1"
    with pytest.raises(Malformed):
        read("POST", "/message:send", MESSAGE | {"metadata": {a2a.TASK: "t2"}}, citywatch_task="t1")
    with pytest.raises(Malformed):
        a2a_rest.read("GET", b"/tasks/t", b"", [(b"citywatch-task", b"a")] * 2, b"", FROM_AGENT)


@pytest.mark.parametrize("wrong", ["a/b", "..", ".", "a:cancel", "", "a%2Fb", "a b", "é", 1, None])
def test_an_id_that_is_no_plain_word_is_put_in_no_path(wrong: Any) -> None:
    with pytest.raises(Refused) as found:
        a2a_rest.write(Request(1, "GetTask", {"id": wrong}))
    assert found.value.code is Code.PEER_TASK_UNKNOWN


@pytest.mark.parametrize("fault", a2a_errors.FAULTS, ids=lambda one: str(one.reason))
def test_an_error_stays_what_it_was_on_the_way_over_and_back(fault: a2a_errors.Fault) -> None:
    info = {"@type": a2a_errors.INFO, "reason": fault.reason, "domain": a2a_errors.DOMAIN}
    error = {"code": fault.number, "message": "no", "data": [info]}
    status, raw = a2a_rest.told(json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode(), 0)
    assert (status, json.loads(raw)["error"]["code"]) == (fault.status, fault.status)
    back = parse_message(a2a_rest.heard(7, status, raw, FROM_SERVER), FROM_SERVER)
    assert isinstance(back, Response)
    assert (back.id, back.error) == (7, error)


def test_a_peers_own_status_is_kept() -> None:
    body = a2a_rest.heard(1, 415, b'{"error":{"code":415,"message":"no"}}', FROM_SERVER)
    assert a2a_rest.told(body, 415)[0] == 415


@pytest.mark.parametrize(
    "raw", [b"{}", b"[]", b'{"error":"no"}', b'{"error":{"message":1}}', b'{"error":{"message":"","details":[1]}}']
)
def test_what_is_no_error_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        a2a_rest.heard(1, 400, raw, FROM_SERVER)


def test_a_refusal_of_ours_goes_out_as_http_says_it() -> None:
    for code, number, status in (
        (Code.PEER_TASK_UNKNOWN, 1403, 404),
        (Code.NO_PERMIT, 1403, 403),
        (Code.DRAINING, 1503, 503),
        (Code.REVISION_UNSUPPORTED, 1403, 400),
    ):
        found, raw = a2a_rest.told(a2a.refusal(1, code, number), 0)
        error = json.loads(raw)["error"]
        assert (found, error["code"]) == (status, status)
        assert error["details"][-1]["metadata"]["code"] == code
        assert error["status"].isupper()


def test_a_stream_is_read_event_by_event() -> None:
    one = a2a_rest.streamed(3, "message", b'{"task":{}}', FROM_SERVER)
    assert json.loads(one) == {"jsonrpc": "2.0", "id": 3, "result": {"task": {}}}
    last = a2a_rest.streamed(3, "error", b'{"error":{"code":500,"message":"broke"}}', FROM_SERVER)
    assert json.loads(last)["error"]["code"] == -32603
    with pytest.raises(Malformed):
        a2a_rest.streamed(3, "message", b"[]", FROM_SERVER)
