"""An agent of `a2a-sdk` that does what a suite asks of it, as `python suite_agent.py PORT`: the first word of a message
says what. JSON-RPC is at `/a2a`, HTTP+JSON at `/rest`.
"""

from __future__ import annotations

import asyncio
import sys

import httpx
import uvicorn
from a2a.helpers.proto_helpers import new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandlerV2
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import (
    BasePushNotificationSender,
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Part
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from starlette.applications import Starlette


class Suite(AgentExecutor):
    """Answers with a message, or with a task in the way that is asked for."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        message = context.message
        assert message is not None
        assert context.task_id is not None
        assert context.context_id is not None
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        word = message.parts[0].text.partition(" ")[0]
        if word == "message":
            await event_queue.enqueue_event(updater.new_agent_message([Part(text="a message")]))
            return
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(message))
        if word == "wait":
            await updater.requires_input()
        elif word == "work":
            await updater.start_work()
            await asyncio.sleep(60)
        elif word == "artifacts":
            await updater.start_work()
            await updater.add_artifact(parts=[Part(text="some text")])
            await updater.add_artifact(parts=[Part(raw=b"bytes", media_type="text/plain", filename="a.txt")])
            await updater.add_artifact(parts=[ParseDict({"data": {"key": "value", "count": 42}}, Part())])
            await updater.complete()
        elif word == "pieces":
            await updater.start_work()
            await updater.add_artifact(parts=[Part(text="one ")], artifact_id="a", append=False)
            await updater.add_artifact(parts=[Part(text="two")], artifact_id="a", append=True, last_chunk=True)
            await updater.complete()
        elif word == "link":
            await updater.add_artifact(parts=[Part(url="https://elsewhere.example/x", media_type="text/plain")])
            await updater.complete()
        elif word == "reject":
            await updater.reject()
        else:
            await updater.complete(updater.new_agent_message([Part(text="done")]))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def card(port: int) -> AgentCard:
    base = f"http://127.0.0.1:{port}"
    return AgentCard(
        name="suite",
        description="Does what a suite asks for.",
        version="1.0.0",
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        capabilities=AgentCapabilities(streaming=True, push_notifications=True),
        supported_interfaces=[
            AgentInterface(url=f"{base}/a2a", protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=f"{base}/rest", protocol_binding="HTTP+JSON", protocol_version="1.0"),
        ],
        skills=[AgentSkill(id="suite", name="Suite", description="Anything.", tags=["test"])],
    )


if __name__ == "__main__":
    own = card(int(sys.argv[1]))
    configs = InMemoryPushNotificationConfigStore()
    handler = DefaultRequestHandlerV2(
        agent_executor=Suite(),
        task_store=InMemoryTaskStore(),
        agent_card=own,
        push_config_store=configs,
        push_sender=BasePushNotificationSender(httpx.AsyncClient(timeout=30), configs),
    )
    routes = [
        *create_agent_card_routes(own),
        *create_jsonrpc_routes(handler, "/a2a"),
        *create_rest_routes(handler, path_prefix="/rest"),
    ]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
