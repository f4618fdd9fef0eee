"""`citywatch connect` over time: tokens that end are renewed, revocation ends it, on both of its faces and revisions.

What a client can do through it is seen in `tests/e2e/bridge`; here the clock is put forward and the operator acts.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.gateway.desk import DEADLINE_S, Desk
from tests.e2e.gateway.shifted import put
from tests.ports import free_port

SHIFTED = [sys.executable, str(Path(__file__).with_name("shifted.py"))]
FACES = ["loopback", "stdio"]
MODES = ["legacy", "auto"]
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A gateway and bridges whose clock is the file `shift`; tokens last ten minutes."""
    with ExitStack() as stack:
        desk = Desk(tmp_path_factory.mktemp("connect"), stack)
        file = desk.folder / "citywatch.yaml"
        names = [f"{face}-{mode}" for face in FACES for mode in MODES]
        agents = "".join(f"  {name}: {{roles: [payer], token_ttl: 10m}}\n" for name in names)
        file.write_text(file.read_text().replace("agents:\n", f"agents:\n{agents}"))
        desk.start_upstream()
        for name in names:
            desk.run("agent", "add", name)
        desk.run("tools", "approve", "--yes")
        desk.up([*SHIFTED, "up"])
        yield desk


@asynccontextmanager
async def bridged(desk: Desk, face: str, mode: str, name: str) -> AsyncIterator[Client]:
    """The official SDK's client behind a bridge; it holds no papers."""
    command = [*SHIFTED, "connect", name, "--gateway", f"http://127.0.0.1:{desk.port}"]
    if face == "stdio":
        program = StdioServerParameters(command=command[0], args=[*command[1:], "--stdio", "desk"], cwd=desk.folder)
        async with Client(stdio_client(program), mode=mode) as client:
            yield client
        return
    port = free_port()
    with subprocess.Popen(
        [*command, "--listen", f"127.0.0.1:{port}"], cwd=desk.folder, stdout=subprocess.PIPE, text=True
    ) as bridge:
        try:
            assert bridge.stdout is not None
            assert bridge.stdout.readline().startswith("ready")
            async with Client(streamable_http_client(f"http://127.0.0.1:{port}/mcp/desk"), mode=mode) as client:
                yield client
        finally:
            bridge.terminate()
            assert bridge.wait(DEADLINE_S) == 0


def tokens_issued(desk: Desk, name: str) -> int:
    agent = f"spiffe://t.example/agent/{name}"
    return sum(
        (event["type"], event.get("kind"), event.get("agent")) == ("credential_issued", "jwt", agent)
        for event in desk.events()
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("face", FACES)
async def test_a_token_that_ends_is_renewed_and_a_revoked_agent_gets_no_other(desk: Desk, face: str, mode: str) -> None:
    name = f"{face}-{mode}"
    put(desk.folder, 0)
    async with bridged(desk, face, mode, name) as agent:
        assert not (await agent.call_tool("pay", {"to": name, "amount": 1})).is_error
        issued = tokens_issued(desk, name)
        assert issued == 1
        put(desk.folder, 15 * MINUTE_MS)  # the token's life and the leeway are over
        assert not (await agent.call_tool("pay", {"to": name, "amount": 2})).is_error
        assert tokens_issued(desk, name) == issued + 1

        desk.run("agent", "revoke", name, "--reason", "turned")
        with pytest.raises(Exception, match="agent_revoked") as caught:
            await agent.call_tool("pay", {"to": name, "amount": 3})
        assert "Traceback" not in str(caught.value)
        put(desk.folder, 30 * MINUTE_MS)  # nor does it help to wait for the next token
        with pytest.raises(Exception, match="agent_revoked"):
            await agent.call_tool("pay", {"to": name, "amount": 4})
        assert tokens_issued(desk, name) == issued + 1
    assert [line for line in desk.ledger() if line.startswith(name)] == [f"{name} 1", f"{name} 2"]
    put(desk.folder, 0)
