"""The witness over HTTP: what it answers, what it remembers, and what its client makes of a stranger's answer."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from citywatch.adapters.witness import HttpWitness, WitnessApp, WitnessHeads, open_heads
from citywatch.adapters.witness import app as app_module
from citywatch.core.errors import Malformed, Unavailable
from citywatch.core.log.checkpoint import Kind, Note, parse_note, parse_signatures, verify_cosignatures
from citywatch.core.log.merkle import EMPTY_ROOT
from citywatch.core.log.witness import MAX_SUBMISSION_BYTES, Declined, Head, Submission, format_submission
from citywatch.service.ports import Cosigned, WitnessedSize, WitnessRefused
from tests.log_city import HonestWitness, World
from tests.log_world import LOG, ORIGIN, WITNESS, WITNESS_PRIVATE, head_of, leaves, note_key, signed
from tests.witness_process import OwnKey


class StillClock:
    def now_ms(self) -> int:
        return 1_763_800_000_999


@pytest.fixture
def heads(tmp_path: Path) -> WitnessHeads:
    return open_heads(tmp_path / "heads.db")


@pytest.fixture
def app(heads: WitnessHeads) -> WitnessApp:
    return witness_over(heads)


def witness_over(heads: WitnessHeads) -> WitnessApp:
    return WitnessApp(key=WITNESS, signer=OwnKey(WITNESS_PRIVATE), logs=[LOG], heads=heads, clock=StillClock())


Answered = tuple[int, str, bytes]


async def ask(
    app: WitnessApp, body: bytes, *, path: str = "/add-checkpoint", method: str = "POST", pieces: int = 1
) -> Answered:
    step = -(-len(body) // pieces) or 1
    parts = [body[i : i + step] for i in range(0, len(body), step)] or [b""]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "path": path, "method": method}, receive, send)
    start, end = sent
    headers = dict(start["headers"])
    assert int(headers[b"content-length"]) == len(end["body"])
    return start["status"], headers[b"content-type"].decode(), end["body"]


def add(old: int, size: int, *proof: bytes) -> bytes:
    return format_submission(Submission(old, proof, head_of(leaves(size))))


async def test_a_log_that_grew_is_cosigned_with_the_time_after_its_head_is_on_the_disk(
    app: WitnessApp, heads: WitnessHeads, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = parse_note(head_of(leaves(1)))
    sign = app._signer.sign
    seen: list[int] = []

    def after(message: bytes) -> bytes:
        seen.append(heads.get(ORIGIN).size)
        return sign(message)

    monkeypatch.setattr(app._signer, "sign", after)
    status, _, body = await ask(app, add(0, 1), pieces=7)
    assert status == 200, body
    (cosigned,) = verify_cosignatures(Note(note.text, parse_signatures(body.decode())), [WITNESS])
    assert (cosigned.witness, cosigned.time, seen) == (WITNESS.name, 1_763_800_000, [1])


async def test_the_statuses_are_those_of_the_specification(app: WitnessApp) -> None:
    assert (await ask(app, add(0, 5)))[0] == 200
    assert await ask(app, add(0, 6)) == (409, "text/x.tlog.size", b"5\n")
    assert (await ask(app, add(5, 6)))[0] == 422
    assert (await ask(app, add(7, 6)))[0] == 400
    assert (await ask(app, format_submission(Submission(5, (), signed(5, bytes(32))))))[:2] == (409, "text/x.tlog.size")
    assert (await ask(app, add(5, 5)))[0] == 200
    other = format_submission(Submission(0, (), signed(5, bytes(32), origin="other.example/log")))
    assert (await ask(app, other))[0] == 404
    forged = add(5, 5).replace(b"\n5\n", b"\n6\n")
    assert (await ask(app, forged))[0] == 403
    for body in (b"", b"nonsense", b"old 5\n\n", b"old 5\n\n\xff", b"old 5\n\nnote\n"):
        assert (await ask(app, body))[0] == 400
    assert (await ask(app, b"", path="/"))[0] == 404
    assert (await ask(app, b"", method="GET"))[0] == 405
    assert (await ask(app, b"x" * (MAX_SUBMISSION_BYTES + 1), pieces=3))[0] == 413


async def test_it_remembers_across_restarts(app: WitnessApp, heads: WitnessHeads, tmp_path: Path) -> None:
    assert (await ask(app, add(0, 5)))[0] == 200
    again = witness_over(open_heads(tmp_path / "heads.db"))
    assert await ask(again, add(0, 3)) == (409, "text/x.tlog.size", b"5\n")
    assert (tmp_path / "heads.db").stat().st_mode & 0o077 == 0


async def test_a_refused_head_is_not_remembered(app: WitnessApp, heads: WitnessHeads) -> None:
    for body in (add(1, 5), add(0, 5).replace(b"\n5\n", b"\n6\n")):
        assert (await ask(app, body))[0] != 200
    assert heads.get(ORIGIN) == Head(0, EMPTY_ROOT)


async def test_many_requests_at_once_are_judged_one_after_the_other(app: WitnessApp, heads: WitnessHeads) -> None:
    """Without one transaction, a smaller head could overwrite a larger: the race that the specification spells out."""
    answers = await asyncio.gather(*(ask(app, add(0, size)) for size in range(1, 20)))
    assert sorted(status for status, _, _ in answers) == [200] + [409] * 18
    (won,) = [i + 1 for i, (status, _, _) in enumerate(answers) if status == 200]
    assert heads.get(ORIGIN).size == won


def _compete(path: str, barrier: Barrier, wins: Any) -> None:
    heads = WitnessHeads(Path(path))
    for turn in range(1, 101):

        def judge(seen: Head, turn: int = turn) -> tuple[Head, None] | Declined:
            return (Head(turn, bytes(32)), None) if seen.size < turn else Declined(409, "", seen.size)

        barrier.wait()
        if heads.replace("log", judge) is None:
            with wins.get_lock():
                wins[turn] += 1


def test_two_processes_that_race_for_each_size_have_one_winner(heads: WitnessHeads, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, wins = context.Barrier(2), context.Array("i", 101)
    arguments = (str(tmp_path / "heads.db"), barrier, wins)
    children = [context.Process(target=_compete, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    assert [wins[turn] for turn in range(1, 101)] == [1] * 100


def test_the_memory_itself_refuses_to_go_back(heads: WitnessHeads) -> None:
    """A second line, behind the judgement."""
    heads.replace("log", lambda seen: (Head(5, bytes(32)), None))
    for head in (Head(4, bytes(32)), Head(5, bytes([1]) * 32)):
        with pytest.raises(AssertionError, match="go back"):
            heads.replace("log", lambda seen, head=head: (head, None))  # type: ignore[misc]
    heads.replace("log", lambda seen: (Head(5, bytes(32)), None))
    assert heads.get("log") == Head(5, bytes(32))
    assert heads.get("other") == Head()


async def test_a_memory_that_is_away_or_damaged_cosigns_nothing(
    app: WitnessApp, heads: WitnessHeads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citywatch.adapters.witness.heads.WAIT_S", 0.01)
    blocker = sqlite3.connect(tmp_path / "heads.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert (await ask(app, add(0, 5)))[0] == 503
    blocker.close()
    (tmp_path / "heads.db").write_bytes(b"nonsense" * 1000)
    status, _, body = await ask(app, add(0, 5))
    assert (status, b"cosign" in body) == (503, False)
    with pytest.raises(Unavailable):
        open_heads(tmp_path / "absent" / "heads.db")


async def test_a_key_that_will_not_sign_answers_with_nothing(app: WitnessApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(message: bytes) -> bytes:
        raise RuntimeError("secret text")

    monkeypatch.setattr(app._signer, "sign", broken)
    assert await ask(app, add(0, 5)) == (500, "text/plain; charset=utf-8", b"the witness failed\n")


async def test_a_request_that_never_ends_is_cut(app: WitnessApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "BODY_TIME_S", 0.0)
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "path": "/add-checkpoint", "method": "POST"}, receive, send)
    assert sent[0]["status"] == 408


def test_a_witness_without_logs_or_with_keys_of_the_wrong_kind_does_not_start(heads: WitnessHeads) -> None:
    as_log = note_key(WITNESS.name, Kind.LOG, WITNESS_PRIVATE)
    for key, logs in ((WITNESS, []), (as_log, [LOG]), (WITNESS, [LOG, WITNESS])):
        with pytest.raises(Malformed):
            WitnessApp(key=key, signer=OwnKey(WITNESS_PRIVATE), logs=logs, heads=heads, clock=StillClock())


# --- the client -----------------------------------------------------------------------------------------------------

Handler = Callable[[bytes], Awaitable[bytes] | bytes]


@asynccontextmanager
async def stranger(answer: bytes, *, close: bool = True) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that reads one request and answers with these bytes, whatever they are."""
    requests: list[bytes] = []
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        requests.append(head + await reader.readexactly(length))
        writer.write(answer)
        if not close:
            await release.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    finally:
        release.set()
        server.close()
        await server.wait_closed()


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_the_request_is_one_post_below_the_prefix() -> None:
    async with stranger(http("200 OK", b"lines\n")) as (url, requests):
        answer = await HttpWitness(f"{url}/prefix/", timeout_s=5).add_checkpoint(3, [bytes(32)], b"note\n")
    assert answer == Cosigned(b"lines\n")
    (request,) = requests
    assert request.startswith(b"POST /prefix/add-checkpoint HTTP/1.0\r\nHost: 127.0.0.1:")
    assert request.endswith(b"\r\n\r\nold 3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nnote\n")


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (http("409 Conflict", b"17\n", "Content-Type: text/x.tlog.size"), WitnessedSize(17)),
        (b"HTTP/1.0 200 OK\r\n\r\nlines\n", Cosigned(b"lines\n")),
        (http("409 Conflict", b"no\n"), WitnessRefused("status 409, no")),
        (http("409 Conflict", b"-1\n"), WitnessRefused("status 409, -1")),
        (http("422 Unprocessable", b"\x1b[2Jbad\nmore"), WitnessRefused("status 422, \\x1b[2Jbad")),
    ],
)
async def test_answers_in_the_ports_words(answer: bytes, meaning: object) -> None:
    async with stranger(answer) as (url, _):
        assert await HttpWitness(url, timeout_s=5).add_checkpoint(0, [], b"note") == meaning


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut off",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000,
        http("400 Bad Request", b"no"),
        http("403 Forbidden", b"no"),
        http("404 Not Found", b"no"),
        http("301 Moved", b"", "Location: http://127.0.0.1:1/"),
        http("500 Oops", b"5\n"),
        http("204 No Content", b""),
    ],
    ids=lambda answer: repr(answer[:30]),
)
async def test_what_makes_no_sense_is_unavailable(answer: bytes) -> None:
    async with stranger(answer) as (url, requests):
        with pytest.raises(Unavailable):
            await HttpWitness(url, timeout_s=5).add_checkpoint(0, [], b"note")
        assert len(requests) == 1


