"""`citywatch.sdk` between agents: messages, streams, tasks and refusals by their types, and the hook for `a2a-sdk`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.helpers.proto_helpers import new_text_message
from a2a.types import GetTaskRequest, Role, SendMessageRequest

from citywatch.core.errors import Malformed
from citywatch.sdk import Answer, Chain, Peers, Refused, SyncPeers, Token, Unavailable
from citywatch.sdk.hooks.a2a import carrying, http_client
from tests import forked
from tests.e2e.gateway.desk import DEADLINE_S, listens, wait_for
from tests.e2e.gateway.test_a2a import Mesh
from tests.ports import free_port

BILLING = "spiffe://t.example/agent/billing"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Billing is an agent of the same city as well: it acts under what it is handed, or not at all."""
    with ExitStack() as stack:
        city = Mesh(tmp_path_factory.mktemp("mesh"), stack)
        file = city.folder / "citywatch.yaml"
        file.write_text(file.read_text().replace("agents:\n", "agents:\n  billing: {delegated_only: true}\n"))
        city.start_upstream()
        city.start_billing()
        city.run("agent", "add", "clerk")
        thumb = re.search(r"\(key (\S+)\)", city.run("agent", "add", "billing").stdout)
        assert thumb is not None
        (city.folder / "thumb").write_text(thumb[1])
        city.run("tools", "approve", "--yes")
        (city.folder / "papers").write_text(f"{city.url} {city.papers('billing')}")
        city.up()
        yield city


@pytest.fixture(autouse=True)
def quiet(mesh: Mesh) -> None:
    mesh.says("Invoice 7 is settled.")


def gateway(mesh: Mesh) -> str:
    return f"http://127.0.0.1:{mesh.port}"


def peers(mesh: Mesh, **more: Any) -> Peers:
    return Peers(gateway(mesh), papers=Token(mesh.papers("clerk")), **more)


def heard(mesh: Mesh) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (mesh.folder / "heard").read_text().splitlines()]


def granted(mesh: Mesh) -> Chain:
    mesh.run("task", "start", "clerk", "--as", "anna", "--grant", "c.json", "Look up the orders")
    return Chain.load(mesh.folder / "c.json")


def handed(mesh: Mesh, chain: Chain) -> Chain:
    key = mesh.folder / "agents" / "clerk" / "key.pem"
    return chain.hand_on(key, BILLING, (mesh.folder / "thumb").read_text(), {"tools": ["desk/look"], "calls": 1})


async def test_an_author_gets_answers_and_refusals_by_their_types(mesh: Mesh) -> None:
    async with peers(mesh) as clerk:
        assert (await clerk.card("billing"))["name"] == "billing"
        told = await clerk.send("billing", "What of invoice 7?", skill="invoice")
        assert (told.text, told.state) == ("Invoice 7 is settled.", "")
        await clerk.send("billing", [{"text": "And"}, {"data": {"invoice": 8}}])
        assert heard(mesh)[-1]["parts"] == [{"text": "And"}, {"data": {"invoice": 8.0}}]
        assert heard(mesh)[-2]["meta"]["citywatch/skill"] == "invoice"
        with pytest.raises(Refused) as caught:
            await clerk.send("billing", "Pay it back", skill="refund")
        assert (caught.value.code, caught.value.ticket) == ("no_permit", "")
        decided = [one for one in mesh.events() if one["type"] == "decided"][-1]
        assert (decided["call"], decided["name"]) == (caught.value.decision, "refund")
        with pytest.raises(Refused, match="server_unknown"):
            await clerk.send("nobody", "hello")
        with pytest.raises(Refused, match="server_unknown"):
            await clerk.card("nobody")
        with pytest.raises(Malformed, match="name of a peer"):
            await clerk.send("../mcp/desk", "hello")


