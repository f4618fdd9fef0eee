"""Each hook with its real framework and a scripted model: what passes, what is told to the model, and without the hook.

The script is the same for all: look something up, pay too much, then say what came of it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client as Server
from mcp.client.streamable_http import streamable_http_client

from citywatch.sdk import Client, Refused, Reply, Token, Tool
from citywatch.sdk.hooks import langgraph as langgraph_hook
from citywatch.sdk.hooks import mcp as mcp_hook
from citywatch.sdk.hooks import openai_agents as openai_hook
from citywatch.sdk.hooks import pydantic_ai as pydantic_hook
from tests.e2e.gateway.conftest import desk, new_desk
from tests.e2e.gateway.desk import Desk

__all__ = ["desk", "new_desk"]

SCRIPT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("look", {"what": "prices"}),
    ("pay", {"to": "ann", "amount": 5}),
    ("pay", {"to": "eve", "amount": 101}),
)
Bare = Callable[[str, dict[str, Any]], Awaitable[str]]


async def run_langgraph(tools: list[Any]) -> list[str]:
    """What the model was told of each call of the script."""
    from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
    from langchain_core.messages import AIMessage, ToolMessage
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    calls = [{"name": name, "args": arguments, "id": f"c{at}"} for at, (name, arguments) in enumerate(SCRIPT)]
    model = FakeMessagesListChatModel(
        responses=[*(AIMessage(content="", tool_calls=[call]) for call in calls), AIMessage(content="done")]
    )

    async def think(state: Any) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "think")
    state = await graph.compile().ainvoke({"messages": [("user", "go on")]})
    assert state["messages"][-1].content == "done"
    told = [one for one in state["messages"] if isinstance(one, ToolMessage)]
    return [str(one.content) for one in told]


async def run_openai(tools: list[Any]) -> list[str]:
    from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    set_tracing_disabled(True)

    class Scripted(Model):  # type: ignore[misc]
        step = 0

        async def get_response(self, *_: Any, **__: Any) -> Any:
            at, self.step = self.step, self.step + 1
            if at == len(SCRIPT):
                text = ResponseOutputText(annotations=[], text="done", type="output_text")
                said: Any = ResponseOutputMessage(
                    id="m", content=[text], role="assistant", status="completed", type="message"
                )
            else:
                name, arguments = SCRIPT[at]
                said = ResponseFunctionToolCall(
                    arguments=json.dumps(arguments), call_id=f"c{at}", name=name, type="function_call"
                )
            return ModelResponse(output=[said], usage=Usage(), response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    result = await Runner.run(Agent(name="clerk", model=Scripted(), tools=tools), "go on")
    assert result.final_output == "done"
    return [str(one.output) for one in result.new_items if one.type == "tool_call_output_item"]


async def run_pydantic(tools: list[Any]) -> list[str]:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.models.function import FunctionModel

    def think(messages: list[Any], _: Any) -> Any:
        at = sum(isinstance(one, ModelResponse) for one in messages)
        if at == len(SCRIPT):
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart(*SCRIPT[at])])

    result = await Agent(FunctionModel(think), tools=tools).run("go on")
    assert result.output == "done"
    parts = [part for one in result.all_messages() if isinstance(one, ModelRequest) for part in one.parts]
    return [str(part.content) for part in parts if isinstance(part, ToolReturnPart)]


def functions(call: Bare) -> list[Any]:
    async def look(what: str) -> str:
        """Look something up."""
        return await call("look", {"what": what})

    async def pay(to: str, amount: int) -> str:
        """Pay money."""
        return await call("pay", {"to": to, "amount": amount})

    return [look, pay]


def bare_langgraph(call: Bare) -> list[Any]:
    from langchain_core.tools import StructuredTool

    return [StructuredTool.from_function(coroutine=one) for one in functions(call)]


def bare_openai(call: Bare) -> list[Any]:
    from agents import function_tool

    return [function_tool(one) for one in functions(call)]


FRAMEWORKS = [
    pytest.param(langgraph_hook, run_langgraph, bare_langgraph, id="langgraph"),
    pytest.param(openai_hook, run_openai, bare_openai, id="openai-agents"),
    pytest.param(pydantic_hook, run_pydantic, functions, id="pydantic-ai"),
]


@pytest.mark.parametrize(("hook", "run", "bare"), FRAMEWORKS)
async def test_the_model_is_told_what_was_refused_and_goes_on(hook: Any, run: Any, bare: Any, desk: Desk) -> None:
    async with Client(desk.url, papers=Token(desk.token())) as client:
        tools = await hook.tools(client)
        assert {one.name for one in tools} == {"look", "pay", "count", "nap"}
        told = await run(tools)
    assert told[:2] == ["looked at prices", "paid"]
    assert told[2].startswith("this call was not made: no_permit")
    assert desk.ledger() == ["ann 5"]


@asynccontextmanager
async def plain(desk: Desk) -> AsyncIterator[Server]:
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {desk.token()}"}, timeout=30)
    async with http, Server(streamable_http_client(desk.url, http_client=http)) as server:
        yield server


@pytest.mark.parametrize(("hook", "run", "bare"), FRAMEWORKS)
async def test_with_the_hook_deleted_the_same_call_is_refused(hook: Any, run: Any, bare: Any, desk: Desk) -> None:
    async with plain(desk) as server:

        async def call(name: str, arguments: dict[str, Any]) -> str:
            result: Any = await server.call_tool(name, arguments)
            return str(result.content[0].text)

        told = await run(bare(call))
    assert told[:2] == ["looked at prices", "paid"]
    assert "no_permit" in told[2]
    assert desk.ledger() == ["ann 5"]


async def test_the_plain_client_raises_what_was_refused(desk: Desk) -> None:
    papers = Token(desk.token())
    async with (
        mcp_hook.http_client(desk.url, papers) as http,
        Server(streamable_http_client(desk.url, http_client=http)) as server,
    ):
        looked: Any = mcp_hook.checked(await server.call_tool("look", {}))
        assert looked.content[0].text == "looked at all"
        with pytest.raises(Refused, match="no_permit"):
            mcp_hook.checked(await server.call_tool("pay", {"to": "eve", "amount": 101}))
    assert desk.ledger() == []


async def test_with_that_hook_deleted_too(desk: Desk) -> None:
    async with plain(desk) as server:
        assert (await server.call_tool("pay", {"to": "eve", "amount": 101})).is_error
    assert desk.ledger() == []


class Patient(Client):
    """A client of no gateway: it notes which calls are to wait for their person."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1/mcp/desk")
        self.waits: list[bool] = []

    async def tools(self) -> tuple[Tool, ...]:
        return (Tool("look", "", {"type": "object"}), Tool("pay", "", {"type": "object"}))

    async def call(
        self, name: str, arguments: Any = None, *, wait: bool = False, patience_s: float | None = None
    ) -> Reply:
        self.waits.append(wait)
        return Reply(text=f"{name} {sorted(arguments)}", structured=None, failed=False, content=())


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize(("hook", "run", "bare"), FRAMEWORKS)
async def test_calls_wait_for_their_person_if_the_author_says_so(hook: Any, run: Any, bare: Any, wait: bool) -> None:
    client = Patient()
    told = await run(await hook.tools(client, wait=wait))
    assert told == ["look ['what']", "pay ['amount', 'to']", "pay ['amount', 'to']"]
    assert client.waits == [wait] * 3
