"""TLS under a connection: a handshake within bounds, and its failure told to somebody.

The loop's own TLS ends a failed handshake without a word to either side: the alert stays in its buffer, and the reason
becomes a line of its debug log. So the library's TLS object is driven here, through its public memory BIOs, on any
loop.
Decides how many handshakes there may be at once and how long each may take; whom they let in is the context's.

INVARIANTS: the protocol above is made only after the handshake, and after the certificate in it was held against the
bundle of the trust domain that it names; it reads nothing that was not under TLS; at most `most` handshakes are in
flight, none longer than `seconds`; every refusal of papers is told once, and the client gets TLS's alert for the
library's (ours come after its last word, and end the connection); what is decrypted goes up at once or stays with the
library, and never grows here.
SPEC: RFC 8446 §4.4.2.4 and §6; only TLS 1.3 is spoken (`adapters.tls`), so that writing never has to wait for reading.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from citywatch.adapters.gateway.handshake import papers_refused
from citywatch.core.errors import CitywatchError, Refused

RECORD = 16_384
CHAIN = "citywatch_chain"
"""Under this name the protocol above finds what was shown."""
LINGER_S = 1.0
Chain = tuple[bytes, ...]
"""Certificates in DER, in the order in which they were shown, leaf first; empty if there were none."""
Shown = Callable[[ssl.SSLObject], Chain]
Told = Callable[[Refused, str], Awaitable[None]]
Judge = Callable[[Chain], None]
"""Raises `Refused` for certificates that the library let pass and that their own domain did not issue."""


class Handshakes:
    """Those in flight, of all listeners together."""

    def __init__(self, most: int, seconds: float, told: Told) -> None:
        """`told` is given each refusal of papers and the address that it was told to."""
        self._most = most
        self._seconds = seconds
        self._told = told
        self._timers: dict[TlsProtocol, asyncio.TimerHandle] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._timers)

    def begin(self, one: TlsProtocol) -> None:
        """Let it in. When there are too many the oldest gives way: an honest one takes a moment, a stalled one ages."""
        if len(self._timers) >= self._most:
            oldest = next(iter(self._timers))
            self.end(oldest)
            oldest.abort()
        self._timers[one] = asyncio.get_running_loop().call_later(self._seconds, one.abort)

    def end(self, one: TlsProtocol) -> None:
        timer = self._timers.pop(one, None)
        if timer is not None:
            timer.cancel()

    def tell(self, refused: Refused, address: str) -> None:
        task = asyncio.get_running_loop().create_task(self._tell(refused, address))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, refused: Refused, address: str) -> None:
        with suppress(CitywatchError):  # a log that is away: the connection was refused all the same
            await self._told(refused, address)

    async def close(self) -> None:
        """End what is in flight, and wait until everything is told, but not for a log that does not answer."""
        for one in tuple(self._timers):
            one.abort()
        if self._telling:
            await asyncio.wait(set(self._telling), timeout=LINGER_S)


class TlsProtocol(asyncio.Protocol):
    """One connection: TLS below, `protocol` above once the handshake is done."""

    def __init__(
        self,
        context: ssl.SSLContext,
        protocol: Callable[[], Any],
        handshakes: Handshakes,
        judge: Judge | None = None,
        shown: Shown | None = None,
    ) -> None:
        """`shown` reads what the client showed; without it only the leaf counts."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.chain: Chain = ()
        self.protocol: Any = None
        self._make = protocol
        self._handshakes = handshakes
        self._judge = judge
        self._shown = shown or leaf_alone
        self._refused = self._closed = self._paused = False
        self._lingering: asyncio.TimerHandle | None = None

    # -- what the loop calls -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.lower = transport
        self._handshakes.begin(self)

    def data_received(self, data: bytes) -> None:
        if self._refused or self._closed:
            return
        self._incoming.write(data)
        if self.protocol is None:
            self._shake_hands()
        else:
            self._read()

    def eof_received(self) -> None:
        """The other end stopped without TLS's goodbye: what it left unfinished, HTTP sees as unfinished."""
        if self.protocol is not None and not self._closed:
            self.protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._handshakes.end(self)
        if self._lingering is not None:
            self._lingering.cancel()
        if self.protocol is not None:
            self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self.protocol is not None:
            self.protocol.pause_writing()

    def resume_writing(self) -> None:
        if self.protocol is not None:
            self.protocol.resume_writing()

    # -- the handshake -----------------------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
            self.chain = self._shown(self.tls)
            if self.chain and self._judge is not None:
                self._judge(self.chain)
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as failure:
            self._refuse(papers_refused(failure))
            return
        except Refused as failure:
            self._refuse(failure)
            return
        self._flush()
        self._handshakes.end(self)
        self.protocol = self._make()
        self.protocol.connection_made(TlsTransport(self))
        self._read()

    def _refuse(self, why: Refused | None) -> None:
        """Say why to the log and, by TLS's alert, to the client.

        A client in order has sent its first request already. Closed at once, with that unread, the kernel would reset
        the connection, and the alert could be lost: so we wait a moment for the client to go first.
        """
        self._refused = True
        if why is not None:
            self._handshakes.tell(why, str((self.lower.get_extra_info("peername") or ("unknown",))[0]))
        self._flush()
        if self.lower.can_write_eof():
            self.lower.write_eof()
        self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self.abort)

    # -- what the transport asks -------------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed or not data:
            return
        try:
            sent = self.tls.write(data)
            while sent < len(data):
                data = memoryview(data)[sent:]
                sent = self.tls.write(data)
        except ssl.SSLError:
            self.abort()
            return
        self._flush()

    def pause_reading(self) -> None:
        self._paused = True
        self.lower.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and not self._closed:
            self._paused = False
            self.lower.resume_reading()
            # Not in this call: whoever resumes may stand in the middle of reading.
            asyncio.get_running_loop().call_soon(self._read)

    def close(self) -> None:
        """Send what was written and TLS's goodbye; do not wait for the other end's."""
        if self._closed:
            return
        self._closed = True
        with suppress(ssl.SSLError):  # it always wants to read the answer
            self.tls.unwrap()
        self._flush()
        self.lower.close()

    def abort(self) -> None:
        self._closed = True
        self.lower.abort()

    @property
    def closed(self) -> bool:
        return self._closed or self.lower.is_closing()

    @property
    def paused(self) -> bool:
        return self._paused

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Give up what is decrypted, record by record, until there is no more or nobody wants it."""
        # Asked first whether there is anything: to be told by an exception costs more than to look.
        while (self._incoming.pending or self.tls.pending()) and not (self._paused or self._closed):
            try:
                data = self.tls.read(RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError:
                self._flush()
                self.abort()
                return
            if not data:  # its goodbye
                self.protocol.eof_received()
                self.close()
                return
            self.protocol.data_received(data)
        if self._outgoing.pending:  # an answer of TLS itself, to a new key
            self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self.lower.is_closing():
            self.lower.write(data)


def leaf_alone(handshake: ssl.SSLObject) -> Chain:
    """The certificate, and nothing that was shown beside it."""
    leaf = handshake.getpeercert(binary_form=True)
    return (leaf,) if leaf else ()


class TlsTransport(asyncio.Transport):
    """The transport that the protocol above is given."""

    def __init__(self, connection: TlsProtocol) -> None:
        super().__init__()
        self._connection = connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._connection.tls
        if name == CHAIN:
            return self._connection.chain
        if name == "sslcontext":
            return self._connection.tls.context
        return self._connection.lower.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._connection.send(data)

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._connection.closed

    def close(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        self._connection.abort()

    def is_reading(self) -> bool:
        return not self._connection.paused and not self._connection.closed

    def pause_reading(self) -> None:
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        self._connection.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._connection.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._connection.protocol
        return protocol

    def get_write_buffer_size(self) -> int:
        return self._connection.lower.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._connection.lower.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._connection.lower.set_write_buffer_limits(high, low)
