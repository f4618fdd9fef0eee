"""Pydantic AI: `Agent(model, tools=await tools(client))`."""

from __future__ import annotations

from typing import Any

from citywatch.sdk.client import Client, Tool
from citywatch.sdk.hooks import said


async def tools(client: Client, *, wait: bool = False) -> list[Any]:
    """The server's tools as Pydantic AI's; with `wait`, calls wait for the person they need."""
    import pydantic_ai

    def given(tool: Tool) -> Any:
        async def call(**arguments: Any) -> str:
            return (await said(client, tool.name, arguments, wait=wait))[0]

        return pydantic_ai.Tool.from_schema(call, tool.name, tool.description, dict(tool.schema))

    return [given(tool) for tool in await client.tools()]
