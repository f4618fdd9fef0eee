"""TLS driven by hand: bounds on handshakes, bytes in order, and no byte from outside TLS; on both loops."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from citywatch.adapters.gateway import secure
from citywatch.adapters.gateway.secure import Handshakes, TlsProtocol
from citywatch.core.errors import Code, Refused, Unavailable
from tests.identity_city import HOUR
from tests.unit.adapters.test_tls import Town

BULK = bytes(range(256)) * 98_304  # 24 MiB: more than the buffers on the way hold
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


class Echo(asyncio.Protocol):
    """Gives back what it gets, and remembers what happened to it."""

    def __init__(self, made: list[Echo]) -> None:
        made.append(self)
        self.received = bytearray()
        self.waiting = 0
        self.gone = asyncio.Event()
        self.arrived = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport.is_reading()
        self.received += data
        self.arrived.set()
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.waiting += 1
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()


class Gate:
    """A listener, the protocols that it made, and what it was told."""

    def __init__(self, town: Town, *, most: int = 10, seconds: float = 30.0, away: bool = False) -> None:
        self.town = town
        self.made: list[Echo] = []
        self.told: list[tuple[Code, str]] = []
        self.away = away
        self.handshakes = Handshakes(most, seconds, self.hear)
        self.port = 0
        self.clients: list[asyncio.StreamWriter] = []

    async def hear(self, refused: Refused, address: str) -> None:
        self.told.append((refused.code, address))
        if self.away:
            raise Unavailable(Code.STORE_UNAVAILABLE)

    def protocol(self) -> TlsProtocol:
        return TlsProtocol(self.town.tls.context, lambda: Echo(self.made), self.handshakes)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Gate]:
        server = await asyncio.get_running_loop().create_server(self.protocol, "127.0.0.1", 0)
        for size in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # else the kernel's own settings say how much is in between
            server.sockets[0].setsockopt(socket.SOL_SOCKET, size, 1 << 18)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for client in self.clients:
                client.transport.abort()
                with suppress(OSError, ssl.SSLError):
                    await client.wait_closed()
            await self.handshakes.close()
            for one in self.made:
                one.transport.abort()
                await one.gone.wait()

    async def visit(self, context: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = context or self.town.pin().context
        return await self.connect(ssl=context, server_hostname="localhost")

    async def connect(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        self.clients.append(writer)
        return reader, writer

    async def stall(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that never says hello; returned once it is in flight."""
        before = len(self.handshakes)
        opened = await self.connect()
        while len(self.handshakes) == before < self.handshakes._most:
            await asyncio.sleep(0)
        return opened


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main)

    return run


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def town(tmp_path: Path) -> Town:
    town = Town(tmp_path)
    town.gateway()
    return town


def test_much_goes_both_ways_in_order_and_waits_for_a_slow_reader(town: Town, run: Run) -> None:
    async def main() -> None:
        async with Gate(town).open() as gate:
            reader, writer = await gate.visit()
            writer.write(BULK)
            await gate_is_full(gate)
            assert await reader.readexactly(len(BULK)) == BULK
            assert gate.made[0].waiting > 0

    async def gate_is_full(gate: Gate) -> None:
        while not gate.made or not gate.made[0].waiting:
            await asyncio.sleep(0)
        assert len(gate.made[0].received) < len(BULK)

    run(main())


def test_what_comes_with_the_last_of_the_handshake_is_not_lost(town: Town, run: Run) -> None:
    """A client that need not wait sends its request in the same packet."""

    async def main() -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = town.pin().context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        async with Gate(town).open() as gate:
            reader, writer = await gate.connect()
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65_536))
            tls.write(b"early")
            writer.write(outgoing.read())
            incoming.write(await reader.read(65_536))
            assert tls.read(100) == b"early"

    run(main())


def test_a_goodbye_is_said_and_heard(town: Town, run: Run) -> None:
    """Without TLS's own end, whoever cuts the cable could cut a reply short unseen."""

    async def main() -> None:
        async with Gate(town).open() as gate:
            reader, writer = await gate.visit()
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            gate.made[0].transport.close()
            gate.made[0].transport.write(b"after the end")
            assert await reader.read() == b""
            await gate.made[0].gone.wait()
            writer.close()
            _, writer = await gate.visit()
            writer.write(b"x")
            writer.close()
            while len(gate.made) < 2:
                await asyncio.sleep(0)
            await gate.made[1].gone.wait()

    run(main())


