"""Hooks of a few lines for agent frameworks: each gives a server's tools as the framework's own.

Decide nothing. A call that gave no reply is told to the model as a failed call, so that the agent goes on; what it was
refused is the gateway's doing, and with the hook deleted it is refused as well. The framework is imported where it is
used: install the one you have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from citywatch.sdk.client import Client
from citywatch.sdk.errors import Failed


async def said(client: Client, name: str, arguments: Mapping[str, Any], *, wait: bool) -> tuple[str, bool]:
    """What the model is told of a call, and whether it was done."""
    try:
        reply = await client.call(name, arguments, wait=wait)
    except Failed as failure:
        return f"this call was not made: {failure}", False
    return reply.text, not reply.failed
