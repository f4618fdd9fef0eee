"""Programs as servers that die, babble, hang and cheat: only their caller's calls fail, and nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from citywatch.adapters.upstream import Bounds, Patience, StdioServer, StdioUpstream
from citywatch.adapters.upstream.child import Child
from citywatch.adapters.upstream.stdio import StdioAnswer
from citywatch.core.errors import Code, Refused, Unavailable
from tests.upstream_world import gone, message, unseen_errors, until

PROGRAM = (sys.executable, "-I", "-S", str(Path(__file__).parents[1] / "stdio_program.py"))
BOUNDS = Bounds(answer=1 << 20, per_caller=4, in_all=6, kept=600)
INITIALIZE: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "t", "version": "1"},
}


@pytest.fixture(autouse=True)
def nothing_fails_behind_our_back(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An error in one of the loop's callbacks is only logged: here it fails the test."""
    yield
    assert not unseen_errors(caplog)


@asynccontextmanager
async def program(**settings: Any) -> AsyncIterator[StdioUpstream]:
    given: dict[str, Any] = {"command": PROGRAM, "env": {}, "cwd": "/", "bounds": BOUNDS, "unsafe_same_user": True}
    upstream = StdioUpstream(StdioServer(name="world", **(given | settings)))
    try:
        yield upstream
    finally:
        await upstream.close()
        assert not upstream._programs
        assert not upstream._sessions
        assert not upstream._stateless
        assert not upstream._starting


async def ask(
    upstream: StdioUpstream, method: str, caller: str = "a", session: str | None = None, id: Any = 1, **params: Any
) -> StdioAnswer:
    body = message(id=id, method=method, params=params)
    return await upstream.send(caller, body, {}, session, repeatable=False)


async def told(
    upstream: StdioUpstream, method: str, caller: str = "a", session: str | None = None, **params: Any
) -> Any:
    answer = await ask(upstream, method, caller, session, **params)
    assert answer.body is not None, answer.media
    return json.loads(answer.body)["result"]


async def begin(upstream: StdioUpstream, caller: str = "a") -> str:
    answer = await ask(upstream, "initialize", caller, **INITIALIZE)
    assert answer.session is not None
    return answer.session


async def fails(code: Code, upstream: StdioUpstream, method: str, **more: Any) -> str:
    with pytest.raises(Unavailable) as caught:
        await ask(upstream, method, **more)
    assert caught.value.code is code
    return str(caught.value)


# ---- whose program -----------------------------------------------------------------------------------------------


async def test_a_program_serves_one_caller_and_one_session() -> None:
    async with program() as upstream:
        one, other = await begin(upstream), await begin(upstream)
        third = await begin(upstream, "b")
        pids = [
            (await told(upstream, "who"))["pid"],
            (await told(upstream, "who", "b"))["pid"],
            (await told(upstream, "who", "a", one))["pid"],
            (await told(upstream, "who", "a", other))["pid"],
            (await told(upstream, "who", "b", third))["pid"],
        ]
        assert len(set(pids)) == 5
        assert (await told(upstream, "who"))["pid"] == pids[0]
        assert (await told(upstream, "who", "a", one))["pid"] == pids[2]


async def test_a_session_of_another_caller_does_not_exist() -> None:
    async with program() as upstream:
        session = await begin(upstream)
        body = message(id=1, method="x")
        for attempt in (
            upstream.send("b", body, {}, session, repeatable=True),
            upstream.send("b", message(method="notifications/initialized"), {}, session, repeatable=True),
            upstream.send("b", message(id=1, result={}), {}, session, repeatable=True),
            upstream.listen("b", {}, session),
        ):
            with pytest.raises(Refused) as caught:
                await attempt
            assert caught.value.code is Code.SESSION_LOST
        assert await upstream.end("b", {}, session) == 404
        await told(upstream, "who", "a", session)


async def test_an_ended_session_is_lost_and_its_program_gone() -> None:
    async with program() as upstream:
        session = await begin(upstream)
        found = await told(upstream, "leave a child", "a", session)
        assert await upstream.end("a", {}, session) == 200
        await until(lambda: gone(found["pid"]) and gone(found["child"]))
        with pytest.raises(Refused):
            await ask(upstream, "x", "a", session)
        assert await upstream.end("a", {}, session) == 404


