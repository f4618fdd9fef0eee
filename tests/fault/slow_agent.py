"""An agent of `a2a-sdk` that can be made to hang or to break, as `python slow_agent.py PORT FOLDER`.

A message that says `hang` is answered once `FOLDER/go` is there, one that says `break` by a bare 500, any other at
once. Each one that comes is a line of `FOLDER/heard`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from a2a.helpers.proto_helpers import new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandlerV2
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Role
from starlette.applications import Starlette

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def heard(word: str) -> None:
    with (FOLDER / "heard").open("a") as ledger:
        ledger.write(f"{word}\n")


class Moody(AgentExecutor):
    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        word = context.message.parts[0].text
        heard(word)
        while word == "hang" and not (FOLDER / "go").exists():
            await asyncio.sleep(0.02)
        await event_queue.enqueue_event(new_text_message("done", role=Role.ROLE_AGENT))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


class Breaking:
    """Breaks in front of the agent, as a proxy or a dying process does."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if b'"break"' in body:
            heard("break")
            await send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        given = False

        async def again() -> MutableMapping[str, Any]:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)


if __name__ == "__main__":
    where = AgentInterface(url=f"http://127.0.0.1:{PORT}/a2a", protocol_binding="JSONRPC", protocol_version="1.0")
    card = AgentCard(
        name="moody",
        description="Answers, or does not.",
        version="1.0.0",
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        capabilities=AgentCapabilities(),
        supported_interfaces=[where],
        skills=[AgentSkill(id="any", name="Any", description="Anything.", tags=["test"])],
    )
    handler = DefaultRequestHandlerV2(agent_executor=Moody(), task_store=InMemoryTaskStore(), agent_card=card)
    routes = [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/a2a")]
    uvicorn.run(Breaking(Starlette(routes=routes)), host="127.0.0.1", port=PORT, log_level="error")
