"""The bridge as a local server: HTTP on loopback in, the same HTTP to the gateway under the agent's name.

Decides who on this machine may use it: nobody through a browser. Whoever can reach the port acts as the agent; on a
machine that is shared, use `StdioBridge`.
INVARIANTS: it listens on loopback only; a request whose Host or Origin is not loopback is refused, or any web page
could re-bind its name to us; replies pass as they arrive; a client that goes away ends the gateway's request.
SPEC: MCP basic/transports "Security Warning" (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from citywatch.adapters.bridge.relay import Relay, answered, is_card, led_back
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.wire import a2a_card, a2a_rest, jsonrpc, mcp

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 16 << 20
MAX_CARD_BYTES = 1 << 20
_LIMITS = jsonrpc.Limits(size=MAX_BODY_BYTES, depth=128, nodes=1_000_000)


class LoopbackBridge:
    """The ASGI application and its listener."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._config = uvicorn.Config(
            self._serve,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
        )
        self._config.load()
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen; return the port (0 takes any). `Malformed` for an address that is not loopback."""
        if not _is_loopback(host):
            raise Malformed(f"`{host}` is not loopback: the bridge would lend the agent's name to the network")
        loop = asyncio.get_running_loop()
        address = "127.0.0.1" if host == "localhost" else host
        try:
            self._server = await loop.create_server(self._protocol, address, port)
        except OSError as failure:
            why = f"cannot listen on {host}:{port}: {failure.strerror}".lower()
            raise Unavailable(Code.STORE_UNAVAILABLE, why) from None
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening and cut off what is open."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._state.tasks):
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(tuple(self._state.tasks), timeout=1.0)
        for connection in tuple(self._state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    def _protocol(self) -> Any:
        return self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self._state, app_state={}
        )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if not _is_local(scope["headers"]):
            await _say(send, 403, mcp.turned_away(None, Code.FORBIDDEN, "the bridge serves this machine only"))
            return
        body = b""
        try:
            body = await _body(receive)
            gone = asyncio.ensure_future(_until_gone(receive))
            asked = asyncio.ensure_future(self._pass(scope, send, body))
            try:
                await asyncio.wait((gone, asked), return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                asked.cancel()  # does nothing to a task that is done
                await asyncio.gather(gone, asked, return_exceptions=True)
            if not asked.cancelled():
                asked.result()
        except CitywatchError as failure:
            await _say(send, *_words(failure, body, scope["raw_path"]))

    async def _pass(self, scope: Scope, send: Send, body: bytes) -> None:
        method, query = scope["method"].encode("ascii"), scope["query_string"]
        path = scope["raw_path"] + (b"?" + query if query else b"")
        reply = await self._relay.ask(method, path, scope["headers"], body if method == b"POST" or body else None)
        try:
            if is_card(scope["raw_path"]) and reply.status == 200:
                await _say(send, 200, led_back(await reply.read(MAX_CARD_BYTES), _here(scope)), answered(reply))
                return
            await send({"type": "http.response.start", "status": reply.status, "headers": answered(reply)})
            with suppress(Unavailable):  # the head is sent: all that can be told of a broken stream is that it ends
                async for chunk in reply.chunks():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        finally:
            reply.close()


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Malformed("the body ended early")
        body += event.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise Malformed(f"the body is larger than {MAX_BODY_BYTES} bytes")
        more = event.get("more_body", False)
    return bytes(body)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _here(scope: Scope) -> str:
    """The agent's address as the client reached us for its card; `_is_local` has seen to the name."""
    host = next(value for name, value in scope["headers"] if name == b"host").decode("latin-1")
    path: str = scope["raw_path"].decode("ascii")
    return f"http://{host}{path.removesuffix(a2a_card.PATH)}"


def _words(failure: CitywatchError, body: bytes, path: bytes) -> tuple[int, bytes]:
    """A status and an error in the binding that was asked in; over JSON-RPC it names the request, if it can be read."""
    code = failure.code if isinstance(failure, Refused | Unavailable) else Code.MALFORMED
    if path.startswith(b"/a2a/") and path.count(b"/") > 2:
        return a2a_rest.turned_away(code, str(failure))
    try:
        message: jsonrpc.Message | None = jsonrpc.parse_message(body, _LIMITS)
    except Malformed:
        message = None
    status = 502 if isinstance(failure, Unavailable) else mcp.status_of(code)
    return max(status, 400), mcp.turned_away(message, code, str(failure))


async def _say(send: Send, status: int, body: bytes, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode("ascii"))]
    headers = [*own, *(one for one in more if one[0] != b"content-type")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_local(headers: list[tuple[bytes, bytes]]) -> bool:
    """Exactly one Host, and it is loopback; and so is the Origin, if a browser sent one."""
    hosts = [value for name, value in headers if name == b"host"]
    origins = [value for name, value in headers if name == b"origin"]
    # A page of another site sends no Origin with an image or a plain GET; browsers say whose page it was here.
    if any(name == b"sec-fetch-site" and value not in (b"none", b"same-origin") for name, value in headers):
        return False
    names = [*hosts, *(origin.partition(b"://")[2] for origin in origins)]
    return len(hosts) == 1 and all(_is_loopback(_host_of(name.decode("latin-1"))) for name in names)


def _host_of(authority: str) -> str:
    if authority.startswith("["):
        return authority.partition("]")[0][1:]
    return authority.partition(":")[0].lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
