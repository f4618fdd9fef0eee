"""The sockets: each address of the configuration becomes a listener; SIGTERM drains before it stops.

Decides nothing about requests. INVARIANTS: without TLS only loopback is listened on, whatever the configuration was
believed to say; papers that a handshake refuses leave an entry, as those that a request shows do; while draining
nothing new begins and what was begun may end, up to a bound.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import uvicorn
from uvicorn.server import ServerState

from citywatch.adapters.gateway.app import Gateway
from citywatch.adapters.gateway.protocol import Bounds, bounded
from citywatch.adapters.gateway.room import Room
from citywatch.adapters.gateway.secure import Handshakes, Judge, Shown, TlsProtocol
from citywatch.core.errors import Code, Malformed, Refused, Unavailable

HANDSHAKE_S = 10.0


class Address(msgspec.Struct, frozen=True):
    """Where to listen; with `tls` agents may prove themselves by certificate."""

    host: str
    port: int
    tls: bool


class Listeners:
    """All open sockets of one gateway."""

    def __init__(self, gateway: Gateway, bounds: Bounds, connections: int, keep_alive: int = 75) -> None:
        self._gateway = gateway
        self._config = uvicorn.Config(
            gateway,
            http=bounded(bounds, Room(connections)),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=keep_alive,
        )
        self._config.load()
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._handshakes = Handshakes(connections, HANDSHAKE_S, self._turned_away)

    async def open(
        self,
        addresses: Sequence[Address],
        tls: ssl.SSLContext | None,
        judge: Judge | None = None,
        shown: Shown | None = None,
    ) -> list[tuple[Address, int]]:
        """Listen on every address; return each with the port it got (port 0 takes any). `judge`, `shown`: `secure`."""
        opened = []
        loop = asyncio.get_running_loop()
        for address in addresses:
            if address.tls and tls is None:
                raise Malformed(f"`https://{address.host}` has no certificate to show")
            if not address.tls and not _is_loopback(address.host):
                raise Malformed(
                    f"`http://{address.host}` is not loopback: plain HTTP would show credentials; use https"
                )
            try:
                server = await loop.create_server(
                    self._factory(tls if address.tls else None, judge, shown), address.host, address.port, backlog=2048
                )
            except OSError as failure:
                where = f"{address.host}:{address.port}"
                raise Unavailable(Code.STORE_UNAVAILABLE, f"cannot listen on {where}: {failure.strerror}") from None
            self._servers.append(server)
            opened.append((address, server.sockets[0].getsockname()[1]))
        return opened

    async def drain(self, seconds: float) -> int:
        """Stop listening, let what was begun end; return how many requests had to be cut off after `seconds`."""
        self._gateway.draining = True
        for server in self._servers:
            server.close()
        await self._handshakes.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        waiting = set(self._state.tasks)
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=seconds)
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting, timeout=1.0)
        for connection in list(self._state.connections):
            connection.transport.close()
        return len(waiting)

    def _factory(self, tls: ssl.SSLContext | None, judge: Judge | None, shown: Shown | None) -> Callable[[], Any]:
        if tls is None:
            return self._protocol
        return lambda: TlsProtocol(tls, self._protocol, self._handshakes, judge, shown)

    async def _turned_away(self, refused: Refused, address: str) -> None:
        await self._gateway.exchange.enforcer.rejections.add(refused.code, refused.detail, address, "")

    def _protocol(self) -> Any:
        return self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self._state, app_state={}
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
