"""An agent as people write them with `a2a-sdk`, as `python billing_agent.py PORT FOLDER`: it says what `says` holds.

`look:` has it look something up under what it was handed, by the papers that lie in the folder; `slow:` has it take its
time until somebody cancels.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import uvicorn
from a2a.helpers.proto_helpers import (
    new_task_from_user_message,
    new_text_artifact_update_event,
    new_text_message,
    new_text_status_update_event,
)
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandlerV2
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Role, TaskState
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from starlette.applications import Starlette

from citywatch.sdk import Client, Failed, Token
from citywatch.sdk.hooks.a2a import received

FOLDER = Path(sys.argv[2])
STOPPED = asyncio.Event()


class Billing(AgentExecutor):
    """Answers with the text of `says`; as a task in pieces where asked to stream or to take its time."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        with (FOLDER / "heard").open("a") as file:
            file.write(json.dumps(MessageToDict(context.message) | {"meta": dict(context.metadata)}) + "\n")
        text = (FOLDER / "says").read_text()
        if text.startswith("look:"):
            text = await self._look(text.removeprefix("look:"), context)
        if text.startswith("slow:"):
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
            STOPPED.clear()
            await STOPPED.wait()
            return
        if not text.startswith("task:"):
            await event_queue.enqueue_event(new_text_message(text, role=Role.ROLE_AGENT))
            return
        task = new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        for word in text.removeprefix("task:").split():
            await event_queue.enqueue_event(new_text_artifact_update_event(task.id, task.context_id, "answer", word))
        done = new_text_status_update_event(task.id, task.context_id, TaskState.TASK_STATE_COMPLETED, "done")
        await event_queue.enqueue_event(done)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        stopped = new_text_status_update_event(
            context.task_id, context.context_id, TaskState.TASK_STATE_CANCELED, "stopped"
        )
        await event_queue.enqueue_event(stopped)
        STOPPED.set()

    async def _look(self, what: str, context: RequestContext) -> str:
        url, token = (FOLDER / "papers").read_text().split()
        try:
            async with Client(url, papers=Token(token), chain=received(context).chain) as desk:
                return (await desk.call("look", {"what": what})).text
        except Failed as failure:
            return failure.code


def card(port: int) -> AgentCard:
    skill = AgentSkill(id="invoice", name="Invoice", description=(FOLDER / "offers").read_text(), tags=["money"])
    return AgentCard(
        name="billing",
        description="Knows what is owed.",
        version="1.0.0",
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        capabilities=AgentCapabilities(streaming=True),
        supported_interfaces=[
            AgentInterface(url=f"http://127.0.0.1:{port}/a2a", protocol_binding="JSONRPC", protocol_version="1.0")
        ],
        skills=[skill],
    )


if __name__ == "__main__":
    own = card(int(sys.argv[1]))
    handler = DefaultRequestHandlerV2(agent_executor=Billing(), task_store=InMemoryTaskStore(), agent_card=own)
    routes = [*create_agent_card_routes(own), *create_jsonrpc_routes(handler, "/a2a")]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
