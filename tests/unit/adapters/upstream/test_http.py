"""The HTTP client: what it sends, what it keeps apart, how many connections it has. Faults are in `tests/fault`."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from citywatch.adapters.upstream import Bounds, HttpRecipient, HttpServer, HttpUpstream, Patience
from citywatch.adapters.upstream.recipient import MAX_KEPT
from citywatch.adapters.upstream.resolve import is_public
from citywatch.core.errors import Code, Unavailable
from citywatch.core.identity.access import AccessToken
from tests.upstream_world import (
    ASK,
    EVENTS,
    REPLY,
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

PATIENT = Patience(first_byte=1e6, idle=1e6, total=1e6)


@pytest.fixture(autouse=True)
def nothing_fails_behind_our_back(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An error in one of the loop's callbacks is only logged: here it fails the test."""
    yield
    assert not unseen_errors(caplog)


# ---- what is sent ------------------------------------------------------------------------------------------------


async def test_a_message_is_sent_as_it_is_under_our_own_headers() -> None:
    async with world(says(response())) as there:
        upstream = there.upstream(lambda: "Bearer ours")
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "pay"}
        await upstream.send("a", ASK, headers, "s1", repeatable=False)
        (seen,) = there.seen
        assert seen.line == "POST /mcp HTTP/1.1"
        assert seen.body == ASK
        received: dict[str, str] = dict(seen.headers)  # type: ignore[arg-type]
        assert received == headers | {
            "host": f"127.0.0.1:{there.port}",
            "user-agent": "citywatch",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "content-length": str(len(ASK)),
            "mcp-session-id": "s1",
            "authorization": "Bearer ours",
        }
        await upstream.close()


async def test_without_a_credential_none_is_sent() -> None:
    async with world(says(response())) as there:
        upstream = there.upstream(None)
        await upstream.send("a", ASK, {}, None, repeatable=False)
        assert there.seen[0].header("authorization") is None
        await upstream.close()


async def test_a_credential_that_changed_is_sent_at_once() -> None:
    values = iter(("Bearer one", "Bearer two"))
    async with world(says(response())) as there:
        upstream = there.upstream(lambda: next(values))
        for _ in range(2):
            await upstream.send("a", ASK, {}, None, repeatable=False)
        assert [seen.header("authorization") for seen in there.seen] == ["Bearer one", "Bearer two"]
        await upstream.close()


async def test_each_request_carries_its_own_session_and_headers() -> None:
    async with world(says(response())) as there:
        upstream = there.upstream()
        for session, name in (("s1", "pay"), ("s2", "pay"), (None, "pay"), ("s1", "read")):
            await upstream.send("a", ASK, {"mcp-name": name}, session, repeatable=False)
        found = [(seen.header("mcp-session-id"), seen.header("mcp-name")) for seen in there.seen]
        assert found == [("s1", "pay"), ("s2", "pay"), (None, "pay"), ("s1", "read")]
        await upstream.close()


async def test_a_query_belongs_to_the_target_and_the_path_may_be_missing() -> None:
    async with world(says(response())) as there:
        for path, target in (("", "/"), ("/a/b?c=d&e", "/a/b?c=d&e")):
            upstream = there.upstream(url=f"http://127.0.0.1:{there.port}{path}")
            await upstream.send("a", ASK, {}, None, repeatable=False)
            assert there.seen[-1].line == f"POST {target} HTTP/1.1"
            await upstream.close()


