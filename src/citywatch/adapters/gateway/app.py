"""`/mcp/<server>` and `/a2a/<peer>`: HTTP in, a call to the service, its outcome out. Streamable HTTP of every MCP
revision we speak; A2A as `peers` reads it.

Decides nothing but HTTP: which door, how much body, which status. Who calls is `core.identity`'s, whether it goes
through is `core.enforce`'s. INVARIANTS: a request without a verified credential never becomes a call; no header is
relied on unless the body says the same (`core.wire.mcp`); the caller's Authorization goes nowhere but into the check;
what is written back came from the service or says only why not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from citywatch.adapters.gateway import peers
from citywatch.adapters.gateway.anteroom import Anteroom
from citywatch.adapters.gateway.door import Door
from citywatch.adapters.gateway.event import format_event
from citywatch.adapters.gateway.protocol import Peer
from citywatch.adapters.gateway.reading import Receive, TooSlow, read_all, read_body
from citywatch.adapters.gateway.shares import Shares
from citywatch.adapters.gateway.writing import JSON, Send, write
from citywatch.core.call import Call, Direction
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.renewal import MAX_REQUEST_BYTES
from citywatch.core.label import Label
from citywatch.core.wire import jsonrpc, mcp, token_request
from citywatch.core.wire.jsonrpc import Limits, Request, Response
from citywatch.service.access import TOKEN_PATH
from citywatch.service.assertions import taken
from citywatch.service.exchange import END, Exchange
from citywatch.service.replies import Outcome
from citywatch.service.streams import LISTEN

Scope = MutableMapping[str, Any]
Route = Callable[[bytes], Awaitable[tuple[int, str, bytes]]]
ProvenRoute = Callable[[Credential, bytes], Awaitable[tuple[int, str, bytes]]]

UNPROVEN_BODY = MAX_REQUEST_BYTES
"""The largest body that is taken from a peer without papers: a renewal's."""
UNPROVEN_PLACES = 64
PLACES_OF_AN_AGENT = 8


