"""What a server offers today: its tools, prompts, resource templates and instructions, asked for by ourselves.

Decides nothing: a person compares the survey with what is approved (`service.tools`). Speaks the server's own revision:
first the stateless one, and `initialize` where the server does not know it. INVARIANT: a survey is whole or it fails: a
list that breaks off, loops or is malformed raises, so that nothing can hide behind the last page.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import msgspec

from citywatch.core.enforce.needs import TOOL_CALL
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.identity.access import AccessToken
from citywatch.core.wire import jsonrpc, mcp
from citywatch.core.wire.jsonrpc import FROM_SERVER, Response
from citywatch.service.ports import Upstream

MAX_PAGES = 100
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
NOBODYS_TOOL = "citywatch-check"

LISTS = ("tools/list", "prompts/list", "resources/templates/list")
_META = "io.modelcontextprotocol/"
Shown = Callable[[str], AccessToken | None]
_CLIENT = {"name": "citywatch", "version": "1"}


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """All that one server defines, in the revision it speaks."""

    revision: str
    definitions: tuple[mcp.Definition, ...]


def no_token(method: str) -> AccessToken | None:
    """What most servers are shown of us."""
    return None


async def survey(upstream: Upstream, caller: str, shown: Shown = no_token) -> Survey:
    """Ask a server for everything it defines. Raises `Unavailable` or `Refused` when it does not answer in full.

    `shown` writes the access token for a message, for a server that takes some.
    """
    asker = _Asker(upstream, caller, shown)
    try:
        opening = await asker.open()
        found = list(mcp.definitions(*opening))
        for method in LISTS:
            async for page in asker.pages(method):
                found += mcp.definitions(method, page)
    finally:
        await asker.close()
    names = [(definition.kind, definition.name) for definition in found]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        word = json.dumps(twice[1][:80])[1:-1]  # a server's word, and this goes to the operator's terminal
        raise Refused(Code.REPLY_MALFORMED, f"the server defines {twice[0]} `{word}` twice")
    return Survey(revision=asker.revision, definitions=tuple(found))


async def granted(upstream: Upstream, caller: str) -> tuple[str, ...]:
    """Which requests a server answers with a result, each asked whatever became of the others; for one without papers.

    A server that refuses one request may well serve the next. The call is of a tool that nobody has: whoever gets as
    far as being told so would get through with another.
    """
    found: list[str] = []
    for revision, opening in ((MODERN, "server/discover"), (LEGACY, "initialize")):
        asker = _Asker(upstream, caller)
        asker.revision = revision
        for method in (opening, *LISTS, TOOL_CALL):
            try:
                response = await asker.ask_anything(method)
            except CitywatchError:
                continue
            if response is not None and _served(method, response) and method not in found:
                found.append(method)
        with suppress(CitywatchError):
            await asker.close()
    return tuple(found)


def _served(method: str, response: Response) -> bool:
    if response.result is not None:
        return True
    return method == TOOL_CALL and (response.error or {}).get("code") == INVALID_PARAMS  # there is no such tool


class _Asker:
    """One conversation with one server."""

    def __init__(self, upstream: Upstream, caller: str, shown: Shown = no_token) -> None:
        self.upstream = upstream
        self.caller = caller
        self.shown = shown
        self.revision = MODERN
        self.session: str | None = None
        self._next = 0

    async def open(self) -> tuple[str, Response]:
        """Find out which revision the server speaks; return the opening method and its reply."""
        try:
            response = await self._ask("server/discover", {})
            if response is not None and response.result is not None:
                return "server/discover", response
        except (Refused, Malformed):
            pass  # a server of an older revision may answer the probe with anything at all
        self.revision = LEGACY
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _CLIENT}
        response = await self._ask("initialize", params)
        if response is None or response.result is None:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the server answers neither server/discover nor initialize")
        self.revision = mcp.negotiated(response) or LEGACY
        await self._tell("notifications/initialized")
        return "initialize", response

    async def ask_anything(self, method: str) -> Response | None:
        """The reply to one request, be it as it may."""
        params: dict[str, Any] = {}
        if method == "initialize":
            params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _CLIENT}
        elif method == TOOL_CALL:
            params = {"name": NOBODYS_TOOL, "arguments": {}}
        response = await self._reply(method, params)
        if method == "initialize" and response is not None and response.result is not None:
            await self._tell("notifications/initialized")
        return response

    async def pages(self, method: str) -> AsyncIterator[Response]:
        """Each page of a list; none if the server does not know the method."""
        cursor: str | None = None
        seen: set[str] = set()
        for _ in range(MAX_PAGES):
            response = await self._ask(method, {} if cursor is None else {"cursor": cursor})
            if response is None:
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"no reply to {method}")
            if response.result is None:
                if (response.error or {})["code"] == METHOD_NOT_FOUND and cursor is None:
                    return
                raise Refused(Code.REPLY_MALFORMED, f"{method} failed at the server")
            yield response
            cursor = response.result.get("nextCursor")
            if not isinstance(cursor, str):
                return
            if cursor in seen:
                break
            seen.add(cursor)
        raise Refused(Code.REPLY_MALFORMED, f"{method} does not end")

    async def close(self) -> None:
        if self.session is not None:
            headers = {"mcp-protocol-version": self.revision}
            await self.upstream.end(self.caller, headers, self.session, token=self.shown("transport/end"))

    async def _ask(self, method: str, params: dict[str, Any]) -> Response | None:
        response = await self._reply(method, params)
        if response is not None:
            mcp.check_reply(method, response, self.revision)
        return response

    async def _reply(self, method: str, params: dict[str, Any]) -> Response | None:
        self._next += 1
        request = {"jsonrpc": "2.0", "id": self._next, "method": method, "params": self._params(params)}
        answer = await self.upstream.send(
            self.caller,
            msgspec.json.encode(request),
            self._headers(method),
            self.session,
            repeatable=True,
            token=self.shown(method),
        )
        try:
            async for raw, _ in answer.messages():
                message = jsonrpc.parse_message(raw, FROM_SERVER) if raw else None
                if isinstance(message, Response) and message.id == self._next:
                    if method == "initialize":
                        self.session = answer.session
                    return message
        finally:
            await answer.close()
        return None

    async def _tell(self, method: str) -> None:
        body = msgspec.json.encode({"jsonrpc": "2.0", "method": method})
        answer = await self.upstream.send(
            self.caller, body, self._headers(method), self.session, repeatable=True, token=self.shown(method)
        )
        await answer.close()

    def _params(self, params: dict[str, Any]) -> dict[str, Any]:
        if self.revision != MODERN:
            return params
        meta = {"protocolVersion": MODERN, "clientInfo": _CLIENT, "clientCapabilities": {}}
        return {**params, "_meta": {_META + key: value for key, value in meta.items()}}

    def _headers(self, method: str) -> dict[str, str]:
        if method == "initialize":
            return {}
        if self.revision != MODERN:
            return {"mcp-protocol-version": self.revision}
        named = {"mcp-name": NOBODYS_TOOL} if method == TOOL_CALL else {}
        return {"mcp-protocol-version": MODERN, "mcp-method": method, **named}