async def test_listening_and_ending_have_no_body() -> None:
    async with world(says(chunked(media=EVENTS), response(b"", status="204 No Content"))) as there:
        upstream = there.upstream()
        answer = await upstream.listen("a", {"last-event-id": "7"}, "s1")
        assert (answer.status, answer.media) == (200, "sse")
        assert [each async for each in answer.messages()] == []
        assert await upstream.end("a", {}, "s1") == 204
        get, delete = there.seen
        assert (get.line, get.header("accept")) == ("GET /mcp HTTP/1.1", "text/event-stream")
        assert (get.header("last-event-id"), get.header("mcp-session-id")) == ("7", "s1")
        assert delete.line == "DELETE /mcp HTTP/1.1"
        assert get.body == delete.body == b""
        await upstream.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-name": "a\r\nx: y"},
        {"mcp-name": "a\nb"},
        {"mcp-name": "a\0b"},
        {"mcp-name": "€"},
        {"mcp-name\r\nx": "y"},
        {"mcp-name:": "y"},
        {"authorization": "Bearer theirs"},
        {"Authorization": "Bearer theirs"},
        {"cookie": "a=b"},
        {"host": "elsewhere"},
        {"content-length": "0"},
        {"transfer-encoding": "chunked"},
        {"connection": "close"},
    ],
)
async def test_a_header_that_is_not_mcp_s_or_breaks_the_line_is_a_defect(headers: dict[str, str]) -> None:
    async with world(says(response())) as there:
        upstream = there.upstream()
        with pytest.raises(ValueError, match="not a header"):
            await upstream.send("a", ASK, headers, None, repeatable=False)
        with pytest.raises(ValueError, match="session"):
            await upstream.send("a", ASK, {}, "s\r\nx: y", repeatable=False)
        assert there.seen == []
        await upstream.close()


async def test_no_agent_cancels_another_s_call_at_a_server_that_cannot_tell_them_apart() -> None:
    async with world(says(response(b"", status="202 Accepted"))) as there:
        upstream = there.upstream()
        body = message(method="notifications/cancelled", params={"requestId": 1})
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "notifications/cancelled"}
        answer = await upstream.send("a", body, headers, None, repeatable=True)
        assert (answer.status, answer.media) == (202, "none")
        assert [each async for each in answer.messages()] == []
        await answer.close()
        assert there.seen == []
        await upstream.send("a", body, {"mcp-protocol-version": "2025-11-25"}, "s1", repeatable=True)
        assert [seen.body for seen in there.seen] == [body]
        await upstream.close()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/",
        "http://",
        "http://user:word@a/",
        "http://:word@a/",
        "http://a/#b",
        "/mcp",
        "http://a/ b",
        "http://ä/",
    ],
)
def test_only_plain_web_addresses_are_taken(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        HttpUpstream(HttpServer(name="x", url=url), None)


# ---- what comes back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw", [response(), chunked(REPLY), chunked(*(REPLY[i : i + 9] for i in range(0, len(REPLY), 9)))]
)
async def test_the_same_answer_however_it_is_framed(raw: bytes) -> None:
    async with world(says(raw)) as there:
        upstream = there.upstream()
        for _ in range(3):
            answer = await upstream.send("a", ASK, {}, None, repeatable=False)
            assert (answer.status, answer.media, answer.body) == (200, "json", REPLY)
            assert [each async for each in answer.messages()] == [(REPLY, None)]
        assert there.connections == 1
        await upstream.close()


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async with world(says_and_closes(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + REPLY)) as there:
        upstream = there.upstream()
        for _ in range(2):
            assert (await upstream.send("a", ASK, {}, None, repeatable=False)).body == REPLY
        assert there.connections == 2
        await upstream.close()


@pytest.mark.parametrize("line", ["connection: close", "Connection: Close"])
async def test_a_connection_that_the_server_will_close_is_not_kept(line: str) -> None:
    async with world(says(response(REPLY, line))) as there:
        upstream = there.upstream()
        for _ in range(2):
            await upstream.send("a", ASK, {}, None, repeatable=False)
        assert there.connections == 2
        await upstream.close()


async def test_interim_answers_are_passed_over() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\ncontent-type: text/html\r\nmcp-session-id: no\r\n\r\n"
    async with world(says(hints + hints + response(REPLY, "mcp-session-id: yes"))) as there:
        upstream = there.upstream()
        answer = await upstream.send("a", ASK, {}, None, repeatable=False)
        assert (answer.media, answer.session) == ("json", "yes")
        await upstream.close()