async def test_a_message_of_a_type_fits_its_schema_or_reaches_nobody(mesh: Mesh) -> None:
    async with peers(mesh) as clerk:
        before = len(heard(mesh))
        await clerk.send("billing", [{"data": {"invoice": 8}}], type="lookup")
        assert heard(mesh)[-1]["meta"]["citywatch/type"] == "lookup"
        others: list[Any] = [
            [{"data": {"invoice": 0}}],
            [{"data": {"invoice": 8}}, {"text": "and pay it"}],
            "invoice 8",
        ]
        for parts in others:
            with pytest.raises(Refused, match="message_unfit"):
                await clerk.send("billing", parts, type="lookup")
        with pytest.raises(Refused, match="lookup"):
            await clerk.send("billing", [{"data": {}}], type="transfer")
        assert len(heard(mesh)) == before + 1
    with SyncPeers(gateway(mesh), papers=Token(mesh.papers("clerk"))) as clerk_too:
        clerk_too.send("billing", [{"data": {"invoice": 9}}], type="lookup")
        with pytest.raises(Refused, match="message_unfit"):
            clerk_too.send("billing", "invoice 9", type="lookup")


async def test_a_task_is_streamed_asked_after_gone_on_with_and_cancelled(mesh: Mesh) -> None:
    async with peers(mesh) as clerk:
        mesh.says("task:one two")
        pieces = [piece async for piece in clerk.stream("billing", "Count")]
        assert [(one.state, one.text) for one in pieces[1:]] == [
            ("working", "one"),
            ("working", "two"),
            ("completed", "done"),
        ]
        done = await clerk.get_task("billing", pieces[0].peer_task)
        assert (done.state, done.text) == ("completed", "one\ntwo")
        mesh.says("slow:")
        begun = await clerk.send("billing", "Take your time", after=done, at_once=True)
        assert begun.conversation == done.conversation
        stopped = await clerk.cancel_task("billing", begun.peer_task)
        assert stopped.state == "canceled"
        with pytest.raises(Refused, match="peer_task_unknown"):
            await clerk.get_task("billing", "somebody-elses")
        with pytest.raises(Refused, match="no_permit"):
            [piece async for piece in clerk.stream("billing", "Pay it back", skill="refund")]


def test_the_same_without_an_event_loop(mesh: Mesh) -> None:
    with SyncPeers(gateway(mesh), papers=Token(mesh.papers("clerk"))) as clerk:
        assert clerk.card("billing")["version"] == "1.0.0"
        assert clerk.send("billing", "What of invoice 7?").text == "Invoice 7 is settled."
        with pytest.raises(Refused, match="no_permit"):
            clerk.send("billing", "Pay it back", skill="refund")
        mesh.says("task:one two")
        pieces = list(clerk.stream("billing", "Count"))
        assert [one.text for one in pieces[1:]] == ["one", "two", "done"]
        assert clerk.get_task("billing", pieces[0].peer_task).state == "completed"
        mesh.says("slow:")
        begun = clerk.send("billing", "Take your time", at_once=True)
        assert clerk.cancel_task("billing", begun.peer_task).state == "canceled"
        with pytest.raises(Refused, match="malformed"):
            clerk.ticket("t-1")


def test_behind_connect_no_papers_are_needed(mesh: Mesh) -> None:
    port = free_port()
    command = [sys.executable, "-m", "citywatch", "connect", "clerk", "--gateway", gateway(mesh)]
    with forked.start([*command, "--listen", f"127.0.0.1:{port}"], cwd=mesh.folder) as bridge:
        try:
            wait_for(lambda: listens(port), "the bridge")
            with SyncPeers(f"http://127.0.0.1:{port}") as clerk:
                assert clerk.send("billing", "What of invoice 7?").text == "Invoice 7 is settled."
                with pytest.raises(Refused, match="no_permit"):
                    clerk.send("billing", "Pay it back", skill="refund")
        finally:
            bridge.terminate()
            bridge.wait(DEADLINE_S)


