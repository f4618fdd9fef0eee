"""Servers over HTTP that are dead, slow, broken or hostile: the call fails with a reason, and the next one works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from citywatch.adapters.upstream import Bounds, HttpUpstream, Patience
from citywatch.core.errors import Code, Refused, Unavailable
from tests.upstream_world import (
    ASK,
    EVENTS,
    REPLY,
    Script,
    Seen,
    World,
    chunked,
    message,
    response,
    says,
    says_and_closes,
    silence,
    unseen_errors,
    until,
    world,
)

QUICK = Patience(first_byte=0.1, idle=0.1, total=0.3, listen=0.1)
EVENT = b"event: message\r\ndata: " + REPLY + b"\r\n\r\n"


@pytest.fixture(autouse=True)
def nothing_fails_behind_our_back(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An error in one of the loop's callbacks is only logged: here it fails the test."""
    yield
    assert not unseen_errors(caplog)


@asynccontextmanager
async def against(
    script: Script, patience: Patience | None = None, bounds: Bounds | None = None
) -> AsyncIterator[tuple[World, HttpUpstream]]:
    async with world(script) as there:
        upstream = there.upstream(patience=patience, bounds=bounds)
        try:
            yield there, upstream
        finally:
            await upstream.close()


async def fails(upstream: HttpUpstream, code: Code, *, repeatable: bool = False) -> str:
    with pytest.raises(Unavailable) as caught:
        await read_all(upstream, repeatable)
    assert caught.value.code is code
    return str(caught.value)


async def read_all(upstream: HttpUpstream, repeatable: bool) -> list[bytes]:
    answer = await upstream.send("a", ASK, {}, None, repeatable=repeatable)
    return [data async for data, _ in answer.messages()]


async def works(there: World, upstream: HttpUpstream) -> None:
    there.script = says(response())
    upstream.server = msgspec.structs.replace(upstream.server, patience=Patience())  # good work is not timed here
    answer = await upstream.send("a", ASK, {}, None, repeatable=False)
    assert answer.body == REPLY


# ---- garbage -----------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
GARBAGE = {
    "noise": b"\x00\xff garbage \r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "length and chunks": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": HEAD + b"content-length: -1\r\n\r\n",
    "an enormous chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "an unknown coding": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "compressed": response(REPLY, "content-encoding: gzip"),
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    "a folded header": b"HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc",
    "neither JSON nor events": response(b"<html>", media="text/html"),
    "an empty session": response(REPLY, "mcp-session-id: "),
    "a session with spaces": response(REPLY, "mcp-session-id: a b"),
    "a session too long": response(REPLY, "mcp-session-id: " + "x" * 1025),
    "two sessions": response(REPLY, "mcp-session-id: a", "mcp-session-id: b"),
}


@pytest.mark.parametrize("answer", [pytest.param(raw, id=name) for name, raw in GARBAGE.items()])
async def test_garbage_fails_its_call_and_no_other(answer: bytes) -> None:
    async with against(says(answer)) as (there, upstream):
        await fails(upstream, Code.REPLY_MALFORMED)
        await works(there, upstream)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_never_followed(status: str) -> None:
    async with world(says(response())) as other:
        redirect = response(b"", f"location: http://127.0.0.1:{other.port}/mcp", status=status)
        async with against(says(redirect)) as (there, upstream):
            assert "redirect" in await fails(upstream, Code.UPSTREAM_UNAVAILABLE, repeatable=True)
            assert len(there.seen) == 1
        assert other.seen == []


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_challenge_for_our_credential_is_not_the_caller_s(status: str) -> None:
    challenge = response(REPLY, 'www-authenticate: Bearer realm="x"', status=status)
    async with against(says(challenge)) as (_, upstream):
        assert "credential" in await fails(upstream, Code.UPSTREAM_UNAVAILABLE)


async def test_a_second_answer_to_one_question_spoils_both() -> None:
    async with against(says(response() + response())) as (there, upstream):
        await fails(upstream, Code.UPSTREAM_UNAVAILABLE)
        await works(there, upstream)
        assert [seen.connection for seen in there.seen] == [0, 1]


async def test_bytes_that_nobody_asked_for_end_a_kept_connection() -> None:
    """A server that answers ahead could have its words taken for the answer to the next, different question."""
    async with against(says(response())) as (there, upstream):
        await works(there, upstream)
        there.open[0].write(response(message(id=1, result={"content": [{"type": "text", "text": "stale"}]})))
        await there.ended[0].wait()
        await works(there, upstream)
        assert there.connections == 2


# ---- dead --------------------------------------------------------------------------------------------------------


async def test_nobody_at_the_port(free_port: int) -> None:
    upstream = World(silence).upstream(url=f"http://127.0.0.1:{free_port}/mcp")
    assert "cannot be reached" in await fails(upstream, Code.UPSTREAM_UNAVAILABLE)
    await upstream.close()


