"""One connection, raw: what it can make us hold, and for how long. A small application stands in for the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from citywatch.adapters.gateway.protocol import Bounds
from citywatch.adapters.gateway.serve import Address, Listeners

PATIENCE_S = 20
QUICK = Bounds(header_time=0.5)
PATIENT = Bounds(header_time=PATIENCE_S)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class App:
    """`/body` reads the body first, `/hang` answers when told to, anything else answers at once.

    `/whole` says whether the body was there when it was asked, as the gateway's own answers go out (`Peer.answer`).
    """

    def __init__(self) -> None:
        self.draining = False
        self.scopes: list[MutableMapping[str, Any]] = []
        self.release = asyncio.Event()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["path"] == "/body":
            while (await receive()).get("more_body"):
                pass
        elif scope["path"] == "/hang":
            await self.release.wait()
        elif scope["path"] == "/whole":
            peer = scope["state"]["peer"]
            said = b"all ok" if peer.whole else b"part ok"
            if peer.answer(200, b"text/plain", said):
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"by way of ASGI: " + said})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> bytes:
        return await self.reader.readuntil(b"ok")

    async def rest(self) -> bytes:
        """All that still comes until the connection ends."""
        return await self.reader.read()


@asynccontextmanager
async def connected(bounds: Bounds = PATIENT, keep_alive: int = PATIENCE_S) -> AsyncIterator[tuple[Connection, App]]:
    app = App()
    listeners = Listeners(app, bounds, 16, keep_alive)  # type: ignore[arg-type]
    ((_, port),) = await listeners.open([Address("127.0.0.1", 0, tls=False)], None)
    connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield connection, app
    finally:
        connection.writer.transport.abort()
        app.release.set()
        await listeners.drain(1)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, length: int, sent: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode() + sent


async def test_an_answer_in_one_write_is_the_whole_response_and_the_connection_goes_on() -> None:
    async with connected() as (connection, app):
        for _ in range(2):
            await connection.say(post("/whole", 3, b"abc"))
            assert await connection.answer() == (
                b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncontent-type: text/plain\r\n\r\nall ok"
            )
        await connection.say(get("/"))
        assert (await connection.answer()).endswith(b"ok")
    assert len(app.scopes) == 3


async def test_what_asks_for_more_care_goes_by_way_of_asgi() -> None:
    async with connected() as (connection, _):
        await connection.say(b"GET /whole HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        said = await connection.rest()
    assert b"connection: close" in said
    assert b"by way of ASGI" in said
    async with connected() as (connection, _):
        await connection.say(
            b"HEAD /whole HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: localhost\r\n"
        )
        head = await connection.reader.readuntil(b"\r\n\r\n")
    assert b"content-length" not in head


async def test_a_body_that_is_not_here_yet_is_not_taken_for_whole_because_the_last_one_was() -> None:
    async with connected() as (connection, _):
        await connection.say(post("/whole", 3, b"abc"))
        assert b"all ok" in await connection.answer()
        await connection.say(post("/whole", 3, b"ab"))
        assert b"part ok" in await connection.answer()


async def test_requests_sent_ahead_are_not_kept_the_first_is_answered_and_the_connection_ends() -> None:
    async with connected() as (connection, app):
        await connection.say(get("/hang") + get("/") * 5000)
        while not app.scopes:
            await asyncio.sleep(0)
        app.release.set()
        said = await connection.rest()
    assert said.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in said
    assert len(app.scopes) == 1


async def test_one_request_after_the_other_is_served_on_one_connection() -> None:
    async with connected() as (connection, app):
        for _ in range(3):
            await connection.say(post("/body", 5, b"hello"))
            assert b"HTTP/1.1 200" in await connection.answer()
        assert len(app.scopes) == 3


async def test_whoever_was_answered_and_goes_on_sending_is_cut_off() -> None:
    async with connected(QUICK) as (connection, _):
        await connection.say(post("/", 10**12, b"x"))
        assert b"HTTP/1.1 200" in await connection.answer()
        await connection.say(b"x")
        assert await connection.rest() == b""


async def test_a_body_that_comes_after_its_answer_leaves_the_connection_in_use() -> None:
    async with connected() as (connection, app):
        for _ in range(2):
            await connection.say(post("/", 9, b"hel"))
            assert b"HTTP/1.1 200" in await connection.answer()
            await connection.say(b"lo you")
        await connection.say(get("/body"))
        assert b"HTTP/1.1 200" in await connection.answer()
        assert len(app.scopes) == 3


async def test_a_connection_whose_body_came_after_its_answer_does_not_idle_for_ever() -> None:
    async with connected(keep_alive=1) as (connection, _):
        await connection.say(post("/", 5, b"hel"))
        await connection.answer()
        await connection.say(b"lo")
        assert await connection.rest() == b""


async def test_a_field_after_the_body_is_no_header() -> None:
    """SPEC: RFC 9110 §6.5.1: what came after the body was not there when the head was judged."""
    head = b"POST /body HTTP/1.1\r\nHost: localhost\r\nMcp-Name: look\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with connected() as (connection, app):
        await connection.say(head + b"2\r\nhi\r\n0\r\nMcp-Name: pay\r\nAuthorization: Bearer x\r\n\r\n")
        await connection.answer()
        await connection.say(get("/"))
        await connection.answer()
        (first, second) = app.scopes
    assert [value for name, value in first["headers"] if name == b"mcp-name"] == [b"look"]
    assert {name for name, _ in first["headers"]} == {b"host", b"mcp-name", b"transfer-encoding"}
    assert {name for name, _ in second["headers"]} == {b"host"}


async def test_fields_after_the_body_are_bounded_as_headers_are() -> None:
    head = b"POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    async with connected() as (connection, _):
        await connection.say(head + b"X: y\r\n" * 100)
        assert b"HTTP/1.1 200" not in await connection.rest()
