"""Lines on standard input and output become streamable HTTP, in order, each request answered once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest

from citywatch.adapters.bridge.client import Reply
from citywatch.adapters.bridge.relay import Relay
from citywatch.adapters.bridge.stdio import StdioBridge
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.wire.jsonrpc import FROM_AGENT

JSON, SSE = b"application/json", b"text/event-stream"
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "progressToken": 1,
}


class Answered:
    """A reply as the relay gives it. Of its parts, an exception breaks it off and an awaitable holds it up."""

    def __init__(
        self, *parts: Any, status: int = 200, media: bytes | None = JSON, session: bytes | None = None
    ) -> None:
        self.parts, self.status, self.media, self.session = parts, status, media, session
        self.closed = asyncio.Event()

    def header(self, name: bytes) -> bytes | None:
        return {b"content-type": self.media, b"mcp-session-id": self.session}[name]

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, bytes):
                yield part
            else:
                await part

    async def read(self, limit: int) -> bytes:
        return b"".join([part async for part in self.chunks()])

    def close(self) -> None:
        self.closed.set()


def result(rpc_id: Any, **members: Any) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": rpc_id, "result": members})


def event(body: bytes, event_id: str | None = None) -> bytes:
    return (b"" if event_id is None else b"id: %s\n" % event_id.encode()) + b"retry: 0\ndata: " + body + b"\n\n"


class Asked:
    def __init__(self, method: bytes, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes | None) -> None:
        self.method, self.path, self.headers = method, path, dict(headers)
        assert len(self.headers) == len(headers)
        self.message: dict[str, Any] = {} if body is None else orjson.loads(body)

    @property
    def rpc_method(self) -> str | None:
        return self.message.get("method")


Handler = Callable[[Asked], Awaitable[Answered]]


class Scene:
    """The client's end of the bridge, and all that the gateway was asked."""

    def __init__(self, handler: Handler) -> None:
        self.reader = asyncio.StreamReader()
        self.handler = handler
        self.asked: list[Asked] = []
        self.out: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.complaints: list[str] = []
        self.changed = asyncio.Condition()
        self.bridge = StdioBridge(
            cast(Relay, self), "desk", self.reader, self, complain=self.complaints.append, grace_s=1
        )

    async def ask(self, method: bytes, path: bytes, headers: Any, body: bytes | None) -> Reply:
        asked = Asked(method, path, headers, body)
        async with self.changed:
            self.asked.append(asked)
            self.changed.notify_all()
        return cast(Reply, await self.handler(asked))

    async def until_asked(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.asked) >= count)

    def write(self, data: bytes) -> None:
        assert data.endswith(b"\n")
        assert data.count(b"\n") == 1
        self.out.put_nowait(orjson.loads(data))

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def say(self, method: str, rpc_id: Any = None, **params: Any) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if rpc_id is not None:
            message["id"] = rpc_id
        if params:
            message["params"] = params
        self.reader.feed_data(orjson.dumps(message) + b"\n")


@asynccontextmanager
async def scene_of(handler: Handler) -> AsyncIterator[Scene]:
    scene = Scene(handler)
    running = asyncio.create_task(scene.bridge.run())
    try:
        yield scene
        scene.reader.feed_eof()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def answers(**by_method: Any) -> Handler:
    """A gateway of the revisions with sessions. A value is a reply, or makes one of what was asked."""

    async def handler(asked: Asked) -> Answered:
        if asked.method == b"GET":
            found = by_method.get("GET", Answered(status=405, media=None))
        elif asked.method == b"DELETE":
            found = by_method.get("DELETE", Answered(status=200, media=None))
        elif asked.rpc_method == "initialize":
            found = by_method.get(
                "initialize", Answered(result(asked.message["id"], protocolVersion="2025-11-25"), session=b"s-1")
            )
        elif "id" not in asked.message or asked.rpc_method is None:
            found = by_method.get("tell", Answered(status=202, media=None))
        else:
            found = by_method.get(asked.rpc_method.replace("/", "_"), Answered(result(asked.message["id"])))
        if isinstance(found, Answered):
            return found
        if isinstance(found, Exception):
            raise found
        made = found(asked)
        return cast(Answered, await made if asyncio.iscoroutine(made) else made)

    return handler