async def test_a_session_that_the_server_refuses_does_not_begin() -> None:
    script = """read line; echo '{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}'; sleep 3600"""
    async with program(command=("/bin/sh", "-c", script)) as upstream:
        answer = await ask(upstream, "initialize", **INITIALIZE)
        assert answer.session is None
        assert b"error" in (answer.body or b"")
        assert not upstream._sessions
        await until(lambda: not upstream._programs)


async def test_many_calls_at_once_get_their_own_answers() -> None:
    async with program() as upstream:
        calls = [told(upstream, "hold", of=50, me=number, id=7) for number in range(50)]
        assert [result["me"] for result in await asyncio.gather(*calls)] == list(range(50))


# ---- what a program gets -----------------------------------------------------------------------------------------


async def test_a_program_gets_what_is_configured_and_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CW_TEST_SECRET", "ours")
    (tmp_path / "open").touch()
    with (tmp_path / "open").open() as ours:
        os.set_inheritable(ours.fileno(), True)
        async with program(env={"GIVEN": "yes"}, cwd=str(tmp_path)) as upstream:
            found = await told(upstream, "who")
    # Python sets LC_CTYPE for itself where no locale is given.
    assert {key: value for key, value in found["env"].items() if key != "LC_CTYPE"} == {"GIVEN": "yes"}
    assert found["cwd"] == str(tmp_path)
    assert found["descriptors"] == ["0", "1", "2", "3"]  # the last one is the listing's own
    assert found["leads"] is True


async def test_what_a_program_writes_to_stderr_is_kept_within_bounds_and_goes_nowhere() -> None:
    script = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo last >&2; read line; exit 1"
    async with program(command=("/bin/sh", "-c", script), env={"PATH": os.defpath}) as upstream:
        task = asyncio.create_task(fails(Code.UPSTREAM_UNAVAILABLE, upstream, "x"))
        await until(lambda: bool(upstream._programs))
        (running,) = upstream._programs
        assert "xxx" not in await task
        assert running.child is not None
        await running.child.reaped()
        assert running.child.last_words.endswith(b"last\n")
        assert len(running.child.last_words) <= 8 * 1024


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"command": ("/no/such/program",)}, "no program"),
        ({"command": ("no-such-program",)}, "no program"),
        ({"command": ("/etc/passwd",)}, "no program"),
        ({"cwd": "/no/such/place"}, "does not start"),
        ({"cwd": "relative"}, "not an absolute path"),
        ({"unsafe_same_user": False}, "unsafe_same_user"),
        ({"user": "root", "unsafe_same_user": False}, "root"),
        ({"user": "no-such-user", "unsafe_same_user": False}, "no user"),
        ({"user": "nobody"}, "sets `unsafe_same_user`"),
    ],
)
async def test_why_a_program_cannot_start_the_operator_is_told_and_nobody_else(
    settings: dict[str, Any], why: str
) -> None:
    async with program(**settings) as upstream:
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                await ask(upstream, "x")
            assert why in caught.value.operator
            assert str(caught.value) == caught.value.detail == "`world` is not started"


async def test_a_program_found_by_a_relative_path_is_found_from_its_own_directory(tmp_path: Path) -> None:
    (tmp_path / "run").write_text('#!/bin/sh\nread line; echo \'{"jsonrpc":"2.0","id":1,"result":{}}\'; read line\n')
    (tmp_path / "run").chmod(0o700)
    async with program(command=("./run",), cwd=str(tmp_path)) as upstream:
        assert await told(upstream, "x") == {}


# ---- dying -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["die", "break off", "close output"])
async def test_a_program_that_ends_fails_its_calls_and_the_next_call_starts_another(method: str) -> None:
    async with program() as upstream:
        await told(upstream, "x", "b")
        (before,) = upstream._programs
        waiting = asyncio.create_task(ask(upstream, "silence"))
        await until(lambda: len(upstream._programs) == 2)
        await fails(Code.UPSTREAM_UNAVAILABLE, upstream, method)
        with pytest.raises(Unavailable):
            await waiting
        await told(upstream, "x")
        await told(upstream, "x", "b")
        assert before in upstream._programs


