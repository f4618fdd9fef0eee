"""The bridge as a program: JSON-RPC lines on standard input and output, streamable HTTP to one server of the gateway.

Decides how one transport becomes the other, and nothing about messages:
1. `initialize`, notifications and answers wait for the gateway before the next line is read, for their order matters;
   other requests run beside each other.
2. In revisions with sessions, the session is kept and named (`Session`); after `initialized` a GET listens for what the
   server asks; a stream that breaks off goes on with `Last-Event-ID`; the end of input ends the session.
3. In stateless revisions each line's headers are made from it (`Headers`); a cancelled request is a closed stream.

INVARIANTS: a request is answered once, with an error if the gateway is lost; a line out is one message; any line in
gives a message or an error.
SPEC: MCP basic/transports, 2025-11-25 and 2026-07-28.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

import msgspec

from citywatch.adapters.bridge.client import Reply
from citywatch.adapters.bridge.lines import Headers
from citywatch.adapters.bridge.relay import Relay
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import (
    FROM_AGENT,
    FROM_SERVER,
    Message,
    Request,
    Response,
    format_message,
    parse_message,
)
from citywatch.core.wire.sse import EventParser

READ_BYTES = 65_536
MAX_IN_FLIGHT = 256
MAX_RETRIES = 5
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 30.0


class Writer(Protocol):
    """Where lines go: an `asyncio.StreamWriter`, or what a test puts there."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...


class _Stream(msgspec.Struct):
    """How far a stream has come: the last event's id, when to come back, whether the request was answered."""

    last: str | None = None
    retry_s: float = 1.0
    answered: bool = False


