"""What every `Upstream` does, against a server on the official SDK: over HTTP and as a program, both revisions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from citywatch.adapters.upstream import HttpServer, HttpUpstream, StdioServer, StdioUpstream
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import FROM_SERVER, Notification, Request, Response, parse_message
from citywatch.service.ports import Answer, Upstream
from tests.ports import free_port
from tests.upstream_world import message, unseen_errors

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER = str(Path(__file__).parents[1] / "sdk_server.py")
AGENT = "spiffe://test.example/agent/a"
OTHER = "spiffe://test.example/agent/b"
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
HELLO: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"elicitation": {}},
    "clientInfo": {"name": "t", "version": "1"},
}
LEGACY = {"mcp-protocol-version": "2025-11-25"}


@pytest.fixture(autouse=True)
def nothing_fails_behind_our_back(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An error in one of the loop's callbacks is only logged: here it fails the test."""
    yield
    assert not unseen_errors(caplog)


@asynccontextmanager
async def over_http() -> AsyncIterator[Callable[[], Upstream]]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, SERVER, "http", str(port))
    made = HttpServer(name="sdk", url=f"http://127.0.0.1:{port}/mcp")
    try:
        probe = HttpUpstream(made, None)
        async with asyncio.timeout(60):
            while not await up(probe):
                await asyncio.sleep(0.05)
        await probe.close()
        yield lambda: HttpUpstream(made, None)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def over_pipes() -> AsyncIterator[Callable[[], Upstream]]:
    command = (sys.executable, SERVER, "stdio")
    made = StdioServer(name="sdk", command=command, env={}, cwd="/", unsafe_same_user=True)
    yield lambda: StdioUpstream(made)


@pytest_asyncio.fixture(params=[over_http, over_pipes], scope="module", loop_scope="module")
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Upstream]]:
    """Makes upstreams of one kind; the server behind them starts once, for it takes a second."""
    async with request.param() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(make: Callable[[], Upstream]) -> AsyncIterator[Upstream]:
    upstream = make()
    yield upstream
    await upstream.close()


@pytest_asyncio.fixture(loop_scope="module")
async def upstream(shared: Upstream) -> AsyncIterator[Upstream]:
    """The shared one, without the sessions that the test has begun."""
    BEGUN.clear()
    yield shared
    for caller, session in BEGUN:
        with contextlib.suppress(Refused):
            await shared.end(caller, LEGACY, session)


BEGUN: list[tuple[str, str]] = []


async def up(http: HttpUpstream) -> bool:
    try:
        await http.end("nobody", {}, "none")
    except Unavailable:
        return False
    return True


async def ask(
    upstream: Upstream, method: str, session: str | None = None, caller: str = AGENT, **params: Any
) -> tuple[Response, list[Request | Notification], Answer]:
    """One request; its answer, and what the server said before it."""
    headers = dict(LEGACY) if session is not None else {}
    if session is None and method != "initialize":
        params["_meta"] = META | params.get("_meta", {})
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
        if "name" in params:
            headers["mcp-name"] = params["name"]
    body = message(id="q", method=method, params=params)
    answer = await upstream.send(caller, body, headers, session, repeatable=False)
    before: list[Request | Notification] = []
    try:
        async for raw, _ in answer.messages():
            if not raw:
                continue
            said = parse_message(raw, FROM_SERVER)
            if isinstance(said, Response):
                assert said.id == "q"
                mcp.check_reply(method, said)
                return said, before, answer
            before.append(said)
    finally:
        await answer.close()
    raise AssertionError("no answer")


async def begin(upstream: Upstream, caller: str = AGENT) -> str:
    response, _, answer = await ask(upstream, "initialize", caller=caller, **HELLO)
    assert mcp.negotiated(response) == "2025-11-25"
    assert [one.value for one in mcp.definitions("initialize", response)] == [{"instructions": "Be brief."}]
    assert answer.session is not None
    BEGUN.append((caller, answer.session))
    told = await upstream.send(
        caller, message(method="notifications/initialized"), LEGACY, answer.session, repeatable=False
    )
    assert (told.status, told.media, told.body) == (202, "none", None)
    return answer.session


async def test_a_stateless_server_is_asked_without_a_beginning(upstream: Upstream) -> None:
    response, _, answer = await ask(upstream, "server/discover")
    assert response.result is not None
    assert "2026-07-28" in response.result["supportedVersions"]
    assert answer.session is None
    response, _, _ = await ask(upstream, "tools/list")
    assert [one.name for one in mcp.definitions("tools/list", response)] == ["add", "count", "ask"]
    response, _, _ = await ask(upstream, "tools/call", name="add", arguments={"one": 2, "other": 3})
    assert response.result is not None
    assert response.result["structuredContent"] == {"result": 5}


