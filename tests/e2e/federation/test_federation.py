"""Two trust domains, each behind a gateway of its own: an agent of one calls the other's, by mTLS and by token."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from spiffe import JwtBundle, TrustDomain, X509Bundle

from citywatch.core.identity.bundle import parse_bundle
from tests.e2e.gateway.city import City, look, write_pair
from tests.e2e.gateway.desk import Desk, wait_for

OURS, PARTNER, RIVAL = "t.example", "partner.example", "rival.example"
AGENTS = """
  partner_router:
    spiffe_id: spiffe://partner.example/agent/router
    roles: [payer]
  partner_gate:
    spiffe_id: spiffe://partner.example/gateway
    roles: [payer]
  rival_router:
    spiffe_id: spiffe://rival.example/agent/router
"""
FEDERATION = """
federation:
  {domain}:
    bundle: {domain}.json
    endpoint: https://127.0.0.1:{port}/.well-known/spiffe-bundle
    profile: https_spiffe
    endpoint_id: spiffe://{domain}/gateway
    refresh: 1s
    max_age: 1m
"""
FAR = """
  far:
    url: https://127.0.0.1:{port}/mcp/desk
    spiffe_id: spiffe://t.example/{name}
    tools: {{look: {{effect: read}}}}
federation: {{t.example: {{bundle: t.example.json}}}}
"""
POLICY = """
@id("theirs") forbid(principal is Agent, action == Action::"desk/pay", resource)
when { principal.domain != "partner.example" };
"""


class Land:
    """A trust domain with its own folder, gateway and agent `router`."""

    def __init__(self, folder: Path, stack: ExitStack, domain: str) -> None:
        folder.mkdir()
        self.city = City(Desk(folder, stack))
        self.domain = domain
        self.file = folder / "citywatch.yaml"
        self.file.write_text(self.file.read_text().replace("t.example", domain).replace("  other: {}", "  router: {}"))

    @property
    def desk(self) -> Desk:
        return self.city.desk

    def add(self, *names: str) -> None:
        for name in names:
            self.desk.run("agent", "add", name)
            self.desk.run("agent", "certificate", name)

    def bundle(self) -> bytes:
        return self.desk.run("federation", "bundle").stdout.encode()


class World:
    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.partner = Land(root / "partner", stack, PARTNER)
        self.rival = Land(root / "rival", stack, RIVAL)
        self.home = Land(root / "home", stack, OURS)
        text = self.home.file.read_text().replace("servers:\n", AGENTS.lstrip("\n") + "servers:\n", 1)
        for other in (self.partner, self.rival):
            other.add("router")
            (root / "home" / f"{other.domain}.json").write_bytes(other.bundle())
            part = FEDERATION.format(domain=other.domain, port=other.city.tls_port)
            text += part if "federation:" not in text else part.replace("\nfederation:\n", "")
        self.home.file.write_text(text)
        (root / "home" / "policies" / "domains.cedar").write_text(POLICY)
        self.partner.desk.up()
        self.home.desk.start_upstream()
        self.home.add("clerk")
        self.home.desk.run("tools", "approve", "--yes")
        self.home.desk.up()

    def shown(self, land: Land, name: str) -> ssl.SSLContext:
        """A client that believes our gateway and shows papers of its own land."""
        context = ssl.create_default_context(cafile=str(self.home.city.papers("clerk") / "bundle.pem"))
        context.load_cert_chain(land.city.papers(name) / "svid.pem", land.city.papers(name) / "key.pem")
        return context

    async def asks(self, land: Land, name: str = "router") -> tuple[int, str]:
        async with httpx2.AsyncClient(verify=self.shown(land, name), timeout=30) as http:
            return await look(http, self.home.city.url, {})

    def reaches_us(self, name: str) -> None:
        """Have the partner's file name our gateway as a server, under our authority, and as `name`."""
        (self.partner.desk.folder / "t.example.json").write_bytes(self.home.bundle())
        plain = self.partner.file.read_text().partition("\n  far:")[0]
        far = FAR.format(port=self.home.city.tls_port, name=name)
        self.partner.file.write_text(f"{plain.rstrip()}{far.rstrip()}\n")

    def rejected(self) -> list[dict[str, Any]]:
        return [event for event in self.home.desk.events() if event["type"] == "rejected"]

    def believed(self) -> list[tuple[str, int]]:
        found = [event for event in self.home.desk.events() if event["type"] == "bundle_believed"]
        return [(event["domain"], event["sequence"]) for event in found]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("federation"), stack)


