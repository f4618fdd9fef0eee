"""One server behind the gateway, for an agent: its tools, calls of them, the agent's plan, waiting for a person.

Decides nothing: what is refused was refused by the gateway. INVARIANTS: a refusal is raised and never returned as a
reply; a call is sent once, and once more only after its ticket was answered, word for word; waiting asks for the ticket
and not by the call, and ends with the ticket.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.wire import mcp
from citywatch.sdk.chain import Chain
from citywatch.sdk.door import let_through, own, ticket_state
from citywatch.sdk.errors import Failed, away, raised
from citywatch.sdk.http import http_client
from citywatch.sdk.papers import Papers, check_place

MAX_PAGES = 100


class Tool(msgspec.Struct, frozen=True):
    """A tool that this agent may find: `schema` is the JSON Schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]


class Reply(msgspec.Struct, frozen=True):
    """What the tool answered. `failed`: it says itself that it did not do it. `content` are MCP's parts as JSON."""

    text: str
    structured: Any
    failed: bool
    content: tuple[Mapping[str, Any], ...]


class Client:
    """Use it as `async with Client(url, papers=…) as desk`, in the task that opened it."""

    def __init__(
        self,
        url: str,
        *,
        papers: Papers = None,
        chain: Chain | None = None,
        task: str | None = None,
        timeout_s: float = 300.0,
    ) -> None:
        """`url` is `https://gateway/mcp/<server>`, or that of `citywatch connect`, which shows papers itself.

        With `chain` each call is made under it and for its task; `task` names one alone. Raises `Malformed` for papers
        that this URL would show to anybody.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.path.startswith("/mcp/") or "@" in parts.netloc:
            raise Malformed(f"`{url}` is no server of a gateway: expected https://host[:port]/mcp/<server>")
        if chain is not None and task not in (None, chain.task):
            raise Malformed("a chain is for the task that its first link names, and for no other")
        check_place(parts, papers)
        self._url, self._parts, self._papers, self._timeout_s = url, parts, papers, timeout_s
        self._meta: dict[str, Any] = {} if task is None else {mcp.TASK: task}
        if chain is not None:
            self._meta = {mcp.TASK: chain.task, mcp.CHAIN: list(chain.links)}
        self._stack = AsyncExitStack()
        self._http: Any = None
        self._server: Any = None

    async def __aenter__(self) -> Self:
        from mcp import Client as Server
        from mcp import MCPError
        from mcp.client.streamable_http import streamable_http_client

        self._http = http_client(self._url, self._papers, self._timeout_s)
        try:
            await self._stack.enter_async_context(self._http)
            server = Server(streamable_http_client(self._url, http_client=self._http))
            self._server = await self._stack.enter_async_context(server)
        except* MCPError as failures:  # the transport's tasks wrap what ends them
            await self._stack.aclose()
            raise _read(_first(failures)) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def tools(self) -> tuple[Tool, ...]:
        """The tools that this agent may find here: those that a person approved."""
        from mcp import MCPError

        found: list[Tool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            try:
                page = await self._server.list_tools(cursor=cursor)
            except MCPError as failure:
                raise _read(failure) from None
            found += [Tool(one.name, one.description or "", one.input_schema) for one in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                break
        return tuple(found)

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        wait: bool = False,
        patience_s: float | None = None,
    ) -> Reply:
        """Call a tool; raises `Refused`, `Unavailable` or another `Failed` if there is no reply.

        With `wait`, a call that only a person may let through waits for their answer, for `patience_s` or until the
        ticket expires, and is then sent once more.
        """
        sent = dict(arguments or {})
        return await let_through(lambda: self._call(name, sent), self.ticket, wait=wait, patience_s=patience_s)

    async def ticket(self, ticket: str, wait_s: float = 0.0) -> tuple[str, int]:
        """What became of a ticket (pending, approved, denied, used, expired) and when it expires, in milliseconds since
        the epoch: at once, or as soon as it was answered, `wait_s` from now at the latest. Asking spends nothing."""
        return await ticket_state(self._http, self._parts, ticket, wait_s)

    async def write_plan(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """Hold the agent to a plan of its own, before it reads anything (docs/reference/plans.md); says which holds."""
        return await own(self._http, self._parts, "POST", "/citywatch/plan", plan)

    async def plan(self) -> Mapping[str, Any]:
        """Digest and kind of the plan that the agent is held to."""
        return await own(self._http, self._parts, "GET", "/citywatch/plan", None)

    async def _call(self, name: str, arguments: dict[str, Any]) -> Reply:
        from mcp import MCPError

        try:
            result = await self._server.call_tool(name, arguments, meta=self._meta or None)
        except MCPError as failure:
            raise _read(failure) from None
        value = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        told = mcp.read_refusal(value)
        if told is not None:
            raise raised(told)
        content = tuple(value.get("content", ()))
        return Reply(
            text="\n".join(part["text"] for part in content if part.get("type") == "text"),
            structured=value.get("structuredContent"),
            failed=value.get("isError", False),
            content=content,
        )


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one


def _read(failure: Any) -> Failed:
    """What an `MCPError` says, in our terms."""
    error = failure.error
    told = mcp.read_error(error.data)
    if told is not None:
        return raised(told)
    if error.code in _BROKEN:
        return away(error.message)
    return Failed(mcp.Told(code=SERVER_ERROR, detail=error.message))


SERVER_ERROR = "server_error"
"""The code of an error that is the server's own and no refusal."""
_BROKEN = frozenset((-32000, -32001, -32603))
"""How `mcp` says that a connection was closed, that nobody answered in time, and that what came was no answer."""
