"""Handshakes over real sockets: who gets in, who is believed, and what changes without a restart."""

from __future__ import annotations

import asyncio
import pickle
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from citywatch.adapters.keys import KeyKind, SecretDirectory, create_key
from citywatch.adapters.memory import MemoryClock
from citywatch.adapters.tls import GatewayPin, GatewayTls, TlsKey
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.x509 import verify_x509_svid
from citywatch.service.authority import bundle_of, p256
from tests.identity_city import BILLING, DOMAIN, GATEWAY, HOUR, City, signer
from tests.unit.core.identity.forgery import certificate

HOSTS = ("localhost", "127.0.0.1")


class Town(City):
    """A city whose clock is the machine's, because a TLS library reads no other, with its keys on disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(clock=MemoryClock(time.time_ns() // 1_000_000))
        self.keys = SecretDirectory(folder / "keys")
        self.tls = GatewayTls()

    def key_file(self, name: str) -> Path:
        return self.keys.path / name

    def gateway(self, *, ttl: int = HOUR) -> bytes:
        """Draw the gateway a key, certify it, install both."""
        key = TlsKey()
        issued = self.authority.issue_gateway(p256(key.public), HOSTS, now=self.clock.now_ms(), ttl=ttl)
        self.tls.install([issued.value], key, self.bundle)
        return issued.value

    def agent(self, name: str, *, ttl: int = HOUR, ago: int = 0) -> tuple[list[bytes], Path]:
        key = create_key(self.keys, name, KeyKind.P256)
        now = self.clock.now_ms() - ago
        return [self.authority.issue_x509(BILLING, p256(key.public), now=now, ttl=ttl).value], self.key_file(name)

    def pin(
        self, certificate: tuple[Sequence[bytes], Path] | None = None, bundle: TrustBundle | None = None
    ) -> GatewayPin:
        return GatewayPin(bundle or self.bundle, self.clock.now_ms, 0, certificate=certificate)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


@asynccontextmanager
async def listening(tls: GatewayTls) -> AsyncIterator[int]:
    """A listener that says which certificate it saw."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(seen or b"nobody")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls.context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def visit(port: int, pin: GatewayPin, *, host: str = "127.0.0.1") -> tuple[bytes, bytes]:
    """Connect; return the gateway's certificate and what the gateway saw of us."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=pin.context, server_hostname=host)
    try:
        handshake = writer.get_extra_info("ssl_object")
        assert pin.check(handshake).gateway == GATEWAY
        return handshake.getpeercert(binary_form=True), await reader.read()
    finally:
        writer.close()


async def is_turned_away(port: int, pin: GatewayPin, *, host: str = "127.0.0.1") -> bool:
    """In TLS 1.3 the client learns of it with its first read."""
    try:
        _, seen = await visit(port, pin, host=host)
    except (ssl.SSLError, ConnectionError):
        return True
    return not seen


@pytest.mark.parametrize("host", HOSTS)
async def test_a_client_without_a_certificate_may_come_in_and_is_nobody(town: Town, host: str) -> None:
    shown = town.gateway()
    async with listening(town.tls) as port:
        assert await visit(port, town.pin(), host=host) == (shown, b"nobody")


async def test_an_agent_proves_its_key_in_the_handshake(town: Town) -> None:
    town.gateway()
    chain, key_file = town.agent("agent.pem")
    async with listening(town.tls) as port:
        _, seen = await visit(port, town.pin((chain, key_file)))
    assert seen == chain[0]
    assert verify_x509_svid([seen], town.bundle).agent == str(BILLING)


async def test_papers_of_another_authority_are_turned_away(town: Town, tmp_path: Path) -> None:
    town.gateway()
    (tmp_path / "other").mkdir(mode=0o700)
    other = Town(tmp_path / "other")
    async with listening(town.tls) as port:
        assert await is_turned_away(port, town.pin(other.agent("agent.pem")))


async def test_self_signed_and_expired_papers_are_turned_away(town: Town) -> None:
    town.gateway()
    create_key(town.keys, "self.pem", KeyKind.P256)
    own = load_pem_private_key(town.keys.read("self.pem"), None)
    now = town.clock.now_ms()
    forged = certificate(own, own, start=now - HOUR, end=now + HOUR)  # type: ignore[arg-type]
    async with listening(town.tls) as port:
        assert await is_turned_away(port, town.pin(([forged], town.key_file("self.pem"))))
        assert await is_turned_away(port, town.pin(town.agent("late.pem", ago=2 * HOUR)))
        assert not await is_turned_away(port, town.pin(town.agent("good.pem")))


async def test_a_leaf_issues_nothing_in_a_handshake_either(town: Town) -> None:
    town.gateway()
    chain, _ = town.agent("agent.pem")
    create_key(town.keys, "forged.pem", KeyKind.P256)
    signing, forging = (load_pem_private_key(town.keys.read(name), None) for name in ("agent.pem", "forged.pem"))
    now = town.clock.now_ms()
    forged = certificate(forging, signing, start=now - HOUR, end=now + HOUR)  # type: ignore[arg-type]
    async with listening(town.tls) as port:
        assert await is_turned_away(port, town.pin(([forged, *chain], town.key_file("forged.pem"))))


def public_key(der: bytes) -> bytes:
    key = x509.load_der_x509_certificate(der).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def test_key_and_certificate_are_exchanged_without_a_restart(town: Town) -> None:
    first = town.gateway()
    async with listening(town.tls) as port:
        old_reader, old_writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=town.pin().context, server_hostname="localhost"
        )
        second = town.gateway()
        assert (await visit(port, town.pin()))[0] == second != first
        assert public_key(second) != public_key(first)
        assert old_writer.get_extra_info("ssl_object").getpeercert(binary_form=True) == first
        assert await old_reader.read() == b"nobody"
        old_writer.close()


async def test_a_retired_authority_is_believed_no_longer_without_a_restart(town: Town) -> None:
    town.gateway()
    old_papers, old_bundle = town.agent("agent.pem"), town.bundle
    async with listening(town.tls) as port:
        assert not await is_turned_away(port, town.pin(old_papers))
        certificates, tokens = signer(), signer()
        following = town.found(2, certificates, tokens)
        town.authority = town.authority_of(following, certificates, tokens)
        town.bundle = bundle_of(DOMAIN, [town.generation, following], sequence=2, refresh_hint=300)
        town.gateway()
        assert not await is_turned_away(port, town.pin(old_papers))
        town.bundle = bundle_of(DOMAIN, [following], sequence=3, refresh_hint=300)
        town.gateway()
        assert await is_turned_away(port, town.pin(old_papers))
        assert not await is_turned_away(port, town.pin(town.agent("fresh.pem")))
        assert await is_turned_away(port, town.pin(bundle=old_bundle))


async def test_a_gateway_of_another_authority_is_not_ours(town: Town, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    other = Town(tmp_path / "other")
    other.gateway()
    async with listening(other.tls) as port:
        assert await is_turned_away(port, town.pin())


async def test_a_name_that_is_not_in_the_certificate_is_not_ours(town: Town) -> None:
    town.gateway()
    async with listening(town.tls) as port:
        assert await is_turned_away(port, town.pin(), host="elsewhere.example")


async def test_an_agent_does_not_pass_for_the_gateway(town: Town) -> None:
    """Its certificate is of the right authority; even one with the right host would not do."""
    town.gateway()
    create_key(town.keys, "agent.pem", KeyKind.P256)
    key = TlsKey()
    leaf = town.authority._issue_leaf(str(BILLING), HOSTS, p256(key.public), town.clock.now_ms(), HOUR)
    town.tls.install([leaf.value], key, town.bundle)
    async with listening(town.tls) as port:
        with pytest.raises(Refused) as caught:
            await visit(port, town.pin())
    assert caught.value.code is Code.CREDENTIAL_BAD_NAME


async def test_the_gateways_certificate_is_checked_against_our_clock_too(town: Town) -> None:
    town.gateway()
    pin = town.pin()
    town.clock.advance(2 * HOUR)
    async with listening(town.tls) as port:
        with pytest.raises(Refused) as caught:
            await visit(port, pin)
    assert caught.value.code is Code.CREDENTIAL_EXPIRED


async def test_no_session_is_resumed(town: Town) -> None:
    town.gateway()
    pin = town.pin()

    def meet(port: int, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            pin.context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
        ):
            secure.read(6)
            assert not secure.session_reused
            assert secure.session is None or not secure.session.has_ticket
            return secure.session

    async with listening(town.tls) as port:
        session = await asyncio.to_thread(meet, port, None)
        await asyncio.to_thread(meet, port, session)


async def test_old_versions_are_not_spoken(town: Town) -> None:
    town.gateway()
    async with listening(town.tls) as port:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            pin = town.pin()
            pin.context.minimum_version = ssl.TLSVersion.TLSv1_2
            pin.context.maximum_version = version
            assert await is_turned_away(port, pin) is (version is ssl.TLSVersion.TLSv1_2)


async def test_before_a_certificate_is_installed_nobody_gets_in(town: Town) -> None:
    async with listening(town.tls) as port:
        assert await is_turned_away(port, town.pin())


async def test_a_key_that_is_not_the_certificates_is_malformed_and_changes_nothing(town: Town) -> None:
    issued = town.gateway()
    with pytest.raises(Malformed):
        town.tls.install([issued], TlsKey(), town.bundle)
    with pytest.raises(Malformed):
        town.pin(([issued], town.key_file("missing.pem")))
    async with listening(town.tls) as port:
        assert (await visit(port, town.pin()))[0] == issued


def test_the_gateways_key_leaves_nothing_behind(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library is given to read is encrypted, and gone afterwards; nothing else writes the key down."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "drafts"))
    (tmp_path / "drafts").mkdir()
    seen = []

    class Watched(ssl.SSLContext):
        def load_cert_chain(self, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
            seen.append(Path(certfile).read_text())
            super().load_cert_chain(certfile, keyfile, password)

    key = TlsKey()
    issued = town.authority.issue_gateway(p256(key.public), HOSTS, now=town.clock.now_ms(), ttl=HOUR)
    key.load(Watched(ssl.PROTOCOL_TLS_SERVER), [issued.value])
    (text,) = seen
    assert "BEGIN ENCRYPTED PRIVATE KEY" in text
    assert "BEGIN PRIVATE KEY" not in text
    assert list((tmp_path / "drafts").iterdir()) == []
    assert repr(key) == "TlsKey()"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_a_bundle_without_authorities_trusts_nobody(town: Town) -> None:
    empty = TrustBundle(domain=DOMAIN, certificates=(), keys={}, sequence=1, refresh_hint=1)
    with pytest.raises(Malformed):
        town.pin(bundle=empty)
