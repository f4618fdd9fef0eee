"""The sockets of a gateway: how many, how long, and where. A small application stands in for what is behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from citywatch.adapters.gateway.protocol import Bounds
from citywatch.adapters.gateway.serve import Address, Listeners
from citywatch.core.errors import Malformed

SEATS = 16
PATIENCE_S = 20
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n123"

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class App:
    """`/body` reads a body, `/hang` answers when told to, `/flood` never stops, anything else answers at once."""

    def __init__(self) -> None:
        self.draining = False
        self.begun = 0
        self.cut_off = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        scope["state"]["peer"].task = asyncio.current_task()
        self.begun += 1
        try:
            if scope["path"] == "/body":
                while (await receive()).get("more_body"):
                    pass
            elif scope["path"] == "/hang":
                await self.release.wait()
            flood = scope["path"] == "/flood"
            headers = [] if flood else [(b"content-length", b"2")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while flood:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b"ok"})
        except asyncio.CancelledError:
            self.cut_off.set()
        finally:
            scope["state"]["peer"].task = None


class House:
    def __init__(self, app: App, port: int) -> None:
        self.app = app
        self.port = port
        self._guests: list[Pair] = []

    async def connect(self, said: bytes = b"") -> Pair:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._guests.append((reader, writer))
        writer.write(said)
        await writer.drain()
        return reader, writer

    async def close(self) -> None:
        for _, writer in self._guests:
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def house(bounds: Bounds | None = None, seats: int = SEATS) -> AsyncIterator[House]:
    app = App()
    listeners = Listeners(app, bounds or Bounds(header_time=PATIENCE_S), seats)  # type: ignore[arg-type]
    ((_, port),) = await listeners.open([Address("127.0.0.1", 0, tls=False)], None)
    opened = House(app, port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield opened
    finally:
        await opened.close()
        app.release.set()
        await listeners.drain(1)


async def answered(guest: Pair) -> bool:
    """Whether a whole answer comes, and not the end of the connection."""
    try:
        await guest[0].readuntil(b"ok")
    except (asyncio.IncompleteReadError, ConnectionError):
        return False
    return True


async def ended(guest: Pair) -> None:
    with suppress(ConnectionError):
        await guest[0].read()


@pytest.mark.parametrize("said", [b"", b"GET / HT", SLOW, GET % b"/"], ids=["nothing", "head", "body", "all of it"])
async def test_whoever_merely_waits_makes_room_for_the_next_the_longest_first(said: bytes) -> None:
    async with house() as opened:
        waiting = [await opened.connect(said) for _ in range(SEATS)]
        if said.endswith(b"\r\n\r\n"):
            assert [await answered(guest) for guest in waiting] == [True] * SEATS
        honest = await opened.connect(GET % b"/")
        assert await answered(honest)
        await ended(waiting[0])
        again = await opened.connect(GET % b"/")
        assert await answered(again)
        await ended(waiting[1])
        honest[1].write(GET % b"/")
        assert await answered(honest), "whoever came later is not sent away before those who waited longer"
        assert not waiting[2][0].at_eof()


async def test_no_more_are_open_than_there_are_seats_and_silence_keeps_nobody_out() -> None:
    async with house() as opened:
        idle = [await opened.connect() for _ in range(10 * SEATS)]
        for guest in idle[: 9 * SEATS]:
            await ended(guest)
        assert await answered(await opened.connect(GET % b"/"))


async def test_whoever_is_owed_an_answer_is_not_sent_away_and_the_newest_finds_no_seat() -> None:
    async with house() as opened:
        owed = [await opened.connect(GET % b"/hang") for _ in range(SEATS)]
        while opened.app.begun < SEATS:
            await asyncio.sleep(0)
        assert not await answered(await opened.connect(GET % b"/"))
        opened.app.release.set()
        assert [await answered(guest) for guest in owed] == [True] * SEATS
        assert await answered(await opened.connect(GET % b"/"))


async def test_a_seat_is_free_again_when_its_connection_ends() -> None:
    async with house(seats=1) as opened:
        for _ in range(3):
            guest = await opened.connect(GET % b"/hang")
            while opened.app.begun == 0:
                await asyncio.sleep(0)
            guest[1].transport.abort()
            await opened.app.cut_off.wait()
            opened.app.begun = 0
            opened.app.cut_off.clear()


async def test_whoever_does_not_read_is_cut_off_in_time() -> None:
    async with house(Bounds(read_time=0.1)) as opened:
        _, writer = await opened.connect(GET % b"/flood")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await opened.app.cut_off.wait()


async def test_without_tls_nothing_but_loopback_is_listened_on() -> None:
    listeners = Listeners(App(), Bounds(), SEATS)  # type: ignore[arg-type]
    for host in ("0.0.0.0", "::", "192.0.2.1", "gateway.example"):
        with pytest.raises(Malformed, match="not loopback"):
            await listeners.open([Address(host, 0, tls=False)], None)
    assert len(await listeners.open([Address("127.0.0.1", 0, tls=False)], None)) == 1
    await listeners.drain(0)
