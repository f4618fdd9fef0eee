"""The bridge on loopback: transparent for MCP, closed to browsers and to the network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import orjson
import pytest

from citywatch.adapters.bridge.bearer import Bearer
from citywatch.adapters.bridge.client import GatewayClient, Reply
from citywatch.adapters.bridge.loopback import MAX_BODY_BYTES, LoopbackBridge, _is_local
from citywatch.adapters.bridge.relay import Relay
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from tests.unit.adapters.bridge.gate import END, STREAM, Answer, Asked, Gate, chunk, open_gate, plain, says

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}'
LIMIT = 1 << 20


class Tokens:
    """A bearer whose tokens are numbered."""

    def __init__(self) -> None:
        self.number = 1
        self.fails: Exception | None = None

    async def token(self) -> str:
        if self.fails is not None:
            raise self.fails
        return f"token-{self.number}"

    async def replace(self, refused: str) -> str:
        assert refused == f"token-{self.number}"
        self.number += 1
        return await self.token()


class Scene:
    """A client of the local bridge, the bridge, and the gateway behind it."""

    def __init__(self, gate: Gate, tokens: Tokens, bridge: LoopbackBridge, client: GatewayClient, port: int) -> None:
        self.gate, self.tokens, self.bridge, self.client, self.port = gate, tokens, bridge, client, port

    async def ask(
        self,
        method: bytes = b"POST",
        path: bytes = b"/mcp/desk",
        headers: list[tuple[bytes, bytes]] | None = None,
        body: bytes | None = CALL,
    ) -> Reply:
        return await self.client.request(method, path, headers or [], body)


@asynccontextmanager
async def opened(answer: Answer) -> AsyncIterator[Scene]:
    async with open_gate(answer) as gate:
        out = GatewayClient(gate.url, None, connect_s=10)
        tokens = Tokens()
        bridge = LoopbackBridge(Relay(out, cast(Bearer, tokens)))
        port = await bridge.open("127.0.0.1", 0)
        client = GatewayClient(f"http://127.0.0.1:{port}", None, connect_s=10)
        try:
            yield Scene(gate, tokens, bridge, client, port)
        finally:
            await client.close()
            await bridge.close()
            await out.close()


async def test_what_mcp_gives_a_meaning_passes_and_nothing_else() -> None:
    reply = plain(b'{"ok":1}', more=b"mcp-session-id: s\r\nset-cookie: x\r\nwww-authenticate: Bearer\r\nserver: y\r\n")
    passing = {
        b"accept": b"application/json, text/event-stream",
        b"content-type": b"application/json",
        b"mcp-session-id": b"s",
        b"mcp-protocol-version": b"2025-11-25",
        b"mcp-method": b"tools/call",
        b"mcp-name": b"look",
        b"mcp-param-region": b"eu",
        b"last-event-id": b"9",
        b"traceparent": b"00-1-2-01",
    }
    dropped = {b"authorization": b"Bearer mine", b"cookie": b"a=b", b"x-forwarded-for": b"::1", b"user-agent": b"u"}
    async with opened(says(reply)) as scene:
        answer = await scene.ask(headers=[*passing.items(), *dropped.items()])
        assert await answer.read(LIMIT) == b'{"ok":1}'
        (asked,) = scene.gate.asked
        extra = {
            b"host": scene.gate.url[7:].encode(),
            b"content-length": str(len(CALL)).encode(),
            b"authorization": b"Bearer token-1",
        }
        assert asked.headers == passing | extra
        assert (asked.method, asked.path, asked.body) == (b"POST", b"/mcp/desk", CALL)
        names = {name for name, _ in answer.headers}
        assert {b"content-type", b"mcp-session-id"} <= names
        assert not names & {b"set-cookie", b"www-authenticate", b"server"}


@pytest.mark.parametrize(("method", "body"), [(b"POST", CALL), (b"GET", None), (b"DELETE", None)])
async def test_every_method_of_mcp_passes(method: bytes, body: bytes | None) -> None:
    async with opened(says(plain(b"", status=b"202 Accepted"))) as scene:
        answer = await scene.ask(method, body=body)
        await answer.read(LIMIT)
        assert answer.status == 202
        assert scene.gate.asked[0].method == method


@pytest.mark.parametrize("method", [b"PUT", b"PATCH", b"OPTIONS", b"TRACE"])
async def test_no_other_method_passes(method: bytes) -> None:
    async with opened(says(plain(b"{}"))) as scene:
        answer = await scene.ask(method)
        await answer.read(LIMIT)
        assert answer.status == 404
        assert not scene.gate.asked


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/mcp",
        b"/mcp/",
        b"/mcp/..",
        b"/mcp/.",
        b"/mcp/../citywatch/renew",
        b"/mcp/%2e%2e/citywatch/renew",
        b"/citywatch/renew",
        b"/mcp/a/b",
        b"/mcp/a?x=%0d%0a",
        b"//mcp/a",
        b"/mcp/a%20b",
        b"http://evil.example/mcp/a",
    ],
)
async def test_no_path_leads_out_of_mcp(path: bytes) -> None:
    async with opened(says(plain(b"{}"))) as scene:
        answer = await scene.ask(path=path)
        said = await answer.read(LIMIT)
        if scene.gate.asked:  # what is not part of the path is left behind
            assert [asked.path for asked in scene.gate.asked] == [b"/mcp/a"]
        else:
            assert answer.status in (400, 404)
            assert said


@pytest.mark.parametrize(
    ("host", "origin", "let_in"),
    [
        (b"127.0.0.1:8480", None, True),
        (b"localhost", None, True),
        (b"LOCALHOST:1", None, True),
        (b"[::1]:8480", None, True),
        (b"127.0.0.1", b"http://localhost:3000", True),
        (b"127.0.0.1", b"http://[::1]:3000", True),
        (b"evil.example", None, False),
        (b"127.0.0.1.evil.example", None, False),
        (b"localhost.evil.example:8480", None, False),
        (b"192.0.2.1", None, False),
        (b"", None, False),
        (b"127.0.0.1", b"https://evil.example", False),
        (b"127.0.0.1", b"http://localhost.evil.example", False),
        (b"127.0.0.1", b"http://evil.example#localhost", False),
        (b"127.0.0.1", b"http://localhost@evil.example", False),
        (b"127.0.0.1", b"null", False),
        (b"127.0.0.1", b"", False),
        (b"127.0.0.1", b"file://", False),
    ],
)
async def test_only_this_machine_is_served(host: bytes, origin: bytes | None, let_in: bool) -> None:
    """A page that re-bound its name to us carries that name; a page that posts to us carries its origin."""
    async with opened(says(plain(b"{}"))) as scene:
        head = b"POST /mcp/desk HTTP/1.1\r\nhost: %s\r\ncontent-length: 2\r\n" % host
        head += b"" if origin is None else b"origin: %s\r\n" % origin
        status = await raw(scene.port, head + b"connection: close\r\n\r\n{}")
        assert status == (200 if let_in else 403)
        assert bool(scene.gate.asked) is let_in


@pytest.mark.parametrize("hosts", [(), (b"localhost", b"localhost"), (b"localhost", b"evil.example")])
async def test_one_host_is_named_no_more_and_no_less(hosts: tuple[bytes, ...]) -> None:
    async with opened(says(plain(b"{}"))) as scene:
        head = b"POST /mcp/desk HTTP/1.1\r\n" + b"".join(b"host: %s\r\n" % host for host in hosts)
        assert await raw(scene.port, head + b"content-length: 2\r\nconnection: close\r\n\r\n{}") in (400, 403)
        assert not scene.gate.asked


async def raw(port: int, request: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    line = await reader.readline()
    await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example", ""])
async def test_it_listens_on_loopback_only(host: str) -> None:
    bridge = LoopbackBridge(cast(Relay, None))
    with pytest.raises(Malformed):
        await bridge.open(host, 0)


async def test_events_pass_as_they_arrive() -> None:
    seen = asyncio.Event()

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + chunk(b"id: 1\ndata: {}\n\n"))
        await seen.wait()
        writer.write(chunk(b"data: {}\n\n") + END)

    async with opened(answer) as scene:
        reply = await scene.ask(b"GET", body=None)
        assert reply.header(b"content-type") == b"text/event-stream"
        found = b""
        async for part in reply.chunks():
            found += part
            seen.set()
        assert found == b"id: 1\ndata: {}\n\ndata: {}\n\n"


async def test_a_client_that_goes_away_ends_the_gateways_request() -> None:
    async with opened(says(STREAM + chunk(b"data: {}\n\n"))) as scene:
        reply = await scene.ask(b"GET", body=None)
        reply.close()
        await scene.gate.gone.wait()


async def test_a_client_that_goes_away_before_the_reply_ends_the_gateways_request() -> None:
    arrived = asyncio.Event()

    async def never(_: Asked, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async with opened(never) as scene:
        asking = asyncio.create_task(scene.ask())
        await arrived.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await scene.gate.gone.wait()


async def test_a_stream_that_breaks_off_ends_for_the_client_too() -> None:
    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + chunk(b"data: {}\n\n"))
        await writer.drain()
        writer.transport.abort()

    async with opened(answer) as scene:
        reply = await scene.ask(b"GET", body=None)
        with pytest.raises(Unavailable):
            await reply.read(LIMIT)


async def test_a_token_that_the_gateway_refuses_is_replaced_and_the_request_asked_again() -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        good = asked.headers[b"authorization"] == b"Bearer token-2"
        writer.write(plain(asked.body) if good else plain(b"{}", status=b"401 Unauthorized"))

    async with opened(answer) as scene:
        reply = await scene.ask()
        assert (reply.status, await reply.read(LIMIT)) == (200, CALL)
        assert len(scene.gate.asked) == 2


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden", b"500 Oops", b"404 Not Found"])
async def test_another_refusal_is_passed_on(status: bytes) -> None:
    async with opened(says(plain(b'{"error":1}', status=status))) as scene:
        reply = await scene.ask()
        assert (reply.status, await reply.read(LIMIT)) == (int(status[:3]), b'{"error":1}')
        assert len(scene.gate.asked) == (2 if status.startswith(b"401") else 1)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Unavailable(Code.UPSTREAM_UNAVAILABLE, "away"), 502),
        (Refused(Code.AGENT_REVOKED, "void"), 403),
        (Refused(Code.CREDENTIAL_UNTRUSTED, "not ours"), 401),
        (Malformed("nonsense"), 400),
    ],
)
async def test_without_papers_the_client_is_told_why(failure: Exception, status: int) -> None:
    async with opened(says(plain(b"{}"))) as scene:
        scene.tokens.fails = failure
        reply = await scene.ask()
        said = orjson.loads(await reply.read(LIMIT))
        assert reply.status == status
        assert said["id"] == 7
        assert said["error"]["data"]["code"] == getattr(failure, "code", Code.MALFORMED).value
        assert not scene.gate.asked


async def test_a_gateway_that_is_away_is_told() -> None:
    async with opened(says(b"")) as scene:
        scene.gate.answer = says(b"nonsense\r\n\r\n")
        reply = await scene.ask()
        assert reply.status == 502
        assert orjson.loads(await reply.read(LIMIT))["error"]["data"]["code"] == "upstream_unavailable"


async def test_a_body_without_end_is_refused() -> None:
    async with opened(says(plain(b"{}"))) as scene:
        reply = await scene.ask(body=b" " * (MAX_BODY_BYTES + 1))
        assert reply.status == 400
        await reply.read(LIMIT)
        assert not scene.gate.asked


@pytest.mark.parametrize(
    ("site", "local"), [(b"none", True), (b"same-origin", True), (b"cross-site", False), (b"same-site", False)]
)
def test_a_page_of_another_site_is_refused_though_it_sends_no_origin(site: bytes, local: bool) -> None:
    headers = [(b"host", b"127.0.0.1:8480"), (b"sec-fetch-site", site)]
    assert _is_local(headers) is local


async def test_a_bridge_that_signs_lends_no_bearer_token() -> None:
    class Signing(Tokens):
        def sign(self, method: bytes, target: bytes, authority: bytes, headers: object, body: bytes) -> object:
            return [(b"signature", b"%s %s %s %s" % (method, target, authority, body))]

    async with open_gate(says(plain(b"{}"))) as gate:
        out = GatewayClient(gate.url, None, connect_s=10)
        try:
            relay = Relay(out, cast(Bearer, Signing()), signs=True)
            await (await relay.ask(b"POST", b"/mcp/desk", [], CALL)).read(LIMIT)
        finally:
            await out.close()
    (asked,) = gate.asked
    assert b"authorization" not in asked.headers
    assert asked.headers[b"signature"] == b"POST /mcp/desk 127.0.0.1:%d %s" % (gate.port, CALL)