@pytest.mark.parametrize(
    ("raw", "status", "media"),
    [
        (response(b"", status="202 Accepted"), 202, "none"),
        (response(b"{}", status="202 Accepted"), 202, "none"),
        (response(b"", status="405 Method Not Allowed"), 405, "none"),
        (response(b"<html>", media="text/html", status="502 Bad Gateway"), 502, "none"),
        (response(REPLY, status="400 Bad Request"), 400, "json"),
        (response(REPLY, status="404 Not Found"), 404, "json"),
        (response(REPLY, media="Application/JSON; charset=utf-8"), 200, "json"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, "none"),
    ],
)
async def test_a_status_and_a_medium_make_an_answer(raw: bytes, status: int, media: str) -> None:
    async with world(says(raw)) as there:
        upstream = there.upstream()
        answer = await upstream.send("a", ASK, {}, None, repeatable=False)
        assert (answer.status, answer.media) == (status, media)
        assert [each async for each in answer.messages()] == ([(answer.body, None)] if media == "json" else [])
        await upstream.close()


async def test_a_stream_is_handed_on_event_by_event_while_it_arrives() -> None:
    go_on = asyncio.Event()

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            chunked(b"retry: 70\r\nid: 1\r\ndata:\r\n\r\n: ping\n\nevent: other\ndata: x\n\n", media=EVENTS, end=False)
        )
        await go_on.wait()
        event = b"id: 2\ndata: " + REPLY + b"\n\n"
        for place in range(len(event)):
            writer.write(b"1\r\n%c\r\n" % event[place])
        writer.write(b"0\r\n\r\n")

    async with world(script) as there:
        upstream = there.upstream()
        answer = await upstream.send("a", ASK, {}, None, repeatable=False)
        assert (answer.media, answer.body) == ("sse", None)
        stream = answer.messages()
        assert await anext(stream) == (b"", "1")
        assert answer.retry_ms == 70
        go_on.set()
        assert await anext(stream) == (REPLY, "2")
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await upstream.close()


async def test_a_stream_may_be_read_after_its_connection_serves_again() -> None:
    """The answer has its own memory: what another request does to the connection does not reach it."""
    async with world(says(chunked(b"data: 1\n\n", media=EVENTS), response())) as there:
        upstream = there.upstream()
        answer = await upstream.send("a", ASK, {}, None, repeatable=False)
        await until(lambda: answer.complete)
        assert (await upstream.send("a", ASK, {}, None, repeatable=False)).body == REPLY
        assert [each async for each in answer.messages()] == [(b"1", None)]
        assert there.connections == 1
        await upstream.close()


# ---- who shares what ---------------------------------------------------------------------------------------------


async def test_no_connection_ever_serves_two_callers() -> None:
    """Drawn interleavings of many callers, with answers of every kind, abandoned and awaited."""
    chance = random.Random(7)

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0)
        echo = message(id=1, result={"who": json.loads(seen.body)["params"]["who"]})
        writer.write(chance.choice((response(echo), chunked(echo), chunked(b"data: %s\n\n" % echo, media=EVENTS))))

    async with world(script) as there:
        upstream = there.upstream(bounds=Bounds(per_caller=3, in_all=9))

        async def caller(who: str) -> None:
            for _ in range(30):
                body = message(id=1, method="m", params={"who": who})
                answer = await upstream.send(who, body, {}, None, repeatable=False)
                if chance.random() < 0.2:
                    await answer.close()
                    continue
                (got,) = [data async for data, _ in answer.messages()]
                assert json.loads(got)["result"]["who"] == who

        names = [f"spiffe://x/agent/{number}" for number in range(6)]
        await asyncio.gather(*(caller(name) for name in names for _ in range(2)))
        users: dict[int, set[str]] = {}
        for seen in there.seen:
            users.setdefault(seen.connection, set()).add(json.loads(seen.body)["params"]["who"])
        assert len(there.seen) == 360
        assert all(len(who) == 1 for who in users.values())
        assert len(users) < 200
        await upstream.close()


