"""`citywatch connect` as its users have it: a client that holds no papers works through it, on both of its faces."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests import forked
from tests.e2e.gateway.desk import DEADLINE_S, Desk
from tests.ports import free_port

Mode = Literal["legacy", "auto"]
CONNECT = (sys.executable, "-m", "citywatch", "connect", "clerk")


def gateways(desk: Desk) -> list[str]:
    """Where the gateway listens: on plain HTTP, then on TLS."""
    return re.findall(r'"(https?://[^"]+)"', (desk.folder / "citywatch.yaml").read_text())[:2]


@contextmanager
def connected(desk: Desk, gateway: int = 0) -> Iterator[str]:
    """A bridge on loopback; yields the URL under which the desk is served there."""
    port = free_port()
    command = [*CONNECT, "--gateway", gateways(desk)[gateway], "--listen", f"127.0.0.1:{port}"]
    with forked.start(command, cwd=desk.folder, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            yield f"http://127.0.0.1:{port}/mcp/desk"
        finally:
            process.terminate()
            assert process.wait(DEADLINE_S) == 0


async def work(agent: Client) -> None:
    steps: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    assert {tool.name for tool in (await agent.list_tools()).tools} == {"look", "pay", "count", "nap"}
    assert (await agent.call_tool("look", {"what": "prices"})).content[0].text == "looked at prices"  # type: ignore[union-attr]
    assert (await agent.read_resource("desk://note")).contents[0].text == "a note"  # type: ignore[union-attr]
    await agent.call_tool("count", {"upto": 3}, progress_callback=progressed)
    assert steps == [0, 1, 2]
    assert not (await agent.call_tool("pay", {"to": "ann", "amount": 100})).is_error
    refused = await agent.call_tool("pay", {"to": "eve", "amount": 101})
    assert (refused.meta or {})["citywatch/code"] == "no_permit"


@pytest.mark.parametrize(("mode", "gateway"), [("legacy", 0), ("auto", 1)])
async def test_a_client_without_papers_works_through_loopback(desk: Desk, mode: Mode, gateway: int) -> None:
    with connected(desk, gateway) as url:
        async with Client(streamable_http_client(url), mode=mode) as agent:
            await work(agent)
    assert desk.ledger()[-1:] == ["ann 100"]


@pytest.mark.parametrize(("mode", "gateway"), [("legacy", 1), ("auto", 0)])
async def test_a_client_that_starts_programs_works_through_standard_input(desk: Desk, mode: Mode, gateway: int) -> None:
    arguments = [*CONNECT[1:], "--gateway", gateways(desk)[gateway], "--stdio", "desk"]
    program = StdioServerParameters(command=CONNECT[0], args=arguments, cwd=desk.folder)
    async with Client(stdio_client(program), mode=mode) as agent:
        await work(agent)
    assert desk.ledger()[-1:] == ["ann 100"]


async def test_revocation_holds_through_the_bridge(own_desk: Desk) -> None:
    with connected(own_desk) as url:
        async with Client(streamable_http_client(url), mode="auto") as agent:
            assert not (await agent.call_tool("look", {})).is_error
            own_desk.run("agent", "revoke", "clerk", "--reason", "turned")
            with pytest.raises(Exception, match=r"agent_revoked|403"):
                await agent.call_tool("look", {})
    refused = own_desk.run("connect", "clerk", "--gateway", gateways(own_desk)[1], check=False)
    assert refused.returncode == 1
    assert "agent_revoked" in refused.stderr


async def test_a_gateway_that_cannot_prove_itself_hears_nothing(desk: Desk, own_desk: Desk) -> None:
    """Two cities of one name: the other's gateway has another authority."""
    refused = desk.run("connect", "clerk", "--gateway", gateways(own_desk)[1], check=False)
    assert refused.returncode == 1
    assert "credential_untrusted" in refused.stderr
    issued = [event["agent"] for event in own_desk.events() if event["type"] == "credential_issued"]
    assert set(issued) == {"spiffe://t.example/gateway"}


def test_a_browsers_page_is_refused(desk: Desk) -> None:
    with connected(desk) as url:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example:80"}, {"Origin": "null"}):
            request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)
            assert caught.value.code == 403
            caught.value.close()