async def test_a_session_is_begun_used_and_ended(upstream: Upstream) -> None:
    session = await begin(upstream)
    response, _, _ = await ask(upstream, "tools/call", session, name="add", arguments={"one": 2, "other": 3})
    assert response.result is not None
    assert response.result["content"][0]["text"] == "5"
    assert await upstream.end(AGENT, LEGACY, session) == 200
    with pytest.raises(Refused) as caught:
        await ask(upstream, "tools/list", session)
    assert caught.value.code is Code.SESSION_LOST


async def test_an_unknown_session_is_lost(upstream: Upstream) -> None:
    await begin(upstream)
    with pytest.raises(Refused) as caught:
        await ask(upstream, "tools/list", "never-given")
    assert caught.value.code is Code.SESSION_LOST


async def test_two_callers_have_two_sessions(upstream: Upstream) -> None:
    one, other = await begin(upstream), await begin(upstream, OTHER)
    assert one != other
    for session, caller in ((one, AGENT), (other, OTHER)):
        response, _, _ = await ask(upstream, "ping", session, caller)
        assert response.result == {}


@pytest.mark.parametrize("stateless", [True, False])
async def test_progress_comes_before_the_answer_under_the_caller_s_token(upstream: Upstream, stateless: bool) -> None:
    session = None if stateless else await begin(upstream)
    response, before, answer = await ask(
        upstream, "tools/call", session, name="count", arguments={"to": 5}, _meta={"progressToken": "mine"}
    )
    assert answer.media == "sse"
    assert [(one.method, (one.params or {})["progressToken"], (one.params or {})["progress"]) for one in before] == [
        ("notifications/progress", "mine", number) for number in range(5)
    ]
    assert response.result is not None


async def test_an_error_is_an_answer(upstream: Upstream) -> None:
    session = await begin(upstream)
    response, _, _ = await ask(upstream, "no/such/method", session)
    assert response.error is not None
    response, _, _ = await ask(upstream, "no/such/method")
    assert response.error is not None
    assert response.error["code"] == -32601


async def test_a_server_asks_and_is_answered_in_the_middle_of_a_call(upstream: Upstream) -> None:
    session = await begin(upstream)
    body = message(id="q", method="tools/call", params={"name": "ask", "arguments": {}})
    answer = await upstream.send(AGENT, body, LEGACY, session, repeatable=False)
    assert answer.media == "sse"
    stream = answer.messages()
    asked = parse_message((await anext(stream))[0], FROM_SERVER)
    assert isinstance(asked, Request)
    assert asked.method == "elicitation/create"
    mcp.read_server_message(asked, "2025-11-25")
    reply = message(id=asked.id, result={"action": "accept", "content": {"account": "a-7"}})
    told = await upstream.send(AGENT, reply, LEGACY, session, repeatable=False)
    assert (told.status, told.media) == (202, "none")
    done = parse_message((await anext(stream))[0], FROM_SERVER)
    assert isinstance(done, Response)
    assert done.result is not None
    assert done.result["content"][0]["text"] == "accept: a-7"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_server_is_listened_to_once_a_session(upstream: Upstream) -> None:
    session = await begin(upstream)
    first = await upstream.listen(AGENT, LEGACY, session)
    assert (first.status, first.media) == (200, "sse")
    second = await upstream.listen(AGENT, LEGACY, session)
    assert (second.status, second.media) != (200, "sse")
    await second.close()
    await first.close()


async def test_a_whole_answer_is_one_message_and_closing_is_harmless(upstream: Upstream) -> None:
    answer = await upstream.send(
        AGENT,
        message(id=1, method="tools/list", params={"_meta": META}),
        {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"},
        None,
        repeatable=True,
    )
    assert (answer.media, answer.retry_ms) == ("json", None)
    found = [json.loads(raw) for raw, _ in [each async for each in answer.messages()]]
    assert answer.body is not None
    assert found == [json.loads(answer.body)]
    for _ in range(2):
        await answer.close()


async def test_a_closed_upstream_answers_nobody(make: Callable[[], Upstream]) -> None:
    upstream = make()
    await begin(upstream)
    BEGUN.clear()
    await upstream.close()
    with pytest.raises(Unavailable) as caught:
        await ask(upstream, "tools/list")
    assert caught.value.code is Code.DRAINING
    await upstream.close()
