"""Chains over real sockets: what a client shows beside its leaf reaches whoever judges it, in its order, both ways."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from citywatch.adapters.gateway.secure import CHAIN, Handshakes, TlsProtocol
from citywatch.adapters.tls import GatewayTls, SpiffePin, TlsKey, shown_chain
from citywatch.core.errors import Code, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.elsewhere import Believed, Domains, check_certificate, verify_certificate
from tests.unit.core.identity.forgery import AGENT, AUDIENCE, DOMAIN, HOUR, Key, certificate, draw
from tests.unit.core.identity.hierarchy import Tree, bundle_of

EMPTY = TrustBundle(domain=DOMAIN, certificates=(), keys={}, sequence=0, refresh_hint=0)


def pkcs8(key: Key) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def client(chain: Sequence[bytes], key: Key, folder: Path) -> ssl.SSLContext:
    """Somebody who shows these certificates, and whom the server's side does not matter to."""
    file = folder / "chain.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
    file.write_text("".join(map(ssl.DER_cert_to_PEM_cert, chain)) + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(file)
    return context


class Gate:
    """A gateway below an issuer outside, as far as its handshakes; `seen` are the chains that came through them."""

    def __init__(self, tree: Tree, bundle: TrustBundle | None = None) -> None:
        self.bundle = bundle or tree.bundle()
        self.tls = GatewayTls()
        self.tls.install(tree.chain(uris=(AUDIENCE,)), TlsKey(pkcs8(tree.leaf_key)), self.bundle)
        self.domains = Domains(home=EMPTY, others={DOMAIN: Believed(self.bundle)}, named={AGENT: AGENT})
        self.seen: list[tuple[bytes, ...]] = []
        self.told: list[Code] = []

    async def _hear(self, refused: Refused, address: str) -> None:
        self.told.append(refused.code)

    def _protocol(self) -> Any:
        gate = self

        class Seeing(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                gate.seen.append(transport.get_extra_info(CHAIN))
                transport.write(b"in")
                transport.close()

            def eof_received(self) -> None:
                pass

        return Seeing()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        handshakes = Handshakes(10, 30.0, self._hear)

        def protocol() -> TlsProtocol:
            return TlsProtocol(
                self.tls.context,
                self._protocol,
                handshakes,
                lambda chain: check_certificate(chain, self.domains),
                shown_chain,
            )

        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await handshakes.close()


async def visit(port: int, context: ssl.SSLContext, check: Callable[[ssl.SSLObject], object] | None = None) -> bytes:
    with suppress(ssl.SSLError, ConnectionError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="gate")
        try:
            if check is not None:
                check(writer.get_extra_info("ssl_object"))
            return await reader.read()
        finally:
            writer.transport.abort()
    return b""


@pytest.mark.parametrize("between", [0, 1, 2, 3])
async def test_a_client_below_authorities_comes_in_with_all_that_it_showed(between: int, tmp_path: Path) -> None:
    tree = Tree(between)
    gate, chain = Gate(tree), tree.chain()
    async with gate.open() as port:
        assert await visit(port, client(chain, tree.leaf_key, tmp_path)) == b"in"
    assert gate.seen == [tuple(chain)]
    assert verify_certificate(gate.seen[0], gate.domains).agent == AGENT


async def test_an_authority_of_the_bundle_that_another_signed_is_where_a_path_ends(tmp_path: Path) -> None:
    tree = Tree(2)
    gate = Gate(tree, bundle_of([tree.ders[1]]))
    async with gate.open() as port:
        assert await visit(port, client(tree.chain()[:2], tree.leaf_key, tmp_path)) == b"in"


@pytest.mark.parametrize("between", [0, 1, 2])
async def test_who_is_asked_for_by_a_spiffe_id_may_stand_below_authorities(between: int) -> None:
    tree = Tree(between)
    gate = Gate(tree)
    pin = SpiffePin(gate.bundle, AUDIENCE, lambda: tree.now, 0)
    async with gate.open() as port:
        assert await visit(port, pin.context, pin.check) == b"in"
        other = SpiffePin(gate.bundle, AGENT, lambda: tree.now, 0)
        with pytest.raises(Refused) as caught:
            await visit(port, other.context, other.check)
    assert caught.value.code is Code.CREDENTIAL_BAD_NAME


async def test_a_path_that_the_library_puts_right_is_refused(tmp_path: Path) -> None:
    """It searches among what was sent; we read what was shown, and a second reading is one too many."""
    tree, other = Tree(2), Tree(1)
    leaf, last, first = tree.chain()
    gate = Gate(tree)
    async with gate.open() as port:
        for chain in ([leaf, first, last], [leaf, last, first, other.ders[1]]):
            assert await visit(port, client(chain, tree.leaf_key, tmp_path)) == b""
    assert gate.seen == []
    assert gate.told == [Code.CREDENTIAL_UNTRUSTED] * 2


async def test_a_neighbour_below_a_common_root_signs_no_name_of_ours(tmp_path: Path) -> None:
    """The library lets it in: the root is believed, and it knows of no trust domains."""
    tree = Tree(1, {0: {"uris": ()}})
    key, holder = draw(), draw()
    neighbour = tree.authority(key, tree.keys[0], 5, 0, uris=("spiffe://web.example",))
    forged = certificate(holder, key, issuer="authority 5", start=tree.now - HOUR, end=tree.now + HOUR, linked=True)
    gate = Gate(tree)
    async with gate.open() as port:
        assert await visit(port, client([forged, neighbour], holder, tmp_path)) == b""
    assert gate.told == [Code.CREDENTIAL_WRONG_DOMAIN]


class Older:
    """A library that tells of the leaf alone, or of something else than the leaf."""

    def __init__(self, leaf: bytes | None, *chain: bytes) -> None:
        self._leaf, self._chain = leaf, chain

    def getpeercert(self, binary_form: bool = False) -> bytes | None:
        return self._leaf

    def get_unverified_chain(self) -> list[bytes]:
        return list(self._chain)


def test_without_a_certificate_there_is_no_chain_and_the_leaf_is_always_first() -> None:
    assert shown_chain(Older(None)) == ()  # type: ignore[arg-type]
    assert shown_chain(Older(b"leaf")) == (b"leaf",)  # type: ignore[arg-type]
    assert shown_chain(Older(b"leaf", b"leaf", b"above")) == (b"leaf", b"above")  # type: ignore[arg-type]
    assert shown_chain(Older(b"leaf", b"above", b"leaf")) == (b"leaf",)  # type: ignore[arg-type]
