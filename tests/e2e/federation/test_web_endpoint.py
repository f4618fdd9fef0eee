"""A bundle under a certificate of the Web's, served by one gateway and followed by another."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.e2e.federation.test_federation import AGENTS, OURS, PARTNER, Land
from tests.e2e.gateway.city import look
from tests.e2e.gateway.desk import wait_for
from tests.ports import free_port
from tests.unit.adapters.gateway.test_notice import Web

SERVED = """
bundle_endpoint:
  listen: https://127.0.0.1:{port}
  certificate: {certificate}
  key: {key}
"""
FOLLOWED = """
federation:
  partner.example:
    endpoint: https://127.0.0.1:{port}/.well-known/spiffe-bundle
    profile: https_web
    ca: {ca}
    refresh: 1s
"""


class World:
    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.web = Web(root)
        self.web.certify()
        self.port = free_port()
        self.partner, self.home = Land(root / "partner", stack, PARTNER), Land(root / "home", stack, OURS)
        served = SERVED.format(port=self.port, certificate=self.web.certificate, key=self.web.own_key)
        self.partner.file.write_text(self.partner.file.read_text() + served)
        router = AGENTS.split("  partner_gate")[0].lstrip("\n")
        text = self.home.file.read_text().replace("servers:\n", router + "servers:\n", 1)
        self.home.file.write_text(text + FOLLOWED.format(port=self.port, ca=self.web.ca))
        self.partner.add("router")
        self.partner.desk.up()
        self.home.desk.start_upstream()
        self.home.add("clerk")
        self.home.desk.run("tools", "approve", "--yes")
        self.home.desk.up()

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.web.ca))

    async def asks(self) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(self.home.city.papers("clerk") / "bundle.pem"))
        papers = self.partner.city.papers("router")
        context.load_cert_chain(papers / "svid.pem", papers / "key.pem")
        async with httpx2.AsyncClient(verify=context, timeout=30) as http:
            return await look(http, self.home.city.url, {})

    def believed(self) -> int:
        return sum(event["type"] == "bundle_believed" for event in self.home.desk.events())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("web"), stack)


async def test_a_partner_is_believed_by_the_bundle_that_its_web_address_shows(world: World) -> None:
    wait_for(lambda: world.believed() >= 1, "the first bundle, which no file gave")
    async with asyncio.timeout(60):  # it is entered first, and then a listener trusts it
        while True:
            try:
                assert await world.asks() == (200, "done")
            except ssl.SSLError:
                continue
            break


def test_that_address_shows_the_bundle_and_no_way_to_a_server(world: World) -> None:
    """A certificate for a host's name is easier to come by than an authority's key."""
    with httpx2.Client(verify=world.trust(), timeout=30) as http:
        bundle = http.get(f"{world.endpoint}/.well-known/spiffe-bundle")
        assert (bundle.status_code, bundle.headers["content-type"]) == (200, "application/json")
        plain = http.get(f"{world.endpoint}/.well-known/spiffe-bundle/svid").json()
        assert {key["use"] for key in plain["keys"]} == {"x509-svid", "jwt-svid"}
        for path in ("/mcp/desk", "/citywatch/renew", "/citywatch/join", "/citywatch/health", "/a2a/x"):
            assert http.get(f"{world.endpoint}{path}").status_code == 404
            assert http.post(f"{world.endpoint}{path}", json={}).status_code == 404


def test_a_certificate_that_was_renewed_is_shown_without_a_restart(world: World) -> None:
    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", world.port))

    before = shown()
    world.web.certify()
    wait_for(lambda: shown() != before, "the new certificate")
    world.web.own_key.chmod(0o644)
    log = world.partner.desk.folder / "up.log"
    wait_for(lambda: "open to others" in log.read_text(), "the operator's line")
    world.web.own_key.chmod(0o600)
    wait_for(lambda: "it can be read again" in log.read_text(), "the operator's line")


async def test_a_rotation_is_followed_over_it(world: World) -> None:
    before = world.believed()
    for step in range(3):
        world.partner.desk.run("authority", "rotate", "--now")
        wait_for(lambda step=step: world.believed() > before + step, "the new bundle")  # type: ignore[misc]
    world.partner.desk.run("agent", "certificate", "router")
    assert await world.asks() == (200, "done")


async def test_an_authority_that_is_not_named_proves_no_endpoint(world: World, tmp_path: Path) -> None:
    other = Web(tmp_path)
    world.home.desk.down()
    text = world.home.file.read_text()
    world.home.file.write_text(text.replace(str(world.web.ca), str(other.ca)))
    before = world.believed()
    world.home.desk.up()
    log = world.home.desk.folder / "up.log"
    wait_for(lambda: "did not prove itself" in log.read_text(), "the operator's line")
    assert world.believed() == before