async def test_an_agent_of_the_partner_calls_by_its_own_papers(world: World) -> None:
    assert await world.asks(world.partner) == (200, "done")
    assert await world.asks(world.home, "clerk") == (200, "done")
    decided = [event for event in world.home.desk.events() if event["type"] == "decided"]
    foreign = next(event for event in decided if event["agent"] == "spiffe://partner.example/agent/partner_router")
    assert foreign["key"] == "spiffe://partner.example/agent/router"
    assert len(foreign["proved"]) == 43


async def test_policies_see_the_domain(world: World) -> None:
    """`pay` is for payers of the partner's domain alone, in this city: the role is not enough for our own clerk."""
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"name": "pay", "arguments": {"to": "ann", "amount": 5}, "_meta": meta}
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "pay",
    }
    told = []
    for land, name in ((world.partner, "router"), (world.home, "clerk")):
        async with httpx2.AsyncClient(verify=world.shown(land, name), timeout=30) as http:
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            text = (await http.post(world.home.city.url, json=message, headers=headers)).text
        answer = json.loads(text if text.startswith("{") else text.partition("data: ")[2])
        told.append(answer["result"].get("_meta", {}).get("citywatch/code", "done"))
    assert told == ["done", "forbidden"]


async def test_a_rival_that_is_believed_for_its_own_domain_does_not_pass_for_the_partner(world: World) -> None:
    """It has a valid authority, known here; with a joined pool its word would do for any name."""
    keys = world.rival.desk.folder / ".citywatch" / "keys"
    ca = load_pem_private_key((keys / "authority-1-certificates.pem").read_bytes(), None)
    assert isinstance(ca, ec.EllipticCurvePrivateKey)
    subject = x509.load_pem_x509_certificate((world.rival.city.papers("router") / "bundle.pem").read_bytes()).subject
    folder = world.rival.desk.folder
    for name in ("spiffe://partner.example/agent/router", "spiffe://t.example/agent/clerk"):
        before = len(world.rejected())
        write_pair(folder, ec.generate_private_key(ec.SECP256R1()), ca, subject, name_it=name)
        context = ssl.create_default_context(cafile=str(world.home.city.papers("clerk") / "bundle.pem"))
        context.load_cert_chain(folder / "svid.pem", folder / "key.pem")
        with pytest.raises((httpx2.TransportError, ssl.SSLError)):
            async with httpx2.AsyncClient(verify=context, timeout=30) as http:
                await look(http, world.home.city.url, {})
        wait_for(lambda before=before: len(world.rejected()) > before, "the entry")  # type: ignore[misc]
        entry = world.rejected()[before]
        assert (entry["code"], entry["server"]) == ("credential_untrusted", "")  # by TLS, before a request was read
    assert await world.asks(world.rival) == (200, "done")  # as itself it may come in


async def test_an_agent_that_the_file_does_not_name_is_nobody(world: World) -> None:
    world.partner.add("clerk")
    assert await world.asks(world.partner, "clerk") == (403, "agent_unknown")


async def test_a_foreign_token_is_good_for_our_gateway_alone(world: World) -> None:
    """`agent token` makes tokens for the partner's gateway: shown to ours, they are for somebody else."""
    token = world.partner.desk.run("agent", "token", "router").stdout.strip()
    told = await world.home.city.refusal(world.home.city.trust(), {"Authorization": f"Bearer {token}"})
    assert told == (401, "credential_wrong_audience")


def test_anybody_reads_our_bundle_and_other_libraries_understand_it(world: World) -> None:
    url = f"https://127.0.0.1:{world.home.city.tls_port}/.well-known/spiffe-bundle"
    answer = httpx2.get(url, verify=world.home.city.trust())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json()
    assert document["spiffe_sequence"] == 2
    assert document["spiffe_refresh_hint"] == 300
    assert {key["use"] for key in document["keys"]} == {
        "x509-svid",
        "jwt-svid",
        "wit-svid",
        "citywatch-envelope",
        "citywatch-principal",
    }
    bundle = parse_bundle(answer.content, OURS)
    domain = TrustDomain(OURS)
    tokens = {"keys": [key for key in document["keys"] if key["use"] == "jwt-svid"]}
    assert JwtBundle.parse(domain, json.dumps(tokens).encode()).get_jwt_authority(next(iter(bundle.keys)))
    theirs = X509Bundle.parse_raw(domain, bundle.certificates[0].public_bytes(Encoding.DER))
    assert len(theirs.x509_authorities) == 1
    plain = httpx2.get(f"{url}/svid", verify=world.home.city.trust())
    assert {key["use"] for key in plain.json()["keys"]} == {"x509-svid", "jwt-svid"}
    assert parse_bundle(plain.content, OURS).keys == bundle.keys


def _steps(land: Land, times: int) -> None:
    for _ in range(times):
        land.desk.run("authority", "rotate", "--now")