async def test_a_caller_waits_for_a_place_and_gets_the_one_that_becomes_free() -> None:
    release = asyncio.Event()

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(response())

    async with world(script) as there:
        upstream = there.upstream(bounds=Bounds(per_caller=2))
        calls = [asyncio.create_task(upstream.send("a", ASK, {}, None, repeatable=False)) for _ in range(5)]
        await until(lambda: len(there.seen) == 2)
        release.set()
        assert {(await call).body for call in calls} == {REPLY}
        assert there.connections == 2
        await upstream.close()


@pytest.mark.parametrize("bounds", [Bounds(per_caller=1), Bounds(in_all=1)])
async def test_a_caller_that_gets_no_place_in_time_is_told(bounds: Bounds) -> None:
    async with world(silence) as there:
        upstream = there.upstream(bounds=bounds)
        first = asyncio.create_task(upstream.send("a", ASK, {}, None, repeatable=False))
        await until(lambda: len(there.seen) == 1)
        upstream.server = msgspec.structs.replace(upstream.server, patience=Patience(connect=0.05))
        with pytest.raises(Unavailable) as caught:
            await upstream.send("a", ASK, {}, None, repeatable=False)
        assert caught.value.code is Code.OVERLOADED
        await upstream.close()
        with pytest.raises(Unavailable):
            await first


async def test_an_unused_connection_gives_way_to_another_caller() -> None:
    async with world(says(response())) as there:
        upstream = there.upstream(bounds=Bounds(in_all=1))
        for caller in ("a", "b", "a"):
            assert (await upstream.send(caller, ASK, {}, None, repeatable=False)).body == REPLY
        assert [seen.connection for seen in there.seen] == [0, 1, 2]
        await upstream.close()


async def test_whoever_waits_for_a_place_in_all_gets_the_next_one() -> None:
    release = asyncio.Event()

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(response(REPLY, "connection: close"))

    async with world(script) as there:
        upstream = there.upstream(bounds=Bounds(in_all=1))
        first = asyncio.create_task(upstream.send("a", ASK, {}, None, repeatable=False))
        await until(lambda: len(there.seen) == 1)
        second = asyncio.create_task(upstream.send("b", ASK, {}, None, repeatable=False))
        await asyncio.sleep(0)
        release.set()
        assert (await first).body == (await second).body == REPLY
        await upstream.close()


async def test_a_caller_that_stops_waiting_leaves_nothing_behind() -> None:
    async with world(silence) as there:
        upstream = there.upstream(bounds=Bounds(in_all=1))
        first = asyncio.create_task(upstream.send("a", ASK, {}, None, repeatable=False))
        await until(lambda: len(there.seen) == 1)
        second = asyncio.create_task(upstream.send("b", ASK, {}, None, repeatable=False))
        await until(lambda: "b" in upstream._pools and bool(upstream._pools["b"].waiting))
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not upstream._pools["b"].waiting
        await upstream.close()
        with pytest.raises(Unavailable):
            await first


async def test_a_caller_that_goes_away_ends_its_connection() -> None:
    async with world(silence) as there:
        upstream = there.upstream(patience=PATIENT)
        call = asyncio.create_task(upstream.send("a", ASK, {}, None, repeatable=False))
        await until(lambda: len(there.seen) == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(there.ended[0].is_set)
        assert not upstream._connections
        await upstream.close()


async def test_a_stream_that_is_closed_ends_its_connection() -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(b"data: 1\n\n", media=EVENTS, end=False))
        await silence(seen, reader, writer)

    async with world(script) as there:
        upstream = there.upstream(patience=PATIENT)
        answer = await upstream.send("a", ASK, {}, None, repeatable=False)
        await answer.close()
        await until(there.ended[0].is_set)
        await upstream.close()


async def test_an_unused_connection_is_not_kept_for_ever() -> None:
    async with world(says(response())) as there:
        upstream = there.upstream(bounds=Bounds(kept=0.0))
        for _ in range(2):
            await upstream.send("a", ASK, {}, None, repeatable=False)
        assert there.connections == 2
        await there.ended[1].wait()
        await until(lambda: not upstream._connections and not upstream._pools)
        await upstream.close()


