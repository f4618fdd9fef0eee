"""What an agent asks: which revision it speaks, whether its headers agree with its body, what policy sees of it."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.call import Continuation, Direction
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import Message, Notification, Request, Response

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
SCHEMA = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}


def read(message: Message, *headers: str, negotiated: str | None = None, schema: Any = None) -> mcp.Reading:
    pairs = [tuple(part.encode("latin-1") for part in header.split(": ", 1)) for header in headers]
    mirrored = () if schema is None else mcp.param_headers(schema)
    return mcp.read_message(pairs, message, lambda _: mirrored, negotiated=negotiated)  # type: ignore[arg-type]


def call(name: str = "pay", revision: str = "2026-07-28", **arguments: Any) -> Request:
    meta = META | {"io.modelcontextprotocol/protocolVersion": revision}
    return Request(1, "tools/call", {"_meta": meta, "name": name, "arguments": arguments})


MODERN = ("mcp-protocol-version: 2026-07-28", "mcp-method: tools/call", "mcp-name: pay")


def refused(code: Code, message: Message, *headers: str, **more: Any) -> None:
    with pytest.raises(Refused) as caught:
        read(message, *headers, **more)
    assert caught.value.code is code


# ---- stateless ---------------------------------------------------------------------------------------------------


def test_a_stateless_call_is_read_whole() -> None:
    reading = read(call(amount=5), *MODERN)
    assert reading.method == reading.action == "tools/call"
    assert reading.revision == "2026-07-28"
    assert reading.name == "pay"
    assert reading.arguments == {"amount": 5}
    assert reading.session is None
    assert reading.headers == {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "pay"}


def test_a_session_header_means_nothing_on_the_stateless_revision() -> None:
    assert read(call(), *MODERN, "mcp-session-id: stolen").session is None


def test_white_space_around_a_header_is_no_part_of_it() -> None:
    read(call(), MODERN[0] + " ", "mcp-method: \ttools/call ", "mcp-name:   pay ")


def test_names_that_no_header_can_hold_travel_as_base64() -> None:
    reading = read(call("zahle €"), *MODERN[:2], "mcp-name: =?base64?emFobGUg4oKs?=")
    assert reading.headers["mcp-name"] == "=?base64?emFobGUg4oKs?="
    refused(Code.HEADER_MISMATCH, call("zahle €"), *MODERN[:2], "mcp-name: zahle \xe2\x82\xac")


@pytest.mark.parametrize("lost", range(3))
def test_each_routing_header_must_be_there(lost: int) -> None:
    left = [header for place, header in enumerate(MODERN) if place != lost]
    refused(Code.HEADER_MISMATCH, call(), *left)


@pytest.mark.parametrize("lost", range(3))
def test_no_routing_header_may_stand_twice(lost: int) -> None:
    refused(Code.HEADER_MISMATCH, call(), *MODERN, MODERN[lost])
    refused(Code.HEADER_MISMATCH, call(), *MODERN, MODERN[lost].replace("mcp", "MCP"))


@pytest.mark.parametrize("wrong", ["mcp-name: PAY", "mcp-name: pay2", "mcp-name: =?base64?cGF5Mg==?=", "mcp-name: "])
def test_a_name_other_than_the_body_s_is_refused(wrong: str) -> None:
    refused(Code.HEADER_MISMATCH, call(), *MODERN[:2], wrong)


@pytest.mark.parametrize("wrong", ["mcp-method: tools/list", "mcp-method: TOOLS/CALL", "mcp-method: "])
def test_a_method_other_than_the_body_s_is_refused(wrong: str) -> None:
    refused(Code.HEADER_MISMATCH, call(), MODERN[0], wrong, MODERN[2])


def test_two_revisions_in_one_message_are_refused() -> None:
    refused(Code.HEADER_MISMATCH, call(), "mcp-protocol-version: 2025-11-25", *MODERN[1:])
    refused(Code.HEADER_MISMATCH, call(revision="2025-11-25"), *MODERN)
    refused(Code.HEADER_MISMATCH, call(), *MODERN[1:])


def test_a_revision_that_nobody_knows_is_refused_as_such() -> None:
    refused(Code.REVISION_UNSUPPORTED, call(revision="v9"), "mcp-protocol-version: v9", *MODERN[1:])


@pytest.mark.parametrize("key", list(META))
def test_the_envelope_must_be_whole(key: str) -> None:
    meta = {other: value for other, value in META.items() if other != key}
    with pytest.raises(Malformed, match="_meta"):
        read(Request(1, "tools/list", {"_meta": meta}), "mcp-protocol-version: 2026-07-28", "mcp-method: tools/list")


@pytest.mark.parametrize("meta", [None, 1, [], "x"])
def test_an_envelope_that_is_no_object_is_malformed(meta: Any) -> None:
    with pytest.raises(Malformed):
        read(Request(1, "tools/list", {"_meta": meta}), "mcp-protocol-version: 2026-07-28", "mcp-method: tools/list")


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "x/y"])
def test_methods_of_other_revisions_do_not_exist(method: str) -> None:
    headers = ("mcp-protocol-version: 2026-07-28", f"mcp-method: {method}")
    refused(Code.METHOD_UNKNOWN, Request(1, method, {"_meta": META}), *headers)


def test_a_request_is_no_notification_and_a_notification_no_request() -> None:
    refused(Code.METHOD_UNKNOWN, Request(1, "notifications/cancelled", {"requestId": 1}))
    refused(Code.METHOD_UNKNOWN, Notification("tools/call", {"name": "pay"}))
    refused(Code.METHOD_UNKNOWN, Notification("tools/list"))


def test_a_stateless_notification_needs_its_header_alone() -> None:
    told = Notification("notifications/cancelled", {"requestId": 1})
    assert read(told, "mcp-protocol-version: 2026-07-28").method == "notifications/cancelled"
    refused(Code.HEADER_MISMATCH, told, "mcp-protocol-version: 2026-07-28", "mcp-method: notifications/other")
    with_meta = Notification("notifications/cancelled", {"requestId": 1, "_meta": META})
    refused(Code.HEADER_MISMATCH, with_meta)
    refused(Code.REVISION_UNSUPPORTED, told, "mcp-protocol-version: v9")


def test_a_stateless_agent_sends_no_responses() -> None:
    refused(Code.REVISION_UNSUPPORTED, Response(1, {}), "mcp-protocol-version: 2026-07-28")


def test_a_mirrored_argument_must_agree_with_its_header() -> None:
    reading = read(call(region="eu"), *MODERN, "Mcp-Param-Region: eu", schema=SCHEMA)
    assert reading.headers["mcp-param-region"] == "eu"
    refused(Code.HEADER_MISMATCH, call(region="eu"), *MODERN, schema=SCHEMA)
    refused(Code.HEADER_MISMATCH, call(region="eu"), *MODERN, "mcp-param-region: us", schema=SCHEMA)
    refused(Code.HEADER_MISMATCH, call(), *MODERN, "mcp-param-region: us", schema=SCHEMA)
    refused(Code.HEADER_MISMATCH, call(region="eu"), *MODERN, *["mcp-param-region: eu"] * 2, schema=SCHEMA)


def test_a_mirrored_header_that_no_schema_wants_is_not_forwarded() -> None:
    assert "mcp-param-other" not in read(call(), *MODERN, "mcp-param-other: x", schema=SCHEMA).headers


# ---- with sessions -----------------------------------------------------------------------------------------------


def test_a_call_in_a_session_is_read_whole() -> None:
    message = Request(1, "tools/call", {"name": "pay", "arguments": {"amount": 5}})
    reading = read(message, "mcp-protocol-version: 2025-11-25", "mcp-session-id: s1")
    assert (reading.revision, reading.session, reading.name) == ("2025-11-25", "s1", "pay")
    assert reading.headers == {"mcp-protocol-version": "2025-11-25"}


def test_a_request_that_names_no_revision_speaks_the_session_s_or_the_oldest_with_http() -> None:
    assert read(Request(1, "ping")).revision == "2025-03-26"
    assert read(Request(1, "ping"), negotiated="2025-06-18").revision == "2025-06-18"
    assert read(Request(1, "ping"), negotiated="2025-06-18").headers == {}


def test_a_revision_other_than_the_session_s_is_refused() -> None:
    refused(Code.HEADER_MISMATCH, Request(1, "ping"), "mcp-protocol-version: 2025-03-26", negotiated="2025-11-25")


def test_headers_that_this_revision_does_not_ask_for_are_compared_all_the_same() -> None:
    message = Request(1, "tools/call", {"name": "pay"})
    read(message, "mcp-protocol-version: 2025-11-25", "mcp-method: tools/call", "mcp-name: pay")
    refused(Code.HEADER_MISMATCH, message, "mcp-protocol-version: 2025-11-25", "mcp-method: tools/list")
    refused(Code.HEADER_MISMATCH, message, "mcp-protocol-version: 2025-11-25", "mcp-name: read")


@pytest.mark.parametrize(("offered", "spoken"), [("2025-06-18", "2025-06-18"), ("2099-01-01", "2025-11-25")])
def test_initialize_offers_a_revision_and_is_forwarded_without_one(offered: str, spoken: str) -> None:
    params = {"protocolVersion": offered, "capabilities": {}, "clientInfo": {"name": "a"}}
    reading = read(Request(1, "initialize", params), "mcp-protocol-version: 2025-03-26")
    assert (reading.revision, reading.headers) == (spoken, {})


def test_an_answer_to_a_server_reads_as_a_response() -> None:
    reading = read(Response(5, {}), "mcp-protocol-version: 2025-11-25", "mcp-session-id: s")
    assert (reading.method, reading.session, reading.revision) == (mcp.RESPONSE, "s", "2025-11-25")


def test_listening_and_ending_name_a_session() -> None:
    headers = [(b"mcp-session-id", b"s"), (b"mcp-protocol-version", b"2025-11-25"), (b"last-event-id", b"7")]
    reading = mcp.read_bodiless(headers)
    assert reading.session == "s"
    assert reading.headers == {"mcp-protocol-version": "2025-11-25", "last-event-id": "7"}
    with pytest.raises(Refused):
        mcp.read_bodiless([(b"mcp-protocol-version", b"2026-07-28")])


# ---- parameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {}),
        ("tools/call", {"name": 7}),
        ("tools/call", {"name": "a", "arguments": []}),
        ("tools/call", {"name": "a", "arguments": None}),
        ("tools/call", {"name": "a", "smuggled": 1}),
        ("tools/call", {"name": "a", "_meta": []}),
        ("tools/list", {"cursor": 1}),
        ("tools/list", {"cursor": None}),
        ("resources/read", {"uri": ["a"]}),
        ("prompts/get", {"name": "a", "arguments": "x"}),
        ("completion/complete", {"ref": {"type": "ref/prompt"}, "argument": {}}),
        ("completion/complete", {"ref": {"type": "other", "name": "a"}, "argument": {}}),
        ("completion/complete", {"ref": {"type": ["x"], "name": "a"}, "argument": {}}),
        ("completion/complete", {"ref": "x", "argument": {}}),
        ("logging/setLevel", {"level": True}),
        ("initialize", None),
    ],
)
def test_params_of_a_wrong_shape_are_malformed(method: str, params: dict[str, Any] | None) -> None:
    with pytest.raises(Malformed):
        read(Request(1, method, params), "mcp-protocol-version: 2025-11-25")


def test_a_boolean_is_no_number() -> None:
    told = Notification("notifications/progress", {"progressToken": 1, "progress": True})
    with pytest.raises(Malformed):
        read(told, "mcp-protocol-version: 2025-11-25")


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("resources/read", {"uri": "file:///a"}, "file:///a"),
        ("resources/subscribe", {"uri": "file:///a"}, "file:///a"),
        ("prompts/get", {"name": "greet"}, "greet"),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {}}, "greet"),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "a://{b}"}, "argument": {}}, "a://{b}"),
        ("tools/list", None, None),
    ],
)
def test_what_a_method_names_is_found(method: str, params: dict[str, Any] | None, name: str | None) -> None:
    assert read(Request(1, method, params), "mcp-protocol-version: 2025-11-25").name == name


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Request(1, "tools/call", {"name": "a", "task": {"ttl": 60_000}}), "the parameter `task` of `tools/call`"),
        (Request(1, "tools/call", {"name": "a", "task": None}), "the parameter `task` of `tools/call`"),
        (Request(1, "tasks/get", {"taskId": "another agent's"}), "`tasks/get`"),
        (Request(1, "tasks/result", {"taskId": "another agent's"}), "`tasks/result`"),
        (Request(1, "tasks/list"), "`tasks/list`"),
        (Request(1, "tasks/cancel", {"taskId": "another agent's"}), "`tasks/cancel`"),
        (
            Notification("notifications/tasks/status", {"taskId": "t", "status": "working"}),
            "`notifications/tasks/status`",
        ),
    ],
)
def test_whatever_is_about_tasks_is_refused_by_name(message: Request | Notification, said: str) -> None:
    """A server sees all agents under our one credential: it would give one agent what another's call brought."""
    with pytest.raises(Refused) as refused:
        read(message, "mcp-protocol-version: 2025-11-25")
    assert refused.value.code is Code.TASK_UNSUPPORTED
    assert said in str(refused.value)