async def test_a_partner_s_rotation_is_followed_without_a_restart(world: World) -> None:
    """Prepared, activated, retired: what the old keys signed is void here too, and the new papers are good."""
    old = world.shown(world.partner, "router")
    _steps(world.partner, 1)
    wait_for(lambda: (PARTNER, 3) in world.believed(), "the prepared bundle")
    _steps(world.partner, 2)
    wait_for(lambda: (PARTNER, 5) in world.believed(), "the bundle without the old authority")
    world.partner.desk.run("agent", "certificate", "router")
    assert await world.asks(world.partner) == (200, "done")
    with pytest.raises((httpx2.TransportError, ssl.SSLError)):
        async with httpx2.AsyncClient(verify=old, timeout=30) as http:
            await look(http, world.home.city.url, {})


async def test_an_endpoint_that_is_away_changes_nothing_at_first(world: World) -> None:
    world.partner.desk.down()
    assert await world.asks(world.partner) == (200, "done")
    shown = world.home.desk.run("federation", "show").stdout
    assert f"{PARTNER}  sequence 5" in shown
    assert "partner_router  spiffe://partner.example/agent/router" in shown
    world.partner.desk.up()


async def test_a_revoked_foreign_agent_is_out_and_comes_back_at_the_operator_s_word(world: World) -> None:
    world.home.desk.run("agent", "revoke", "partner_router", "--reason", "turned")
    assert (await world.asks(world.partner))[1] == "agent_revoked"
    world.home.desk.run("agent", "add", "partner_router")
    assert await world.asks(world.partner) == (200, "done")


def test_papers_of_ours_are_not_issued_to_a_foreign_agent(world: World) -> None:
    for command in (("agent", "token", "partner_router"), ("agent", "certificate", "partner_router")):
        done = world.home.desk.run(*command, check=False)
        assert done.returncode != 0


def test_an_operator_can_put_a_bundle_right(world: World) -> None:
    (world.home.desk.folder / "again.json").write_bytes(world.partner.bundle())
    done = world.home.desk.run("federation", "trust", PARTNER, "again.json")
    assert "believed: partner.example" in done.stdout
    done = world.home.desk.run("federation", "trust", OURS, "again.json", check=False)
    assert "is not under `federation`" in done.stderr


def test_a_gateway_that_cannot_reach_a_neighbour_comes_up_all_the_same(tmp_path: Path) -> None:
    with ExitStack() as stack:
        land = Land(tmp_path / "home", stack, OURS)
        other = Land(tmp_path / "partner", stack, PARTNER)
        (land.desk.folder / f"{PARTNER}.json").write_bytes(other.bundle())
        land.file.write_text(land.file.read_text() + FEDERATION.format(domain=PARTNER, port=1))
        land.desk.up()
        log = land.desk.folder / "up.log"
        wait_for(lambda: "another trust domain's bundle is not to be had" in log.read_text(), "the operator's line")


async def test_the_partner_s_gateway_calls_ours_as_itself(world: World) -> None:
    """Both prove themselves by mTLS: an agent over there uses our server through its own gateway, policies and log."""
    partner, home = world.partner, world.home
    world.reaches_us("gateway")
    partner.desk.down()
    partner.desk.run("tools", "approve", "--yes", "far")
    partner.desk.up()
    url = f"https://127.0.0.1:{partner.city.tls_port}/mcp/far"
    papers = partner.city.papers("router")
    context = ssl.create_default_context(cafile=str(papers / "bundle.pem"))
    context.load_cert_chain(papers / "svid.pem", papers / "key.pem")
    async with httpx2.AsyncClient(verify=context, timeout=30) as http:
        assert await look(http, url, {}) == (200, "done")
    ours = [event for event in home.desk.events() if event["type"] == "decided"][-1]
    assert ours["agent"] == "spiffe://partner.example/agent/partner_gate"
    assert (ours["key"], len(ours["proved"])) == ("spiffe://partner.example/gateway", 43)
    theirs = [event for event in partner.desk.events() if event["type"] == "decided"][-1]
    assert (theirs["agent"], theirs["server"]) == ("spiffe://partner.example/agent/router", "far")


async def test_whoever_stands_in_for_our_gateway_is_sent_nothing(world: World) -> None:
    """The address is right and the certificate of the right domain: it is only not who was meant."""
    partner, home = world.partner, world.home
    world.reaches_us("other")

    def calls() -> int:
        return len([event for event in home.desk.events() if event["type"] == "decided"])

    before = calls()
    done = partner.desk.run("tools", "approve", "--yes", "far", check=False)
    assert "is another" in done.stdout + done.stderr
    assert calls() == before
