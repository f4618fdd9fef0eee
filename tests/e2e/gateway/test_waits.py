"""The plain `mcp` client waits in one call for a person, where the revision has words for it; and so does the SDK."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from mcp import MCPError, UrlElicitationRequiredError
from mcp.client import Client as PlainClient
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitCompleteNotification, ElicitResult

from citywatch.sdk import Client, Token
from citywatch.sdk.http import http_client
from tests.e2e.gateway.desk import Desk

MODERN = "2026-07-28"
ADDRESS = "https://city.t.example"
ASKING = f'\nprincipals:\n  alice: {{may: ["desk/*"]}}\nconsole:\n  address: {ADDRESS}\n'


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk where a person is asked about each payment, and has a console; each test pays an amount of its own."""
    with ExitStack() as stack:
        desk = Desk(tmp_path_factory.mktemp("waits"), stack)
        with (desk.folder / "citywatch.yaml").open("a") as file:
            file.write(ASKING)
        desk.start_upstream()
        desk.run("agent", "add", "clerk")
        desk.run("tools", "approve", "--yes")
        desk.up()
        yield desk


def waits(desk: Desk) -> list[str]:
    return [line.split()[0] for line in desk.run("tickets", "list").stdout.splitlines() if "pay" in line]


async def approved(desk: Desk, before: list[str]) -> None:
    """A person finds what waits that did not before, and lets it through, by a command: another process."""
    found: list[str] = []
    async with asyncio.timeout(60):
        while not found:
            found = [one for one in await asyncio.to_thread(waits, desk) if one not in before]
    await approve(desk, found[0])


async def approve(desk: Desk, ticket: str) -> None:
    await asyncio.to_thread(desk.run, "tickets", "approve", ticket, "--as", "alice", "--reason", "known")


async def test_a_plain_client_is_led_to_the_console_and_its_call_goes_through_once_somebody_said_yes(
    asking: Desk,
) -> None:
    shown: list[Any] = []
    before = waits(asking)

    async def look(context: Any, params: Any) -> ElicitResult:
        shown.append(params)
        return ElicitResult(action="accept")

    async with http_client(asking.url, Token(asking.token)) as http:
        transport = streamable_http_client(asking.url, http_client=http)
        async with PlainClient(transport, mode=MODERN, elicitation_callback=look) as client:
            call = asyncio.create_task(client.call_tool("pay", {"to": "eve", "amount": 3}))
            await approved(asking, before)
            result = await call
    assert not result.is_error
    (question,) = shown
    assert question.url.startswith(f"{ADDRESS}/tickets/")
    assert asking.ledger().count("eve 3") == 1


async def test_a_plain_client_that_shows_no_questions_gets_the_refusal(asking: Desk) -> None:
    async with (
        http_client(asking.url, Token(asking.token)) as http,
        PlainClient(streamable_http_client(asking.url, http_client=http), mode=MODERN) as client,
    ):
        result = await client.call_tool("pay", {"to": "eve", "amount": 4})
    assert result.is_error
    assert result.meta is not None
    assert result.meta["citywatch/code"] == "approval_required"


async def paid_once_over(desk: Desk, transport: Any, amount: int) -> None:
    """What a client does that shows addresses: look at the one that it is given, wait for word, and call again."""
    over: asyncio.Queue[str] = asyncio.Queue()

    async def look(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept")

    async def hear(message: Any) -> None:
        if isinstance(message, ElicitCompleteNotification):
            over.put_nowait(message.params.elicitation_id)

    pay = {"to": "eve", "amount": amount}
    async with PlainClient(transport, mode="legacy", elicitation_callback=look, message_handler=hear) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("pay", pay)
        (asked,) = UrlElicitationRequiredError.from_error(caught.value.error).elicitations
        assert asked.url == f"{ADDRESS}/tickets/{asked.elicitation_id}"
        await approve(desk, str(asked.elicitation_id))
        async with asyncio.timeout(60):
            assert await over.get() == asked.elicitation_id
        assert not (await client.call_tool("pay", pay)).is_error
        with pytest.raises(MCPError):
            await client.call_tool("pay", pay)


async def test_a_client_of_the_revision_with_sessions_is_led_to_the_console_and_told_when_to_call_again(
    asking: Desk,
) -> None:
    async with http_client(asking.url, Token(asking.token)) as http:
        await paid_once_over(asking, streamable_http_client(asking.url, http_client=http), 5)
    bridge = ["-m", "citywatch", "connect", "clerk", "--gateway", f"http://127.0.0.1:{asking.port}", "--stdio", "desk"]
    program = StdioServerParameters(command=sys.executable, args=bridge, cwd=asking.folder)
    await paid_once_over(asking, stdio_client(program), 6)
    assert [asking.ledger().count(one) for one in ("eve 5", "eve 6")] == [1, 1]


async def test_the_sdk_waits_in_one_call(asking: Desk) -> None:
    before = waits(asking)
    async with Client(asking.url, papers=Token(asking.token)) as client:
        call = asyncio.create_task(client.call("pay", {"to": "eve", "amount": 7}, wait=True))
        await approved(asking, before)
        assert (await call).text == "paid"
    assert asking.ledger().count("eve 7") == 1