def test_a_tool_may_well_have_an_argument_called_task() -> None:
    message = Request(1, "tools/call", {"name": "a", "arguments": {"task": {"ttl": 1}}})
    assert read(message, "mcp-protocol-version: 2025-11-25").arguments == {"task": {"ttl": 1}}


def test_policy_sees_the_params_without_meta() -> None:
    message = Request(1, "resources/read", {"uri": "a", "_meta": {"progressToken": 1}})
    assert read(message, "mcp-protocol-version: 2025-11-25").arguments == {"uri": "a"}
    assert read(Request(1, "tools/call", {"name": "a"}), "mcp-protocol-version: 2025-11-25").arguments == {}


# ---- what servers say --------------------------------------------------------------------------------------------


def test_a_server_s_request_is_an_action_of_its_own() -> None:
    row = mcp.read_server_message(Request(1, "ping"), "2025-11-25")
    assert row.action == "to_agent/ping"
    assert row.direction is Direction.TO_AGENT


def test_a_stateless_server_sends_no_requests() -> None:
    with pytest.raises(Refused):
        mcp.read_server_message(Request(1, "roots/list"), "2026-07-28")


def test_what_agents_ask_servers_do_not_and_the_other_way_round() -> None:
    with pytest.raises(Refused):
        mcp.read_server_message(Request(1, "tools/call", {"name": "a"}), "2025-11-25")
    sampling = Request(1, "sampling/createMessage", {"messages": [], "maxTokens": 1})
    mcp.read_server_message(sampling, "2025-11-25")
    refused(Code.METHOD_UNKNOWN, sampling, "mcp-protocol-version: 2025-11-25")


