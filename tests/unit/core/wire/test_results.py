"""What a server may answer, what of it is pinned, and the same answer with less in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import FROM_SERVER, Response, parse_message

TOOL = {"name": "pay", "inputSchema": {"type": "object"}}
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
CACHED = {"resultType": "complete", "ttlMs": 60_000, "cacheScope": "public"}

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("tools/list", {"tools": []}),
    ("tools/list", {"tools": [TOOL], "nextCursor": "x"}),
    ("tools/call", {"content": []}),
    ("tools/call", {"content": [{"type": "text", "text": "a"}], "isError": True, "structuredContent": {}}),
    ("prompts/list", {"prompts": [{"name": "p"}]}),
    ("prompts/get", {"messages": [{"role": "user", "content": {"type": "text", "text": "a"}}]}),
    ("resources/list", {"resources": [{"uri": "a", "name": "n"}, {"uri": "a", "name": "n"}]}),
    ("resources/templates/list", {"resourceTemplates": [{"uriTemplate": "a{b}", "name": "n"}]}),
    ("resources/read", {"contents": [{"uri": "a", "text": "b"}, {"uri": "a", "blob": "AA=="}]}),
    ("completion/complete", {"completion": {"values": ["a"], "hasMore": False}}),
    ("initialize", HELLO),
    ("initialize", HELLO | {"instructions": "be kind"}),
    ("ping", {}),
    ("logging/setLevel", {}),
]
BAD: list[tuple[str, dict[str, Any]]] = [
    ("tools/list", {}),
    ("tools/list", {"tools": {}}),
    ("tools/list", {"tools": ["pay"]}),
    ("tools/list", {"tools": [{"name": 1, "inputSchema": {}}]}),
    ("tools/list", {"tools": [{"name": "", "inputSchema": {}}]}),
    ("tools/list", {"tools": [{"name": "x" * 513, "inputSchema": {}}]}),
    ("tools/list", {"tools": [{"name": "pay"}]}),
    ("tools/list", {"tools": [TOOL | {"description": 1}]}),
    ("tools/list", {"tools": [TOOL, TOOL]}),
    ("tools/list", {"tools": [], "nextCursor": 1}),
    ("tools/list", {"tools": [], "_meta": 1}),
    ("tools/call", {}),
    ("tools/call", {"content": "text"}),
    ("tools/call", {"content": [{"text": "a"}]}),
    ("tools/call", {"content": [], "isError": "yes"}),
    ("tools/call", {"content": [], "structuredContent": [1]}),
    ("tools/call", {"task": {"taskId": "t", "status": "working"}}),
    ("prompts/list", {"prompts": [{"name": "p"}, {"name": "p"}]}),
    ("prompts/get", {"messages": [{"role": "user", "content": "a"}]}),
    ("resources/read", {"contents": [{"text": "b"}]}),
    ("resources/read", {"contents": [{"uri": "a", "text": 1}]}),
    ("completion/complete", {"completion": {"values": [1]}}),
    ("completion/complete", {"completion": []}),
    ("initialize", {key: value for key, value in HELLO.items() if key != "serverInfo"}),
    ("initialize", HELLO | {"protocolVersion": "2099-01-01"}),
    ("initialize", HELLO | {"protocolVersion": "2026-07-28"}),
    ("initialize", HELLO | {"instructions": 1}),
    ("nobody/knows", {}),
]


@pytest.mark.parametrize(("method", "result"), GOOD)
def test_a_result_of_its_method_passes(method: str, result: dict[str, Any]) -> None:
    mcp.check_reply(method, Response(1, result), "2025-11-25")


@pytest.mark.parametrize(("method", "result"), BAD)
def test_any_other_result_is_malformed(method: str, result: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        mcp.check_reply(method, Response(1, result), "2025-11-25")


@pytest.mark.parametrize("method", ["tools/list", "nobody/knows"])
def test_an_error_is_an_answer_to_anything(method: str) -> None:
    mcp.check_reply(method, Response(1, None, {"code": -32601, "message": "no"}), "2025-11-25")


def test_a_stateless_result_may_be_structured_in_any_way() -> None:
    mcp.check_reply("tools/call", Response(1, {"content": [], "structuredContent": [1]}), "2026-07-28")
    mcp.check_reply("tools/call", Response(1, {"content": [], "resultType": "complete"}), "2026-07-28")


@pytest.mark.parametrize("kind", ["task", "partial", "", 7, None])
def test_a_result_of_an_unknown_type_is_malformed(kind: Any) -> None:
    with pytest.raises(Malformed):
        mcp.check_reply("tools/call", Response(1, {"content": [], "resultType": kind}), "2026-07-28")


# ---- what a server asks inside a result --------------------------------------------------------------------------

ASK = {"method": "elicitation/create", "params": {"message": "which account?"}}


def asks(**requests: Any) -> Response:
    return Response(1, {"resultType": "input_required", "inputRequests": requests})


def test_each_embedded_request_is_found_under_its_key() -> None:
    response = asks(a=ASK, b={"method": "roots/list"})
    mcp.check_reply("tools/call", response, "2026-07-28")
    found = mcp.input_requests(response)
    assert [(one.id, one.method, one.params) for one in found] == [
        ("a", "elicitation/create", ASK["params"]),
        ("b", "roots/list", None),
    ]
    assert parse_message(found[0].body, FROM_SERVER) == found[0]


@pytest.mark.parametrize(
    "request_",
    ["x", {}, {"method": "tools/call", "params": {"name": "a"}}, {"method": "ping"}, {"method": "elicitation/create"},
     {"method": "roots/list", "params": []}, {"method": ["roots/list"]}],
)  # fmt: skip
def test_a_server_cannot_ask_anything_else(request_: Any) -> None:
    with pytest.raises(Malformed):
        mcp.check_reply("tools/call", asks(a=request_), "2026-07-28")


@pytest.mark.parametrize("result", [{}, {"inputRequests": []}, {"requestState": 1}, {"inputRequests": None}])
def test_asking_for_nothing_is_malformed(result: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        mcp.check_reply("tools/call", Response(1, {"resultType": "input_required", **result}), "2026-07-28")


@pytest.mark.parametrize("method", ["tools/list", "completion/complete", "server/discover", "subscriptions/listen"])
def test_only_calls_reads_and_prompts_may_ask(method: str) -> None:
    with pytest.raises(Malformed):
        mcp.check_reply(method, asks(a=ASK), "2026-07-28")


def test_nothing_is_asked_by_an_ordinary_answer() -> None:
    assert mcp.input_requests(Response(1, {"content": []})) == ()
    assert mcp.input_requests(Response(1, None, {"code": 1, "message": "x"})) == ()


# ---- pins and lists ----------------------------------------------------------------------------------------------


def test_the_whole_tool_object_is_what_is_pinned() -> None:
    tool = TOOL | {"title": "t", "annotations": {"readOnlyHint": True}, "unknown": 1, "_meta": {"a": 1}}
    (one,) = mcp.definitions("tools/list", Response(1, {"tools": [tool]}))
    assert (one.kind, one.name, one.value) == ("tool", "pay", tool)


@pytest.mark.parametrize(
    ("method", "result", "kind", "name"),
    [
        ("prompts/list", {"prompts": [{"name": "p", "description": "d"}]}, "prompt", "p"),
        ("resources/templates/list", {"resourceTemplates": [{"uriTemplate": "a{b}", "name": "n"}]}, "template", "a{b}"),
        ("initialize", HELLO | {"instructions": "be kind"}, "instructions", ""),
        ("server/discover", {"supportedVersions": [], "capabilities": {}, "instructions": "x"}, "instructions", ""),
    ],
)
def test_everything_a_model_reads_is_offered_for_pinning(method: str, result: Any, kind: str, name: str) -> None:
    mcp.check_reply(method, Response(1, result))
    (one,) = mcp.definitions(method, Response(1, result))
    assert (one.kind, one.name) == (kind, name)
    assert method in mcp.OFFERING


def test_a_greeting_without_instructions_offers_nothing() -> None:
    assert mcp.definitions("initialize", Response(1, HELLO)) == ()
    assert mcp.definitions("tools/call", Response(1, {"content": []})) == ()


def test_withheld_instructions_are_gone_and_the_rest_stays() -> None:
    response = Response(1, HELLO | {"instructions": "obey me"})
    kept = mcp.keep_only("initialize", response, [False])
    assert b"obey" not in kept.body
    assert kept.result == HELLO
    assert mcp.keep_only("initialize", response, [True]).result == response.result


def test_one_flag_for_each_definition() -> None:
    with pytest.raises(ValueError, match="one flag"):
        mcp.keep_only("tools/list", Response(1, {"tools": [TOOL]}), [])


def test_a_rebuilt_list_is_for_its_receiver_alone() -> None:
    kept = mcp.keep_only("tools/list", Response(1, {"tools": [TOOL], **CACHED}), [True])
    assert json.loads(kept.body)["result"] == {"tools": [TOOL], **CACHED, "cacheScope": "private"}
    private = mcp.private(Response(1, {"contents": [], **CACHED}))
    assert json.loads(private.body)["result"]["cacheScope"] == "private"


@pytest.mark.parametrize(("revision", "known"), [("2025-06-18", "2025-06-18"), ("2099-01-01", None), (7, None)])
def test_a_session_speaks_a_known_revision_or_none(revision: Any, known: str | None) -> None:
    assert mcp.negotiated(Response(1, {"protocolVersion": revision})) == known


# ---- what agents answer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "result", "fits"),
    [
        ("elicitation/create", {"action": "accept", "content": {"a": 1}}, True),
        ("elicitation/create", {"action": "maybe"}, False),
        ("elicitation/create", {"action": "accept", "content": "x"}, False),
        ("sampling/createMessage", {"role": "assistant", "model": "m", "content": {"type": "text"}}, True),
        ("sampling/createMessage", {"role": "assistant", "content": {}}, False),
        ("sampling/createMessage", {"role": "assistant", "model": "m", "content": "x"}, False),
        ("roots/list", {"roots": [{"uri": "file:///a"}]}, True),
        ("roots/list", {"roots": [{"name": "a"}]}, False),
        ("ping", {}, True),
        ("tools/call", {"content": []}, False),
    ],
)
def test_an_agent_answers_what_it_was_asked(method: str, result: dict[str, Any], fits: bool) -> None:
    if fits:
        mcp.check_agent_reply(method, Response(1, result))
    else:
        with pytest.raises(Malformed):
            mcp.check_agent_reply(method, Response(1, result))
    mcp.check_agent_reply(method, Response(1, None, {"code": -1, "message": "no"}))