async def test_a_name_that_does_not_resolve() -> None:
    upstream = World(silence).upstream(url="http://no-such-host.invalid/mcp")
    await fails(upstream, Code.UPSTREAM_UNAVAILABLE)
    await upstream.close()


CUT = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 2",
    "half a head": HEAD,
    "half a body": response()[:-5],
    "half a chunk": chunked(REPLY, end=False)[:-5],
    "chunks without an end": chunked(REPLY, end=False),
}


@pytest.mark.parametrize("answer", [pytest.param(raw, id=name) for name, raw in CUT.items()])
async def test_an_answer_that_breaks_off_is_no_answer(answer: bytes) -> None:
    async with against(says_and_closes(answer)) as (there, upstream):
        await fails(upstream, Code.UPSTREAM_UNAVAILABLE)
        await works(there, upstream)


async def test_a_stream_that_breaks_off_has_said_what_it_said() -> None:
    async with against(says_and_closes(chunked(EVENT, EVENT, media=EVENTS, end=False))) as (_, upstream):
        answer = await upstream.send("a", ASK, {}, None, repeatable=False)
        stream = answer.messages()
        assert [await anext(stream), await anext(stream)] == [(REPLY, None), (REPLY, None)]
        with pytest.raises(Unavailable):
            await anext(stream)


async def test_the_end_of_a_stream_is_no_error() -> None:
    async with against(says(chunked(EVENT, media=EVENTS))) as (there, upstream):
        answer = await upstream.send("a", ASK, {}, None, repeatable=False)
        assert [each async for each in answer.messages()] == [(REPLY, None)]
        await answer.close()
        await works(there, upstream)
        assert there.connections == 1


# ---- slow --------------------------------------------------------------------------------------------------------


def dribbles(start: bytes, piece: bytes) -> Script:
    """Sends a piece now and then, for ever."""

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.transport.is_closing():
            writer.write(piece)
            await asyncio.sleep(0.02)

    return script


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(silence, id="no answer"),
        pytest.param(dribbles(HEAD, b"a: b\r\n"), id="a head without end"),
        pytest.param(dribbles(HEAD + b"content-length: 99999\r\n\r\n", b" "), id="a body a byte at a time"),
    ],
)
async def test_a_slow_answer_times_out(script: Script) -> None:
    async with against(script, QUICK) as (there, upstream):
        await fails(upstream, Code.UPSTREAM_TIMEOUT)
        await there.ended[0].wait()
        await works(there, upstream)


async def test_a_stream_that_falls_silent_times_out() -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(EVENT, media=EVENTS, end=False))
        await silence(seen, reader, writer)

    async with against(script, QUICK) as (_, upstream):
        await fails(upstream, Code.UPSTREAM_TIMEOUT)


async def test_a_stream_that_goes_on_does_not_time_out() -> None:
    events = 100

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(media=EVENTS, end=False))
        for _ in range(events):
            writer.write(b"%x\r\n%s\r\n" % (len(EVENT), EVENT))
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")

    patience = Patience(first_byte=0.5, total=0.5)
    async with against(script, patience) as (_, upstream):
        answer = await upstream.send("a", ASK, {}, None, repeatable=False)
        assert len([each async for each in answer.messages()]) == events


async def test_a_stream_that_begins_with_silence_does_not_time_out_as_an_answer() -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(media=EVENTS, end=False))
        await asyncio.sleep(1.0)
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(EVENT), EVENT))

    async with against(script, Patience(first_byte=0.5, total=0.5)) as (_, upstream):
        answer = await upstream.send("a", ASK, {}, None, repeatable=False)
        assert len([each async for each in answer.messages()]) == 1


async def test_a_handshake_that_never_ends_times_out() -> None:
    async with world(silence) as there:
        upstream = there.upstream(url=f"https://127.0.0.1:{there.port}/", patience=Patience(connect=0.3))
        assert "took too long" in await fails(upstream, Code.UPSTREAM_UNAVAILABLE)
        await upstream.close()


# ---- too much ----------------------------------------------------------------------------------------------------


def floods(start: bytes, piece: bytes, total: int, sent: list[int]) -> Script:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while sum(sent) < total:
            writer.write(piece)
            sent.append(len(piece))
            await writer.drain()

    return script


MUCH = 100 << 20
BLOCK = b"x" * (1 << 16)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(HEAD + b"content-length: %d\r\n\r\n" % MUCH, BLOCK, id="a body with its length"),
        pytest.param(HEAD + b"\r\n", BLOCK, id="a body without its length"),
        pytest.param(chunked(end=False), b"10000\r\n" + BLOCK + b"\r\n", id="chunks"),
        pytest.param(chunked(media=EVENTS, end=False), b"10000\r\n" + BLOCK + b"\r\n", id="one endless event"),
        pytest.param(HEAD, b"a: b\r\n" * 8192, id="a head"),
        pytest.param(HEAD + b"a: ", BLOCK, id="one header"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2048, id="interim answers"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n1", b";a=b" * 8192, id="an extension of a chunk"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 8192, id="trailers"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 8192, id="chunks of one byte"),
    ],
)
async def test_a_hundred_megabytes_are_cut_off(start: bytes, piece: bytes) -> None:
    sent: list[int] = []
    async with against(floods(start, piece, MUCH, sent)) as (there, upstream):
        await fails(upstream, Code.REPLY_TOO_LARGE)
        await there.ended[0].wait()
        assert sum(sent) < 32 << 20
        await works(there, upstream)


