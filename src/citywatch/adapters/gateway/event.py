"""What a stream delivers, as bytes of a server-sent event.

Decides nothing. INVARIANT: one delivery is one event for every reader, whatever it takes for the end of a line.
SPEC: HTML "Server-sent events"; MCP basic/transports "Streamable HTTP".
"""

from __future__ import annotations

from citywatch.service.replies import Delivery


def format_event(delivery: Delivery) -> bytes:
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
