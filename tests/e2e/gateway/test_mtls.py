"""Agents that prove themselves by certificate, with the official SDK's clients; and all whom TLS must not let in."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.gateway.desk import Desk, free_port
from tests.fault.test_killed_gateway import MODERN

SHIFTED = [sys.executable, str(Path(__file__).with_name("shifted.py"))]
HOUR_MS = 3_600_000


class City:
    """A gateway that listens on https too, and agents with papers of their own."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.tls_port = free_port()
        file = desk.folder / "citywatch.yaml"
        plain = file.read_text()
        told = plain.replace('"]', f'", "https://127.0.0.1:{self.tls_port}"]', 1)
        told = told.replace("agents:\n", "agents:\n  brief:\n    roles: [payer]\n    svid_ttl: 1m\n  other: {}\n")
        file.write_text(told)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}/mcp/desk"

    def papers(self, name: str) -> Path:
        return self.desk.folder / "agents" / name

    def trust(self) -> ssl.SSLContext:
        """What a client outside has: the bundle, and nothing else."""
        return ssl.create_default_context(cafile=str(self.papers("clerk") / "bundle.pem"))

    def context(self, certificate: Path, key: Path) -> ssl.SSLContext:
        context = self.trust()
        context.load_cert_chain(certificate, key)
        return context

    def of(self, name: str) -> ssl.SSLContext:
        return self.context(self.papers(name) / "svid.pem", self.papers(name) / "key.pem")

    async def refusal(self, context: ssl.SSLContext, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """The status and the code that a call gets."""
        async with httpx2.AsyncClient(verify=context, timeout=30) as http:
            return await look(http, self.url, headers or {})


async def look(http: httpx2.AsyncClient, url: str, headers: dict[str, str]) -> tuple[int, str]:
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params: dict[str, Any] = {"name": "look", "arguments": {}, "_meta": meta}
    own = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "look",
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    response = await http.post(url, json=message, headers=own | headers)
    answer = json.loads(response.text if response.text.startswith("{") else response.text.partition("data: ")[2])
    if "error" in answer:
        return response.status_code, answer["error"]["data"]["code"]
    return response.status_code, answer["result"].get("_meta", {}).get("citywatch/code", "done")


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """One gateway for all; each test that spoils an agent spoils one of its own."""
    with ExitStack() as stack:
        desk = Desk(tmp_path_factory.mktemp("mtls"), stack)
        city = City(desk)
        desk.start_upstream()
        for name in ("clerk", "brief", "other"):
            desk.run("agent", "add", name)
            desk.run("agent", "certificate", name)
        desk.run("tools", "approve", "--yes")
        desk.up([*SHIFTED, "up"])
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
    done = city.desk.run("agent", "certificate", "turned", check=False)
    assert done.returncode == 1
    assert "agent_revoked" in done.stderr


async def test_a_certificate_that_ends_is_refused_on_the_connection_that_it_opened(city: City) -> None:
    """What TLS saw when the connection began is asked again of each request."""
    shift = city.desk.folder / "shift"
    async with httpx2.AsyncClient(verify=city.of("brief"), timeout=30) as http:
        assert await look(http, city.url, {}) == (200, "done")
        shift.write_text(str(5 * 60_000))
        try:
            assert (await look(http, city.url, {}))[1] == "credential_expired"
            assert await city.refusal(city.of("clerk")) == (200, "done")  # whose certificate lasts an hour
        finally:
            shift.unlink()
        assert await look(http, city.url, {}) == (200, "done")


async def assert_no_connection(city: City, context: ssl.SSLContext) -> None:
    """The handshake ends without an answer, and nothing of it reaches the gates; an agent in order goes on."""
    before = len(city.desk.events())
    with pytest.raises(httpx2.TransportError):
        await city.refusal(context)
    assert len(city.desk.events()) == before
    assert await city.refusal(city.of("clerk")) == (200, "done")


async def test_a_certificate_that_has_ended_opens_no_connection(city: City, tmp_path: Path) -> None:
    spent = tmp_path / "spent"
    shutil.copytree(city.papers("clerk"), spent)
    (tmp_path / "shift").write_text(str(-2 * HOUR_MS))
    command = ["-c", str(city.desk.folder / "citywatch.yaml"), "agent", "certificate", "clerk", "--out", str(spent)]
    subprocess.run([*SHIFTED, *command], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    await assert_no_connection(city, city.context(spent / "svid.pem", spent / "key.pem"))


async def test_another_authority_and_no_authority_open_no_connection(city: City, tmp_path: Path) -> None:
    """Both name our agent; one is signed by a stranger's authority, the other by itself."""
    stranger = ec.generate_private_key(ec.SECP256R1())
    own = ec.generate_private_key(ec.SECP256R1())
    for signer, issuer in ((stranger, "stranger"), (own, "agent")):
        write_pair(tmp_path, own, signer, issuer)
        await assert_no_connection(city, city.context(tmp_path / "svid.pem", tmp_path / "key.pem"))


async def test_a_foreign_city_opens_no_connection(city: City, tmp_path: Path) -> None:
    """Another trust domain of citywatch, whose papers are in perfect order."""
    (tmp_path / "policies").mkdir()
    shutil.copy(city.desk.folder / "policies" / "desk.cedar", tmp_path / "policies")
    text = (city.desk.folder / "citywatch.yaml").read_text().replace("t.example", "u.example")
    (tmp_path / "citywatch.yaml").write_text(text)
    foreign = ("-c", str(tmp_path / "citywatch.yaml"))
    city.desk.run(*foreign, "agent", "add", "clerk")
    city.desk.run(*foreign, "agent", "certificate", "clerk")
    papers = tmp_path / "agents" / "clerk"
    await assert_no_connection(city, city.context(papers / "svid.pem", papers / "key.pem"))
    token = city.desk.run(*foreign, "agent", "token", "clerk").stdout.strip()
    status, code = await city.refusal(city.trust(), {"Authorization": f"Bearer {token}"})
    assert (status, code) == (401, "credential_wrong_domain")


async def test_the_authority_is_no_agent(city: City, tmp_path: Path) -> None:
    """Whoever has stolen the authority's key still has to issue; its own certificate names nobody."""
    shutil.copy(city.desk.folder / ".citywatch" / "keys" / "authority-1-certificates.pem", tmp_path / "key.pem")
    context = city.context(city.papers("clerk") / "bundle.pem", tmp_path / "key.pem")
    await assert_no_connection(city, context)


async def test_an_agents_leaf_signs_for_nobody(city: City, tmp_path: Path) -> None:
    signer = load_pem_private_key((city.papers("other") / "key.pem").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    own = ec.generate_private_key(ec.SECP256R1())
    leaf = x509.load_pem_x509_certificate((city.papers("other") / "svid.pem").read_bytes())
    write_pair(tmp_path, own, signer, leaf.subject)
    with (tmp_path / "svid.pem").open("ab") as chain:
        chain.write((city.papers("other") / "svid.pem").read_bytes())
    await assert_no_connection(city, city.context(tmp_path / "svid.pem", tmp_path / "key.pem"))


async def test_old_tls_and_plain_bytes_get_nowhere(city: City) -> None:
    old = city.of("clerk")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    await assert_no_connection(city, old)
    async with httpx2.AsyncClient(timeout=30) as http:
        with suppress(httpx2.TransportError):
            response = await http.get(city.url.replace("https", "http"))
            assert response.status_code >= 400


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


def write_pair(
    folder: Path, own: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, issuer: str | x509.Name
) -> None:
    """A leaf that looks just like ours, for the agent `clerk`."""
    name = issuer if isinstance(issuer, x509.Name) else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    now = datetime.now(UTC)
    uses = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    identity = x509.UniformResourceIdentifier("spiffe://t.example/agent/clerk")
    usage = {
        "key_cert_sign": False,
        "crl_sign": False,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    certificate = (
        x509.CertificateBuilder()
        .public_key(own.public_key())
        .subject_name(x509.Name([]))
        .issuer_name(name)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName([identity]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, SHA256())
    )
    (folder / "svid.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
