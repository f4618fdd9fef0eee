"""A message that waits for a person, at a running gateway: with `a2a-sdk`'s client in either binding, and ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.helpers.proto_helpers import new_text_message
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import A2AError

from citywatch.adapters.sqlite import open_store
from citywatch.adapters.system import SystemClock
from citywatch.core.wire import a2a
from citywatch.sdk import ApprovalRequired, Peers, Token
from citywatch.sdk.errors import Denied
from citywatch.sdk.hooks.a2a import http_client, let_through
from citywatch.service.tickets import Tickets
from tests.e2e.gateway.desk import DEADLINE_S
from tests.e2e.gateway.test_a2a import Mesh

T = TypeVar("T")

RULES = 'ask talk per agent when server is "billing" and effect is "irreversible";\n'
CONSOLE = "https://city.t.example:8443"
BINDINGS = ("JSONRPC", "HTTP+JSON")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as stack:
        city = Mesh(tmp_path_factory.mktemp("asking"), stack)
        file = city.folder / "citywatch.yaml"
        file.write_text(file.read_text() + f"temporal_rules: rules\nconsole: {{address: '{CONSOLE}'}}\n")
        (city.folder / "rules").write_text(RULES)
        city.start_billing()
        city.run("agent", "add", "clerk")
        city.run("tools", "approve", "--yes", check=False)
        city.up()
        yield city


def heard(mesh: Mesh) -> list[dict[str, Any]]:
    file = mesh.folder / "heard"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def saying(text: str) -> SendMessageRequest:
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))


async def answered_by(mesh: Mesh, yes: bool = True) -> None:
    """Somebody answers what waits, as soon as it does, over a database connection of their own."""
    store = open_store(mesh.folder / ".citywatch" / "citywatch.db")
    tickets = Tickets(store=store, clock=SystemClock(), replica="people", named=False)
    while not (waiting := (await tickets.page()).tickets):
        await asyncio.sleep(0.01)
    await tickets.answer(waiting[0].id, yes, "anna", "known", principal="anna")
    await store.close()


async def meanwhile(said: Awaitable[T], answered: Awaitable[None]) -> T:
    """What comes of something that is said while somebody answers."""
    async with asyncio.timeout(DEADLINE_S):
        found, _ = await asyncio.gather(said, answered)
    return found


async def gathered(answers: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in answers]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_client_of_the_sdk_asks_after_follows_calls_off_and_sends_again(mesh: Mesh, binding: str) -> None:
    async with mesh.http("clerk") as http:
        card = await A2ACardResolver(http, mesh.peer).get_agent_card()
        client, follower = [
            await create_client(
                card, ClientConfig(streaming=one, httpx_client=http, supported_protocol_bindings=[binding])
            )
            for one in (False, True)
        ]
        before, request = len(heard(mesh)), saying(f"Pay invoice 8 over {binding}")
        (told,) = [one async for one in client.send_message(request)]
        task = told.task
        assert task.status.state == TaskState.TASK_STATE_AUTH_REQUIRED
        ticket = task.metadata["citywatch/ticket"]
        assert f"{CONSOLE}/tickets/{ticket}" in task.status.message.parts[1].text
        pushing = TaskPushNotificationConfig(task_id=task.id, id="p", url="https://x.example/")
        with pytest.raises(A2AError, match="push"):
            await client.create_task_push_notification_config(pushing)
        first, *_, last = await meanwhile(
            gathered(follower.subscribe(SubscribeToTaskRequest(id=task.id))), answered_by(mesh)
        )
        assert first.task.status.state == TaskState.TASK_STATE_AUTH_REQUIRED
        assert last.status_update.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        assert len(heard(mesh)) == before
        request.message.task_id, request.message.context_id = task.id, task.context_id
        (answer,) = [one async for one in client.send_message(request)]
        assert answer.message.parts[0].text == "Invoice 7 is settled."
        (sent,) = heard(mesh)[before:]
        assert "citywatch-ticket" not in json.dumps(sent)
        assert (await client.get_task(GetTaskRequest(id=task.id))).status.state == TaskState.TASK_STATE_COMPLETED
        with pytest.raises(A2AError, match="not_what_waits"):
            [one async for one in client.send_message(request)]
        (other,) = [one async for one in client.send_message(saying("And invoice 9"))]
        gone = await client.cancel_task(CancelTaskRequest(id=other.task.id))
        assert gone.status.state == TaskState.TASK_STATE_CANCELED
        with pytest.raises(A2AError, match="not_what_waits"):
            await gathered(follower.subscribe(SubscribeToTaskRequest(id=other.task.id)))


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_hook_waits_in_one_call(mesh: Mesh, streaming: bool) -> None:
    papers = Token(mesh.papers("clerk"))
    async with http_client(f"http://127.0.0.1:{mesh.port}", papers) as http:
        card = await A2ACardResolver(http, mesh.peer).get_agent_card()
        client = await create_client(card, ClientConfig(streaming=streaming, httpx_client=http))
        before = len(heard(mesh))
        answers = await meanwhile(gathered(let_through(client, saying("What of invoice 11?"))), answered_by(mesh))
        assert [one.message.parts[0].text for one in answers] == ["Invoice 7 is settled."]
        assert len(heard(mesh)) == before + 1
        with pytest.raises(Denied):
            await meanwhile(gathered(let_through(client, saying(f"Pay {streaming}"))), answered_by(mesh, yes=False))
        assert len(heard(mesh)) == before + 1


async def test_our_own_client_raises_or_waits(mesh: Mesh) -> None:
    async with Peers(f"http://127.0.0.1:{mesh.port}", papers=Token(mesh.papers("clerk"))) as clerk:
        with pytest.raises(ApprovalRequired) as caught:
            await clerk.send("billing", "What of invoice 13?")
        task = f"citywatch-ticket-{caught.value.ticket}"
        assert (await clerk.get_task("billing", task)).state == "auth_required"
        await clerk.cancel_task("billing", task)
        answer = await meanwhile(clerk.send("billing", "What of invoice 14?", wait=True), answered_by(mesh))
        assert answer.text == "Invoice 7 is settled."


async def test_what_waits_is_shown_at_a_terminal(mesh: Mesh) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {mesh.papers('clerk')}"}) as http:
        parts = [{"text": "please approve"}, {"raw": "aGVsbG8=", "mediaType": "application/pdf"}]
        body = {"message": {"messageId": "m1", "role": "ROLE_USER", "parts": parts}}
        told = await http.post(f"{mesh.peer}/message:send", json=body, headers={"A2A-Version": a2a.VERSION})
    ticket = told.json()["task"]["metadata"]["citywatch/ticket"]
    assert "billing/message" in mesh.run("tickets", "list").stdout
    shown = mesh.run("tickets", "show", ticket).stdout
    assert "says to the agent billing" in shown
    assert "5 bytes, SHA-256 2cf24dba5fb0a30e" in shown
    assert "only the digest is shown" in shown
