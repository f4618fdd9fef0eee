"""A message that a person has to let through waits for them, and what no gateway said is told as that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx2
import pytest

from citywatch.core.call import Call, Direction
from citywatch.core.errors import Code
from citywatch.core.wire import mcp
from citywatch.sdk import ApprovalRequired, Denied, Failed, Peers, Unavailable

SAID = {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "done"}]}}


class Asking:
    """A gateway that lets the one message through once its ticket is in the state that it is given."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.sent: list[Any] = []
        self.asked = 0

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        if request.url.path == "/citywatch/ticket":
            self.asked += 1
            if self.states[0] == "busy":
                self.states.pop(0)
                return httpx2.Response(503, content=mcp.turned_away(None, Code.OVERLOADED, "too many"))
            return httpx2.Response(200, json={"state": self.states.pop(0), "expires": 7})
        self.sent.append(body["params"])
        if len(self.sent) > 1:
            return httpx2.Response(200, json={"jsonrpc": "2.0", "id": body["id"], "result": SAID})
        call = Call(
            id="c1",
            direction=Direction.TO_SERVER,
            agent="spiffe://x/agent/a",
            server="billing",
            method="SendMessage",
            name=None,
            arguments={},
            body=b"",
            revision="a2a/1.0",
            rpc_id=body["id"],
        )
        return httpx2.Response(200, content=mcp.refusal(call, Code.APPROVAL_REQUIRED, "why", ticket="t-1"))


@contextmanager
def speaking(answer: Any) -> Iterator[Peers]:
    peers = Peers("http://127.0.0.1:1")
    peers._http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    yield peers


async def test_a_message_waits_for_its_person_and_is_sent_once_more_word_for_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(anyio, "sleep", pause)
    gateway = Asking("pending", "busy", "approved")
    with speaking(gateway.answer) as peers:
        assert (await peers.send("billing", "Pay it", wait=True)).text == "done"
    assert gateway.sent[0] == gateway.sent[1]
    assert (gateway.asked, pauses[0] < pauses[1]) == (3, True)


async def test_a_no_or_nobody_is_raised_and_nothing_is_sent_again() -> None:
    denying = Asking("denied")
    with speaking(denying.answer) as peers, pytest.raises(Denied):
        await peers.send("billing", "Pay it", wait=True)
    expired = Asking("expired")
    with speaking(expired.answer) as peers, pytest.raises(ApprovalRequired):
        await peers.send("billing", "Pay it", wait=True)
    unasked = Asking()
    with speaking(unasked.answer) as peers, pytest.raises(ApprovalRequired):
        await peers.send("billing", "Pay it")
    assert [len(one.sent) for one in (denying, expired, unasked)] == [1, 1, 1]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"jsonrpc":"2.0","id":1,"result":{}}', b'{"jsonrpc":"2.0","id":1,"result":{"message":{}}}'],
)
async def test_what_is_no_answer_is_unavailable(body: bytes) -> None:
    with speaking(lambda request: httpx2.Response(200, content=body)) as peers, pytest.raises(Unavailable):
        await peers.send("billing", "hello")


async def test_a_peers_own_error_is_no_refusal() -> None:
    body = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "out of paper"}}
    with speaking(lambda request: httpx2.Response(200, json=body)) as peers, pytest.raises(Failed) as caught:
        await peers.send("billing", "hello")
    assert (type(caught.value), caught.value.code, caught.value.detail) == (Failed, "server_error", "out of paper")