async def begin(scene: Scene) -> None:
    scene.say("initialize", 0, protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "t", "version": "1"})
    assert (await scene.out.get())["id"] == 0
    scene.say("notifications/initialized")
    await scene.until_asked(3)


# -- revisions with sessions -----------------------------------------------------------------------------------------


async def test_a_session_is_named_as_soon_as_it_has_a_name_and_ended_with_the_input() -> None:
    async with scene_of(answers()) as scene:
        await begin(scene)
        scene.say("tools/list", 1)
        assert await scene.out.get() == {"jsonrpc": "2.0", "id": 1, "result": {}}
    named = {b"mcp-session-id": b"s-1", b"mcp-protocol-version": b"2025-11-25"}
    first, *rest = scene.asked
    assert not named.keys() & first.headers.keys()
    assert [asked.method for asked in rest] == [b"POST", b"GET", b"POST", b"DELETE"]
    for asked in rest:
        assert named.items() <= asked.headers.items()
    assert {asked.path for asked in scene.asked} == {b"/mcp/desk"}
    assert b"mcp-method" not in rest[0].headers
    assert scene.complaints == []


async def test_nothing_overtakes_initialize_or_a_notification() -> None:
    """Lines that arrive at once reach the gateway one after the other where their order matters."""
    going: list[str] = []
    order: list[str] = []

    async def handler(asked: Asked) -> Answered:
        assert not going, "something overtook"
        if asked.rpc_method in ("initialize", "notifications/initialized", "notifications/progress"):
            going.append("x")
            for _ in range(20):
                await asyncio.sleep(0)
            going.pop()
        order.append(asked.rpc_method or "")
        return await answers()(asked)

    async with scene_of(handler) as scene:
        scene.say("initialize", 0, protocolVersion="2025-11-25")
        scene.say("notifications/progress")
        scene.say("notifications/progress")
        scene.say("tools/list", 1)
        assert (await scene.out.get())["id"] == 0
        assert (await scene.out.get())["id"] == 1
    assert [method for method in order if method] == ["initialize", *["notifications/progress"] * 2, "tools/list"]


async def test_requests_run_beside_each_other_and_a_question_is_answered_meanwhile() -> None:
    replied = asyncio.Event()

    async def slow(asked: Asked) -> Answered:
        question = orjson.dumps({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}})
        return Answered(event(question), replied.wait(), event(result(asked.message["id"], done=1)), media=SSE)

    async with scene_of(answers(tools_call=slow)) as scene:
        await begin(scene)
        scene.say("tools/call", 1, name="pay")
        assert (await scene.out.get())["method"] == "elicitation/create"
        scene.say("ping", 2)
        assert (await scene.out.get())["id"] == 2
        scene.reader.feed_data(result("q", action="accept") + b"\n")
        await scene.until_asked(6)
        assert scene.asked[5].message["result"] == {"action": "accept"}
        replied.set()
        assert await scene.out.get() == {"jsonrpc": "2.0", "id": 1, "result": {"done": 1}}


