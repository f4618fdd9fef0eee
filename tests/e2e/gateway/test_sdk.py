"""`citywatch.sdk` against real gateways: what an author is given, what is raised, and that it is no control."""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from mcp.client import Client as PlainClient
from mcp.client.streamable_http import streamable_http_client

from citywatch.sdk import (
    ApprovalRequired,
    Certificate,
    Chain,
    Client,
    Denied,
    Refused,
    SyncClient,
    Token,
    Unavailable,
)
from tests import forked
from tests.e2e.gateway.city import City
from tests.e2e.gateway.desk import DEADLINE_S, Desk, listens, wait_for
from tests.ports import free_port

HELPER = "spiffe://t.example/agent/helper"
ASKING = '\nprincipals:\n  alice: {may: ["desk/*"]}\n'


@pytest.fixture
def asking(new_desk: Desk) -> Desk:
    """A desk where nobody has given the agent a task, so that a person is asked about each payment."""
    with (new_desk.folder / "citywatch.yaml").open("a") as file:
        file.write(ASKING)
    new_desk.start_upstream()
    new_desk.run("agent", "add", "clerk")
    new_desk.run("tools", "approve", "--yes")
    new_desk.up()
    return new_desk


@contextmanager
def connected(desk: Desk) -> Iterator[str]:
    """The address of the desk behind `citywatch connect`."""
    port = free_port()
    command = [sys.executable, "-m", "citywatch", "connect", "clerk", "--gateway", f"http://127.0.0.1:{desk.port}"]
    with forked.start([*command, "--listen", f"127.0.0.1:{port}"], cwd=desk.folder) as bridge:
        try:
            wait_for(lambda: listens(port), "the bridge")
            yield f"http://127.0.0.1:{port}/mcp/desk"
        finally:
            bridge.terminate()
            bridge.wait(DEADLINE_S)


async def test_an_author_gets_replies_and_refusals_by_their_types(desk: Desk) -> None:
    async with Client(desk.url, papers=Token(desk.token)) as client:
        tools = {tool.name: tool for tool in await client.tools()}
        assert set(tools) == {"look", "pay", "count", "nap"}
        assert set(tools["pay"].schema["properties"]) == {"to", "amount"}
        (desk.folder / "ledger").mkdir()
        assert (await client.call("pay", {"to": "bob", "amount": 7})).failed, "a tool's own failure is a reply"
        (desk.folder / "ledger").rmdir()
        looked = await client.call("look", {"what": "prices"})
        assert (looked.text, looked.failed) == ("looked at prices", False)
        assert (await client.call("pay", {"to": "ann", "amount": 100})).text == "paid"
        with pytest.raises(Refused) as caught:
            await client.call("pay", {"to": "eve", "amount": 101})
        assert type(caught.value) is Refused
        assert (caught.value.code, caught.value.ticket) == ("no_permit", "")
        decided = [one for one in desk.events() if one["type"] == "decided" and one["name"] == "pay"][-1]
        assert decided["call"] == caught.value.decision
    assert desk.ledger() == ["ann 100"]


def test_the_same_without_an_event_loop(desk: Desk) -> None:
    with SyncClient(desk.url, papers=Token(desk.token())) as client:
        assert {tool.name for tool in client.tools()} == {"look", "pay", "count", "nap"}
        assert client.call("look").text == "looked at all"
        with pytest.raises(Refused, match="no_permit"):
            client.call("pay", {"to": "eve", "amount": 101})
        with pytest.raises(Refused, match="plan_refused"):
            client.write_plan(
                {"plan": "mine", "within": "1h", "steps": [{"step": "a", "tool": "desk/look", "arguments": {}}]}
            )
        assert client.plan()["plan"] is None
        with pytest.raises(Refused, match="malformed"):
            client.ticket("t-1")


async def test_papers_that_are_none_are_refused_by_name(desk: Desk) -> None:
    with pytest.raises(Refused) as caught:
        async with Client(desk.url, papers=Token("a.b.c")):
            pass
    assert caught.value.code == "credential_malformed"
    with pytest.raises(Refused, match="credential_missing"):
        async with Client(desk.url):
            pass


async def test_a_gateway_that_is_away_is_unavailable(desk: Desk) -> None:
    with pytest.raises(Unavailable):
        async with Client(f"http://127.0.0.1:{free_port()}/mcp/desk", papers=Token("a.b.c")):
            pass
    async with Client(desk.url, papers=Token(desk.token())) as client:
        desk.down()
        with pytest.raises(Unavailable):
            await client.call("look")
        with pytest.raises(Unavailable):
            await client.ticket("t-1")


@asynccontextmanager
async def answered(desk: Desk, *words: str) -> AsyncIterator[None]:
    """Inside, somebody answers the one ticket that waits."""

    async def answer() -> None:
        while not (found := re.search(r"^[0-9a-f]{12}", desk.run("tickets", "list").stdout, re.MULTILINE)):
            await asyncio.sleep(0.1)
        await asyncio.to_thread(desk.run, "tickets", words[0], found[0], "--reason", "asked", *words[1:])

    work = asyncio.create_task(answer())
    yield
    await work