async def test_a_witness_that_hangs_or_is_not_there_is_unavailable(free_port: int) -> None:
    async with stranger(b"HTTP/1.1 200 OK\r\n", close=False) as (url, _):
        with pytest.raises(Unavailable, match="in time"):
            await HttpWitness(url, timeout_s=0.2).add_checkpoint(0, [], b"note")
    with pytest.raises(Unavailable):
        await HttpWitness(f"http://127.0.0.1:{free_port}", timeout_s=5).add_checkpoint(0, [], b"note")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "witness.example",
        "ftp://witness.example",
        "http://",
        "http://a b/",
        "http://host:99999",
        "http://host:x",
        "http://user@host/",
        "http://host/?q",
        "http://host/#f",
        "http://host/\r\nX: y",
        "http://hôst/",
    ],
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(Malformed):
        HttpWitness(url, timeout_s=1)


async def test_the_app_and_the_honest_fake_answer_alike(app: WitnessApp, tmp_path: Path) -> None:
    """The fake that the publisher's tests rely on behaves as the real one."""
    world = World(tmp_path / "log")
    await world.append(5)
    await world.publisher().publish()
    fake = HonestWitness(0)
    note = (world.root / "checkpoint").read_bytes()
    for old, proof in ((0, ()), (0, ()), (5, ()), (5, (bytes(32),))):
        status, _, body = await ask(app, format_submission(Submission(old, proof, note)))
        expected = {200: Cosigned, 409: WitnessedSize, 422: WitnessRefused}[status]
        result = await fake.add_checkpoint(old, proof, note)
        assert type(result) is expected
        if isinstance(result, WitnessedSize):
            assert body == b"%d\n" % result.size
