"""The plain `mcp` client: `http_client` shows the papers, `meta` the chain, `checked` raises what was refused.

async with http_client(url, papers) as http, mcp.Client(streamable_http_client(url, http_client=http)) as server:
    result = checked(await server.call_tool("look", {}, meta=meta(chain)))
"""

from __future__ import annotations

from typing import Any, TypeVar

from citywatch.core.wire import mcp
from citywatch.sdk.chain import Chain
from citywatch.sdk.errors import raised
from citywatch.sdk.http import http_client

__all__ = ["checked", "http_client", "meta"]

Result = TypeVar("Result")


def meta(chain: Chain) -> dict[str, Any]:
    """What a request says in `_meta` to be made under a chain, for its task."""
    return {mcp.TASK: chain.task, mcp.CHAIN: list(chain.links)}


def checked(result: Result) -> Result:
    """A `CallToolResult` that is the tool's own; raises `Refused` or another `Failed` for one that is the gateway's."""
    value: Any = result
    told = mcp.read_refusal(value.model_dump(by_alias=True, mode="json", exclude_none=True))
    if told is not None:
        raise raised(told)
    return result
