"""The plain `mcp` client waits in one call for a person, where the revision has words for it; and so does the SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp.client import Client as PlainClient
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitResult

from citywatch.sdk import Client, Token
from citywatch.sdk.http import http_client
from tests.e2e.gateway.desk import Desk

ADDRESS = "https://city.t.example"
ASKING = f'\nprincipals:\n  alice: {{may: ["desk/*"]}}\nconsole:\n  address: {ADDRESS}\n'


@pytest.fixture
def asking(new_desk: Desk) -> Desk:
    """A desk where a person is asked about each payment, and has a console."""
    with (new_desk.folder / "citywatch.yaml").open("a") as file:
        file.write(ASKING)
    new_desk.start_upstream()
    new_desk.run("agent", "add", "clerk")
    new_desk.run("tools", "approve", "--yes")
    new_desk.up()
    return new_desk


def waits(desk: Desk) -> list[str]:
    return [line.split()[0] for line in desk.run("tickets", "list").stdout.splitlines() if "pay" in line]


async def approved(desk: Desk) -> None:
    """A person finds what waits, and lets it through, by a command: another process."""
    found: list[str] = []
    async with asyncio.timeout(60):
        while not found:
            found = await asyncio.to_thread(waits, desk)
    await asyncio.to_thread(desk.run, "tickets", "approve", found[0], "--as", "alice", "--reason", "known")


async def test_a_plain_client_is_led_to_the_console_and_its_call_goes_through_once_somebody_said_yes(
    asking: Desk,
) -> None:
    shown: list[Any] = []

    async def look(context: Any, params: Any) -> ElicitResult:
        shown.append(params)
        return ElicitResult(action="accept")

    async with http_client(asking.url, Token(asking.token)) as http:
        transport = streamable_http_client(asking.url, http_client=http)
        async with PlainClient(transport, elicitation_callback=look) as client:
            call = asyncio.create_task(client.call_tool("pay", {"to": "eve", "amount": 5}))
            await approved(asking)
            result = await call
    assert not result.is_error
    (question,) = shown
    assert question.url.startswith(f"{ADDRESS}/tickets/")
    assert asking.ledger() == ["eve 5"]


async def test_a_plain_client_that_shows_no_questions_gets_the_refusal(asking: Desk) -> None:
    async with (
        http_client(asking.url, Token(asking.token)) as http,
        PlainClient(streamable_http_client(asking.url, http_client=http)) as client,
    ):
        result = await client.call_tool("pay", {"to": "eve", "amount": 5})
    assert result.is_error
    assert result.meta is not None
    assert result.meta["citywatch/code"] == "approval_required"


async def test_the_sdk_waits_in_one_call(asking: Desk) -> None:
    async with Client(asking.url, papers=Token(asking.token)) as client:
        call = asyncio.create_task(client.call("pay", {"to": "eve", "amount": 7}, wait=True))
        await approved(asking)
        assert (await call).text == "paid"
    assert asking.ledger() == ["eve 7"]