def test_while_nobody_wants_to_read_nothing_is_given_up(town: Town, run: Run) -> None:
    async def main() -> None:
        async with Gate(town).open() as gate:
            reader, writer = await gate.visit()
            writer.write(b"a")
            assert await reader.readexactly(1) == b"a"
            (echo,) = gate.made
            echo.transport.pause_reading()
            assert not echo.transport.is_reading()
            writer.write(b"b" * 40_000)
            await writer.drain()
            await gate.visit()  # many turns of the loop
            assert bytes(echo.received) == b"a"
            echo.transport.resume_reading()
            assert await reader.readexactly(40_000) == b"b" * 40_000

    run(main())


def test_bytes_outside_tls_reach_nobody(town: Town, run: Run) -> None:
    async def main() -> None:
        async with Gate(town).open() as gate:
            reader, writer = await gate.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP" not in await reader.read()
            reader, writer = await gate.visit()
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            # Into the middle of a connection: what the cable adds is not taken for the client's.
            writer.transport.get_extra_info("socket").setblocking(False)
            raw = writer.transport.get_extra_info("socket").dup()
            await asyncio.get_running_loop().sock_sendall(raw, b"\x17\x03\x03\x00\x20" + b"\0" * 32)
            raw.close()
            await gate.made[0].gone.wait()
            assert bytes(gate.made[0].received) == b"x"
            assert len(gate.made) == 1
            assert gate.told == []

    run(main())


def test_stalled_handshakes_give_way_to_honest_ones(town: Town, run: Run) -> None:
    async def main() -> None:
        async with Gate(town, most=3).open() as gate:
            stalled = [await gate.stall() for _ in range(5)]
            assert len(gate.handshakes) == 3
            for reader, _ in stalled[:2]:  # the oldest two
                assert await reader.read() == b""
            reader, writer = await gate.visit()
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            assert len(gate.handshakes) == 2

    run(main())


def test_a_handshake_that_takes_too_long_is_ended(town: Town, run: Run) -> None:
    async def main() -> None:
        async with Gate(town, seconds=0.01).open() as gate:
            reader, writer = await gate.connect()
            writer.write(b"\x16\x03\x01\x02\x00")  # a record that is announced and never comes
            with suppress(ConnectionError):
                assert await reader.read() == b""
            assert (len(gate.handshakes), gate.made, gate.told) == (0, [], [])

    run(main())


@pytest.mark.parametrize("away", [False, True])
def test_a_refusal_is_told_once_and_stands_whether_or_not_it_could_be_told(town: Town, run: Run, away: bool) -> None:
    async def main() -> None:
        async with Gate(town, away=away).open() as gate:
            context = town.pin(town.agent(f"late-{away}.pem", ago=2 * HOUR)).context
            reader, _ = await gate.visit(context)
            with pytest.raises(ssl.SSLError, match="certificate expired"):
                await reader.read()
            assert gate.told == [(Code.CREDENTIAL_EXPIRED, "127.0.0.1")]
            assert gate.made == []

    run(main())


def test_a_client_that_was_refused_and_stays_is_ended(town: Town, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left a moment to read the alert, and not the place of a handshake for as long as it likes."""
    monkeypatch.setattr(secure, "LINGER_S", 0.25)  # long enough for the test to look, whatever holds it up

    async def main() -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = town.pin(town.agent("late.pem", ago=2 * HOUR)).context
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        async with Gate(town).open() as gate:
            reader, writer = await gate.connect()
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            writer.write(outgoing.read())
            incoming.write(await reader.read(65_536))
            tls.do_handshake()
            writer.write(outgoing.read())
            while not gate.told:
                await asyncio.sleep(0)
            assert len(gate.handshakes) == 1
            while gate.handshakes:
                await asyncio.sleep(0)

    run(main())