async def test_closing_fails_what_is_under_way_and_everything_after() -> None:
    async with world(silence) as there:
        upstream = there.upstream()
        call = asyncio.create_task(upstream.send("a", ASK, {}, None, repeatable=False))
        await until(lambda: len(there.seen) == 1)
        await upstream.close()
        for failing in (call, upstream.send("a", ASK, {}, None, repeatable=True)):
            with pytest.raises(Unavailable) as caught:
                await failing
            assert caught.value.code is Code.DRAINING


# ---- TLS ---------------------------------------------------------------------------------------------------------


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate for one address that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "world")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize(
    ("host", "trusted", "works"), [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("127.0.0.2", True, False)]
)
async def test_a_server_over_tls_must_be_who_it_is_trusted_to_be(
    tmp_path: Path, host: str, trusted: bool, works: bool
) -> None:
    cert, key = certificate(tmp_path, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with world(says(response()), ssl=context) as there:
        url = f"https://127.0.0.1:{there.port}/mcp"
        upstream = there.upstream(lambda: "Bearer secret", url=url, ca=str(cert) if trusted else None)
        if works:
            for _ in range(2):
                assert (await upstream.send("a", ASK, {}, None, repeatable=False)).body == REPLY
            assert there.connections == 1
        else:
            with pytest.raises(Unavailable, match="shows no certificate that proves it"):
                await upstream.send("a", ASK, {}, None, repeatable=False)
            assert there.seen == []
        await upstream.close()


# ---- access tokens -----------------------------------------------------------------------------------------------


async def test_a_server_that_takes_tokens_is_sent_nothing_without_one_and_no_other_is_ever_shown_one() -> None:
    token = AccessToken("at.of.ours", "d" * 64, 0)
    async with world(says(response())) as there:
        plain, taking = there.upstream(), there.upstream(takes_tokens=True)
        await plain.send("a", ASK, {}, None, repeatable=False)
        for ask in (
            taking.send("a", ASK, {}, None, repeatable=False),
            taking.listen("a", {}, None),
            taking.end("a", {}, "s"),
            plain.send("a", ASK, {}, None, repeatable=False, token=token),
        ):
            with pytest.raises(Unavailable, match="no access token"):
                await ask
        await taking.send("a", ASK, {}, None, repeatable=False, token=token)
        assert await taking.end("a", {}, "s", token=AccessToken("another.of.ours", "d" * 64, 0)) == 200
        shown = [seen.header("authorization") for seen in there.seen]
        assert shown == [None, "Bearer at.of.ours", "Bearer another.of.ours"]
        await plain.close()
        await taking.close()


def test_a_server_is_shown_tokens_or_a_credential() -> None:
    with pytest.raises(ValueError, match="not both"):
        HttpUpstream(HttpServer(name="x", url="http://127.0.0.1:1/", takes_tokens=True), lambda: "Bearer x")


# ---- agents: more than one address, and pushes -------------------------------------------------------------------


async def test_a_request_below_the_address_goes_there_with_its_own_verb() -> None:
    async with world(says(response())) as there:
        upstream = there.upstream(lambda: "Bearer ours")
        await upstream.ask("a", "GET", "/tasks/t?historyLength=1", None, {"a2a-version": "1.0"}, repeatable=True)
        (seen,) = there.seen
        assert seen.line == "GET /mcp/tasks/t?historyLength=1 HTTP/1.1"
        assert seen.header("authorization") == "Bearer ours"
        assert seen.header("content-length") is None


def place(there: World) -> str:
    return f"http://127.0.0.1:{there.port}/mcp"


async def test_a_push_is_sent_with_what_its_agent_wants_to_be_shown_and_only_its_status_counts() -> None:
    taken = b"HTTP/1.1 202 Accepted\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
    async with world(says(taken)) as there:
        recipient = HttpRecipient("clerk")
        try:
            await recipient.push(place(there), b"{}", "Bearer theirs", "tok", public=False)
        finally:
            await recipient.close()
        (seen,) = there.seen
        assert seen.line.startswith("POST /mcp ")
        assert (seen.header("authorization"), seen.header("x-a2a-notification-token")) == ("Bearer theirs", "tok")
        assert seen.body == b"{}"


@pytest.mark.parametrize("status", [b"301 Moved", b"401 No", b"500 Broken"])
async def test_a_push_that_was_not_taken_is_said_so(status: bytes) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n"
    async with world(says(answer)) as there:
        recipient = HttpRecipient("clerk")
        try:
            with pytest.raises(Unavailable):
                await recipient.push(place(there), b"{}", "", "", public=False)
        finally:
            await recipient.close()
        assert len(there.seen) == 1


async def test_a_name_that_leads_into_a_private_network_is_pushed_nothing() -> None:
    """The attack: whoever holds a name under a domain that a pattern allows has it lead to this very machine."""
    async with world(says(response())) as there:
        recipient = HttpRecipient("clerk")
        try:
            with pytest.raises(Unavailable, match="its name leads to no public address"):
                await recipient.push(place(there), b"{}", "", "", public=True)
            # ... and what the operator wrote as a number is what was meant.
            await recipient.push(place(there).replace("127.0.0.1", "localhost"), b"{}", "", "", public=False)
        finally:
            await recipient.close()
        assert len(there.seen) == 1


async def test_a_pattern_for_this_machine_does_not_lead_back_to_the_gateway() -> None:
    """The attack: by any port of this machine, an agent has the gateway post to itself."""
    async with world(says(response())) as there:
        recipient = HttpRecipient("clerk", own=frozenset((there.port,)))
        for host in ("127.0.0.1", "localhost", "127.0.0.2", "[::1]"):
            with pytest.raises(Unavailable, match="our own"):
                await recipient.push(place(there).replace("127.0.0.1", host), b"{}", "", "", public=False)
        assert not there.seen


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/hook",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "http://0.0.0.0/hook",
        "http://[::]:443/hook",
        "https://[::ffff:127.0.0.1]/hook",
        "http://[::ffff:0.0.0.0]/hook",
    ],
)
async def test_a_gateway_at_its_schemes_own_port_is_not_pushed_to_either(url: str) -> None:
    """The attack: an address that names no port, for the pattern says any, or another way to write this machine."""

    def reach(server: HttpServer) -> HttpUpstream:
        raise AssertionError(f"{server.url} is the gateway")

    recipient = HttpRecipient("clerk", own=frozenset((80, 443)), reach=reach)
    with pytest.raises(Unavailable, match="our own"):
        await recipient.push(url, b"{}", "", "", public=False)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::a00:1",
        "2002:7f00:1::", "2001:0:1::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "ff0e::1", "5f00::1",
    ],
)  # fmt: skip
def test_no_address_that_leads_inside_is_public_however_it_is_written(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "2a00:1450::1", "2002:808:808::", "::ffff:8.8.8.8"])
def test_what_the_whole_internet_has_is_public(address: str) -> None:
    assert is_public(address)


async def test_an_address_that_is_none_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await HttpRecipient("clerk").push("gopher://x", b"", "", "", public=False)


async def test_of_an_agents_addresses_those_used_last_are_kept() -> None:
    async with world(says(response())) as there:
        made: list[str] = []
        closed: list[str] = []

        class Reached(HttpUpstream):
            async def close(self) -> None:
                closed.append(self.server.url)
                await super().close()

        def reach(server: HttpServer) -> HttpUpstream:
            made.append(server.url)
            return Reached(server, None)

        recipient = HttpRecipient("clerk", reach=reach)
        urls = [f"{place(there)}?{number}" for number in range(MAX_KEPT + 1)]
        for url in (*urls[:MAX_KEPT], urls[0], urls[MAX_KEPT]):
            await recipient.push(url, b"{}", "", "", public=False)
        assert made == urls
        assert closed == [urls[1]]
        await recipient.close()


async def test_what_an_agent_wants_to_be_shown_cannot_be_a_second_header() -> None:
    async with world(says(response())) as there:
        upstream = there.upstream(None)
        with pytest.raises(Unavailable):
            await upstream.ask("", "POST", "", b"{}", {}, repeatable=False, own={"authorization": "a\r\nb: c"})
        assert not there.seen
