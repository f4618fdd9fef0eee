"""Clients that are slow, vanish, smuggle, pipeline or flood: each gets its answer, and the gateway works on."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.e2e.gateway.desk import Desk, listens, wait_for
from tests.fault.test_killed_gateway import MODERN, ask

TIMEOUT_S = 30


@pytest.fixture
def open_desk(ready_desk: Desk) -> Iterator[tuple[Desk, str]]:
    ready_desk.up()
    yield ready_desk, ready_desk.token()
    assert ready_desk.process is not None
    assert ready_desk.process.poll() is None, "the gateway died"


@pytest.fixture
def narrow_desk(ready_desk: Desk) -> Iterator[tuple[Desk, str]]:
    """A gateway that puts up with little."""
    file = ready_desk.folder / "citywatch.yaml"
    before = file.read_text()
    file.write_text(before + "limits: {connections: 16, max_in_flight: 2, body_time: 3s, header_time: 1m}\n")
    try:
        ready_desk.up()
        yield ready_desk, ready_desk.token()
    finally:
        ready_desk.down()
        file.write_text(before)


def connect(desk: Desk) -> socket.socket:
    return socket.create_connection(("127.0.0.1", desk.port), timeout=TIMEOUT_S)


def exchange(desk: Desk, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send raw bytes on one connection and read until the gateway closes it or has nothing more to say."""
    with closing(connect(desk)) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(pause)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


def head(token: str, length: int, *extra: str) -> bytes:
    lines = [
        "POST /mcp/desk HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"MCP-Protocol-Version: {MODERN}",
        "Mcp-Method: tools/call",
        "Mcp-Name: look",
        f"Content-Length: {length}",
        *extra,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def body(name: str = "look", arguments: str = "{}") -> bytes:
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params = f'{{"name":"{name}","arguments":{arguments},"_meta":{json.dumps(meta)}}}'
    return f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'.encode()


def status(received: bytes) -> int:
    assert received.startswith(b"HTTP/1.1 "), received[:80]
    return int(received[9:12])


CLOSE = "Connection: close"


def test_every_hostile_request_is_refused_and_honest_work_goes_on(open_desk: tuple[Desk, str]) -> None:
    desk, token = open_desk
    many = "\r\n".join(f"X-{number}: y" for number in range(10_000))
    deep = '{"a":' * 100 + "1" + "}" * 100
    refused = {
        "ten thousand headers": ([head(token, 0, many)], 431),
        "one endless header": ([b"GET / HTTP/1.1\r\nX: " + b"y" * 2_000_000], 431),
        "an endless target": ([b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\n\r\n"], 414),
        "no HTTP at all": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400),
        "two lengths": ([head(token, 5, "Content-Length: 6"), b"{}"], 400),
        "length and chunks": ([head(token, 5, "Transfer-Encoding: chunked"), b"0\r\n\r\n"], 400),
        "no host": ([b"GET /citywatch/health HTTP/1.1\r\nConnection: close\r\n\r\n"], 403),
        "another host": ([b"GET /citywatch/health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"], 403),
        "another origin": ([head(token, 2, "Origin: http://evil.example", CLOSE), b"{}"], 403),
        "no credential": ([head(token, 2, CLOSE).replace(b"Authorization", b"X-Authorization"), b"{}"], 401),
        "a forged credential": ([head(token[:-6] + "AAAAAA", 2, CLOSE), b"{}"], 401),
        "two credentials": ([head(token, 2, f"Authorization: Bearer {token}", CLOSE), b"{}"], 401),
        "not JSON": ([head(token, 4, CLOSE), b"{{}}"], 400),
        "a double key": ([head(token, len(body()) + 11, CLOSE), body()[:-1] + b',"id":"two"}'], 400),
        "a batch": ([head(token, len(body()) + 2, CLOSE), b"[" + body() + b"]"], 400),
        "too deep": ([head(token, len(body(arguments=deep)), CLOSE), body(arguments=deep)], 400),
        "another name in the header": ([head(token, len(body("pay")), CLOSE), body("pay")], 400),
        "too large": ([head(token, 5_000_000, CLOSE), b" " * 5_000_000], 400),
    }
    for name, (pieces, expected) in refused.items():
        assert status(exchange(desk, *pieces)) == expected, name
        answer = ask(desk, token, "look", {})
        assert answer is not None, name
        assert "isError" not in answer["result"] or not answer["result"]["isError"], name
    assert desk.ledger() == []


def test_half_a_header_is_closed_in_time(open_desk: tuple[Desk, str]) -> None:
    desk, _ = open_desk
    assert status(exchange(desk, b"GET /citywatch/health HTT")) == 408


def test_half_a_body_is_answered_in_time(narrow_desk: tuple[Desk, str]) -> None:
    desk, token = narrow_desk
    assert status(exchange(desk, head(token, len(body())) + body()[:-1])) == 408
    assert ask(desk, token, "look", {}) is not None


def test_idle_connections_keep_nobody_out_and_are_not_all_held(narrow_desk: tuple[Desk, str]) -> None:
    desk, token = narrow_desk
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(connect(desk))) for _ in range(17)]
        answer = ask(desk, token, "look", {})
        assert answer is not None
        assert "looked" in json.dumps(answer)
        assert idle[0].recv(1) == b"", "whoever waited longest made room"


