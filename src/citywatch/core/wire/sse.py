"""Bytes ⇄ server-sent events, as they arrive: chunks may end anywhere, even inside a line break or a character.

Decides where one event ends and what its fields say; the data is handed on as bytes and judged by `jsonrpc`.
INVARIANTS: the events do not depend on how the bytes were cut; no more than `limit` bytes of one event are kept; one
`format_event` is one event to every reader, for nothing that could break a line gets in.
SPEC: WHATWG HTML §9.2.6 (parsing), as MCP uses it (basic/transports "Resumability": an event with an id and no data).
"""

from __future__ import annotations

from typing import Final

import msgspec

from citywatch.core.errors import Malformed

_MAX_ID: Final = 1024
_MAX_RETRY_DIGITS: Final = 9
_PER_LINE: Final = 48
"""What a line of data counts beside its bytes, so that a million empty ones are not free."""


class Event(msgspec.Struct, frozen=True):
    """One event: `data` joined by line feeds, the id and retry time of *this* event. `kind` defaults to `message`."""

    data: bytes
    id: str | None = None
    kind: str = "message"
    retry_ms: int | None = None


class EventParser:
    """Cuts one stream into events. Feed it chunks in order; it keeps what is not finished yet.

    An event is reported if it has data, an id or a retry time; a bare comment or an unknown field is not one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # The unfinished line, growing in place: joined anew for each chunk it would take quadratic time, and kept in
        # pieces of a few bytes ten times its size.
        self._line = bytearray()
        self._after_cr = False
        self._at_start = True
        self._clear()

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in this chunk. Raises `Malformed` once an event has grown beyond the limit."""
        if self._after_cr and chunk:
            # The CR has ended its line already; a LF at the start of the next chunk belongs to that same break.
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\n" not in chunk and b"\r" not in chunk:
            self._hold(chunk)
            return []
        lines = bytes(self._line + chunk).splitlines(keepends=True)
        self._line = bytearray()
        self._after_cr = lines[-1].endswith(b"\r")
        if not lines[-1].endswith((b"\n", b"\r")):
            self._hold(lines.pop())
        events = []
        for line in lines:
            line = line.rstrip(b"\r\n")
            if self._at_start:
                self._at_start = False
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line:
                self._field(line)
            elif self._data or self._id is not None or self._retry is not None:
                events.append(Event(b"\n".join(self._data), self._id, self._kind, self._retry))
                self._clear()
            else:
                self._clear()
        return events

    def _hold(self, piece: bytes) -> None:
        self._line += piece
        if len(self._line) > self._limit:
            raise Malformed(f"an event is larger than {self._limit} bytes")

    def _clear(self) -> None:
        self._data: list[bytes] = []
        self._size = 0
        self._id: str | None = None
        self._kind = "message"
        self._retry: int | None = None

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + _PER_LINE
            if self._size > self._limit:
                raise Malformed(f"an event is larger than {self._limit} bytes")
        elif name == b"id":
            self._id = _text(value, self._id)
        elif name == b"event":
            self._kind = _text(value, None) or "message"
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self._retry = int(value)


def format_event(event: Event) -> bytes:
    """One event as bytes; the inverse of `EventParser` for data without line breaks, which our JSON never has."""
    lines = []
    if event.kind != "message":
        lines.append(b"event: " + event.kind.encode())
    if event.id is not None:
        lines.append(b"id: " + event.id.encode())
    if event.retry_ms is not None:
        lines.append(b"retry: %d" % event.retry_ms)
    lines.append(b"data: " + event.data)
    for line in lines:
        # A break inside a field would let its author write fields, or whole events, of their own.
        if b"\n" in line or b"\r" in line or b"\0" in line:
            raise ValueError("an event's field holds a line break")
    return b"\n".join((*lines, b"", b""))


def _text(value: bytes, otherwise: str | None) -> str | None:
    """SPEC: an id with a NUL is ignored. So is one that is not UTF-8 or longer than anybody needs."""
    if b"\0" in value or len(value) > _MAX_ID:
        return otherwise
    try:
        return value.decode()
    except UnicodeDecodeError:
        return otherwise
