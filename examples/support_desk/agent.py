"""An agent on the official MCP SDK: it lists the tools of its servers, asks its model what to do, and does that.

Decides nothing: the model decides, and whatever stands between the agent and the servers. A refused call is told to the
model like any other result, so the agent goes on.
INVARIANT: every call the model asked for is in the transcript, with what became of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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


async def run_agent(model: Model, places: Mapping[str, Place], system: str, task: str) -> Transcript:
    """Give the agent its instructions and one task; return when its model has nothing more to do."""
    async with AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(_connect(stack_place)) for name, stack_place in places.items()}
        tools: list[dict[str, Any]] = []
        for name, client in clients.items():
            for tool in (await client.list_tools()).tools:
                function = {"name": f"{name}{SEPARATOR}{tool.name}", "description": tool.description or ""}
                tools.append({"type": "function", "function": {**function, "parameters": tool.input_schema}})
        transcript = Transcript([tool["function"]["name"] for tool in tools], [])
        messages: list[Message] = [{"role": "system", "content": system}, {"role": "user", "content": task}]
        for _ in range(MAX_STEPS):
            message = await model.step(messages, tools)
            messages.append(message)
            if not message.get("tool_calls"):
                transcript.final = message.get("content") or ""
                return transcript
            for call in message["tool_calls"]:
                step = await _call(clients, call["function"])
                transcript.steps.append(step)
                said = {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"]}
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


def _connect(place: Place) -> _Connected | Client:
    return _Connected(place) if isinstance(place, Http) else Client(place)


async def _call(clients: Mapping[str, Client], function: Mapping[str, str]) -> Step:
    server, _, tool = function["name"].partition(SEPARATOR)
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return Step(server, tool, {}, "failed", "the arguments are not JSON", {})
    if server not in clients or not isinstance(arguments, dict):
        return Step(server, tool, {}, "failed", f"there is no tool `{function['name']}`", {})
    try:
        result = await clients[server].call_tool(tool, arguments)
    except MCPError as error:
        return Step(server, tool, arguments, "failed", str(error), {})
    text, meta = _text(result), dict(result.meta or {})
    if not result.is_error:
        return Step(server, tool, arguments, "done", text, meta)
    return Step(server, tool, arguments, "refused" if REFUSAL in meta else "failed", text, meta)


def _text(result: CallToolResult) -> str:
    if result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))
