"""A connection whose other end is gone without a word: no end of it is ever seen, and it is ended all the same.

Such an end is made with TCP's repair mode, in which the kernel forgets a connection and tells nobody. It takes root;
without it the test looks at what was asked of the kernel.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from citywatch.adapters.gateway.protocol import Bounds
from citywatch.adapters.gateway.serve import Address, Listeners
from citywatch.adapters.upstream import HttpServer, HttpUpstream, Patience
from citywatch.core.errors import Code, Unavailable
from tests.upstream_world import EVENTS, chunked

TCP_REPAIR = 19
"""SPEC: linux/tcp.h; the standard library has no name for it."""
ROOT = os.geteuid() == 0


def forget(one: socket.socket) -> None:
    """End it so that the other side is told nothing."""
    one.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    one.close()


class Streaming:
    """A gateway's place: each request gets a stream that says nothing more, and that knows how it ended."""

    def __init__(self) -> None:
        self.draining = False
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        peer = scope["state"]["peer"]
        peer.task = asyncio.current_task()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            self.begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.set()
        finally:
            peer.task = None


async def test_a_caller_that_is_gone_without_a_word_has_left() -> None:
    app = Streaming()
    listeners = Listeners(app, Bounds(probe_time=1), 16, 60)  # type: ignore[arg-type]
    ((_, port),) = await listeners.open([Address("127.0.0.1", 0, tls=False)], None)
    gone, there = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
    try:
        there.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await app.begun.wait()
        app.begun.clear()
        gone.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await app.begun.wait()
        found = [one.transport.get_extra_info("socket") for one in listeners._state.connections]
        for one in found:
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 1
            assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2000
        if ROOT:
            forget(gone)
            await app.ended.wait()
            assert len(listeners._state.connections) == 1, "who is there and says nothing stays"
    finally:
        gone.close()
        there.close()
        await listeners.drain(0)


async def test_a_server_that_is_gone_without_a_word_has_broken_off() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        port = listening.getsockname()[1]
        server = HttpServer(name="gone", url=f"http://127.0.0.1:{port}/mcp", patience=Patience(probe=1))
        upstream = HttpUpstream(server, None)
        asked = asyncio.ensure_future(upstream.listen("a", {}, None))
        ours, _ = await loop.sock_accept(listening)
        with ours:
            await loop.sock_recv(ours, 65_536)
            await loop.sock_sendall(ours, chunked(b"data: {}\n\n", media=EVENTS, end=False))
            messages = (await asked).messages()
            assert (await anext(messages))[0] == b"{}"
            (connection,) = upstream._connections
            assert connection._transport is not None
            found = connection._transport.get_extra_info("socket")
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 1
            if ROOT:
                forget(ours)
                with pytest.raises(Unavailable) as broken:
                    await anext(messages)
                assert broken.value.code is Code.UPSTREAM_UNAVAILABLE
            await upstream.close()