async def test_a_call_waits_for_its_person_and_is_sent_once_more(asking: Desk) -> None:
    async with Client(asking.url, papers=Token(asking.token())) as client:
        with pytest.raises(ApprovalRequired) as caught:
            await client.call("pay", {"to": "ann", "amount": 5})
        assert (await client.ticket(caught.value.ticket))[0] == "pending"
        with pytest.raises(ApprovalRequired):
            await client.call("pay", {"to": "ann", "amount": 5}, wait=True, patience_s=0.1)
        async with answered(asking, "approve", "--as", "alice"):
            assert (await client.call("pay", {"to": "ann", "amount": 5}, wait=True)).text == "paid"
        assert (await client.ticket(caught.value.ticket))[0] == "used"
        with pytest.raises(ApprovalRequired) as again:
            await client.call("pay", {"to": "ann", "amount": 5})
        assert again.value.ticket != caught.value.ticket
        with pytest.raises(Denied) as denied:
            async with answered(asking, "deny"):
                await client.call("pay", {"to": "ann", "amount": 5}, wait=True)
        assert denied.value.code == "approval_denied"
    assert asking.ledger() == ["ann 5"]
    sent = [one["decision"] for one in asking.events() if one["type"] == "decided" and one["name"] == "pay"]
    assert sent == ["ask", "ask", "ask", "allow", "ask", "ask"], "it is asked by the ticket, never by the call"


async def test_a_client_of_connect_waits_as_well(asking: Desk) -> None:
    with connected(asking) as url:
        async with Client(url) as client, answered(asking, "approve", "--as", "alice"):
            assert (await client.call("pay", {"to": "ann", "amount": 5}, wait=True)).text == "paid"
            assert (await client.plan())["plan"] is None


async def test_a_plan_is_written_before_anything_is_read(asking: Desk) -> None:
    plan = {"plan": "mine", "within": "1h", "steps": [{"step": "look", "tool": "desk/look", "arguments": {}}]}
    asking.run("task", "start", "clerk", "--as", "alice", "Pay 5 to ann")
    async with Client(asking.url, papers=Token(asking.token())) as client:
        held = await client.write_plan(plan)
        assert (held["kind"], held["assumes"]) == ("written", "honest until tainted")
        assert await client.plan() == held
        with pytest.raises(ApprovalRequired):
            await client.call("pay", {"to": "ann", "amount": 5})


async def test_an_agent_hands_on_what_it_holds_and_acts_under_it(new_desk: Desk) -> None:
    desk = new_desk
    file = desk.folder / "citywatch.yaml"
    told = file.read_text().replace("agents:\n", "agents:\n  helper: {delegated_only: true}\n")
    file.write_text(told + ASKING)
    desk.start_upstream()
    desk.run("agent", "add", "clerk")
    thumb = re.search(r"\(key (\S+)\)", desk.run("agent", "add", "helper").stdout)
    assert thumb is not None
    desk.run("tools", "approve", "--yes")
    desk.up()
    desk.run("task", "start", "clerk", "--as", "alice", "--grant", "c.json", "Sort")
    mine = Chain.load(desk.folder / "c.json")
    assert (mine.principal, mine.left["audience"]) == ("principal:alice", ["t.example"])
    theirs = mine.hand_on(
        desk.folder / "agents" / "clerk" / "key.pem",
        HELPER,
        thumb[1],
        {"tools": ["desk/look"], "calls": 2},
        until=datetime.now(UTC) + timedelta(minutes=10),
    )
    assert (theirs.task, theirs.links[:-1], theirs.until < mine.until) == (mine.task, mine.links, True)
    theirs.save(desk.folder / "h.json")
    again = Chain.load(desk.folder / "h.json")
    assert (again.links, again.left) == (theirs.links, theirs.left)
    papers = Token(desk.run("agent", "token", "helper").stdout.strip())
    async with Client(desk.url, papers=papers, chain=again) as helper:
        assert (await helper.call("look")).text == "looked at all"
        with pytest.raises(Refused, match="beyond_grant"):
            await helper.call("pay", {"to": "ann", "amount": 1})
        with pytest.raises(Refused, match="budget_spent"):
            await helper.call("look")
    async with Client(desk.url, papers=papers) as bare:
        with pytest.raises(Refused, match="chain_missing"):
            await bare.call("look")
    async with Client(desk.url, papers=Token(desk.token()), chain=again) as thief:
        with pytest.raises(Refused, match="chain_not_held"):
            await thief.call("look")
    async with Client(desk.url, papers=Token(desk.token()), task=mine.task) as named:
        await named.call("look")
    assert [one["task"] for one in desk.events() if one["type"] == "decided" and one["name"]][-1] == mine.task


async def test_a_certificate_is_shown_to_the_gateway_and_to_nobody_who_holds_an_agents_papers(new_desk: Desk) -> None:
    city = City(new_desk)
    city.up()
    async with Client(city.url, papers=Certificate(city.papers("clerk"))) as client:
        assert (await client.call("look")).text == "looked at all"
    async with Client(city.url, papers=Token(new_desk.token(), city.papers("clerk") / "bundle.pem")) as client:
        assert (await client.call("look")).text == "looked at all"
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    impostor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    impostor.load_cert_chain(city.papers("other") / "svid.pem", city.papers("other") / "key.pem")
    async with await asyncio.start_server(hear, "127.0.0.1", 0, ssl=impostor) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp/desk"
        for papers in (Certificate(city.papers("clerk")), Token("secret", city.papers("clerk") / "bundle.pem")):
            with pytest.raises(Unavailable):
                async with Client(url, papers=papers):
                    pass
    assert heard in ([], [b""] * len(heard))


async def test_with_the_sdk_left_out_the_same_call_is_refused_all_the_same(desk: Desk) -> None:
    """What is typed here is said by the gateway: an agent that ignores it gets no further."""
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {desk.token()}"}, timeout=30)
    async with http, PlainClient(streamable_http_client(desk.url, http_client=http)) as plain:
        result: Any = await plain.call_tool("pay", {"to": "eve", "amount": 101})
    assert (result.is_error, result.meta["citywatch/code"]) == (True, "no_permit")
    assert desk.ledger() == []
