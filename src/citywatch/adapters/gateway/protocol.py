"""One HTTP connection, bounded: uvicorn's httptools protocol with what it leaves open closed.

uvicorn bounds neither the number, the size nor the time of headers, and keeps the client's certificate to itself.
Decides only how much a connection may send before anybody looks at it. INVARIANTS: at no time is more than
`header_bytes` plus one read of unparsed head kept, and never more than one request; a head that is not complete in
`header_time` seconds closes the connection, and so does a body that goes on for so long after its answer; a caller that
goes away cancels the request it left. Which connections there may be, `room.py` decides.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from citywatch.adapters.gateway.room import Room
from citywatch.adapters.gateway.secure import CHAIN, Chain

_READ = 256 * 1024


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection may send, in counts, bytes and seconds; and how long it may leave our reply unread.

    `probe_time`: after how many seconds of silence its machine is asked whether it is still there, some times.
    """

    headers: int = 64
    header_bytes: int = 16 * 1024
    header_time: float = 5.0
    target_bytes: int = 2048
    read_time: float = 30.0
    probe_time: int = 20


Answer = Callable[[int, bytes, bytes], bool]
"""Takes a status, the media type and a body, which is not empty."""


def _unanswered(status: int, media: bytes, body: bytes) -> bool:
    """Without a connection of ours an answer goes by way of ASGI."""
    return False


class Peer:
    """What is known of one connection: its certificates, the credential it proved, the request in progress.

    `whole`: all of that request is here. `answer` sends a whole response to it at once, or says that it did not.
    """

    __slots__ = ("address", "answer", "chain", "proved", "task", "whole")

    def __init__(self, address: str, chain: Chain = (), answer: Answer | None = None) -> None:
        self.address = address
        self.chain = chain
        self.answer = answer or _unanswered
        self.whole = False
        self.proved: tuple[bytes, int, Any] | None = None
        self.task: asyncio.Task[Any] | None = None


