"""Agents that prove themselves by certificate, with the official SDK's clients."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from citywatch.adapters.system import SystemClock
from citywatch.adapters.tls import GatewayPin
from citywatch.core.identity.certificate import certificate_key, parse_certificate
from citywatch.core.identity.papers import parse_introduction
from citywatch.core.signature import thumbprint
from tests.e2e.gateway.city import City, look, open_city
from tests.e2e.gateway.desk import wait_for
from tests.e2e.gateway.shifted import put

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """One gateway for all; each test that spoils an agent spoils one of its own."""
    with open_city(tmp_path_factory.mktemp("mtls")) as city:
        yield city


@asynccontextmanager
async def client(city: City, mode: str) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(verify=city.of("clerk"), timeout=30) as http,
        Client(streamable_http_client(city.url, http_client=http), mode=mode) as connected,
    ):
        yield connected


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_certificate_is_all_that_an_agent_needs(city: City, mode: str) -> None:
    async with client(city, mode) as agent:
        assert {tool.name for tool in (await agent.list_tools()).tools} == {"look", "pay", "count", "nap"}
        assert not (await agent.call_tool("pay", {"to": "ann", "amount": 100})).is_error
        refused = await agent.call_tool("pay", {"to": "eve", "amount": 101})
        assert (refused.meta or {})["citywatch/code"] == "no_permit"
    assert city.desk.ledger()[-1] == "ann 100"


async def test_its_own_token_may_come_along_and_another_agents_may_not(city: City) -> None:
    own = city.desk.run("agent", "token", "clerk").stdout.strip()
    foreign = city.desk.run("agent", "token", "other").stdout.strip()
    assert await city.refusal(city.of("clerk"), {"Authorization": f"Bearer {own}"}) == (200, "done")
    assert await city.refusal(city.of("clerk"), {"Authorization": f"Bearer {foreign}"}) == (401, "credential_malformed")
    assert await city.refusal(city.of("clerk"), {"Authorization": "Bearer rubbish"}) == (401, "credential_malformed")


async def test_no_credential_is_said_to_be_missing(city: City) -> None:
    assert await city.refusal(city.trust()) == (401, "credential_missing")


async def test_a_revoked_agent_is_refused_on_the_connection_that_it_has(city: City) -> None:
    city.desk.run("agent", "add", "turned")
    city.desk.run("agent", "certificate", "turned")
    async with httpx2.AsyncClient(verify=city.of("turned"), timeout=30) as http:
        assert await look(http, city.url, {}) == (200, "done")
        city.desk.run("agent", "revoke", "turned", "--reason", "turned")
        assert (await look(http, city.url, {}))[1] == "agent_revoked"
    told = [one for one in city.desk.events() if one["type"] == "rejected" and one["code"] == "agent_revoked"]
    assert [one["peer"].rpartition("/")[2] for one in told] == ["turned"], "the log says who, for the papers are good"
    done = city.desk.run("agent", "certificate", "turned", check=False)
    assert done.returncode == 1
    assert "agent_revoked" in done.stderr


async def test_a_certificate_that_ends_is_refused_on_the_connection_that_it_opened(city: City) -> None:
    """What TLS saw when the connection began is asked again of each request."""
    async with httpx2.AsyncClient(verify=city.of("brief"), timeout=30) as http:
        assert await look(http, city.url, {}) == (200, "done")
        put(city.desk.folder, 15 * MINUTE_MS)
        try:
            assert (await look(http, city.url, {}))[1] == "credential_expired"
            assert await city.refusal(city.of("clerk")) == (200, "done")  # whose certificate lasts an hour
        finally:
            put(city.desk.folder, 0)
        assert await look(http, city.url, {}) == (200, "done")


def shown(city: City) -> bytes:
    """The certificate that the gateway shows to a new connection, whatever the client's clock thinks of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", city.tls_port), timeout=30) as plain,
        context.wrap_socket(plain) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    return der


def key_of(der: bytes) -> str:
    return thumbprint(certificate_key(parse_certificate(der)))


async def test_the_gateways_key_lasts_half_an_hour_and_changes_under_an_established_connection(city: City) -> None:
    """First the clock is put forward, so that a renewal is due; then back, before the new certificate begins."""
    first = key_of(shown(city))
    async with httpx2.AsyncClient(verify=city.of("clerk"), timeout=30) as http:
        assert await look(http, city.url, {}) == (200, "done")
        put(city.desk.folder, 31 * MINUTE_MS)
        try:
            wait_for(lambda: key_of(shown(city)) != first, "a new key")
            second = key_of(shown(city))
            assert await look(http, city.url, {}) == (200, "done")
        finally:
            put(city.desk.folder, 0)
        wait_for(lambda: key_of(shown(city)) not in (first, second), "a certificate of today")
        assert await look(http, city.url, {}) == (200, "done")
    assert await city.refusal(city.of("clerk")) == (200, "done")
    introduction = parse_introduction((city.papers("clerk") / "introduction.json").read_bytes())
    pin = GatewayPin(introduction.bundle, SystemClock().now_ms, 0)
    _, writer = await asyncio.open_connection("127.0.0.1", city.tls_port, ssl=pin.context, server_hostname="localhost")
    proved = pin.check(writer.get_extra_info("ssl_object"))
    writer.transport.abort()
    assert proved.not_after - SystemClock().now_ms() <= HOUR_MS
    issued = [one["key"] for one in city.desk.events() if one.get("agent") == proved.gateway]
    assert issued == [first, second, key_of(shown(city))]
    assert not list((city.desk.folder / ".citywatch" / "keys").glob("*gateway*"))


async def test_a_client_sees_that_it_is_the_gateway(city: City) -> None:
    """An ordinary TLS client with the bundle checks the address; without the bundle it does not connect."""
    async with httpx2.AsyncClient(timeout=30) as http:
        with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await http.get(city.url)
    reader = ssl.create_default_context(cafile=str(city.papers("clerk") / "bundle.pem"))
    async with httpx2.AsyncClient(verify=reader, timeout=30) as http:
        health = await http.get(f"https://127.0.0.1:{city.tls_port}/citywatch/health")
        assert health.status_code == 200


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]", "192.0.2.1"])
def test_plain_http_off_loopback_does_not_start(city: City, tmp_path: Path, address: str) -> None:
    text = (city.desk.folder / "citywatch.yaml").read_text()
    file = tmp_path / "citywatch.yaml"
    file.write_text(text.replace("http://127.0.0.1", f"http://{address}", 1))
    done = city.desk.run("-c", str(file), "up", check=False)
    assert done.returncode == 2
    assert "plain http is for loopback only" in done.stderr
    assert f"line {text[: text.index('listen:')].count(chr(10)) + 1}," in done.stderr
