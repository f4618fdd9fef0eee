"""What is known of one answer while it arrives over HTTP: whole for JSON, piece by piece for a stream.

Decides whether status and media make an answer that the service can judge; what the JSON says is `core.wire`'s.
INVARIANTS: an answer belongs to one request and outlives its connection; no more of it is kept than its bounds allow; a
redirect is never followed, a challenge for our credential never shown to the caller.
SPEC: MCP basic/transports "Streamable HTTP", "Sending Messages to the Server".
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol

from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.wire.sse import Event, EventParser

PAUSE_ABOVE: Final = 256 * 1024
MESSAGES: Final = frozenset(("message",))
"""The kinds of events that are read of a stream."""
_JSON: Final = ("application/json", "application/a2a+json")
_MAX_SESSION: Final = 1024
_PLAIN: Final = re.compile(rb"[\x21-\x7e]+\Z")


class Broken(Unavailable):
    """The connection ended. `heard` says whether any byte of the answer had come; if not, nothing is known of it."""

    def __init__(self, detail: str, heard: bool) -> None:
        super().__init__(Code.UPSTREAM_UNAVAILABLE, detail)
        self.heard = heard


class Source(Protocol):
    """Where the pieces come from."""

    def resume(self, answer: HttpAnswer) -> None:
        """The reader has caught up."""
        ...

    def abandon(self, answer: HttpAnswer) -> None:
        """Nobody wants the rest."""
        ...


class HttpAnswer:
    """The port's `Answer`, filled by its connection. `ready` is done once the caller has something to look at."""

    __slots__ = (
        "_failure",
        "_limit",
        "_listening",
        "_pieces",
        "_reader",
        "_source",
        "_whole",
        "body",
        "complete",
        "kind",
        "kinds",
        "media",
        "queued",
        "reads",
        "ready",
        "retry_ms",
        "session",
        "size",
        "status",
    )

    def __init__(self, source: Source | None, ready: asyncio.Future[None], limit: int, *, listening: bool) -> None:
        self.status = 0
        self.media = "none"
        self.session: str | None = None
        self.body: bytes | None = None
        self.retry_ms: int | None = None
        self.kind = ""
        self.kinds = MESSAGES
        self.reads = True
        self.ready = ready
        self.complete = False
        self.size = 0
        self.queued = 0
        self._source = source
        self._limit = limit
        self._listening = listening
        self._pieces: deque[bytes] = deque()
        self._whole: bytes | bytearray | None = None
        self._reader: asyncio.Future[None] | None = None
        self._failure: Unavailable | None = None

    @classmethod
    def accepted(cls) -> HttpAnswer:
        """An answer to what was taken and goes no further."""
        answer = cls(None, asyncio.get_running_loop().create_future(), 0, listening=False)
        answer.status = 202
        answer.finish()
        return answer

    # -- the port ----------------------------------------------------------------------------------------------------

    async def messages(self) -> AsyncIterator[tuple[bytes, str | None]]:
        if self.media != "sse":
            if self.body is not None:
                yield self.body, None
            return
        async for event in self._events():
            # Other kinds of events are not MCP's; an id without data primes resumption. A2A's errors have a kind too.
            if event.kind in self.kinds and (event.data or event.id is not None):
                yield event.data, event.id

    async def events(self) -> AsyncIterator[tuple[str, bytes]]:
        """Kind and data of each event of a stream."""
        async for event in self._events():
            if event.kind in self.kinds and event.data:
                yield event.kind, event.data

    async def _events(self) -> AsyncIterator[Event]:
        parser = EventParser(self._limit)
        while (piece := await self._next()) is not None:
            try:
                events = parser.feed(piece)
            except Malformed as failure:
                await self.close()
                raise Unavailable(Code.REPLY_TOO_LARGE, str(failure)) from None
            for event in events:
                if event.retry_ms is not None:
                    self.retry_ms = event.retry_ms
                yield event

    async def close(self) -> None:
        if not self.complete and self._source is not None:
            self._source.abandon(self)

    async def _next(self) -> bytes | None:
        """The next piece of a stream, None at its clean end; raises `Unavailable` when it broke."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self.complete:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        piece = self._pieces.popleft()
        self.queued -= len(piece)
        if self.queued <= PAUSE_ABOVE and self._source is not None:
            self._source.resume(self)
        return piece

    # -- filled by the connection ------------------------------------------------------------------------------------

    def take_session(self, value: bytes) -> None:
        if self.session is not None or not 0 < len(value) <= _MAX_SESSION or not _PLAIN.match(value):
            raise Unavailable(Code.REPLY_MALFORMED, "the server named no usable session")
        self.session = value.decode("ascii")

    def begin_stream(self) -> None:
        self.media = "sse"
        self._set_ready()

    def take(self, piece: bytes) -> None:
        """One piece of the body. Raises `Unavailable` if that is more than the bound."""
        self.size += len(piece)
        if self.size > self._limit and not (self._listening and self.media == "sse"):
            raise Unavailable(Code.REPLY_TOO_LARGE, f"the server's answer is larger than {self._limit} bytes")
        if self.media == "sse":
            self._pieces.append(piece)
            self.queued += len(piece)
            self._wake()
        elif self._whole is None:
            self._whole = piece
        else:
            # One growing buffer: a list of chunks of a byte each would cost eight bytes for every byte.
            self._whole = self._whole if type(self._whole) is bytearray else bytearray(self._whole)
            self._whole += piece

    def finish(self) -> None:
        """The response is complete. Whatever it says, the caller learns it now."""
        self.complete = True
        if self.media == "sse":
            self._wake()
            return
        body = bytes(self._whole or b"")
        self._whole = None
        try:
            self._settle(body)
        except Unavailable as failure:
            self._set_failed(failure)
        else:
            self._set_ready()

    def fail(self, failure: Unavailable) -> None:
        if not self.complete:
            self._set_failed(failure)

    def _settle(self, body: bytes) -> None:
        if 300 <= self.status < 400:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the server answered with a redirect, which is never followed")
        if not self.reads:
            return
        if self.status in (401, 403):
            raise Unavailable(
                Code.UPSTREAM_UNAVAILABLE, f"the server refused the gateway's credential (status {self.status})"
            )
        if self.kind in _JSON and body and self.status != 202:
            self.media, self.body = "json", body
        elif self.status < 400 and body and self.status != 202:
            raise Unavailable(Code.REPLY_MALFORMED, "the server answered with neither JSON nor events")

    def _set_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def _set_failed(self, failure: Unavailable) -> None:
        self._failure = self._failure or failure
        if not self.ready.done():
            self.ready.set_exception(failure)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