def test_more_calls_than_can_be_worked_on_are_told_to_come_again(narrow_desk: tuple[Desk, str]) -> None:
    desk, token = narrow_desk
    request = body("nap", '{"seconds":60}')
    asked = head(token, len(request)).replace(b"Mcp-Name: look", b"Mcp-Name: nap") + request
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(closing(connect(desk))).sendall(asked)
        wait_for(lambda: allowed_naps(desk) == 2, "both calls to be let through")
        received = exchange(desk, head(token, len(body()), CLOSE) + body())
        assert status(received) == 503
        assert b'"overloaded"' in received
    wait_for(lambda: b"looked" in exchange(desk, head(token, len(body()), CLOSE) + body()), "their places to be free")


def allowed_naps(desk: Desk) -> int:
    return sum(event["type"] == "decided" and event["name"] == "nap" for event in desk.events())


def test_of_requests_sent_ahead_the_first_is_answered_and_the_rest_is_nobodys(open_desk: tuple[Desk, str]) -> None:
    desk, token = open_desk
    one = head(token, len(body())) + body()
    received = exchange(desk, one * 2000)
    assert received.count(b"HTTP/1.1 200") == 1
    assert received.count(b'"type":"text"') == 1
    assert len([e for e in desk.events() if e["type"] == "decided"]) == 1


def test_a_caller_that_vanishes_leaves_a_closed_call(open_desk: tuple[Desk, str]) -> None:
    desk, token = open_desk
    request = body("nap", '{"seconds":60}')
    with closing(connect(desk)) as connection:
        connection.sendall(head(token, len(request)).replace(b"Mcp-Name: look", b"Mcp-Name: nap") + request)
        wait_for(lambda: (desk.folder / "napping").exists(), "the server to begin")
    wait_for(lambda: any(e.get("code") == "abandoned" for e in desk.events()), "the call to be closed")


def test_sigterm_lets_a_call_end_and_then_stops(ready_desk: Desk) -> None:
    desk = ready_desk
    process = desk.up()
    token = desk.token()
    request = body("nap", '{"seconds":60}')
    with closing(connect(desk)) as connection:
        connection.sendall(head(token, len(request), CLOSE).replace(b"Mcp-Name: look", b"Mcp-Name: nap") + request)
        wait_for(lambda: (desk.folder / "napping").exists(), "the server to begin")
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not listens(desk.port), "the gateway to take nobody any more")
        (desk.folder / "wake").touch()
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert b"awake" in received
    assert process.wait(TIMEOUT_S) == 0
    assert desk.events()[-1]["type"] == "stopped"
