"""Whom a server serves is asked request by request: one that refuses a list may serve a call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citywatch.adapters.memory import MemoryAnswer, MemoryUpstream
from citywatch.core.errors import Code, Unavailable
from citywatch.service.survey import granted

CONTENT = {"content": [{"type": "text", "text": "there is no such tool"}], "isError": True}
OPENED = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}


def serving(results: dict[str, Any], errors: dict[str, int] | None = None) -> MemoryUpstream:
    """A server that grants these requests to anybody, and turns every other one away."""

    def answer(body: bytes) -> MemoryAnswer:
        asked = json.loads(body)
        reply = {"jsonrpc": "2.0", "id": asked.get("id")}
        if asked["method"] in results:
            reply["result"] = results[asked["method"]]
        else:
            reply["error"] = {"code": (errors or {}).get(asked["method"], -32001), "message": "no"}
        return MemoryAnswer([(json.dumps(reply).encode(), None)])

    return MemoryUpstream(answer)


@pytest.mark.parametrize(
    ("results", "found"),
    [
        ({}, ()),
        ({"initialize": OPENED}, ("initialize",)),
        ({"tools/call": CONTENT}, ("tools/call",)),
        ({"tools/list": {"tools": []}}, ("tools/list",)),
        ({"tools/list": {"tools": "not even well-formed"}}, ("tools/list",)),
        ({"initialize": OPENED, "prompts/list": {"prompts": []}}, ("prompts/list", "initialize")),
    ],
)
async def test_each_request_is_asked_whatever_became_of_the_others(
    results: dict[str, Any], found: tuple[str, ...]
) -> None:
    assert await granted(serving(results), "nobody") == found


async def test_who_is_told_that_there_is_no_such_tool_got_through() -> None:
    assert await granted(serving({}, {"tools/call": -32602}), "nobody") == ("tools/call",)


async def test_a_server_that_is_away_grants_nothing() -> None:
    def away(_: bytes) -> MemoryAnswer:
        raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "it is away")

    assert await granted(MemoryUpstream(away), "nobody") == ()


async def test_only_a_tool_that_nobody_has_is_called() -> None:
    server = serving({"tools/list": {"tools": [{"name": "pay", "inputSchema": {"type": "object"}}]}})
    await granted(server, "nobody")
    called = [json.loads(body)["params"]["name"] for _, body in server.sent if b'"tools/call"' in body]
    assert set(called) == {"citywatch-check"}


async def test_a_server_that_hangs_up_at_most_requests_and_serves_one_is_found_out() -> None:
    def answer(body: bytes) -> MemoryAnswer:
        asked = json.loads(body)
        if asked["method"] != "tools/call":
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "it hung up")
        return MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": CONTENT}).encode(), None)])

    assert await granted(MemoryUpstream(answer), "nobody") == ("tools/call",)
