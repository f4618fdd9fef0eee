"""An agent on the official MCP SDK: it lists the tools of its servers, asks its model what to do, and does that.

Decides nothing: the model decides, and whatever stands between the agent and the servers. A refused call is told to the
model like any other result, so the agent goes on.
INVARIANT: every call the model asked for is in the transcript, with what became of it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from examples.support_desk.model import Message, Model

MAX_STEPS = 24
REFUSAL = "citywatch/code"  # a result with this in its `_meta` is the gateway's, not the tool's
SEPARATOR = "__"  # chat endpoints allow no dot or slash in a tool's name


@dataclass(frozen=True)
class Http:
    """A server at a URL, with the headers that its caller sends."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


Place = Http | StdioServerParameters


@dataclass(frozen=True)
class Step:
    """One call and its end: `done`, `refused` (by a gateway, with its reasons in `meta`) or `failed`."""

    server: str
    tool: str
    arguments: Mapping[str, Any]
    outcome: str
    text: str
    meta: Mapping[str, Any]


@dataclass
class Transcript:
    """What happened, in order, and the agent's last words. `tools` are those the agent was shown."""

    tools: list[str]
    steps: list[Step]
    final: str = ""


Call = Callable[[str, dict[str, Any]], Awaitable[Step]]
"""Does what the model asked for, by the name and the arguments that it gave."""


async def run_agent(model: Model, places: Mapping[str, Place], system: str, task: str) -> Transcript:
    """Give the agent its instructions and one task; return when its model has nothing more to do."""
    async with AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(connect(place)) for name, place in places.items()}
        tools: list[dict[str, Any]] = []
        for name, client in clients.items():
            for tool in (await client.list_tools()).tools:
                function = {"name": f"{name}{SEPARATOR}{tool.name}", "description": tool.description or ""}
                tools.append({"type": "function", "function": {**function, "parameters": tool.input_schema}})

        async def call(name: str, arguments: dict[str, Any]) -> Step:
            return await _call(clients, name, arguments)

        return await work(model, tools, call, system, task)


async def work(model: Model, tools: Sequence[dict[str, Any]], call: Call, system: str, task: str) -> Transcript:
    """Ask the model, do what it asks for, tell it what came of it, until it has nothing more to do."""
    transcript = Transcript([tool["function"]["name"] for tool in tools], [])
    messages: list[Message] = [{"role": "system", "content": system}, {"role": "user", "content": task}]
    for _ in range(MAX_STEPS):
        message = await model.step(messages, tools)
        messages.append(message)
        if not message.get("tool_calls"):
            transcript.final = message.get("content") or ""
            return transcript
        for asked in message["tool_calls"]:
            function = asked["function"]
            step = await _asked(call, function["name"], function["arguments"])
            transcript.steps.append(step)
            said = {"role": "tool", "tool_call_id": asked["id"], "name": function["name"]}
            messages.append({**said, "content": step.text})
    transcript.final = f"stopped after {MAX_STEPS} steps"
    return transcript


class _Connected:
    """A client over HTTP together with the HTTP session that carries its headers."""

    def __init__(self, place: Http) -> None:
        self._place = place
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Client:
        timeout = httpx2.Timeout(30.0)
        http = httpx2.AsyncClient(headers=dict(self._place.headers), timeout=timeout, trust_env=False)
        await self._stack.enter_async_context(http)
        transport = streamable_http_client(self._place.url, http_client=http)
        return await self._stack.enter_async_context(Client(transport))

    async def __aexit__(self, *problem: Any) -> None:
        await self._stack.aclose()


def connect(place: Place) -> _Connected | Client:
    """A client of a server, to be entered."""
    return _Connected(place) if isinstance(place, Http) else Client(place)


async def _asked(call: Call, name: str, text: str) -> Step:
    server, _, tool = name.partition(SEPARATOR)
    try:
        arguments = json.loads(text)
    except ValueError:
        return Step(server, tool, {}, "failed", "the arguments are not JSON", {})
    if not isinstance(arguments, dict):
        return Step(server, tool, {}, "failed", f"there is no tool `{name}`", {})
    return await call(name, arguments)


async def _call(clients: Mapping[str, Client], name: str, arguments: dict[str, Any]) -> Step:
    server, _, tool = name.partition(SEPARATOR)
    if server not in clients:
        return Step(server, tool, {}, "failed", f"there is no tool `{name}`", {})
    try:
        result = await clients[server].call_tool(tool, arguments)
    except MCPError as error:
        return Step(server, tool, arguments, "failed", str(error), {})
    text, meta = text_of(result), dict(result.meta or {})
    if not result.is_error:
        return Step(server, tool, arguments, "done", text, meta)
    return Step(server, tool, arguments, "refused" if REFUSAL in meta else "failed", text, meta)


def text_of(result: CallToolResult) -> str:
    """What a model is told of a result: its structured content as JSON where it has one."""
    if result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))
