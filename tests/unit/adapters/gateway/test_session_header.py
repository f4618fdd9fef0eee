"""The revision of a session binds, however its id is written in the header."""

from __future__ import annotations

import json

import pytest

from citywatch.adapters.gateway.app import Gateway
from citywatch.adapters.gateway.door import Door
from citywatch.core.errors import Code, Refused
from citywatch.core.identity.elsewhere import Domains
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import FROM_SERVER, parse_message
from tests.identity_city import GATEWAY
from tests.identity_city import City as Papers
from tests.simulation.city import LEGACY, City, answers

GREETING = {"protocolVersion": LEGACY, "capabilities": {}, "serverInfo": {"name": "b", "version": "1"}}


@pytest.mark.parametrize("written", ["{}", "{} ", "{}\t", " {}"])
async def test_a_session_has_one_revision_also_with_white_space_about_its_id(written: str) -> None:
    city, papers = City('@id("all") permit(principal, action, resource);'), Papers()
    await city.settle_in()
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": GREETING}, session="theirs")
    session = (await city.exchange.request(city.call("initialize", None), city.credential(), {})).session
    assert session is not None
    gateway = Gateway(
        exchange=city.exchange,
        door=Door(lambda: Domains(home=papers.bundle), GATEWAY, papers.messages),
        limits=FROM_SERVER,
        body_time=60,
        max_in_flight=8,
        routes={},
        hosts=frozenset({"localhost"}),
        closed=lambda: None,
    )
    message = parse_message(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "ping"}).encode(), FROM_SERVER)
    named = (b"mcp-session-id", written.format(session).encode())
    city.answer = answers({"jsonrpc": "2.0", "id": 2, "result": {}})
    for revision, passes in (("2024-11-05", False), (LEGACY, True)):
        headers = [named, (b"mcp-protocol-version", revision.encode())]
        asked = gateway._post("bank", headers, message, city.credential())
        if passes:
            assert b'"result"' in (await asked).body
            continue
        with pytest.raises(Refused) as refusal:
            await asked
        assert refusal.value.code is Code.HEADER_MISMATCH


def test_the_session_that_is_looked_up_is_the_one_that_is_read() -> None:
    for value in (b"abc", b"abc ", b"\tabc", b" \t"):
        headers = [(b"Mcp-Session-Id", value), (b"mcp-protocol-version", LEGACY.encode())]
        assert mcp.claimed_session(headers) == mcp.read_bodiless(headers).session