async def test_what_the_server_says_of_its_own_accord_comes_out() -> None:
    note = orjson.dumps({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    forever = asyncio.Event()
    async with scene_of(answers(GET=Answered(event(note), forever.wait(), media=SSE))) as scene:
        await begin(scene)
        assert (await scene.out.get())["method"] == "notifications/tools/list_changed"


async def test_listening_goes_on_where_it_broke_off() -> None:
    note = orjson.dumps({"jsonrpc": "2.0", "method": "notifications/progress"})
    replies = iter(
        [
            Answered(event(note, "e-1"), Unavailable(Code.UPSTREAM_UNAVAILABLE), media=SSE),
            Answered(event(note, "e-2"), media=SSE),
            Answered(status=404, media=None),
        ]
    )
    async with scene_of(answers(GET=lambda _: next(replies))) as scene:
        await begin(scene)
        await scene.until_asked(5)
    lasts = [asked.headers.get(b"last-event-id") for asked in scene.asked if asked.method == b"GET"]
    assert lasts == [None, b"e-1", b"e-2"]


async def test_a_reply_that_broke_off_is_taken_up_by_its_last_event() -> None:
    lost = Answered(event(b"", "e-7").replace(b"data: ", b"data:"), Unavailable(Code.UPSTREAM_UNAVAILABLE), media=SSE)

    def resumed(asked: Asked) -> Answered:
        if asked.headers.get(b"last-event-id") == b"e-7":
            return Answered(event(result(1, done=1)), media=SSE)
        return Answered(status=405, media=None)

    async with scene_of(answers(tools_call=lost, GET=resumed)) as scene:
        await begin(scene)
        scene.say("tools/call", 1, name="pay")
        assert await scene.out.get() == {"jsonrpc": "2.0", "id": 1, "result": {"done": 1}}
    assert sum(asked.rpc_method == "tools/call" for asked in scene.asked) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Answered(Unavailable(Code.UPSTREAM_UNAVAILABLE), media=SSE),
        Answered(media=SSE),
        Answered(event(result(99)), media=SSE),
        Answered(event(b"nonsense"), media=SSE),
        Answered(b"nonsense"),
        Answered(b"", status=500, media=None),
        Answered(b"", status=202, media=None),
        Answered(Unavailable(Code.UPSTREAM_UNAVAILABLE)),
        Unavailable(Code.UPSTREAM_UNAVAILABLE, "away"),
        Refused(Code.AGENT_REVOKED, "void"),
    ],
    ids=range(10),
)
async def test_a_request_is_answered_even_if_the_gateway_is_lost_and_never_asked_twice(reply: Any) -> None:
    async with scene_of(answers(tools_call=reply)) as scene:
        await begin(scene)
        scene.say("tools/call", 1, name="pay")
        said = await scene.out.get()
        if said["id"] == 99:
            said = await scene.out.get()
        assert said["id"] == 1
        assert said["error"]["data"]["code"]
    assert scene.out.empty()
    assert sum(asked.rpc_method == "tools/call" for asked in scene.asked) == 1


async def test_an_error_that_names_no_request_is_given_its_name() -> None:
    nameless = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": 1403, "message": "no", "data": {"a": 1}}})
    async with scene_of(answers(tools_call=Answered(nameless, status=401))) as scene:
        await begin(scene)
        scene.say("tools/call", 1, name="pay")
        assert await scene.out.get() == {
            "jsonrpc": "2.0",
            "id": 1,
            "error": {"code": 1403, "message": "no", "data": {"a": 1}},
        }


async def test_a_notification_that_is_refused_is_told_a_person_only() -> None:
    async with scene_of(answers(tell=Answered(b'{"x":1}', status=403))) as scene:
        scene.say("notifications/initialized")
        await scene.until_asked(1)
    assert scene.out.empty()
    assert len(scene.complaints) == 1


async def test_in_a_session_a_cancellation_is_passed_on() -> None:
    forever = asyncio.Event()
    async with scene_of(answers(tools_call=Answered(forever.wait(), media=SSE))) as scene:
        await begin(scene)
        scene.say("tools/call", 1, name="pay")
        await scene.until_asked(4)
        scene.say("notifications/cancelled", requestId=1)
        await scene.until_asked(5)
        forever.set()
        assert (await scene.out.get())["id"] == 1
    assert scene.asked[4].rpc_method == "notifications/cancelled"


# -- stateless revisions ---------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}


async def test_a_line_gets_the_headers_that_its_body_asks_for() -> None:
    async with scene_of(answers()) as scene:
        scene.say("tools/list", 1, _meta=META)
        await scene.out.get()
        scene.say("resources/read", 2, uri="desk://nöte", _meta=META)
        await scene.out.get()
        scene.say("notifications/progress", progressToken=1)
        await scene.until_asked(3)
    listed, read, told = scene.asked
    both = {b"accept": b"application/json, text/event-stream", b"content-type": b"application/json"}
    assert listed.headers == both | {b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"tools/list"}
    assert read.headers[b"mcp-name"] == b"=?base64?ZGVzazovL27DtnRl?="
    assert told.headers[b"mcp-protocol-version"] == b"2026-07-28"
    assert all(asked.method == b"POST" for asked in scene.asked)