def test_a_server_may_say_more_than_we_know() -> None:
    told = Notification("notifications/message", {"level": "info", "data": {"a": 1}, "new": True})
    assert mcp.read_server_message(told, "2026-07-28").action == "to_agent/notifications/message"
    with pytest.raises(Malformed):
        mcp.read_server_message(Notification("notifications/message", {"level": 1, "data": 1}), "2026-07-28")


def test_no_two_methods_share_an_action() -> None:
    rows = mcp.all_methods()
    assert len({row.action for row in rows}) == len(rows) > 40


def test_what_continues_a_call_is_read_from_the_message_whatever_it_asks() -> None:
    def read(method: str, **params: object) -> Continuation | None:
        return mcp.continuation(Request(1, method, {"name": "pay", **params}, b""))

    assert read("tools/call", arguments={"requestState": "s"}) is None
    for method in ("tools/call", "prompts/get", "resources/read"):
        assert read(method, requestState="s") == Continuation(responses={}, state="s")
        assert read(method, inputResponses={"r": {}}) == Continuation(responses={"r": {}}, state=None)
    assert mcp.continuation(Response(1, {"requestState": "s"})) is None


# ---- the task that a call names ------------------------------------------------------------------------------------


def named(task: Any) -> Request:
    return Request(1, "tools/call", {"_meta": META | {mcp.TASK: task}, "name": "pay", "arguments": {}})


def test_a_call_names_its_task_in_meta_or_none() -> None:
    assert mcp.named_task(named("0b1e")) == "0b1e"
    assert mcp.named_task(call()) is None
    assert mcp.named_task(Request(1, "tools/list", None)) is None
    assert mcp.named_task(Response(1, {"_meta": {mcp.TASK: "0b1e"}}, None)) is None


@pytest.mark.parametrize("task", ["", "a b", "a\nb", "x" * 65, 7, True, ["0b1e"], {}])
def test_what_is_no_id_of_a_task_is_malformed(task: Any) -> None:
    with pytest.raises(Malformed, match="is the id of a task"):
        mcp.named_task(named(task))
