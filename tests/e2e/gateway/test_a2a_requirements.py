"""A2A's own requirements: an agent of `a2a-sdk` keeps them, and it keeps them through the gateway as well.

Each check runs against the agent itself, through the gateway with papers, and through `citywatch connect` without; in
both bindings, and with the agent behind the gateway reached over each. What is lost on purpose stands at the end.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.helpers.proto_helpers import new_text_message
from a2a.types import ListTasksRequest, Role, SendMessageRequest

from tests import forked
from tests.e2e.gateway.desk import DEADLINE_S, HERE, Desk, listens, wait_for
from tests.e2e.gateway.suite_checks import CHECKS, card_checks, made
from tests.e2e.gateway.suite_client import Hook, SuiteClient, message
from tests.ports import free_port

BINDINGS = ("JSONRPC", "HTTP+JSON")
POLICY = """
@id("suite") permit(principal, action in
    [Action::"send_message", Action::"peer_task", Action::"peer_push"], resource is Peer);
"""


class Way(NamedTuple):
    """How a client comes to the agent, and over which binding the gateway does (empty: not at all)."""

    name: str
    peer: str


WAYS = (Way("direct", ""), Way("gateway", "rpc"), Way("gateway", "rest"), Way("connect", "rpc"), Way("connect", "rest"))


class SuiteCity(Desk):
    """The agent, a gateway that reaches it over each binding, and a bridge for clients without papers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(folder, stack)
        self.agent_port, self.bridge_port, self.hook_port = free_port(), free_port(), free_port()
        at = f"http://127.0.0.1:{self.agent_port}"
        ours = f"push: 'http://127.0.0.1:{self.port}'"
        card = f"card: {at}/.well-known/agent-card.json, callers: [clerk], {ours}"
        file = folder / "citywatch.yaml"
        file.write_text(
            file.read_text().replace("  clerk:\n", f"  clerk:\n    push: http://127.0.0.1:{self.hook_port}/hook\n")
            + f"peers:\n  rpc: {{url: {at}/a2a, {card}}}\n  rest: {{url: {at}/rest, binding: HTTP+JSON, {card}}}\n"
        )
        (folder / "policies" / "suite.cedar").write_text(POLICY)

    def start(self) -> None:
        self.start_upstream()
        self._spawn([sys.executable, str(HERE / "suite_agent.py"), str(self.agent_port)])
        wait_for(lambda: listens(self.agent_port), "the agent")
        self.run("agent", "add", "clerk")
        self.run("tools", "approve", "--yes")
        self.up()
        command = ["connect", "clerk", "--gateway", f"http://127.0.0.1:{self.port}"]
        self._spawn([sys.executable, "-m", "citywatch", *command, "--listen", f"127.0.0.1:{self.bridge_port}"])
        wait_for(lambda: listens(self.bridge_port), "the bridge")
        self.papers = self.token()

    def base(self, way: Way) -> str:
        """Where the agent's card is found, that way."""
        port = {"direct": self.agent_port, "gateway": self.port, "connect": self.bridge_port}[way.name]
        return f"http://127.0.0.1:{port}" + (f"/a2a/{way.peer}" if way.peer else "")

    @asynccontextmanager
    async def client(self, way: Way, binding: str) -> AsyncIterator[SuiteClient]:
        headers = {"Authorization": f"Bearer {self.papers}"} if way.name == "gateway" else {}
        direct = {"JSONRPC": "/a2a", "HTTP+JSON": "/rest"}[binding]
        hook = Hook()
        await hook.open(self.hook_port)
        try:
            async with httpx.AsyncClient(headers=headers, timeout=DEADLINE_S) as http:
                yield SuiteClient(http, self.base(way) + ("" if way.peer else direct), binding, hook)
        finally:
            await hook.close()


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuiteCity]:
    with ExitStack() as stack:
        found = SuiteCity(tmp_path_factory.mktemp("suite"), stack)
        found.start()
        yield found


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way).rstrip("-"))
@pytest.mark.parametrize("name", sorted(CHECKS))
async def test_what_holds_of_the_agent_holds_through_the_gateway(
    city: SuiteCity, name: str, way: Way, binding: str
) -> None:
    async with city.client(way, binding) as client:
        await CHECKS[name](client)


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way).rstrip("-"))
async def test_the_card_leads_back_the_way_it_came(city: SuiteCity, way: Way, binding: str) -> None:
    async with city.client(way, binding) as client:
        await card_checks(client, city.base(way))


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("peer", ["rpc", "rest"])
async def test_a_client_of_the_sdk_without_papers_works_through_connect(
    city: SuiteCity, peer: str, binding: str
) -> None:
    base = city.base(Way("connect", peer))
    async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
        card = await A2ACardResolver(http, base).get_agent_card()
        assert {one.url for one in card.supported_interfaces} == {base}
        assert not card.signatures
        config = ClientConfig(streaming=True, httpx_client=http, supported_protocol_bindings=[binding])
        client = await create_client(card, config)
        request = SendMessageRequest(message=new_text_message("pieces", role=Role.ROLE_USER))
        told = [one.WhichOneof("payload") async for one in client.send_message(request)]
        assert told[0] == "task"
        assert told.count("artifact_update") == 2
        assert (await client.list_tasks(ListTasksRequest(page_size=1))).total_size >= 1