class Gateway:
    """The ASGI application. One instance per process; it keeps nothing between requests but counts."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        door: Door,
        limits: Limits,
        body_time: float,
        max_in_flight: int,
        routes: Mapping[tuple[str, str], Route],
        hosts: frozenset[str],
        closed: Callable[[], Unavailable | None],
        proven: Mapping[tuple[str, str], ProvenRoute] = {},
        cards: peers.Cards | None = None,
        pushed: peers.Pushed | None = None,
    ) -> None:
        """`closed` gives the reason why nothing may go through just now, if there is one.

        `routes` are for anybody, `proven` for agents with papers.
        """
        self.exchange = exchange
        self.door = door
        self.limits = limits
        self.body_time = body_time
        self.max_in_flight = max_in_flight
        self.routes = routes
        self.proven = proven
        self.cards = cards
        self.pushed = pushed
        self.hosts = hosts
        self.closed = closed
        self.in_flight = 0
        self.anteroom = Anteroom(UNPROVEN_PLACES)
        self.shares = Shares(PLACES_OF_AN_AGENT)
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        # Whoever shows no papers takes no place of those that do: `_route` gives it one of its own.
        calls = scope["path"].startswith(("/mcp/", "/a2a/"))
        if self.draining or (calls and self.in_flight >= self.max_in_flight):
            code = Code.DRAINING if self.draining else Code.OVERLOADED
            await write(send, 503, mcp.turned_away(None, code))
            return
        peer: Peer = scope["state"]["peer"]
        self.in_flight += calls
        peer.task = asyncio.current_task()
        try:
            await self._route(scope, receive, send, peer)
        except TooSlow:
            extra = [(b"connection", b"close")]
            await write(send, 408, b'{"error":"the body took too long"}', JSON, extra)
        except asyncio.CancelledError:
            # The caller went away, or we are stopping; whatever was forwarded has been closed in the log.
            return
        finally:
            peer.task = None
            self.in_flight -= calls

    async def _route(self, scope: Scope, receive: Receive, send: Send, peer: Peer) -> None:
        if not self._addressed_to_us(scope["headers"]):
            await write(send, 403, b'{"error":"this host or origin is not the gateway\'s"}')
            return
        path: str = scope["path"]
        if path.startswith("/mcp/"):
            await self._mcp(path[5:], scope, receive, send, peer)
            return
        if path.startswith("/a2a/"):
            await self._a2a(scope, receive, send, peer)
            return
        if path.startswith(peers.PUSH) and self.pushed is not None:
            await self._push(self.pushed, scope, receive, send, peer)
            return
        if (proven := self.proven.get((scope["method"], path))) is not None:
            await self._proven(proven, scope, receive, send, peer)
            return
        route = self.routes.get((scope["method"], path))
        if route is None:
            await write(send, 404, b'{"error":"not found"}')
            return
        try:
            body = b""
            if scope["method"] == "POST":
                body = await read_body(receive, UNPROVEN_BODY, self.anteroom.place(self.body_time))
            status, media, reply = await route(body)
        except (Malformed, Refused, Unavailable) as failure:
            await self._turn_away(send, failure, None, peer, "", said_by=_status(failure))
            return
        await write(send, status, reply, media.encode())

    async def _proven(self, route: ProvenRoute, scope: Scope, receive: Receive, send: Send, peer: Peer) -> None:
        """An address of our own that only somebody with papers may use; who that is, the handler is told."""
        try:
            approach = self.door.approach(scope, peer)
            if (why := self.closed()) is not None:
                raise why
            body = b""
            with self.shares.place(approach.agent):
                if scope["method"] == "POST":
                    body = await read_all(receive, peer, self.limits.size, self.body_time)
                status, media, reply = await route(await approach.enter(body), body)
        except (Malformed, Refused, Unavailable) as failure:
            worded = token_request.turned_away if scope["path"] == TOKEN_PATH else mcp.turned_away
            await self._turn_away(send, failure, None, peer, "", said_by=_status(failure), worded=worded)
            return
        await write(send, status, reply, media.encode(), [(b"cache-control", b"no-store")])

    def _addressed_to_us(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether Host, and Origin if a browser sent one, are names of ours.

        SPEC: MCP basic/transports "Security Warning": a page that re-bound its DNS name to our address says so here.
        """
        named = 0
        for name, value in headers:
            if name == b"host":
                named += 1
                if _host_of(value.decode("latin-1")) not in self.hosts:
                    return False
            elif name == b"origin":
                origin = value.decode("latin-1")
                if _host_of(origin.partition("://")[2]) not in self.hosts:
                    return False
        return named == 1

    # -- MCP ---------------------------------------------------------------------------------------------------------

    async def _mcp(self, server: str, scope: Scope, receive: Receive, send: Send, peer: Peer) -> None:
        """One request at `/mcp/<server>`; whatever goes wrong becomes one typed answer."""
        message: jsonrpc.Message | None = None
        try:
            approach = self.door.approach(scope, peer)
            if (why := self.closed()) is not None:
                raise why
            if server not in self.exchange.enforcer.rules.servers or server not in self.exchange.upstreams:
                raise Refused(Code.SERVER_UNKNOWN, f"`{server[:80]}` is not a configured server")
            method = scope["method"]
            if method == "POST":
                raw = await read_all(receive, peer, self.limits.size, self.body_time)
                credential = await approach.enter(raw)
                message = jsonrpc.parse_message(raw, self.limits)
                outcome = await self._post(server, scope["headers"], message, credential)
            elif method in ("GET", "DELETE"):
                credential = await approach.enter(b"")
                outcome = await self._session(server, scope["headers"], method, credential)
            else:
                await write(send, 405, b"", extra=[(b"allow", b"POST, GET, DELETE")])
                return
        except (Malformed, Refused, Unavailable) as failure:
            await self._turn_away(send, failure, message, peer, server)
            return
        await self._deliver(send, peer, outcome)

    # -- A2A ---------------------------------------------------------------------------------------------------------

    async def _a2a(self, scope: Scope, receive: Receive, send: Send, peer: Peer) -> None:
        """One request at or below `/a2a/<peer>`, or for its card; whatever goes wrong becomes one typed answer."""
        asked = peers.Asked(scope["method"], scope["raw_path"], scope["query_string"], scope["headers"])
        try:
            approach = self.door.approach(scope, peer)
            if (why := self.closed()) is not None:
                raise why
            if asked.peer not in self.exchange.enforcer.rules.peers:
                raise Refused(Code.SERVER_UNKNOWN, f"`{asked.peer[:80]}` is not an agent of this gateway's file")
            if asked.allow is not None or (asked.is_card and self.cards is None):
                await write(send, 405, b"", extra=[(b"allow", asked.allow or b"POST")])
                return
            if asked.is_card and self.cards is not None:
                host = next(value for key, value in scope["headers"] if key == b"host").decode("latin-1")
                here = f"{scope['scheme']}://{host}/a2a/{asked.peer}"
                await self._card(send, await self.cards(asked.peer, await approach.enter(b""), here), scope["headers"])
                return
            raw = b""
            if asked.verb == "POST":
                raw = await read_all(receive, peer, self.limits.size, self.body_time)
            credential = await approach.enter(raw)
            outcome = await peers.said(self.exchange, asked, asked.read(raw, self.limits), credential)
        except (Malformed, Refused, Unavailable) as failure:
            await self._turn_away(
                send, failure, asked.message, peer, asked.peer, worded=asked.turned_away, statuses=asked.status
            )
            return
        await self._deliver(send, peer, outcome, asked.media(outcome.status))

    async def _push(self, pushed: peers.Pushed, scope: Scope, receive: Receive, send: Send, peer: Peer) -> None:
        """What a peer pushes: it has no papers of ours, but the address and the secret of one configuration."""
        try:
            if (why := self.closed()) is not None:
                raise why
            take = await pushed(*peers.shown(scope["method"], scope["path"], scope["headers"]))
            await take(await read_body(receive, self.limits.size, self.anteroom.place(self.body_time)))
        except (Malformed, Refused, Unavailable) as failure:
            await self._turn_away(send, failure, None, peer, "", worded=peers.push_refused, statuses=peers.push_status)
            return
        await write(send, 204, b"", None)

    async def _card(self, send: Send, card: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """# SPEC: A2A 1.0 §8.6: a card names its version; each use asks again whether it is still the approved one."""
        tag = peers.etag(card)
        extra = [(b"etag", tag), (b"cache-control", b"private, max-age=0, must-revalidate")]
        if any(name == b"if-none-match" and value == tag for name, value in headers):
            await write(send, 304, b"", None, extra)
            return
        await write(send, 200, card, extra=extra)

    async def _post(
        self, server: str, headers: list[tuple[bytes, bytes]], message: jsonrpc.Message, credential: Credential
    ) -> Outcome:
        message, asserted = taken(self.exchange.enforcer, message, credential)
        negotiated = await self._negotiated(headers)
        mirrored = self.exchange.enforcer.rules.mirrored
        reading = mcp.read_message(headers, message, lambda tool: mirrored(server, tool), negotiated=negotiated)
        token = mcp.shown_envelope(message)
        brought = None if token is None else await self.exchange.brought(token, message, server, credential)
        call = self._call(credential, server, reading, reading.method, message, brought)
        call = call if asserted is None else msgspec.structs.replace(call, asserted=asserted)
        if isinstance(message, Request):
            return await self.exchange.request(call, credential, reading.headers)
        if isinstance(message, Response):
            return await self.exchange.answer(call, message, credential, reading.headers)
        return await self.exchange.notify(call, credential, reading.headers)

    async def _session(
        self, server: str, headers: list[tuple[bytes, bytes]], method: str, credential: Credential
    ) -> Outcome:
        reading = mcp.read_bodiless(headers)
        if method == "GET":
            call = self._call(credential, server, reading, LISTEN)
            return await self.exchange.listen(call, credential, reading.headers)
        call = self._call(credential, server, reading, END)
        return await self.exchange.end(call, credential, reading.headers)

    async def _negotiated(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        """The revision of the session that the headers claim; whose session it is, `verify` asks."""
        claimed = mcp.claimed_session(headers)
        session = None if claimed is None else await self.exchange.enforcer.snapshots.session(claimed)
        return None if session is None else session.revision

    def _call(
        self,
        credential: Credential,
        server: str,
        reading: mcp.Reading,
        method: str,
        message: jsonrpc.Message | None = None,
        brought: Label | None = None,
    ) -> Call:
        return Call(
            id=self.exchange.enforcer.chance.call_id(),
            direction=Direction.TO_SERVER,
            agent=credential.agent,
            server=server,
            method=method,
            name=reading.name,
            arguments=reading.arguments,
            body=b"" if message is None else message.body,
            revision=reading.revision,
            session=reading.session,
            rpc_id=message.id if isinstance(message, Request) else None,
            continuation=None if message is None else mcp.continuation(message),
            task=None if message is None else mcp.named_task(message, passed_on=brought is not None),
            chain=() if message is None else mcp.shown_chain(message),
            tightened=None if message is None else mcp.claimed_label(message, passed_on=brought is not None),
            brought=brought,
        )

    # -- writing back ------------------------------------------------------------------------------------------------

    async def _deliver(self, send: Send, peer: Peer, outcome: Outcome, media: bytes = JSON) -> None:
        extra = [] if outcome.session is None else [(b"mcp-session-id", outcome.session.encode())]
        extra += [(b"retry-after", b"%d" % outcome.retry_s)] if outcome.retry_s else []
        if outcome.stream is None:
            if outcome.body and not extra and peer.answer(outcome.status, media, outcome.body):
                return
            await write(send, outcome.status, outcome.body, media if outcome.body else None, extra)
            return
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), *extra]
        begun = False
        try:
            await send({"type": "http.response.start", "status": outcome.status, "headers": headers})
            begun = True
            async for delivery in outcome.stream:
                await send({"type": "http.response.body", "body": format_event(delivery), "more_body": True})
        finally:
            if begun or outcome.abandon is None:
                await outcome.stream.aclose()
            else:
                await outcome.abandon()
        await send({"type": "http.response.body", "body": b""})

    async def _turn_away(
        self,
        send: Send,
        failure: Malformed | Refused | Unavailable,
        message: jsonrpc.Message | None,
        peer: Peer,
        server: str,
        *,
        said_by: int = 200,
        worded: Callable[[jsonrpc.Message | None, Code, str], bytes] = mcp.turned_away,
        statuses: Callable[[Code], int] = mcp.status_of,
    ) -> None:
        """Answer and record what became no call, or was not judged; `said_by`: its status if that was no fault."""
        code, detail = _said(failure)
        try:
            await self.exchange.enforcer.rejections.add(code, detail, peer.address.rpartition(":")[0], server)
        except Unavailable:
            code, detail = Code.STORE_UNAVAILABLE, ""
        found = statuses(code)
        status = said_by if found == 200 else found
        extra = [(b"www-authenticate", b"Bearer")] if status == 401 else []
        await write(send, status, worded(message, code, detail), JSON, extra)


def _host_of(authority: str) -> str:
    """The host of `host`, `host:port` or `[v6]:port`, in lower case."""
    if authority.startswith("["):
        return authority.partition("]")[0].lstrip("[").lower()
    return authority.partition(":")[0].lower()


def _said(failure: Malformed | Refused | Unavailable) -> tuple[Code, str]:
    """Code and detail; where there is no detail, the sender is told the code's advice."""
    return (Code.MALFORMED, str(failure)) if isinstance(failure, Malformed) else (failure.code, failure.detail)


def _status(failure: Exception) -> int:
    """Of what is said at an address of our own, where no JSON-RPC says for itself that it is a refusal."""
    return 503 if isinstance(failure, Unavailable) else 403
