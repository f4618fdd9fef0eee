"""LangGraph and LangChain: `ToolNode(await tools(client))`.

A refusal is a `ToolMessage` with the status `error`.
"""

from __future__ import annotations

from typing import Any

from citywatch.sdk.client import Client, Tool
from citywatch.sdk.hooks import said


async def tools(client: Client, *, wait: bool = False) -> list[Any]:
    """The server's tools as LangChain's; with `wait`, calls wait for the person they need."""
    from langchain_core.tools import StructuredTool, ToolException

    def given(tool: Tool) -> Any:
        async def call(**arguments: Any) -> str:
            text, done = await said(client, tool.name, arguments, wait=wait)
            if not done:
                raise ToolException(text)
            return text

        return StructuredTool(
            name=tool.name,
            description=tool.description or tool.name,
            args_schema=dict(tool.schema),
            coroutine=call,
            handle_tool_error=True,
        )

    return [given(tool) for tool in await client.tools()]