async def test_a_session_dies_with_its_program() -> None:
    async with program() as upstream:
        session = await begin(upstream)
        await fails(Code.UPSTREAM_UNAVAILABLE, upstream, "die", session=session)
        with pytest.raises(Refused) as caught:
            await ask(upstream, "x", session=session)
        assert caught.value.code is Code.SESSION_LOST


async def test_a_program_that_left_its_pipes_to_a_child_has_ended_all_the_same() -> None:
    async with program() as upstream:
        await fails(Code.UPSTREAM_UNAVAILABLE, upstream, "leave a child and go")
        await told(upstream, "x")


async def test_a_program_that_does_nothing_but_end_is_not_started_for_ever() -> None:
    async with program(command=("/bin/true",)) as upstream:
        for _ in range(30):
            await fails(Code.UPSTREAM_UNAVAILABLE, upstream, "x")
        assert "too often" in await fails(Code.OVERLOADED, upstream, "x")


# ---- babbling ----------------------------------------------------------------------------------------------------

GOOD = '{"jsonrpc":"2.0","id":$ID,"result":{}}'


@pytest.mark.parametrize(
    "lines",
    [
        ["hello, I am a server"],
        ["{}"],
        ["[" + GOOD + "]"],
        ['{"jsonrpc":"2.0","id":$ID,"result":{},"result":{}}'],
        ['{"jsonrpc":"2.0","id":$ID,"result":{"a":NaN}}'],
        ["[" * 100_000],
        ['{"jsonrpc":"2.0","id":$ID,"result":[]}'],
        [GOOD.replace("{}", '{"a":"\\ud800"}')],
    ],
)
async def test_a_line_that_is_no_message_ends_the_program(lines: list[str]) -> None:
    async with program() as upstream:
        await told(upstream, "x", "b")
        await fails(Code.REPLY_MALFORMED, upstream, "say", lines=lines)
        await told(upstream, "x")
        assert len(upstream._starts["b"]) == 1


@pytest.mark.parametrize("line", ["", " " * 100, "\r"])
async def test_a_program_that_writes_empty_lines_for_ever_is_stopped(line: str) -> None:
    async with program() as upstream:
        said = await fails(Code.REPLY_MALFORMED, upstream, "flood", line=line)
        assert "empty lines" in said


async def test_an_empty_line_after_each_message_is_nothing() -> None:
    async with program() as upstream:
        for _ in range(3):
            lines = [*([""] * 1500), '{"jsonrpc":"2.0","id":$ID,"result":{}}', ""]
            assert await told(upstream, "say", lines=lines) == {}


async def test_a_line_in_small_pieces_costs_no_more_than_its_size() -> None:
    """Forty times as much, once, for a program that writes byte by byte."""
    piped = subprocess.PIPE
    process = subprocess.Popen(["/bin/cat"], stdin=piped, stdout=piped, stderr=piped, start_new_session=True)
    lines: list[bytes] = []
    child = Child(process, 1 << 20, lines.append, lambda failure: None)
    tracemalloc.start()
    try:
        for _ in range(500_000):
            child._take_output(bytes(bytearray(b"x")))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        child._take_output(b"\n")
        child.end(Unavailable(Code.DRAINING))
        await child.reaped()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    assert kept < 2 * 500_000
    assert lines == [b"x" * 500_000]


async def test_empty_lines_are_nothing() -> None:
    async with program() as upstream:
        assert await told(upstream, "say", lines=["", "  ", GOOD]) == {}


async def test_a_line_of_a_hundred_megabytes_ends_the_program() -> None:
    async with program() as upstream:
        await fails(Code.REPLY_TOO_LARGE, upstream, "long line", megabytes=100)
        await told(upstream, "x")


@pytest.mark.parametrize(
    "line",
    [
        {"jsonrpc": "2.0", "id": 999, "result": {}},
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 999, "progress": 1}},
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 1000}},
        {"jsonrpc": "2.0", "id": 1, "method": "roots/list"},
    ],
)
async def test_a_program_that_floods_is_ended(line: dict[str, Any]) -> None:
    async with program() as upstream:
        # A second call in flight, so that what names no call belongs to none.
        others = [asyncio.create_task(ask(upstream, method, line=line)) for method in ("silence", "flood")]
        for other in others:
            with pytest.raises(Unavailable) as caught:
                await other
            assert caught.value.code is Code.REPLY_MALFORMED
        await told(upstream, "x", "b")


