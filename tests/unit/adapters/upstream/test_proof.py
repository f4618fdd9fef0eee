"""A peer that has to prove an agent's key: whoever else listens there is told nothing, not even our credential."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from citywatch.adapters.tls import SpiffePin
from citywatch.adapters.upstream import HttpServer, HttpUpstream
from citywatch.core.errors import Unavailable
from citywatch.core.identity.bundle import TrustBundle
from tests.identity_city import BILLING, HOUR
from tests.unit.adapters.test_tls import Town
from tests.unit.adapters.upstream.test_http import certificate
from tests.upstream_world import ASK, REPLY, World, response, says, world

OTHER = "spiffe://acme.example/agent/other"


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def serving(chain: list[bytes], key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with NamedTemporaryFile("w", suffix=".pem") as file:
        file.write("".join(map(ssl.DER_cert_to_PEM_cert, chain)))
        file.flush()
        context.load_cert_chain(file.name, key)
    return context


def proving(town: Town, there: World, name: str = str(BILLING), bundle: TrustBundle | None = None) -> HttpUpstream:
    def proof() -> tuple[ssl.SSLContext, Callable[[ssl.SSLObject], object]]:
        pin = SpiffePin(bundle or town.bundle, name, town.clock.now_ms, 0)
        return pin.context, pin.check

    server = HttpServer(name="billing", url=f"https://127.0.0.1:{there.port}/a2a")
    return HttpUpstream(server, lambda: "Bearer ours", proof)


async def test_a_peer_that_shows_the_agents_certificate_is_spoken_to_over_kept_connections(town: Town) -> None:
    async with world(says(response()), ssl=serving(*town.agent("own"))) as there:
        upstream = proving(town, there)
        for _ in range(2):
            assert (await upstream.send("a", ASK, {}, None, repeatable=False)).body == REPLY
        assert there.connections == 1
        await upstream.close()


async def test_whoever_else_listens_there_is_told_nothing(town: Town, tmp_path: Path) -> None:
    """The attack: somebody takes the address, with another agent's papers, old ones, a stranger's or their own."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    stranger = Town(tmp_path / "elsewhere")
    own, key = certificate(tmp_path, "127.0.0.1")
    self_made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    self_made.load_cert_chain(own, key)
    for context, name in (
        (serving(*town.agent("another")), OTHER),
        (serving(*town.agent("old", ttl=HOUR, ago=2 * HOUR)), str(BILLING)),
        (serving(*stranger.agent("theirs")), str(BILLING)),
        (self_made, str(BILLING)),
    ):
        async with world(says(response()), ssl=context) as there:
            upstream = proving(town, there, name)
            with pytest.raises(Unavailable, match="did not prove itself"):
                await upstream.send("a", ASK, {}, None, repeatable=False)
            assert there.seen == []
            await upstream.close()


async def test_without_an_authority_nobody_is_believed(town: Town) -> None:
    nobody = TrustBundle(domain="acme.example", certificates=(), keys={}, sequence=1, refresh_hint=60)
    async with world(says(response()), ssl=serving(*town.agent("own"))) as there:
        upstream = proving(town, there, bundle=nobody)
        with pytest.raises(Unavailable, match="did not prove itself"):
            await upstream.send("a", ASK, {}, None, repeatable=False)
        assert there.connections == 0
        await upstream.close()