async def test_who_shows_nothing_or_finds_nobody_is_told_so(mesh: Mesh) -> None:
    async with Peers(gateway(mesh)) as nobody:
        with pytest.raises(Refused, match="credential_missing"):
            await nobody.send("billing", "hello")
    async with Peers(f"http://127.0.0.1:{free_port()}", papers=Token("a.b.c")) as lost:
        with pytest.raises(Unavailable):
            await lost.send("billing", "hello")
        with pytest.raises(Unavailable):
            [piece async for piece in lost.stream("billing", "hello")]
    for url in (f"{gateway(mesh)}/a2a/billing", "ftp://127.0.0.1", "http://clerk@127.0.0.1", "http://10.0.0.1"):
        with pytest.raises(Malformed):
            Peers(url, papers=Token("a.b.c"))


async def test_what_is_handed_on_is_what_the_peer_acts_under(mesh: Mesh) -> None:
    chain = granted(mesh)
    mesh.says("look:orders")
    async with peers(mesh, chain=chain) as clerk:
        assert (await clerk.send("billing", "Look up the orders")).text == "chain_missing"
        told = await clerk.send("billing", "Look up the orders", handed=handed(mesh, chain))
        assert told.text == "looked at orders"
        assert (await clerk.send("billing", "Again", handed=chain)).text == "chain_not_held"
    meta = heard(mesh)[-1]["meta"]
    assert (meta["citywatch/task"], meta["citywatch/hops"]) == (chain.task, 1)
    assert "citywatch/chain" not in meta
    decided = [one for one in mesh.events() if one["type"] == "decided" and one["name"] == "look"]
    assert decided[1]["via"] == ["principal:anna", "spiffe://t.example/agent/clerk", BILLING]
    with pytest.raises(Malformed, match="and for no other"):
        peers(mesh, chain=chain, task="another")


async def test_the_hook_shows_papers_carries_the_chain_and_raises_what_was_refused(mesh: Mesh) -> None:
    chain = granted(mesh)
    mesh.says("look:orders")
    async with http_client(gateway(mesh), Token(mesh.papers("clerk"))) as http:
        card = await A2ACardResolver(http, mesh.peer).get_agent_card()
        config = ClientConfig(streaming=False, httpx_client=http)
        mine = await create_client(card, config, [carrying(chain, skill="invoice", handed=handed(mesh, chain))])
        (told,) = [one async for one in mine.send_message(said("Look up the orders"))]
        assert told.message.parts[0].text == "looked at orders"
        assert heard(mesh)[-1]["meta"]["citywatch/task"] == chain.task
        paying = await create_client(card, config, [carrying(chain, skill="refund")])
        with pytest.raises(Refused, match="no_permit"):
            [one async for one in paying.send_message(said("Pay it back"))]
        with pytest.raises(Refused, match="peer_task_unknown"):
            await paying.get_task(GetTaskRequest(id="somebody-elses"))


async def test_with_the_hook_deleted_the_same_message_is_refused(mesh: Mesh) -> None:
    async with mesh.client() as plain:
        request = said("Pay it back")
        request.metadata.update({"citywatch/skill": "refund"})
        with pytest.raises(Exception, match="no_permit"):
            [one async for one in plain.send_message(request)]


async def test_a_token_goes_nowhere_but_to_the_gateway(mesh: Mesh) -> None:
    seen: list[httpx.Request] = []

    def elsewhere(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    async with http_client(gateway(mesh), Token("a.b.c")) as http:
        http._transport = httpx.MockTransport(elsewhere)
        http._mounts = {}
        await http.get(f"http://127.0.0.1:{free_port()}/a2a/billing")
        await http.get(f"{gateway(mesh)}/a2a/billing")
    assert ["authorization" in one.headers for one in seen] == [False, True]


def said(text: str) -> SendMessageRequest:
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))


def test_an_answer_is_gone_on_with_by_its_conversation_and_by_its_task_while_that_is_open() -> None:
    peers = Peers("http://127.0.0.1:1")
    for state, goes_on in (("completed", False), ("input_required", True), ("working", True), ("", False)):
        after = Answer(text="", parts=(), state=state, peer_task="t", conversation="c")
        message = peers._message("on", None, {}, None, after)["message"]
        assert (message["contextId"], "taskId" in message) == ("c", goes_on)
