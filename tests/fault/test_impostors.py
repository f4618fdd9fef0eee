"""A peer that is an agent of ours, and somebody else at its address: another agent, a stranger, the same one revoked.

Real TLS on loopback. Whoever answers would be told what only that agent may know, and be believed as that agent is.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from citywatch.adapters.keys import KeySigner
from citywatch.adapters.memory import MemoryClock
from citywatch.adapters.upstream import HttpServer, HttpUpstream
from citywatch.core.errors import Code, Unavailable
from citywatch.core.names import AgentId
from citywatch.service.answering import Answering
from citywatch.service.authority import p256
from tests.identity_city import BILLING, DOMAIN, HOUR, LEEWAY, City
from tests.unit.adapters.upstream.test_http import certificate
from tests.upstream_world import ASK, REPLY, World, response, says, world

MALLORY = AgentId(DOMAIN, "mallory")


def of_today() -> City:
    """TLS has a clock of its own, which nobody moves."""
    return City(clock=MemoryClock(int(time.time() * 1000)))


class Peers:
    """A city, and servers that show what one may wish for."""

    def __init__(self, folder: Path) -> None:
        self.city = of_today()
        self.folder = folder

    async def context(self, agent: AgentId, *, by: City | None = None, registered: bool = True) -> ssl.SSLContext:
        """What a server of this agent shows; `by` another authority of the same name."""
        key = ec.generate_private_key(ec.SECP256R1())
        signer = KeySigner(key)
        if registered:
            await self.city.admin.add_agent(agent.name, signer.public, "alice")
        issuing = (by or self.city).authority
        issued = issuing.issue_x509(agent, p256(signer.public), now=self.city.clock.now_ms(), ttl=HOUR)
        (self.folder / "svid.pem").write_text(ssl.DER_cert_to_PEM_cert(issued.value))
        (self.folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return serving(self.folder / "svid.pem", self.folder / "key.pem")

    def upstream(self, there: World) -> HttpUpstream:
        answering = Answering(
            BILLING,
            store=self.city.store,
            clock=self.city.clock,
            bundle=lambda: self.city.bundle,
            leeway_ms=LEEWAY,
        )
        return there.upstream(url=f"https://127.0.0.1:{there.port}/a2a", shown=answering)


def serving(svid: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(svid, key)
    return context


async def refused(upstream: HttpUpstream, code: Code = Code.UPSTREAM_UNPROVEN) -> str:
    """What a sender is told: no word of a library's, and none of its own that left."""
    with pytest.raises(Unavailable) as caught:
        await upstream.send("a", ASK, {}, None, repeatable=False)
    assert caught.value.code is code
    assert "Error" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def peers(tmp_path: Path) -> Peers:
    return Peers(tmp_path)


async def test_the_agent_itself_is_spoken_to_though_no_host_is_in_its_papers(peers: Peers) -> None:
    async with world(says(response()), ssl=await peers.context(BILLING)) as there:
        upstream = peers.upstream(there)
        for _ in range(2):
            assert (await upstream.send("a", ASK, {}, None, repeatable=False)).body == REPLY
        assert there.connections == 1
        await upstream.close()


async def test_another_agent_of_ours_is_told_nothing(peers: Peers) -> None:
    async with world(says(response()), ssl=await peers.context(MALLORY)) as there:
        upstream = peers.upstream(there)
        assert "another agent answers there" in await refused(upstream)
        assert there.seen == [], "not a byte of the message has left"
        await upstream.close()


async def test_papers_of_another_authority_of_our_name_are_a_stranger_s(peers: Peers) -> None:
    context = await peers.context(BILLING, by=of_today())
    async with world(says(response()), ssl=context) as there:
        upstream = peers.upstream(there)
        assert "shows no certificate that proves it" in await refused(upstream)
        assert there.seen == []
        await upstream.close()


async def test_a_certificate_for_the_very_host_is_a_stranger_s(peers: Peers, tmp_path: Path) -> None:
    """What any public authority gives to whoever holds the address, and what the file's `ca` would have believed."""
    cert, key = certificate(tmp_path, "127.0.0.1")
    async with world(says(response()), ssl=serving(cert, key)) as there:
        upstream = peers.upstream(there)
        assert "shows no certificate that proves it" in await refused(upstream)
        assert there.seen == []
        await upstream.close()


async def test_a_server_without_tls_is_a_stranger_s(peers: Peers) -> None:
    async with world(says(response())) as there:
        upstream = peers.upstream(there)
        assert "cannot be reached" in await refused(upstream, Code.UPSTREAM_UNAVAILABLE)
        assert there.seen == []
        await upstream.close()


async def _revoke(peers: Peers) -> None:
    await peers.city.admin.revoke_agent("billing", "stolen", "alice")


async def _expire(peers: Peers) -> None:
    peers.city.clock.advance(HOUR + LEEWAY)


async def _replace(peers: Peers) -> None:
    await peers.city.admin.revoke_agent("billing", "stolen", "alice")
    key = KeySigner(ec.generate_private_key(ec.SECP256R1()))
    await peers.city.admin.add_agent("billing", key.public, "alice")


@pytest.mark.parametrize(
    ("turn", "told"), [(_revoke, "agent_revoked"), (_expire, "expired"), (_replace, "key_not_registered")]
)
async def test_who_was_the_agent_is_it_no_more_on_a_connection_that_is_open(
    peers: Peers, turn: Callable[[Peers], object], told: str
) -> None:
    async with world(says(response()), ssl=await peers.context(BILLING)) as there:
        upstream = peers.upstream(there)
        assert (await upstream.send("a", ASK, {}, None, repeatable=False)).body == REPLY
        await turn(peers)  # type: ignore[misc]
        assert told in await refused(upstream)
        assert len(there.seen) == 1
        await there.ended[0].wait()  # the connection is ended, not kept
        await upstream.close()


async def test_after_a_rotation_the_new_authority_is_believed_and_the_old_one_is_not(peers: Peers) -> None:
    context = await peers.context(BILLING)
    async with world(says(response()), ssl=context) as there:
        upstream = peers.upstream(there)
        assert (await upstream.send("a", ASK, {}, None, repeatable=False)).body == REPLY
        peers.city.bundle = of_today().bundle
        assert "is another" in await refused(upstream), "the connection that is open is asked again"
        assert "shows no certificate that proves it" in await refused(upstream)
        await upstream.close()


def test_whom_a_server_has_to_be_is_shown_under_tls_alone() -> None:
    with pytest.raises(ValueError, match="without https"):
        HttpUpstream(HttpServer(name="a", url="http://127.0.0.1:1", shown=Answering.__new__(Answering)), None)