@pytest.mark.parametrize("lists_first", [True, False])
async def test_arguments_are_mirrored_whether_or_not_the_client_looked_at_the_tool(lists_first: bool) -> None:
    def tools(asked: Asked) -> Answered:
        cursor = (asked.message["params"]).get("cursor")
        assert asked.message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        name = "first" if cursor is None else "pay"
        more = {"nextCursor": "2"} if cursor is None else {}
        return Answered(result(asked.message["id"], tools=[{"name": name, "inputSchema": SCHEMA}], **more))

    async with scene_of(answers(tools_list=tools)) as scene:
        if lists_first:
            for rpc_id, cursor in ((1, {}), (2, {"cursor": "2"})):
                scene.say("tools/list", rpc_id, _meta=META, **cursor)
                assert (await scene.out.get())["id"] == rpc_id
        for rpc_id in (3, 4):
            scene.say("tools/call", rpc_id, name="pay", arguments={"region": "eu"}, _meta=META)
            assert (await scene.out.get())["id"] == rpc_id
    calls = [asked for asked in scene.asked if asked.rpc_method == "tools/call"]
    assert [call.headers[b"mcp-param-region"] for call in calls] == [b"eu", b"eu"]
    assert sum(asked.rpc_method == "tools/list" for asked in scene.asked) == 2
    assert scene.out.empty()


async def test_a_tool_nobody_lists_is_asked_for_once() -> None:
    async with scene_of(answers(tools_list=lambda asked: Answered(result(asked.message["id"], tools=[])))) as scene:
        for rpc_id in (1, 2):
            scene.say("tools/call", rpc_id, name="pay", _meta=META)
            assert (await scene.out.get())["id"] == rpc_id
    assert sum(asked.rpc_method == "tools/list" for asked in scene.asked) == 1


async def test_a_cancelled_request_is_a_closed_stream() -> None:
    forever = asyncio.Event()
    open_stream = Answered(forever.wait(), media=SSE)
    async with scene_of(answers(subscriptions_listen=open_stream)) as scene:
        scene.say("subscriptions/listen", 5, notifications={}, _meta=META)
        await scene.until_asked(1)
        scene.say("notifications/cancelled", requestId=5)
        await open_stream.closed.wait()
        scene.say("notifications/cancelled", requestId=99)
        scene.say("ping", 6, _meta=META)
        assert (await scene.out.get())["id"] == 6
    assert [asked.rpc_method for asked in scene.asked] == ["subscriptions/listen", "ping"]


# -- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"{}",
        b"[]",
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
        b"\xff",
        b'{"jsonrpc":"2.0","jsonrpc":"2.0"}',
    ],
)
async def test_a_line_that_is_no_message_is_answered_with_an_error(line: bytes) -> None:
    async with scene_of(answers()) as scene:
        scene.reader.feed_data(line + b"\n\n  \n")
        assert (await scene.out.get())["error"]["code"] == -32700
        scene.say("ping", 1)
        assert (await scene.out.get())["id"] == 1
    assert len(scene.asked) == 1


async def test_a_line_without_end_is_refused_and_the_next_one_heard() -> None:
    async with scene_of(answers()) as scene:
        for _ in range(FROM_AGENT.size // 65_536 + 20):
            scene.reader.feed_data(b" " * 65_535 + b"x")
            await asyncio.sleep(0)
        scene.reader.feed_data(b"\n")
        assert (await scene.out.get())["error"]["code"] == -32700
        scene.say("ping", 1)
        assert (await scene.out.get())["id"] == 1


async def test_a_message_may_arrive_in_pieces_and_end_without_a_line_break() -> None:
    async with scene_of(answers()) as scene:
        for byte in b'{"jsonrpc":"2.0","id":1,"method":"ping"}':
            scene.reader.feed_data(bytes([byte]))
            await asyncio.sleep(0)
        scene.reader.feed_eof()
        assert (await scene.out.get())["id"] == 1


async def test_what_is_open_when_the_input_ends_may_end() -> None:
    later = asyncio.Event()
    async with scene_of(answers(ping=lambda asked: Answered(later.wait(), result(asked.message["id"])))) as scene:
        scene.say("ping", 1)
        await scene.until_asked(1)
        scene.reader.feed_eof()
        await asyncio.sleep(0)
        later.set()
        assert (await scene.out.get())["id"] == 1


async def test_too_many_open_requests_are_refused() -> None:
    forever = asyncio.Event()
    async with scene_of(answers(ping=lambda asked: Answered(forever.wait(), result(asked.message["id"])))) as scene:
        for rpc_id in range(1, 300):
            scene.say("ping", rpc_id)
        assert (await scene.out.get())["error"]["data"]["code"] == "overloaded"
        forever.set()