async def test_a_listening_stream_is_bounded_by_the_event_and_its_framing() -> None:
    sent: list[int] = []
    start = chunked(EVENT, media=EVENTS, end=False) + b"0\r\n"
    async with against(floods(start, b"a: b\r\n" * 8192, MUCH, sent)) as (_, upstream):
        answer = await upstream.listen("a", {}, None)
        with pytest.raises(Unavailable):
            async for _ in answer.messages():
                pass
        assert sum(sent) < 8 << 20


async def test_the_largest_answer_passes_and_one_byte_more_does_not() -> None:
    async with against(says(response(b" " * 1000)), bounds=Bounds(answer=1000)) as (there, upstream):
        assert (await upstream.send("a", ASK, {}, None, repeatable=False)).body == b" " * 1000
        there.script = says(response(b" " * 1001))
        await fails(upstream, Code.REPLY_TOO_LARGE)


async def test_a_stream_of_answers_is_bounded_as_a_whole_but_a_subscription_is_not() -> None:
    stream = chunked(*[EVENT] * 100, media=EVENTS)
    async with against(says(stream), bounds=Bounds(answer=1000)) as (_, upstream):
        await fails(upstream, Code.REPLY_TOO_LARGE)
        answer = await upstream.send("a", ASK, {"mcp-method": "subscriptions/listen"}, None, repeatable=False)
        assert len([each async for each in answer.messages()]) == 100


async def test_a_stream_nobody_reads_is_held_back_at_the_server() -> None:
    sent: list[int] = []
    piece = b"%x\r\n%s\r\n" % (len(EVENT) * 500, EVENT * 500)
    start = chunked(media=EVENTS, end=False)
    async with against(floods(start, piece, MUCH, sent)) as (_, upstream):
        answer = await upstream.listen("a", {}, None)
        (connection,) = upstream._connections
        await until(lambda: connection._paused)
        assert answer.queued < 1 << 20
        read = 0
        async for data, _ in answer.messages():
            read += len(data)
            if read > 4 << 20:
                break
        assert answer.queued < 1 << 20
        await answer.close()


# ---- connections that died while they were kept ------------------------------------------------------------------


def answers_then_drops(after: int, part: bytes = b"") -> Script:
    """Answers some requests, then reads one more and ends the connection, perhaps after a part of an answer."""
    count = 0

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        if count == after + 1:
            writer.write(part)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            raise ConnectionError
        writer.write(response())

    return script


async def test_what_may_be_repeated_is_asked_again_on_a_fresh_connection() -> None:
    async with against(answers_then_drops(1)) as (there, upstream):
        await upstream.send("a", ASK, {}, None, repeatable=True)
        answer = await upstream.send("a", ASK, {}, None, repeatable=True)
        assert answer.body == REPLY
        assert [seen.connection for seen in there.seen] == [0, 0, 1]


async def test_what_may_not_be_repeated_reaches_the_server_once() -> None:
    async with against(answers_then_drops(1)) as (there, upstream):
        await upstream.send("a", ASK, {}, None, repeatable=False)
        await fails(upstream, Code.UPSTREAM_UNAVAILABLE, repeatable=False)
        assert len(there.seen) == 2


async def test_nothing_is_asked_again_once_an_answer_has_begun() -> None:
    async with against(answers_then_drops(1, response()[:20])) as (there, upstream):
        await upstream.send("a", ASK, {}, None, repeatable=True)
        await fails(upstream, Code.UPSTREAM_UNAVAILABLE, repeatable=True)
        assert len(there.seen) == 2


async def test_nothing_is_asked_a_third_time() -> None:
    async with against(says(response())) as (there, upstream):
        await upstream.send("a", ASK, {}, None, repeatable=True)
        there.script = says_and_closes(b"")
        await fails(upstream, Code.UPSTREAM_UNAVAILABLE, repeatable=True)
        assert len(there.seen) == 3


async def test_a_connection_that_the_server_closed_is_not_used_at_all() -> None:
    async with against(says_and_closes(response())) as (there, upstream):
        await upstream.send("a", ASK, {}, None, repeatable=False)
        await until(lambda: not upstream._connections)
        await works(there, upstream)


async def test_a_session_that_the_server_forgot_is_lost() -> None:
    async with against(says(response(REPLY, status="404 Not Found"))) as (_, upstream):
        for ask in (upstream.send("a", ASK, {}, "s", repeatable=False), upstream.listen("a", {}, "s")):
            with pytest.raises(Refused) as caught:
                await ask
            assert caught.value.code is Code.SESSION_LOST
        assert await upstream.end("a", {}, "s") == 404