class StdioBridge:
    """One client on standard input and output, one server behind the gateway."""

    def __init__(
        self,
        relay: Relay,
        server: str,
        reader: asyncio.StreamReader,
        writer: Writer,
        *,
        complain: Callable[[str], None],
        grace_s: float = 5.0,
    ) -> None:
        """`complain` takes one line for a person; `grace_s` is how long open requests may end after the input has."""
        self._relay = relay
        self._path = b"/mcp/" + server.encode("ascii")
        self._reader, self._writer = reader, writer
        self._complain = complain
        self._grace_s = grace_s
        self._headers = Headers(self._fetch)
        self._in_flight: dict[str | int, asyncio.Task[None]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._one_line = asyncio.Lock()

    async def run(self) -> None:
        """Carry messages until the input ends."""
        try:
            async for line in self._lines():
                await self._take(line)
            if self._in_flight:
                await asyncio.wait(tuple(self._in_flight.values()), timeout=self._grace_s)
        finally:
            await self._stop()

    # -- in ----------------------------------------------------------------------------------------------------------

    async def _lines(self) -> AsyncIterator[bytes]:
        """Lines as they come; one that is too long comes cut, and so is refused."""
        kept = bytearray()
        while data := await self._reader.read(READ_BYTES):
            *whole, rest = data.split(b"\n")
            for line in whole:
                yield bytes(kept + line)
                kept.clear()
            if len(kept) <= FROM_AGENT.size:
                kept += rest
        if kept:
            yield bytes(kept)

    async def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            message = parse_message(line, FROM_AGENT)
        except Malformed as error:
            await self._put(mcp.turned_away(None, Code.MALFORMED, str(error)))
            return
        if not isinstance(message, Request):
            await self._tell(message)
            return
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            await self._put(mcp.turned_away(message, Code.OVERLOADED, "too many requests are open"))
            return
        task = asyncio.create_task(self._request(message))
        self._in_flight[message.id] = task
        task.add_done_callback(lambda done: self._forget(message.id, done))
        if message.method == "initialize":
            await asyncio.wait((task,))

    def _forget(self, rpc_id: str | int, task: asyncio.Task[None]) -> None:
        if self._in_flight.get(rpc_id) is task:
            del self._in_flight[rpc_id]
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._complain(f"a request failed: {failure!r}")

    # -- through -----------------------------------------------------------------------------------------------------

    async def _request(self, message: Request) -> None:
        """Ask, and see that exactly one answer goes out."""
        stream = _Stream()
        try:
            reply = await self._ask(b"POST", await self._headers.of(message), message.body)
            await self._hand_out(reply, message, stream)
            for _ in range(MAX_RETRIES):
                if stream.answered or stream.last is None or not self._headers.session:
                    break
                await asyncio.sleep(_pause(stream, 0))
                resumed = await self._ask(b"GET", self._headers.resuming(stream.last), None)
                if resumed.status != 200:
                    resumed.close()
                    break
                await self._hand_out(resumed, message, stream)
            if not stream.answered:
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the reply broke off: the outcome is unknown")
        except CitywatchError as failure:
            await self._put(mcp.turned_away(message, _code(failure), str(failure)))

    async def _tell(self, message: Message) -> None:
        """A notification or an answer: the gateway only accepts it."""
        if self._headers.is_cancellation_here(message):
            task = self._in_flight.get(self._headers.cancelled_id(message))
            if task is not None:
                task.cancel()
            return
        try:
            reply = await self._ask(b"POST", await self._headers.of(message), message.body)
            await reply.read(FROM_SERVER.size)
        except CitywatchError as failure:
            self._complain(f"a message was not delivered: {failure}")
            return
        if reply.status >= 400:
            self._complain(f"a message was not accepted: status {reply.status}")
        elif self._headers.begins_session(message):
            self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        """What the server asks of its own accord, for as long as the session lasts."""
        stream = _Stream()
        failures = 0
        while True:
            try:
                reply = await self._ask(b"GET", self._headers.resuming(stream.last), None)
                if reply.status != 200:  # this server says nothing of its own accord, or the session is over
                    reply.close()
                    return
                failures = 0
                await self._hand_out(reply, None, stream)
            except CitywatchError:
                failures += 1
            await asyncio.sleep(_pause(stream, failures))

    async def _ask(self, method: bytes, headers: list[tuple[bytes, bytes]], body: bytes | None) -> Reply:
        return await self._relay.ask(method, self._path, headers, body)

    async def _fetch(self, request: Request) -> Response | None:
        """Ask something on the bridge's own account; None if there is no plain answer."""
        reply = await self._ask(b"POST", await self._headers.of(request), request.body)
        found: list[Message] = []
        async with aclosing(self._messages(reply, _Stream())) as messages:
            found += [message async for message in messages]
        return next((m for m in found if isinstance(m, Response) and m.id == request.id), None)

    # -- out ---------------------------------------------------------------------------------------------------------

    async def _hand_out(self, reply: Reply, request: Request | None, stream: _Stream) -> None:
        async with aclosing(self._messages(reply, stream)) as messages:
            async for message in messages:
                if request is not None and isinstance(message, Response):
                    if message.id is None:  # refused before the gateway had read which request it was
                        message = _answering(request, message)
                    if message.id == request.id:
                        self._headers.learn(request, message, reply.header(b"mcp-session-id"))
                        stream.answered = True
                await self._put(message.body)

    async def _messages(self, reply: Reply, stream: _Stream) -> AsyncGenerator[Message, None]:
        """The messages of a reply, one or a stream of them. A stream that breaks off only ends."""
        try:
            if (reply.header(b"content-type") or b"").lower().startswith(b"text/event-stream"):
                parser = EventParser(FROM_SERVER.size)
                try:
                    async for chunk in reply.chunks():
                        for event in parser.feed(chunk):
                            stream.last = event.id or stream.last
                            stream.retry_s = stream.retry_s if event.retry_ms is None else event.retry_ms / 1000
                            if event.data:
                                yield parse_message(event.data, FROM_SERVER)
                except Unavailable:
                    return
            elif body := await reply.read(FROM_SERVER.size):
                yield parse_message(body, FROM_SERVER)
            elif reply.status >= 400:
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the gateway answered with status {reply.status}")
        finally:
            reply.close()

    async def _put(self, body: bytes) -> None:
        if not body:
            return
        async with self._one_line:
            self._writer.write(body + b"\n")
            await self._writer.drain()

    async def _stop(self) -> None:
        tasks = [*self._in_flight.values(), *([self._listening] if self._listening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._headers.session:
            try:
                (await self._ask(b"DELETE", self._headers.resuming(None), None)).close()
            except CitywatchError as failure:
                self._complain(f"the session was not ended: {failure}")


def _pause(stream: _Stream, failures: int) -> float:
    """How long to wait before the gateway is asked again, whatever it wishes: neither at once nor never."""
    return max(SHORTEST_PAUSE_S, min(stream.retry_s * 2.0 ** min(failures, 10), LONGEST_PAUSE_S))


def _code(failure: CitywatchError) -> Code:
    return failure.code if isinstance(failure, Refused | Unavailable) else Code.REPLY_MALFORMED


def _answering(request: Request, response: Response) -> Response:
    named = Response(request.id, None, response.error)
    return msgspec.structs.replace(named, body=format_message(named))
