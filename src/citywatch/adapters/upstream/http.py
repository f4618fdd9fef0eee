"""An MCP server behind a URL: the port `Upstream` over a pool of kept-alive connections, one pool for each caller.

Decides nothing about messages. INVARIANTS: a connection never serves two callers; a request that may not be repeated
leaves this machine at most once; the caller's headers are not forwarded, only MCP's own, made from the judged body; our
credential goes to the configured server and nowhere else; a server that takes access tokens is sent nothing without one
that was written for this very message.
SPEC: MCP basic/transports "Streamable HTTP"; RFC 9110 §5.5, §9.2.2 (what may be repeated).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from citywatch.adapters.upstream.answer import Broken, HttpAnswer
from citywatch.adapters.upstream.connection import Connection
from citywatch.adapters.upstream.credential import Credential
from citywatch.adapters.upstream.failures import unproven, unreached
from citywatch.adapters.upstream.resolve import public_address
from citywatch.adapters.upstream.settings import HttpServer
from citywatch.adapters.upstream.trust import Pin, tls, tls_of
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.identity.access import AccessToken

_TRACE: Final = frozenset(("last-event-id", "traceparent", "tracestate", "a2a-version", "a2a-extensions"))
_NAME: Final = re.compile(r"mcp-[a-z0-9!#$%&'*+.^_`|~-]{1,256}\Z")
_URL: Final = re.compile(r"[\x21-\x7e]+\Z")
_VALUE: Final = re.compile(r"[\x20-\x7e\x80-\xff]*\Z")
_TICK: Final = 0.25
_MAX_HEADS: Final = 1024


class _Pool:
    """The connections of one caller. `open` counts those being opened and in use too."""

    __slots__ = ("idle", "open", "waiting")

    def __init__(self) -> None:
        self.idle: list[Connection] = []
        self.open = 0
        self.waiting: deque[asyncio.Future[Connection | None]] = deque()


class HttpUpstream:
    """One server over HTTP. Made and used in one event loop."""

    def __init__(
        self, server: HttpServer, credential: Credential | None, pin: Callable[[], Awaitable[Pin]] | None = None
    ) -> None:
        """`pin` is asked for each new connection, where a SPIFFE ID and no host's name proves the server."""
        parts = urlsplit(server.url)
        plain = _URL.match(server.url) and parts.scheme in ("http", "https") and parts.hostname
        if not plain or "@" in parts.netloc or parts.fragment:
            raise ValueError(f"`{server.name}` needs an http or https URL without credentials or fragment")
        if server.takes_tokens and credential is not None:
            raise ValueError(f"`{server.name}` is shown tokens or a credential, not both")
        self.server = server
        self._credential = credential
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls(server.ca) if parts.scheme == "https" else None
        if pin is not None and self._tls is None:
            raise ValueError(f"`{server.name}` has no TLS to prove itself in")
        self._pin = pin
        self._authorities: tuple[bytes, ...] | None = None
        if server.shown is not None and self._tls is None:
            raise ValueError(f"`{server.name}` shows nothing without https")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = f"{target} HTTP/1.1\r\nhost: {parts.netloc}\r\nuser-agent: citywatch\r\n"
        both = "accept: application/json, text/event-stream\r\n"
        self._place = (parts.path.rstrip("/"), head.removeprefix(target))
        self._post = f"POST {head}{both}content-type: application/json\r\n"
        self._get = f"GET {head}accept: text/event-stream\r\n"
        self._delete = f"DELETE {head}{both}"
        self._heads: dict[tuple[object, ...], bytes] = {}
        self._pools: dict[str, _Pool] = {}
        self._connections: set[Connection] = set()
        self._ticking = False
        self._closed = False

    # -- the port ----------------------------------------------------------------------------------------------------

    async def send(
        self,
        caller: str,
        body: bytes,
        headers: Mapping[str, str],
        session: str | None,
        *,
        repeatable: bool,
        token: AccessToken | None = None,
    ) -> HttpAnswer:
        if headers.get("mcp-method") == "notifications/cancelled":
            # A stateless server sees all agents as one client, us, and ids are the agents' choice: one could cancel
            # another's call. SPEC: there, closing the response cancels, and a notification may be dropped.
            return HttpAnswer.accepted()
        request = b"%scontent-length: %d\r\n\r\n%s" % (self._head(self._post, headers, session, token), len(body), body)
        # A subscription's answer is a stream without an end, like a GET's: bounded by the event, not in all.
        listening = headers.get("mcp-method") == "subscriptions/listen"
        answer = await self._exchange(caller, request, listening=listening, repeatable=repeatable)
        answer.kinds = self.server.kinds
        if answer.status == 404 and session is not None:
            # SPEC: MCP 2025-11-25 basic/transports "Session Management": 404 means that the session is over.
            await answer.close()
            raise Refused(Code.SESSION_LOST)
        return answer

    async def listen(
        self, caller: str, headers: Mapping[str, str], session: str | None, *, token: AccessToken | None = None
    ) -> HttpAnswer:
        request = self._head(self._get, headers, session, token) + b"\r\n"
        answer = await self._exchange(caller, request, listening=True, repeatable=True)
        if answer.status == 404 and session is not None:
            await answer.close()
            raise Refused(Code.SESSION_LOST)
        return answer

    async def end(
        self, caller: str, headers: Mapping[str, str], session: str, *, token: AccessToken | None = None
    ) -> int:
        request = self._head(self._delete, headers, session, token) + b"content-length: 0\r\n\r\n"
        answer = await self._exchange(caller, request, listening=False, repeatable=True)
        await answer.close()
        return answer.status

    def callers(self) -> Sequence[str]:
        """Nothing runs here for anybody."""
        return ()

    async def dismiss(self, caller: str) -> None:
        """There is nothing to end."""

    async def close(self) -> None:
        self._closed = True
        for connection in tuple(self._connections):
            connection.end(Unavailable(Code.DRAINING, "the gateway is stopping"))
        for pool in tuple(self._pools.values()):
            while self._wake(pool, None):
                pass
        # Let the loop run the connections' last callbacks, so that no socket is left open behind us.
        while any(connection.attached for connection in self._connections):
            await asyncio.sleep(0)

    async def ask(
        self,
        caller: str,
        verb: str,
        below: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        repeatable: bool,
        token: AccessToken | None = None,
        own: Mapping[str, str] = {},
    ) -> HttpAnswer:
        """One request at a path below the server's address; for who has more than one address to speak to.

        `own` are headers that somebody else chose the values of: each is one line, or `Unavailable`.
        """
        path, rest = self._place
        start = f"{verb} {path}{below}{rest}accept: application/json, application/a2a+json, text/event-stream\r\n"
        secret = self._secret(token)
        length = "" if body is None else f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        if not all(_VALUE.match(value) for value in own.values()):
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "what the other side wants to be shown fits in no header")
        told = "".join(f"{name}: {value}\r\n" for name, value in own.items())
        head = self._write_head(start + length + told, headers, None, secret)
        request = head + b"\r\n" + (body or b"")
        answer = await self._exchange(caller, request, listening=False, repeatable=repeatable)
        answer.kinds = self.server.kinds
        return answer

    # -- requests ----------------------------------------------------------------------------------------------------

    def _head(self, start: str, headers: Mapping[str, str], session: str | None, token: AccessToken | None) -> bytes:
        """The request's lines up to its length. The same few heads come again and again, so they are kept."""
        secret = self._secret(token)
        if token is not None:
            return self._write_head(start, headers, session, secret)
        key = (start, session, secret, *headers.items())
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            head = self._heads[key] = self._write_head(start, headers, session, secret)
        return head

    def _secret(self, token: AccessToken | None) -> str | None:
        """What this message shows to the server."""
        if self.server.takes_tokens is (token is None):  # fails closed, both ways
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "no access token was written for this message")
        if token is not None:
            return f"Bearer {token.text}"
        return None if self._credential is None else self._credential()

    def _write_head(self, start: str, headers: Mapping[str, str], session: str | None, secret: str | None) -> bytes:
        lines = [start]
        for name, value in headers.items():
            # Not a matter of trust: names and values are ours. But one line break here would be two requests there.
            if (name not in _TRACE and not _NAME.match(name)) or not _VALUE.match(value):
                raise ValueError(f"`{name[:80]!r}` is not a header to forward")
            lines.append(f"{name}: {value}\r\n")
        if session is not None:
            if not _VALUE.match(session):
                raise ValueError("a session id holds a control character")
            lines.append(f"mcp-session-id: {session}\r\n")
        if secret is not None:
            lines.append(f"authorization: {secret}\r\n")
        return "".join(lines).encode("latin-1")

    async def _exchange(self, caller: str, request: bytes, *, listening: bool, repeatable: bool) -> HttpAnswer:
        kept = self._take_idle(caller)
        if kept is not None:
            try:
                return await self._ask(kept, request, listening=listening)
            except Broken as failure:
                # A kept connection may have been closed by the other side while our bytes were under way. Whether they
                # arrived nobody knows, so only what may happen twice is asked again, and only on silence.
                if failure.heard or not repeatable:
                    raise
        return await self._ask(await self._connect(caller), request, listening=listening)

    async def _ask(self, connection: Connection, request: bytes, *, listening: bool) -> HttpAnswer:
        """Ask, once it is known to be who it has to be. # INVARIANT: until then nothing is sent."""
        if self.server.shown is not None:
            try:
                await self.server.shown.check(connection.certificate)
            except BaseException as failure:
                connection.end(Broken("it is not who it has to be", False))
                if isinstance(failure, Refused):
                    raise unproven(self.server.name, failure) from None
                raise
        return await connection.ask(request, listening=listening)

    # -- the pool ----------------------------------------------------------------------------------------------------

    def _take_idle(self, caller: str) -> Connection | None:
        pool = self._pools.get(caller)
        if pool is None:
            return None
        oldest = asyncio.get_running_loop().time() - self.server.bounds.kept
        while pool.idle:
            connection = pool.idle.pop()
            if connection.usable and connection.idle_since > oldest:
                return connection
            connection.end(Broken("unused for too long", False))
        return None

    async def _connect(self, caller: str) -> Connection:
        """A connection for this caller: a new one, or the next that becomes free if there are too many."""
        until = asyncio.get_running_loop().time() + self.server.patience.connect
        while True:
            pool = self._pool(caller)
            if pool.open < self.server.bounds.per_caller and self._make_room():
                return await self._open(caller)
            try:
                async with asyncio.timeout_at(until):
                    connection = await self._wait(pool)
            except TimeoutError:
                raise Unavailable(Code.OVERLOADED, f"`{self.server.name}` has no free connection") from None
            if connection is not None and connection.usable:
                return connection

    def _pool(self, caller: str) -> _Pool:
        if self._closed:
            raise Unavailable(Code.DRAINING)
        pool = self._pools.get(caller)
        if pool is None:
            pool = self._pools[caller] = _Pool()
        return pool

    async def _open(self, caller: str) -> Connection:
        loop = asyncio.get_running_loop()
        bounds, patience = self.server.bounds, self.server.patience
        connection = Connection(caller, self, patience, bounds, loop.time, reads=bool(self.server.kinds))
        # Counted from here on, until `lost`. The pool is looked up anew: making room may have ended an empty one.
        self._pool(caller).open += 1
        self._connections.add(connection)
        try:
            async with asyncio.timeout(patience.connect):
                pin = None if self._pin is None else await self._pin()
                transport, _ = await loop.create_connection(
                    lambda: connection,
                    await public_address(self._host, self._port) if self.server.public_only else self._host,
                    self._port,
                    ssl=self._context() if pin is None else pin.context,
                    server_hostname=self._host if self._tls is not None else None,
                )
                if self.server.owned is not None:  # INVARIANT: before anything of ours is sent, on each connection
                    await self.server.owned(transport.get_extra_info("socket"))
                if pin is not None:  # INVARIANT: before anything of ours is sent
                    pin.check(transport.get_extra_info("ssl_object"))
        except Refused as failure:
            stranger = unproven(self.server.name, failure)
            connection.end(stranger)
            raise stranger from None
        except (OSError, TimeoutError) as failure:
            self.lost(connection)
            raise unreached(self.server.name, failure) from None
        except BaseException:
            self.lost(connection)
            raise
        if self._closed:
            connection.end(Unavailable(Code.DRAINING))
        self._tick()
        if self.server.opened is not None:
            self.server.opened()
        return connection

    def _context(self) -> ssl.SSLContext | None:
        """What TLS trusts there now: where it is said whom the server has to be, that one's authorities alone."""
        if self._tls is None or self.server.shown is None:
            return self._tls
        authorities = tuple(self.server.shown.authorities())
        if authorities != self._authorities:
            self._tls, self._authorities = tls_of(authorities), authorities
        return self._tls

    async def _wait(self, pool: _Pool) -> Connection | None:
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        pool.waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and (connection := waiter.result()) is not None:
                self.released(connection)
            raise
        finally:
            if waiter in pool.waiting:
                pool.waiting.remove(waiter)

    def _make_room(self) -> bool:
        """Whether one more connection fits in all; an unused one of anybody's goes first."""
        if len(self._connections) < self.server.bounds.in_all:
            return True
        for pool in self._pools.values():
            if pool.idle:
                self.lost(victim := pool.idle.pop(0))
                victim.end(Broken("another caller needs the place", False))
                return True
        return False

    def released(self, connection: Connection) -> None:
        pool = self._pools[connection.caller]
        if not self._wake(pool, connection):
            pool.idle.append(connection)

    def lost(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        pool = self._pools[connection.caller]
        pool.open -= 1
        if connection in pool.idle:
            pool.idle.remove(connection)
        # Whoever waits may open one now: first the same caller, then anybody who waits for the number in all.
        if not self._wake(pool, None):
            any(self._wake(other, None) for other in self._pools.values())
        if pool.open == 0 and not pool.waiting:
            del self._pools[connection.caller]

    @staticmethod
    def _wake(pool: _Pool, connection: Connection | None) -> bool:
        while pool.waiting:
            waiter = pool.waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def _tick(self) -> None:
        """One timer for all connections: a timer for each request would cost more than the request."""
        if not self._ticking:
            self._ticking = True
            self._schedule()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in tuple(self._connections):
            connection.expire(now)
        oldest = now - self.server.bounds.kept
        for pool in tuple(self._pools.values()):
            for connection in tuple(pool.idle):
                if connection.idle_since <= oldest:
                    connection.end(Broken("unused for too long", False))
        self._ticking = bool(self._connections)
        if self._ticking:
            loop.call_later(_TICK, self._schedule)
