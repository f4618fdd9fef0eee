"""What goes out as one response.

Decides nothing. INVARIANT: what is written is one body of the length that is announced.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON = b"application/json"


async def write(
    send: Send, status: int, body: bytes, media: bytes | None = JSON, extra: list[tuple[bytes, bytes]] | None = None
) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    if media is not None and body:
        headers.append((b"content-type", media))
    if extra:
        headers += extra
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
