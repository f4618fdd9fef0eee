"""Notices leave for real servers on loopback: signed, in Slack's form, by mail; only to servers that are proved."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from citywatch.adapters.notify import Mail, Webhook
from citywatch.core.approvals.notice import HEADER, Notice, verify_header
from citywatch.core.errors import Unavailable
from tests.unit.adapters.upstream.test_http import certificate

NOTICE = Notice(id="ab" * 16, at=1_000, waiting=2, fresh=1, expires=9_000, link="https://c.example/tickets")
SECRET = "a secret of the two of us"


class Listener:
    """An HTTP server that answers everything with one status, and keeps what it was sent."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        self.seen.append((lines[0], headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(f"HTTP/1.1 {self.status}\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def listening(status: str = "200 OK", tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    there = Listener(status)
    server = await asyncio.start_server(there, "127.0.0.1", 0, ssl=tls)
    there.port = server.sockets[0].getsockname()[1]
    async with server:
        yield there


async def test_a_webhook_is_signed_over_what_is_sent() -> None:
    async with listening() as there:
        await Webhook(url=f"http://127.0.0.1:{there.port}/in", secret=lambda: SECRET).send(NOTICE)
    ((line, headers, body),) = there.seen
    assert line == "POST /in HTTP/1.1"
    assert verify_header(SECRET.encode(), headers[HEADER], body, NOTICE.at, ()) == NOTICE.id
    assert json.loads(body)["waiting"] == 2
    assert SECRET not in str(there.seen)


async def test_slacks_address_is_the_secret_and_nothing_is_signed() -> None:
    async with listening() as there:
        await Webhook(secret=lambda: f"http://127.0.0.1:{there.port}/services/T0/x", slack=True).send(NOTICE)
    ((line, headers, body),) = there.seen
    assert line == "POST /services/T0/x HTTP/1.1"
    assert HEADER not in headers
    assert list(json.loads(body)) == ["text"]


@pytest.mark.parametrize("status", ["302 Found", "404 Not Found", "500 Oh"])
async def test_what_is_not_taken_is_unavailable_and_no_redirect_is_followed(status: str) -> None:
    async with listening(status) as there:
        with pytest.raises(Unavailable, match=f"status {status[:3]}"):
            await Webhook(url=f"http://127.0.0.1:{there.port}/", secret=lambda: SECRET).send(NOTICE)
    assert len(there.seen) == 1


async def test_nothing_leaves_this_machine_in_plain_and_a_short_secret_signs_nothing() -> None:
    with pytest.raises(Unavailable, match="over https, or to this machine"):
        await Webhook(url="http://192.0.2.1/", secret=lambda: SECRET).send(NOTICE)
    with pytest.raises(Unavailable, match="at least 16 bytes"):
        await Webhook(url="http://127.0.0.1:1/", secret=lambda: "short").send(NOTICE)
    with pytest.raises(Unavailable) as refused:
        await Webhook(secret=lambda: "http://127.0.0.1:1/services/secret", slack=True).send(NOTICE)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_server_is_proved_over_tls(tmp_path: Path, trusted: bool) -> None:
    cert, key = certificate(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with listening(tls=context) as there:
        url, ca = f"https://127.0.0.1:{there.port}/", str(cert) if trusted else None
        if trusted:
            await Webhook(url=url, secret=lambda: SECRET, ca=ca).send(NOTICE)
        else:
            with pytest.raises(Unavailable, match="SSLCertVerificationError"):
                await Webhook(url=url, secret=lambda: SECRET, ca=ca).send(NOTICE)
    assert len(there.seen) == trusted


class Post:
    """A mail server: RFC 5321 as far as one mail goes, with STARTTLS where it has a context."""

    def __init__(self, tls: ssl.SSLContext | None, refuses: str) -> None:
        self.tls, self.refuses = tls, refuses
        self.commands: list[str] = []
        self.mail = ""
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode().strip():
            word = line.split()[0].upper()
            self.commands.append(line)
            if word == "EHLO":
                more = b"250-AUTH PLAIN\r\n" + (b"250-STARTTLS\r\n" if self.tls else b"")
                writer.write(b"250-here\r\n" + more + b"250 SIZE\r\n")
            elif word == "STARTTLS":
                writer.write(b"220 go\r\n")
                assert self.tls is not None
                await writer.start_tls(self.tls)
            elif word == "DATA":
                writer.write(b"354 go\r\n")
                self.mail = (await reader.readuntil(b"\r\n.\r\n")).decode()
                writer.write(b"250 taken\r\n")
            elif word == "QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(
                    b"550 no\r\n" if word == self.refuses else b"235 ok\r\n" if word == "AUTH" else b"250 ok\r\n"
                )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def posting(tls: ssl.SSLContext | None = None, refuses: str = "") -> AsyncIterator[Post]:
    there = Post(tls, refuses)
    server = await asyncio.start_server(there, "127.0.0.1", 0)
    there.port = server.sockets[0].getsockname()[1]
    async with server:
        yield there


def mail(there: Post, ca: str | None = None, password: str = "") -> Mail:
    return Mail(
        host="127.0.0.1",
        port=there.port,
        sender="citywatch@acme.example",
        to=("a@acme.example", "b@acme.example"),
        user="watch" if password else "",
        secret=(lambda: password) if password else None,
        ca=ca,
    )


async def test_a_mail_goes_to_everybody_and_holds_the_link() -> None:
    async with posting() as there:
        await mail(there).send(NOTICE)
    assert "Subject: citywatch: 2 to answer" in there.mail
    assert "Auto-Submitted: auto-generated" in there.mail
    assert NOTICE.link in there.mail.replace("=\r\n", "")
    assert sum(line.startswith("rcpt TO") for line in there.commands) == 2


async def test_a_password_is_told_over_tls_alone(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with posting(context) as there:
        await mail(there, str(cert), "a password").send(NOTICE)
    words = [line.split()[0].upper() for line in there.commands]
    assert words.index("STARTTLS") < words.index("AUTH") < words.index("DATA")
    async with posting() as plain:
        with pytest.raises(Unavailable, match="SMTPNotSupportedError"):
            await mail(plain, str(cert), "a password").send(NOTICE)
    assert not any(line.upper().startswith("AUTH") for line in plain.commands)


@pytest.mark.parametrize("word", ["MAIL", "RCPT"])
async def test_a_mail_that_is_refused_is_unavailable_and_says_nothing_of_it(word: str) -> None:
    async with posting(refuses=word) as there:
        with pytest.raises(Unavailable) as refused:
            await mail(there).send(NOTICE)
    assert "acme" not in str(refused.value)
