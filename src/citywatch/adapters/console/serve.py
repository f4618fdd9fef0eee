"""The console's socket, on loopback, until somebody stops it.

Decides nothing about requests. INVARIANTS: nothing but a loopback address is listened on; a stream that stays open
holds up no stop.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from citywatch.core.errors import Code, Malformed, Unavailable


def bind(host: str, port: int) -> socket.socket:
    """A listening socket of this address; `Malformed` if others than this machine could reach it."""
    if not ipaddress.ip_address(host).is_loopback:
        raise Malformed(f"`{host}` is not loopback: put a proxy with TLS before the console, and name it `address`")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as failure:
        listener.close()
        raise Unavailable(Code.STORE_UNAVAILABLE, f"cannot listen on {host}:{port}: {failure.strerror}") from None
    return listener


async def serve(app: ASGIApp, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called once it answers."""
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="none",
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=16_384,
        limit_concurrency=256,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config, ready)
    await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()
