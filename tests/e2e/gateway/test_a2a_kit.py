"""What A2A's compatibility kit finds of an agent it finds through the gateway too: no check is lost on the way.

Each check runs against an agent of `a2a-sdk` itself, and through `citywatch connect` (the kit has no papers) to a
gateway that reaches the agent over either binding. The file of that gateway is the one in
`docs/how-to/run-the-a2a-compatibility-kit.md`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.gateway.desk import DEADLINE_S, HERE, Desk, listens, wait_for
from tests.e2e.gateway.kit_checks import CHECKS
from tests.e2e.gateway.kit_client import KitClient
from tests.e2e.gateway.suite_client import Hook
from tests.ports import free_port

BINDINGS = ("JSONRPC", "HTTP+JSON")
WAYS = ("direct", "rpc", "rest")
NOT_OF_THE_AGENT = {
    "CORE-SEND-003": "an agent of `a2a-sdk` takes any type of content unless it is told not to",
}
"""Checks that the agent does not pass itself."""
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "run-the-a2a-compatibility-kit.md"


def fenced(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


class KitCity(Desk):
    """Two agents, one of which neither streams nor pushes; the gateway reaches each over both bindings."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(folder, stack)
        self.ports = {"full": free_port(), "plain": free_port()}
        self.bridge_port, self.hook_port = free_port(), free_port()
        text = fenced("yaml").replace("http://127.0.0.1:8460", f"http://127.0.0.1:{self.port}")
        before, _, sut = text.partition("  sut:\n")
        (folder / "citywatch.yaml").write_text(before + "".join(self._peers(sut)))
        for one in (folder / "policies").iterdir():
            one.unlink()
        (folder / "policies" / "kit.cedar").write_text(fenced("cedar"))

    def _peers(self, sut: str) -> Iterator[str]:
        """The page's peer, once for each agent and binding."""
        for name, port in self.ports.items():
            for binding, below in (("JSONRPC", ""), ("HTTP+JSON", "/rest")):
                text = re.sub("url: .*", f"url: http://127.0.0.1:{port}{below}", sut, count=1)
                text = text.replace("http://127.0.0.1:9999", f"http://127.0.0.1:{port}")
                text = text.replace("binding: JSONRPC", f"binding: {binding}")
                yield f"  {name}-{'rest' if below else 'rpc'}:\n{text}"

    def start(self) -> None:
        for name, port in self.ports.items():
            more = ["plain"] if name == "plain" else []
            self._spawn([sys.executable, "-m", "tests.e2e.gateway.kit_agent", str(port), *more], HERE.parents[2])
            wait_for(lambda: listens(port), "the agent")  # noqa: B023  (called at once)
        self.run("agent", "add", "kit")
        self.run("tools", "approve", "--yes")
        self.up()
        command = ["connect", "kit", "--gateway", f"http://127.0.0.1:{self.port}"]
        self._spawn([sys.executable, "-m", "citywatch", *command, "--listen", f"127.0.0.1:{self.bridge_port}"])
        wait_for(lambda: listens(self.bridge_port), "the bridge")

    @asynccontextmanager
    async def client(self, agent: str, way: str, binding: str) -> AsyncIterator[KitClient]:
        port = self.ports[agent] if way == "direct" else self.bridge_port
        where = f"http://127.0.0.1:{port}" + ("" if way == "direct" else f"/a2a/{agent}-{way}")
        hook = Hook()
        await hook.open(self.hook_port)
        try:
            async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
                found = await http.get(f"{where}/.well-known/agent-card.json")
                card: dict[str, Any] = found.raise_for_status().json()
                yield KitClient(http, card, binding, hook, where)
        finally:
            await hook.close()


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KitCity]:
    with ExitStack() as stack:
        found = KitCity(tmp_path_factory.mktemp("kit"), stack)
        found.start()
        yield found


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", sorted(CHECKS))
async def test_no_check_is_lost(city: KitCity, name: str, way: str, binding: str) -> None:
    async with city.client("full", way, binding) as client:
        if name in NOT_OF_THE_AGENT:
            with pytest.raises(AssertionError):
                await CHECKS[name](client)
        else:
            await CHECKS[name](client)


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["CORE-SEND-001", "CORE-CAP-001", "CORE-CAP-002", "CORE-CAP-003", "CORE-GET-002"])
async def test_what_an_agent_does_not_offer_is_refused_as_it_refuses_it(
    city: KitCity, name: str, way: str, binding: str
) -> None:
    async with city.client("plain", way, binding) as client:
        assert not client.can("streaming")
        assert not client.can("pushNotifications")
        await CHECKS[name](client)