async def test_a_flood_in_answer_to_a_call_is_held_back_while_nobody_reads() -> None:
    line = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 100}}
    async with program() as upstream:
        answer = await ask(upstream, "flood", line=line)
        assert answer.media == "sse"
        (running,) = upstream._programs
        assert running.talk is not None
        valve = running.talk._valve
        await until(lambda: valve.shut_since is not None)
        assert valve._bytes < 2 << 20
        stream = answer.messages()
        for _ in range(5000):
            await anext(stream)
        assert valve._bytes < 2 << 20
        await told(upstream, "x", "b")
        await answer.close()


async def test_answers_nobody_asked_for_change_nothing() -> None:
    async with program() as upstream:
        waiting = asyncio.create_task(told(upstream, "hold", of=2, me="first"))
        await until(lambda: bool(upstream._programs))
        lines = [json.dumps({"jsonrpc": "2.0", "id": number, "result": {"forged": True}}) for number in range(50, 90)]
        assert await told(upstream, "say", lines=[*lines, GOOD, GOOD]) == {}
        assert await told(upstream, "hold", of=2, me="second") == {"me": "second"}
        assert await waiting == {"me": "first"}


# ---- hanging -----------------------------------------------------------------------------------------------------


async def test_a_call_without_an_answer_times_out_alone() -> None:
    async with program() as upstream:
        await told(upstream, "x")
        (running,) = upstream._programs
        assert running.talk is not None
        running.talk._patience = Patience(first_byte=0.2)  # only now: that a program takes time to start is no finding
        await fails(Code.UPSTREAM_TIMEOUT, upstream, "silence")
        running.talk._patience = Patience()
        await told(upstream, "x")
        heard = (await told(upstream, "heard"))["heard"]
        assert [line["method"] for line in heard] == ["x", "silence", "notifications/cancelled", "x"]
        assert heard[2]["params"]["requestId"] == heard[1]["id"]


async def test_a_program_that_stops_reading_takes_no_more_than_its_bound() -> None:
    async with program(bounds=Bounds(answer=4 << 20)) as upstream:
        await told(upstream, "deaf")
        calls = [asyncio.create_task(ask(upstream, "x", much="x" * (2 << 20))) for _ in range(8)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
        assert all(isinstance(call.exception(), Unavailable) for call in done)
        assert len(waiting) <= 6
        await told(upstream, "x", "b")
        await upstream.close()
        await asyncio.wait(calls)
        assert all(isinstance(call.exception(), Unavailable) for call in calls)


async def test_an_unused_program_is_ended() -> None:
    async with program(bounds=Bounds(per_caller=4, in_all=4, kept=0.5)) as upstream:
        session = await begin(upstream)
        await told(upstream, "x", "b")
        await until(lambda: not upstream._programs)
        with pytest.raises(Refused):
            await ask(upstream, "x", session=session)
        await told(upstream, "x", "b")


async def test_a_program_that_ignores_the_end_of_its_input_is_killed() -> None:
    script = """trap '' TERM HUP; read line; echo '{"jsonrpc":"2.0","id":1,"result":{}}'; exec sleep 3600"""
    async with program(command=("/bin/sh", "-c", script), env={"PATH": os.defpath}) as upstream:
        await told(upstream, "x")
        (running,) = upstream._programs
        assert running.child is not None
        pid = running.child._process.pid
        await upstream.close()
        assert gone(pid)


# ---- too many ----------------------------------------------------------------------------------------------------


async def test_a_caller_has_only_so_many_sessions_and_others_have_theirs() -> None:
    async with program(bounds=Bounds(per_caller=2, in_all=3)) as upstream:
        sessions = [await begin(upstream) for _ in range(2)]
        assert "too many sessions" in await fails(Code.OVERLOADED, upstream, "initialize", **INITIALIZE)
        await told(upstream, "x", "b")
        # An idle program without a session makes room; those with one do not.
        sessions.append(await begin(upstream, "c"))
        assert "too many programs" in await fails(Code.OVERLOADED, upstream, "x", caller="d")
        assert len(upstream._programs) == 3
        await upstream.end("a", {}, sessions[0])
        await told(upstream, "x", "d")


async def test_many_first_calls_start_one_program() -> None:
    async with program() as upstream:
        found = await asyncio.gather(*(told(upstream, "who") for _ in range(10)))
        assert len({one["pid"] for one in found}) == 1


async def test_a_caller_that_goes_away_while_its_session_begins_leaves_no_program() -> None:
    async with program() as upstream:
        for _ in range(3):
            call = asyncio.create_task(ask(upstream, "initialize", **INITIALIZE))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await until(lambda: not upstream._programs and not upstream._starting)


async def test_a_caller_that_goes_away_during_initialize_leaves_no_program() -> None:
    async with program(command=("/bin/sh", "-c", "sleep 3600"), env={"PATH": os.defpath}) as upstream:
        call = asyncio.create_task(ask(upstream, "initialize", **INITIALIZE))
        await until(lambda: any(one.talk is not None and one.talk.busy for one in upstream._programs))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: not upstream._programs)


