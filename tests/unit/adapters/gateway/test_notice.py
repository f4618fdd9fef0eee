"""A page for anybody at an address of its own, with a certificate of the Web's that changes under it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from citywatch.adapters.bundles import HttpsSource, web_proof
from citywatch.adapters.gateway import notice
from citywatch.adapters.gateway.notice import MOST, MOST_HEAD, Notice
from citywatch.adapters.web_tls import WebTls
from citywatch.core.errors import Malformed, Unavailable


class Web:
    """An authority of the Web's, and what it has certified last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.ca = folder / "ca.pem"
        self.certificate, self.own_key = folder / "web.pem", folder / "web.key"
        self.ca.write_bytes(self._signed("the web", self.key, True).public_bytes(Encoding.PEM))

    def certify(self, host: str = "127.0.0.1", *, password: bytes | None = None) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        locked = NoEncryption() if password is None else BestAvailableEncryption(password)
        self.own_key.unlink(missing_ok=True)
        with os.fdopen(os.open(self.own_key, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
        self.certificate.write_bytes(self._signed(host, key, False).public_bytes(Encoding.PEM))

    def _signed(self, host: str, key: ec.EllipticCurvePrivateKey, authority: bool) -> x509.Certificate:
        def name(word: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, word)])

        now = datetime.now(UTC)
        own, above = key.public_key(), self.key.public_key()
        off = {"content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"}
        usage = dict.fromkeys((*off, "decipher_only"), False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(host))
            .issuer_name(name("the web"))
            .public_key(own)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=authority, crl_sign=authority, **usage), True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
        )
        if not authority:
            names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(host))] if host[0].isdigit() else []
            builder = builder.add_extension(x509.SubjectAlternativeName(names or [x509.DNSName(host)]), critical=False)
        return builder.sign(self.key, SHA256())


@pytest.fixture
def web(tmp_path: Path) -> Web:
    made = Web(tmp_path)
    made.certify()
    return made


class Board:
    def __init__(self, web: Web) -> None:
        self.says = b'{"keys":[]}'
        self.tls = WebTls(web.certificate, web.own_key)
        self.notice = Notice({"/bundle": lambda: self.says})
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Board]:
        self.port = await self.notice.open("127.0.0.1", 0, self.tls.context)
        try:
            yield self
        finally:
            await self.notice.close()

    async def connect(self, web: Web) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=str(web.ca))
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)

    async def asks(self, web: Web, request: bytes) -> bytes:
        reader, writer = await self.connect(web)
        writer.write(request)
        try:
            return await reader.read()
        finally:
            writer.transport.abort()

    def source(self, ca: str | None, path: str = "bundle") -> HttpsSource:
        return HttpsSource(f"https://127.0.0.1:{self.port}/{path}", web_proof(ca), 30.0)


async def test_a_neighbour_that_asks_for_a_certificate_of_the_webs_reads_the_page(web: Web) -> None:
    async with Board(web).open() as board:
        assert await board.source(str(web.ca)).fetch(None) == board.says
        board.says = b'{"keys":[1]}'
        assert await board.source(str(web.ca), "bundle?x=1").fetch(None) == board.says


async def test_who_does_not_know_its_authority_reads_nothing(web: Web) -> None:
    async with Board(web).open() as board:
        with pytest.raises(Unavailable) as caught:
            await board.source(None).fetch(None)
    assert "did not prove itself" in str(caught.value)


async def test_a_certificate_for_another_host_proves_nothing(web: Web) -> None:
    web.certify("gate.else.example")
    async with Board(web).open() as board:
        with pytest.raises(Unavailable):
            await board.source(str(web.ca)).fetch(None)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /bundle HTTP/1.1", b"200"),
        (b"GET /bundle HTTP/1.0", b"200"),
        (b"GET /mcp/desk HTTP/1.1", b"404"),
        (b"GET /bundle/ HTTP/1.1", b"404"),
        (b"POST /bundle HTTP/1.1", b"405"),
        (b"POST /mcp/desk HTTP/1.1", b"404"),
        (b"GET /bundle HTTP/2.0", b"400"),
        (b"GET  /bundle HTTP/1.1", b"400"),
        (b"get /bundle HTTP/1.1", b"400"),
        (b"\x16\x03\x01", b"400"),
    ],
)
async def test_it_has_its_page_and_nothing_else(web: Web, request_line: bytes, status: bytes) -> None:
    async with Board(web).open() as board:
        told = await board.asks(web, request_line + b"\r\nHost: x\r\n\r\nGET /bundle HTTP/1.1\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 " + status + b" ")
    assert told.count(b"HTTP/1.1") == 1, "one answer, and the connection is over"
    assert b"connection: close" in told


async def test_a_head_without_an_end_is_not_kept(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "SECONDS", 3600.0)
    async with Board(web).open() as board:
        asking = board.asks(web, b"GET /bundle HTTP/1.1\r\nx: " + b"a" * (2 * MOST_HEAD))
        assert await asyncio.wait_for(asking, 60) == b""


async def test_who_says_nothing_is_sent_away(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Board(web).open() as board:
        monkeypatch.setattr(notice, "SECONDS", 0.05)  # of what comes after the handshake, which has all its time
        reader, writer = await board.connect(web)
        with suppress(ssl.SSLError, ConnectionError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.transport.abort()


async def test_who_comes_last_is_answered_however_many_wait(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "SECONDS", 3600.0)
    async with Board(web).open() as board:
        waiting = [await board.connect(web) for _ in range(MOST + 3)]
        assert await board.source(str(web.ca)).fetch(None) == board.says
        with suppress(ssl.SSLError, ConnectionError):
            assert await asyncio.wait_for(waiting[0][0].read(), 60) == b""
        for _, writer in waiting:
            writer.transport.abort()


async def test_a_renewed_certificate_is_shown_without_a_restart(web: Web) -> None:
    async with Board(web).open() as board:
        _, writer = await board.connect(web)
        before = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        assert board.tls.look() is False
        web.certify()
        assert board.tls.look() is True
        _, writer = await board.connect(web)
        assert writer.get_extra_info("ssl_object").getpeercert(binary_form=True) != before
        writer.transport.abort()


async def test_files_that_do_not_belong_together_leave_what_was_shown(web: Web) -> None:
    async with Board(web).open() as board:
        kept = web.certificate.read_bytes()
        web.certify()
        web.certificate.write_bytes(kept)
        with pytest.raises(Malformed):
            board.tls.look()
        web.certificate.unlink()
        with pytest.raises(Malformed):
            board.tls.look()
        assert await board.source(str(web.ca)).fetch(None) == board.says


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o666])
def test_a_key_that_others_can_read_or_change_is_refused(web: Web, mode: int) -> None:
    web.own_key.chmod(mode)
    with pytest.raises(Malformed) as caught:
        WebTls(web.certificate, web.own_key)
    assert "open to others" in str(caught.value)


def test_a_key_that_wants_a_password_is_refused_and_nobody_is_asked(web: Web) -> None:
    web.certify(password=b"secret")
    with pytest.raises(Malformed) as caught:
        WebTls(web.certificate, web.own_key)
    assert "secret" not in str(caught.value)
