"""What HTTP wants to know beside a message, found in the message itself: headers for a line that came without any.

Decides which revision a client on standard input speaks (by what it says itself), and which headers follow from it.
INVARIANTS: a header is made from the body it goes with; what cannot be written into a header is left out, and the
gateway refuses; no session is named before the gateway gave it.
SPEC: MCP 2026-07-28 basic/transports "Standard Headers", "Custom Headers"; 2025-11-25 "Session Management".
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from citywatch.core.wire import mcp
from citywatch.core.wire.headers import encode_value, mirror_params
from citywatch.core.wire.jsonrpc import (
    FROM_AGENT,
    Message,
    Notification,
    Request,
    Response,
    format_message,
    parse_message,
)
from citywatch.core.wire.requests import PROTOCOL_VERSION

MAX_PAGES = 50
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PLAIN = re.compile(r"[\x21-\x7e]{1,512}\Z")
_ALWAYS = [(b"accept", b"application/json, text/event-stream"), (b"content-type", b"application/json")]

Pairs = list[tuple[bytes, bytes]]
Fetch = Callable[[Request], Awaitable[Response | None]]


class Headers:
    """The headers of one client's messages, in the revision that it turned out to speak."""

    def __init__(self, fetch: Fetch) -> None:
        """`fetch` asks the gateway something on the bridge's own account."""
        self.session: str | None = None
        self._negotiated: str | None = None
        self._stateless: str | None = None
        self._fetch = fetch
        self._mirrored: dict[str, tuple[mcp.ParamHeader, ...]] = {}
        self._listed = False
        self._asked = 0

    async def of(self, message: Message) -> Pairs:
        """The headers that go with a message."""
        params = {} if isinstance(message, Response) else (message.params or {})
        meta = params.get("_meta")
        claimed = meta.get(PROTOCOL_VERSION) if type(meta) is dict else None
        if isinstance(message, Request) and type(claimed) is str:
            self._stateless = claimed
            return await self._of_stateless(message, claimed, params)
        if isinstance(message, Notification) and self.session is None and self._stateless is not None:
            return _pairs({"mcp-protocol-version": self._stateless, "mcp-method": message.method})
        initializes = isinstance(message, Request) and message.method == "initialize"
        return _pairs({} if initializes else self._of_session())

    def resuming(self, last: str | None) -> Pairs:
        """The headers of a GET or DELETE in the session; `last` is the last event that was seen."""
        return _pairs(self._of_session() | ({} if last is None else {"last-event-id": last}))

    def learn(self, request: Request, response: Response, session: bytes | None) -> None:
        """Take from an answer what later headers need: the session, its revision, the tools' schemas."""
        if request.method == "initialize" and response.result is not None:
            self._negotiated = mcp.negotiated(response)
            self.session = None if session is None else session.decode("latin-1")
        elif request.method == "tools/list":
            self._learn_tools(response)

    def begins_session(self, message: Message) -> bool:
        """Whether the client has just said that the session may begin."""
        return (
            isinstance(message, Notification)
            and message.method == "notifications/initialized"
            and self._negotiated is not None
        )

    def is_cancellation_here(self, message: Message) -> bool:
        """Whether this cancels a request of a stateless revision: there it is done by closing the stream."""
        return (
            isinstance(message, Notification)
            and message.method == "notifications/cancelled"
            and self._negotiated is None
            and self._stateless is not None
        )

    @staticmethod
    def cancelled_id(message: Message) -> str | int:
        """Which request a cancellation is about; an empty text if it does not say."""
        params = {} if isinstance(message, Response) else (message.params or {})
        found = params.get("requestId")
        return found if isinstance(found, str | int) else ""

    def _of_session(self) -> dict[str, str]:
        headers = {} if self._negotiated is None else {"mcp-protocol-version": self._negotiated}
        return headers if self.session is None else {**headers, "mcp-session-id": self.session}

    async def _of_stateless(self, message: Request, revision: str, params: Mapping[str, Any]) -> Pairs:
        headers = {"mcp-protocol-version": revision, "mcp-method": message.method}
        name = params.get(_NAMED.get(message.method, ""))
        if type(name) is not str:
            return _pairs(headers)
        headers["mcp-name"] = encode_value(name)
        if message.method == "tools/call":
            if name not in self._mirrored and not self._listed:
                await self._list_tools(params)
            headers |= mirror_params(self._mirrored.get(name, ()), params.get("arguments"))
        return _pairs(headers)

    async def _list_tools(self, params: Mapping[str, Any]) -> None:
        """Read the tools' definitions once: a client on standard input mirrors nothing, and so need not have asked."""
        self._listed = True
        meta = {key: value for key, value in params["_meta"].items() if key.startswith("io.modelcontextprotocol/")}
        cursor: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            self._asked += 1
            request = Request(f"citywatch-{self._asked}", "tools/list", {**cursor, "_meta": meta})
            request = _serialised(request)
            response = await self._fetch(request)
            result = (response and response.result) or {}
            if response is not None:
                self._learn_tools(response)
            if type(result.get("nextCursor")) is not str:
                return
            cursor = {"cursor": result["nextCursor"]}

    def _learn_tools(self, response: Response) -> None:
        tools = (response.result or {}).get("tools")
        for tool in tools if type(tools) is list else ():
            if type(tool) is dict and type(tool.get("name")) is str:
                schema = tool.get("inputSchema")
                self._mirrored[tool["name"]] = mcp.param_headers(schema) if type(schema) is dict else ()


def _serialised(request: Request) -> Request:
    whole = parse_message(format_message(request), FROM_AGENT)
    assert isinstance(whole, Request)
    return whole


def _pairs(headers: Mapping[str, str]) -> Pairs:
    """Headers as bytes; what would not be one line of plain text is left out."""
    kept = [(k, v) for k, v in headers.items() if _PLAIN.match(v) or (v.isascii() and v.isprintable())]
    return [*_ALWAYS, *((name.encode("latin-1"), value.encode("ascii")) for name, value in kept)]