async def test_closing_kills_everything_and_fails_everything() -> None:
    async with program() as upstream:
        session = await begin(upstream)
        found = await told(upstream, "leave a child", "a", session)
        listening = await upstream.listen("a", {}, session)
        waiting = asyncio.create_task(ask(upstream, "silence", "a", session))
        await until(lambda: any(one.talk is not None and one.talk._calls for one in upstream._programs))
        await upstream.close()
        assert gone(found["pid"])
        await until(lambda: gone(found["child"]))
        with pytest.raises(Unavailable):
            await waiting
        assert [each async for each in listening.messages()] == []
        assert "draining" in await fails(Code.DRAINING, upstream, "x")


# ---- both directions ---------------------------------------------------------------------------------------------


async def test_a_server_asks_its_agent_in_the_middle_of_a_call() -> None:
    async with program() as upstream:
        session = await begin(upstream)
        lines = ['{"jsonrpc":"2.0","id":"q","method":"roots/list"}']
        answer = await ask(upstream, "say", "a", session, lines=lines, id="mine")
        stream = answer.messages()
        question, _ = await anext(stream)
        assert json.loads(question) == {"jsonrpc": "2.0", "id": "q", "method": "roots/list"}
        reply = message(id="q", result={"roots": []})
        assert (await upstream.send("a", reply, {}, session, repeatable=False)).status == 202
        with pytest.raises(Refused):
            await upstream.send("a", reply, {}, session, repeatable=False)
        heard = (await told(upstream, "heard", "a", session))["heard"]
        assert heard[-1] == {"jsonrpc": "2.0", "id": "q", "result": {"roots": []}}
        await answer.close()


async def test_what_a_server_says_unasked_reaches_whoever_listens() -> None:
    async with program() as upstream:
        session = await begin(upstream)
        listening = await upstream.listen("a", {}, session)
        assert (listening.status, listening.media) == (200, "sse")
        assert (await upstream.listen("a", {}, session)).status == 409
        holding = asyncio.create_task(ask(upstream, "silence", "a", session))
        lines = ['{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}', GOOD]
        await until(lambda: bool(upstream._sessions["a", session].talk._calls))  # type: ignore[union-attr]
        assert await told(upstream, "say", "a", session, lines=lines) == {}
        body, event_id = await anext(listening.messages())
        assert json.loads(body)["method"] == "notifications/tools/list_changed"
        assert event_id is None
        await listening.close()
        holding.cancel()
        assert (await upstream.listen("a", {}, session)).status == 200


async def test_without_a_session_there_is_nothing_to_listen_to_and_nobody_to_tell() -> None:
    async with program() as upstream:
        assert (await upstream.listen("a", {}, None)).status == 405
        told_nobody = await upstream.send("a", message(method="notifications/x"), {}, None, repeatable=True)
        assert (told_nobody.status, told_nobody.media) == (202, "none")
        assert not upstream._programs
