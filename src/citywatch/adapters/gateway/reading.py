"""The body of one request, within its bounds of size and time.

Decides nothing else. INVARIANTS: no more is kept than the bound; whoever sends slowly is waited for so long and no
longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from citywatch.adapters.gateway.protocol import Peer
from citywatch.core.errors import Malformed

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class TooSlow(Exception):
    """A body did not arrive in its time."""


async def read_all(receive: Receive, peer: Peer, most: int, seconds: float) -> bytes:
    """The whole body of somebody with papers. One that is here already takes no clock to wait for it."""
    if peer.whole:
        return await _gathered(receive, most)
    return await read_body(receive, most, asyncio.timeout(seconds))


async def read_body(receive: Receive, most: int, place: AbstractAsyncContextManager[object]) -> bytes:
    """The whole body; `place` ends in `TimeoutError`."""
    try:
        async with place:
            return await _gathered(receive, most)
    except TimeoutError:
        raise TooSlow from None


async def _gathered(receive: Receive, most: int) -> bytes:
    """The usual one arrives in a single event."""
    body, more = bytearray(), True  # growing in place: kept in pieces of a byte it would be forty times as large
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Malformed("the body ended early")
        chunk, more = event.get("body", b""), event.get("more_body", False)
        if len(body) + len(chunk) > most:
            raise Malformed(f"the body is larger than {most} bytes")
        if not (body or more):
            return bytes(chunk)
        body += chunk
    return bytes(body)
