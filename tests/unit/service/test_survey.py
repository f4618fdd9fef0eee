"""Asking a server for all that it defines: in full or not at all, and nothing that it says reaches a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citywatch.adapters.memory import MemoryAnswer, MemoryUpstream
from citywatch.core.errors import Refused
from citywatch.service.survey import survey


def serving(*pages: list[dict[str, Any]]) -> MemoryUpstream:
    """A server of the stateless revision with these pages of tools."""

    def answer(body: bytes) -> MemoryAnswer:
        asked = json.loads(body)
        common = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
        if asked["method"] == "server/discover":
            reply["result"] = common | {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        elif asked["method"] == "tools/list":
            page = int(asked["params"].get("cursor", 0))
            more = {"nextCursor": str(page + 1)} if page + 1 < len(pages) else {}
            reply["result"] = common | {"tools": pages[page]} | more
        else:
            reply["error"] = {"code": -32601, "message": "no"}
        return MemoryAnswer([(json.dumps(reply).encode(), None)])

    return MemoryUpstream(answer)


def tool(name: str) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}}


async def test_all_pages_are_one_survey() -> None:
    found = await survey(serving([tool("a")], [tool("b")]), "me")
    assert [one.name for one in found.definitions] == ["a", "b"]


async def test_a_name_that_stands_twice_is_named_so_that_no_terminal_obeys_it() -> None:
    hostile = tool("\x1b[8m\x9b2J\u202e name")
    with pytest.raises(Refused) as refusal:
        await survey(serving([hostile], [hostile]), "me")
    assert refusal.value.detail.isascii()
    assert refusal.value.detail.isprintable()
    assert "twice" in refusal.value.detail