async def test_a_request_at_a_place_that_is_none_goes_nowhere(city: SuiteCity) -> None:
    """The bridge lends papers for `/mcp/` and `/a2a/` alone, however a path is written."""
    async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
        for path in ("/citywatch/health", "/a2a/", "/a2a/..%2fcitywatch", "/a2a/rpc/%2e%2e/rest", "/a2a/rpc//tasks"):
            response = await http.get(f"http://127.0.0.1:{city.bridge_port}{path}", headers={"A2A-Version": "1.0"})
            assert response.status_code == 404, path


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way).rstrip("-"))
async def test_what_is_lost_on_purpose(city: SuiteCity, way: Way, binding: str) -> None:
    """A link in place of content, where the file lets none lead anywhere: see ADR 24 and 39."""
    async with city.client(way, binding) as client:
        link = await client.ask("SendMessage", message=message("link"))
        own = await client.ask("SendMessage", message=message("task", contextId="of-my-own"))
        more = await client.ask("SendMessage", message=message("task", unheard="of"))
    assert own.result["task"]["contextId"] == "of-my-own"
    assert not more.reason
    if way.name == "direct":
        assert link.result["task"]["artifacts"][0]["parts"][0]["url"]
    else:
        assert link.reason == "INVALID_AGENT_RESPONSE"


async def test_nothing_below_an_agents_address_needs_no_papers(city: SuiteCity) -> None:
    """The attack: another binding could be another door."""
    base = city.base(Way("gateway", "rest"))
    async with city.client(Way("gateway", "rest"), "HTTP+JSON") as client, httpx.AsyncClient() as stranger:
        task = await made(client, "task")
        for verb, path in (
            ("POST", "/message:send"),
            ("POST", "/message:stream"),
            ("GET", f"/tasks/{task['id']}"),
            ("GET", "/tasks"),
            ("POST", f"/tasks/{task['id']}:cancel"),
            ("POST", f"/tasks/{task['id']}:subscribe"),
            ("GET", "/.well-known/agent-card.json"),
            ("GET", "/extendedAgentCard"),
            ("POST", f"/tasks/{task['id']}/pushNotificationConfigs"),
            ("DELETE", f"/tasks/{task['id']}/pushNotificationConfigs/x"),
        ):
            told = await stranger.request(verb, base + path, headers={"A2A-Version": "1.0"})
            assert told.status_code == 401, path


def test_a_bridge_that_has_no_gateway_says_so_in_the_binding_that_was_asked_in(city: SuiteCity, tmp_path: Path) -> None:
    port, nowhere = free_port(), free_port()
    command = [sys.executable, "-m", "citywatch", "connect", "clerk", "--gateway", f"http://127.0.0.1:{nowhere}"]
    with forked.start([*command, "--listen", f"127.0.0.1:{port}"], cwd=city.folder) as bridge:
        try:
            wait_for(lambda: listens(port), "the bridge")
            found = httpx.get(f"http://127.0.0.1:{port}/a2a/rest/tasks", timeout=DEADLINE_S)
            assert found.status_code == 503
            assert found.json()["error"]["status"] == "UNAVAILABLE"
        finally:
            bridge.terminate()
            bridge.wait(DEADLINE_S)


async def test_who_pushes_without_the_secret_is_told_nothing(city: SuiteCity) -> None:
    """The attack: an address is seen in somebody's log, or guessed."""
    at = f"http://127.0.0.1:{city.port}/a2a-push/"
    async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
        for address in ("0" * 64, "", "../mcp/desk", "x" * 400):
            for headers in ({}, {"Authorization": "Bearer guess"}, {"X-A2A-Notification-Token": "guess"}):
                told = await http.post(at + address, content=b"{}", headers=headers)
                assert told.status_code in (401, 404), address
        assert (await http.get(at + "0" * 64)).status_code == 404
