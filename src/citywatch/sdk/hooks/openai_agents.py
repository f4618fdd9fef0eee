"""The OpenAI Agents SDK: `Agent(tools=await tools(client))`."""

from __future__ import annotations

import json
from typing import Any

from citywatch.sdk.client import Client, Tool
from citywatch.sdk.hooks import said


async def tools(client: Client, *, wait: bool = False) -> list[Any]:
    """The server's tools as function tools; with `wait`, calls wait for the person they need."""
    from agents import FunctionTool

    def given(tool: Tool) -> Any:
        async def call(_: Any, arguments: str) -> str:
            try:
                value = json.loads(arguments or "{}")
            except ValueError:
                value = None
            if type(value) is not dict:
                return "this call was not made: its arguments are no JSON object"
            return (await said(client, tool.name, value, wait=wait))[0]

        return FunctionTool(
            name=tool.name,
            description=tool.description or tool.name,
            params_json_schema=dict(tool.schema),
            on_invoke_tool=call,
            strict_json_schema=False,  # the schema is the server's, word for word as a person approved it
        )

    return [given(tool) for tool in await client.tools()]