class Corked:
    """A transport that sends what is written in one turn of the loop with one system call.

    uvicorn writes a response's head and body apart; on a small response the second call costs as much as the decision.
    """

    __slots__ = ("_loop", "_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def write_now(self, data: bytes) -> None:
        """Behind what waits, without waiting for more."""
        if self._waiting:
            self._waiting.append(data)
            self._flush()
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    @property
    def unsent(self) -> bool:
        """Whether anything waits here or in the transport to be sent."""
        return bool(self._waiting) or self._transport.get_write_buffer_size() > 0

    def _flush(self) -> None:
        if self._waiting:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting = []
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _TooMuch(Exception):
    """Raised inside a parser callback to stop parsing."""


class BoundedProtocol(HttpToolsProtocol):
    """An HTTP/1.1 connection that cannot make us hold more than its bounds allow."""

    bounds = Bounds()
    room = Room(1)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]
        # uvicorn tolerates bytes after `Connection: close`; two messages where one was announced: so smuggling starts.
        self.parser = httptools.HttpRequestParser(self)
        _probe(transport, self.bounds.probe_time)
        address = f"{self.client[0]}:{self.client[1]}" if self.client else "unknown"
        self.peer = Peer(address, transport.get_extra_info(CHAIN, ()), self.answer)
        self._head = 0
        self._count = 0
        self._in_head = True
        self._refused = False
        self._unread: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(self.bounds.header_time, self._too_slow)
        if not self.room.enter(self):
            self.leave_now()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if not self._in_head or not self._head or self._refused:
            return  # most heads come whole: no clock is set for what nobody waits for
        if self._timer is None:
            self._timer = self.loop.call_later(self.bounds.header_time, self._too_slow)
        if self._head > self.bounds.header_bytes + _READ:
            self._refuse(431, b"the head of the request is too large")

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.leave(self)
        self._cancel_timer()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)
        if self.peer.task is not None:
            self.peer.task.cancel()

    def pause_writing(self) -> None:
        """The peer does not read: what it leaves in our buffers, it leaves for so long and no longer."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.bounds.read_time, self.transport.abort)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    # -- the seat, for `room.py` -------------------------------------------------------------------------------------

    def owes_nothing(self) -> bool:
        return not self.transport.unsent  # type: ignore[attr-defined]

    def leave_now(self) -> None:
        """At once: a farewell would keep the socket open for as long as its peer likes."""
        self._refused = True
        self.transport.abort()

    # -- parser callbacks --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # One read can hold thousands of requests, and uvicorn would keep a cycle for each: the one at work is
            # answered, then the connection ends. SPEC: RFC 9112 §9.3.2: a client sends again what was not answered.
            self.cycle.keep_alive = False
            self._refused = True
            self._cancel_timer()
            raise _TooMuch
        super().on_message_begin()
        self._count = 0
        self._size = 0
        self.scope["state"]["peer"] = self.peer
        self.peer.whole = False

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.bounds.target_bytes:
            self._refuse(414, b"the request target is too long")
            raise _TooMuch

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count = count = self._count + 1
        self._size = size = self._size + len(name) + len(value)
        bounds = self.bounds
        if count > bounds.headers or size > bounds.header_bytes:
            self._refuse(431, b"the request has too many or too large headers")
            raise _TooMuch
        if not self._in_head:
            return  # a trailer. SPEC: RFC 9110 §6.5.1: the head was judged without it, so it says nothing
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._cancel_timer()
        self._in_head = False
        self._head = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._cancel_timer()
        self.peer.whole = True
        if not self.cycle.response_complete:
            self.room.work(self)
        super().on_message_complete()
        if self.cycle.response_complete:  # uvicorn began to wait for the next request at the answer, and forgot it here
            self._wait_for_the_next()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.room.wait(self)
        if not self._in_head and not self.transport.is_closing():
            # Answered before it was all there: nobody reads the rest, and no other timer runs for it. An honest
            # client's is on its way already. Closed at once, the answer could be lost with what is unread.
            self._timer = self.loop.call_later(self.bounds.header_time, self._too_slow)

    def answer(self, status: int, media: bytes, body: bytes) -> bool:
        """Send the whole response to the request at work, in one write; False where it needs more care than that.

        What uvicorn does for the same response in two events (`RequestResponseCycle.send`), without either of them.
        """
        cycle = self.cycle
        plain = cycle.keep_alive and not cycle.response_started and not cycle.disconnected
        if not plain or self.flow.write_paused or self.server_state.default_headers or cycle.scope["method"] == "HEAD":
            return False
        cycle.response_started = cycle.response_complete = True
        head = b"content-length: %d\r\ncontent-type: %s\r\n\r\n" % (len(body), media)
        self.transport.write_now(STATUS_LINE[status] + head + body)  # type: ignore[attr-defined]
        cycle.message_event.set()
        self.on_response_complete()
        return True

    def _wait_for_the_next(self) -> None:
        if not self.transport.is_closing():
            self._unset_keepalive_if_required()
            wait = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
            self.timeout_keep_alive_task = wait

    # -- refusals ----------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            self._refuse(400, b"the request is not valid HTTP/1.1")

    def _too_slow(self) -> None:
        self._timer = None
        if self._in_head and self._head:
            self._refuse(408, b"the head of the request took too long")
        else:
            self.transport.close()

    def _refuse(self, status: int, why: bytes) -> None:
        self._refused = True
        self._cancel_timer()
        if not self.transport.is_closing():
            busy = self.cycle is not None and not self.cycle.response_complete
            if not busy:  # never write into the middle of another response
                self.transport.write(
                    b"HTTP/1.1 %d Refused\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
                    b"connection: close\r\n\r\n%s" % (status, len(why), why)
                )
            self.transport.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _probe(transport: asyncio.BaseTransport, seconds: int) -> None:
    """Have the kernel end a connection whose other end is gone without a word: a stream may be silent for an hour.

    Asked after `seconds` of silence, three times in as long again; what it does not acknowledge it has as long for.
    """
    found = transport.get_extra_info("socket")
    if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 3))
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000 * seconds)


def bounded(bounds: Bounds, room: Room) -> type[BoundedProtocol]:
    """A protocol class with these bounds and a seat in this room, for uvicorn's `http=`."""
    return type("BoundedProtocol", (BoundedProtocol,), {"bounds": bounds, "room": room})
