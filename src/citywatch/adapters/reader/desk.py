"""`citywatch`, the gateway's own MCP server, in process: questions about, and sums of, what agents hold as handles.

Decides nothing: what may be asked and what may come out is `core.flow.question`'s and `core.flow.derivation`'s; who may
ask, and that a handle was filled in before it came here, the enforcer's, as with every server. INVARIANTS: it keeps
nothing; what it answers holds numbers, dates, the asker's own options, values for handles, and constant words of ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from citywatch.core.enforce.own import ASK, DERIVE, LIST, LISTED, SERVER, own_definitions
from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.flow.derivation import derive_value
from citywatch.core.flow.handle import as_text
from citywatch.core.flow.question import Answer, check_answer, list_values, parse_question
from citywatch.core.flow.tokens import Kind
from citywatch.core.identity.access import AccessToken
from citywatch.core.wire.mcp import LEGACY, MODERN
from citywatch.core.wire.requests import PROTOCOL_VERSION
from citywatch.service.ports import Reader

VERSION = "1"
COMPLETE = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
"""SPEC: MCP 2026-07-28, what every result of a stateless server says of itself."""


class Said:
    """`service.ports.Answer` with one message, or none."""

    def __init__(self, body: bytes | None) -> None:
        self.status = 200 if body else 202
        self.media = "json" if body else "none"
        self.session: str | None = None
        self.body = body
        self.retry_ms: int | None = None

    async def messages(self) -> AsyncIterator[tuple[bytes, str | None]]:
        if self.body is not None:
            yield self.body, None

    async def close(self) -> None:
        """Nothing is open."""


class Desk:
    """`service.ports.Upstream` over a reader; without one there is no `ask`."""

    def __init__(self, reader: Reader | None) -> None:
        self._reader = reader
        self.definitions = own_definitions(asks=reader is not None)

    async def send(
        self,
        caller: str,
        body: bytes,
        headers: Mapping[str, str],
        session: str | None,
        *,
        repeatable: bool,
        token: AccessToken | None = None,
    ) -> Said:
        asked = orjson.loads(body)
        if "id" not in asked or "method" not in asked:
            return Said(None)
        params = asked.get("params") or {}
        said: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
        match asked["method"]:
            case "initialize":
                offered = params.get("protocolVersion")
                said["result"] = self._greeting() | {"protocolVersion": offered if offered in LEGACY else LEGACY[-1]}
            case "server/discover":
                said["result"] = self._greeting() | {"supportedVersions": list(MODERN)}
            case "ping":
                said["result"] = {}
            case "tools/list":
                said["result"] = {"tools": self.definitions}
            case "tools/call":
                told = await self._told(params.get("name"), params.get("arguments") or {})
                text = [{"type": "text", "text": orjson.dumps(told).decode()}]
                said["result"] = {"content": text, "structuredContent": told, "isError": False}
            case _:
                said["error"] = {"code": -32601, "message": "no such method"}
        if "result" in said and PROTOCOL_VERSION in (params.get("_meta") or {}):
            said["result"] |= COMPLETE
        return Said(orjson.dumps(said))

    async def listen(
        self, caller: str, headers: Mapping[str, str], session: str | None, *, token: AccessToken | None = None
    ) -> Said:
        raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "this server never speaks unasked")

    async def end(
        self, caller: str, headers: Mapping[str, str], session: str, *, token: AccessToken | None = None
    ) -> int:
        return 200

    def callers(self) -> Sequence[str]:
        """Nothing runs here for anybody."""
        return ()

    async def dismiss(self, caller: str) -> None:
        """There is nothing to end."""

    async def close(self) -> None:
        """Nothing is open."""

    @staticmethod
    def _greeting() -> dict[str, Any]:
        return {"capabilities": {"tools": {}}, "serverInfo": {"name": SERVER, "version": VERSION}}

    async def _told(self, name: object, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if name == DERIVE:
            try:
                return {"found": True, "handle": derive_value(arguments)}
            except Malformed as failure:
                return _nothing(str(failure))
        text = as_text(arguments.get("text", ""))
        if name == LIST:
            kind = arguments.get("kind")
            if kind not in LISTED:
                return _nothing(f"`kind` is none of {', '.join(LISTED)}")
            return _listed(list_values(text, Kind(kind)))
        if name != ASK or self._reader is None:
            return _nothing("there is no such tool")
        try:
            question = parse_question(arguments)
        except Malformed as failure:
            return _nothing(str(failure))
        answer = check_answer(question, text, await self._reader.answer(question, text))
        if answer is None:
            return _nothing(f"the text holds no {question.type} that answers this")
        if answer.hidden is not None:
            return {"found": True, "handle": answer.hidden}
        return {"found": True, "answer": answer.seen}


def _listed(found: tuple[Answer, ...]) -> dict[str, Any]:
    seen = [one.seen for one in found if one.hidden is None]
    return {
        "found": bool(found),
        "values": seen,
        "handles": [one.hidden for one in found if one.hidden is not None],
    }


def _nothing(why: str) -> dict[str, Any]:
    return {"found": False, "why": why}
