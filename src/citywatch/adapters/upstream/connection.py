"""One HTTP/1.1 connection to an upstream, for one caller: a request out, its response in.

Decides whether the bytes that come back are one clean HTTP response, and whether the connection may be used again.
INVARIANTS: a connection has one caller for its whole life; it is used again only after a response that was complete and
left nothing behind; bytes nobody asked for end it; what the framing of a response costs is bounded by its content.
SPEC: RFC 9112 §6.3, §9.3-9.6.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol

import httptools

from citywatch.adapters.upstream.answer import PAUSE_ABOVE, Broken, HttpAnswer
from citywatch.adapters.upstream.settings import Bounds, Patience
from citywatch.core.errors import Code, Unavailable

_FRAMING: Final = 1
"""How many bytes beside itself one byte of an answer may cost: chunk heads are legal, endless trailers are not."""
_NEVER: Final = float("inf")
_READ: Final = frozenset(
    (b"content-type", b"content-length", b"transfer-encoding", b"content-encoding", b"mcp-session-id")
)


class Owner(Protocol):
    """Who keeps connections: told when one is free again, and when it is gone."""

    def released(self, connection: Connection) -> None: ...

    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """Asks one thing at a time. `deadline` is when `expire` will give up on it."""

    def __init__(
        self,
        caller: str,
        owner: Owner,
        patience: Patience,
        bounds: Bounds,
        now: Callable[[], float],
        *,
        reads: bool = True,
    ) -> None:
        self.caller = caller
        self.deadline = _NEVER
        self.idle_since = 0.0
        self._owner = owner
        self._patience = patience
        self._bounds = bounds
        self._reads = reads
        self._now = now
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: HttpAnswer | None = None
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._silence = 0.0
        self._received = 0
        self._started = 0.0
        self._in_body = self._framed = self._done = self._reusable = False

    @property
    def attached(self) -> bool:
        """Whether there is a transport to wait for when everything ends."""
        return self._transport is not None

    @property
    def certificate(self) -> bytes:
        """What the server showed in the handshake, in DER; empty if there was none."""
        tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(binary_form=True)
        return shown or b""

    @property
    def usable(self) -> bool:
        return self._answer is None and self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, *, listening: bool) -> HttpAnswer:
        """Send one request and wait for its answer: whole if it is JSON, at its head if it is a stream.

        Raises `Unavailable`; as `Broken` if the connection ended, which says whether anything was heard.
        """
        if self._transport is None or not self.usable:
            raise Broken("the connection is closed", False)
        answer = self._answer = HttpAnswer(self, self._loop.create_future(), self._bounds.answer, listening=listening)
        answer.reads = self._reads
        self._silence = self._patience.listen if listening else self._patience.idle
        self._received = 0
        self._in_body = self._framed = self._done = self._reusable = False
        self._started = self._now()
        self.deadline = self._started + self._patience.first_byte
        self._transport.write(request)
        try:
            await answer.ready
        except asyncio.CancelledError:
            # SPEC: MCP 2026-07-28 basic/transports: over HTTP, closing the response is how a call is cancelled.
            self.abandon(answer)
            raise
        return answer

    def expire(self, now: float) -> None:
        """Give up on a server that has been silent too long; while our own reader is behind, it is given more time."""
        if now >= self.deadline + (self._patience.listen if self._paused else 0.0):
            self.end(Unavailable(Code.UPSTREAM_TIMEOUT, "the server did not answer in time"))

    def end(self, failure: Unavailable) -> None:
        """End the connection and tell whoever waits why."""
        answer, self._answer = self._answer, None
        self.deadline = _NEVER
        if answer is not None:
            answer.fail(failure)
        if self._transport is not None:
            self._transport.abort()

    # -- the answer's calls ------------------------------------------------------------------------------------------

    def resume(self, answer: HttpAnswer) -> None:
        if self._paused and answer is self._answer and self._transport is not None:
            self._paused = False
            self.deadline = self._now() + self._silence
            self._transport.resume_reading()

    def abandon(self, answer: HttpAnswer) -> None:
        if answer is self._answer:
            self.end(Broken("the answer was abandoned", self._received > 0))

    # -- asyncio's calls ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream protocol gets a stream transport
        found = transport.get_extra_info("socket")
        if found is not None:  # a stream may be silent for an hour: the kernel asks whether the machine is still there
            seconds = self._patience.probe
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 3))
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            # A server that speaks before it is asked could have its words taken for the answer to the next request.
            self.end(Broken("the server sent bytes that nobody asked for", False))
            return
        self._received += len(data)
        if answer.media == "sse":
            self.deadline = self._now() + self._silence
        else:
            self.deadline = min(self._now() + self._patience.idle, self._started + self._patience.total)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as failure:
            # An error raised in one of our own callbacks arrives wrapped.
            cause = failure.__context__
            if not isinstance(cause, Unavailable):
                cause = Unavailable(Code.REPLY_MALFORMED, "the server does not speak HTTP/1.1")
            self.end(cause)
            return
        if self._received - answer.size > self._bounds.head + _FRAMING * answer.size:
            self.end(Unavailable(Code.REPLY_TOO_LARGE, "the head of the server's answer is too large"))
        elif self._done:
            self._finish(answer)

    def eof_received(self) -> bool:
        if self._answer is not None and self._in_body and not self._framed:
            # Without a length, the end of the connection is the end of the body, and nothing can say what is missing.
            self._finish(self._answer)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.end(Broken("the server closed the connection", self._answer is not None and self._received > 0))
        self._owner.lost(self)

    def _finish(self, answer: HttpAnswer) -> None:
        self._answer = None
        self.deadline = _NEVER
        answer.finish()
        if self._transport is None:
            return
        if not self._reusable:
            self._transport.close()
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self.idle_since = self._now()
        self._owner.released(self)

    # -- httptools' calls --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._done:
            raise Broken("the server sent bytes that nobody asked for", True)

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self._answer
        if answer is None or self._in_body:
            return  # a trailer: nothing of it is used
        name = name.lower()
        if name not in _READ:
            return
        if name == b"content-type":
            answer.kind = value.partition(b";")[0].strip().lower().decode("latin-1")
        elif name == b"content-length":
            self._framed = True
        elif name == b"transfer-encoding":
            self._framed = True
            if value.strip().lower() != b"chunked":
                raise Unavailable(Code.REPLY_MALFORMED, "the server used an unknown transfer coding")
        elif name == b"content-encoding":
            # We asked for none, and a few kilobytes can unpack to gigabytes.
            if value.strip().lower() not in (b"", b"identity"):
                raise Unavailable(Code.REPLY_MALFORMED, "the server compressed its answer unasked")
        elif name == b"mcp-session-id":
            answer.take_session(value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._answer is None:
            return
        self._in_body = True
        self._answer.status = status
        if self._answer.kind == "text/event-stream" and status == 200 and self._reads:
            self.deadline = self._now() + self._silence
            self._answer.begin_stream()

    def on_body(self, body: bytes) -> None:
        answer = self._answer
        if answer is None:
            return
        answer.take(body)
        if answer.queued > PAUSE_ABOVE and answer.media == "sse" and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self._in_body:
            # An interim response (1xx): the real one follows. How many there are is bounded by the bytes of a head.
            self._framed = False
            if self._answer is not None:
                self._answer.kind, self._answer.session = "", None
            return
        self._done = True
        self._reusable = self._parser.should_keep_alive()
