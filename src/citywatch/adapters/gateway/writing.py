"""What goes out: one response, and the events of a stream.

Decides nothing. INVARIANT: what is written is one event, or one body of the length that is announced.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from citywatch.service.replies import Delivery

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON = b"application/json"


def format_delivery(delivery: Delivery) -> bytes:
    """One server-sent event. Our bodies hold no raw line breaks: JSON escapes them."""
    head = b"" if delivery.event_id is None else b"id: " + delivery.event_id.encode() + b"\n"
    if delivery.kind:
        head += b"event: " + delivery.kind.encode() + b"\n"
    if delivery.retry_ms is not None:
        head += b"retry: %d\n" % delivery.retry_ms
    return head + b"data: " + _one_line(delivery.body) + b"\n\n"


def _one_line(body: bytes) -> bytes:
    """Line breaks that only some readers know, as JSON escapes; in JSON they can stand in strings alone."""
    if body.isascii():
        return body
    for raw, escaped in ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085")):
        body = body.replace(raw, escaped)
    return body


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
