"""An agent of `a2a-sdk` that a compatibility kit speaks to, as `python kit_agent.py PORT [plain]`: how the id of a
message begins says what becomes of it. JSON-RPC is at `/`, HTTP+JSON at `/rest`.

`plain` is an agent that neither streams nor pushes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

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
from a2a.types import AgentCapabilities, AgentCard, AgentExtension, AgentInterface, AgentProvider, AgentSkill, Part
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from starlette.applications import Starlette

EXTENSION = "urn:a2a:tck:required-extension"
WORK_S = 2.0
FILE = Part(raw=b"kit", media_type="text/plain", filename="output.txt")
LINK = Part(url="https://example.com/output.txt", media_type="text/plain", filename="output.txt")
DATA = ParseDict({"data": {"key": "value", "count": 42}}, Part())
ARTIFACTS = {
    "artifact-text": Part(text="Generated text content"),
    "artifact-file-url": LINK,
    "artifact-file": FILE,
    "artifact-data": DATA,
    "stream-artifact-text": Part(text="Streamed text content"),
    "stream-artifact-file": FILE,
    "stream-ordering": Part(text="Ordered output"),
    "stream-001": Part(text="Stream hello"),
    "stream-003": Part(text="Stream task lifecycle"),
}


async def _chunks(updater: TaskUpdater) -> None:
    await updater.start_work()
    await updater.add_artifact(parts=[Part(text="chunk-1 ")], artifact_id="a", append=False)
    await updater.add_artifact(parts=[Part(text="chunk-2")], artifact_id="a", append=True, last_chunk=True)
    await updater.complete()


async def _later(updater: TaskUpdater) -> None:
    await updater.start_work()
    await asyncio.sleep(WORK_S)
    await updater.complete(updater.new_agent_message([Part(text="Done after delay")]))


async def _done(updater: TaskUpdater) -> None:
    await updater.complete(updater.new_agent_message([Part(text="Hello from the agent")]))


ACTS: dict[str, Callable[[TaskUpdater], Awaitable[None]]] = {
    "stream-artifact-chunked": _chunks,
    "delayed-complete": _later,
    "input-required": lambda updater: updater.requires_input(),
    "auth-required": lambda updater: updater.requires_auth(),
    "complete-task": _done,
}


class Scripted(AgentExecutor):
    """Does what the id of a message asks for; anything else is done at once."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        message = context.message
        assert message is not None
        assert context.task_id is not None
        assert context.context_id is not None
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        word = message.message_id.removeprefix("kit-")
        if word.startswith("message-response"):
            await event_queue.enqueue_event(updater.new_agent_message([Part(text="Direct message response")]))
            return
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(message))
        act = next((one for start, one in ACTS.items() if word.startswith(start)), None)
        part = next((one for start, one in ARTIFACTS.items() if word.startswith(start)), None)
        if act is None and part is not None:
            await updater.start_work()
            await updater.add_artifact(parts=[part])
        await (act or _done)(updater)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def card(port: int, *, plain: bool) -> AgentCard:
    base = f"http://127.0.0.1:{port}"
    extension = AgentExtension(uri=EXTENSION, description="Asked for by nobody.", required=False)
    return AgentCard(
        name="kit",
        description="Does what a compatibility kit asks for.",
        version="1.0.0",
        provider=AgentProvider(organization="Nobody", url="https://example.com"),
        default_input_modes=["text"],
        default_output_modes=["text"],
        capabilities=AgentCapabilities(streaming=not plain, push_notifications=not plain, extensions=[extension]),
        supported_interfaces=[
            AgentInterface(url=base, protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=f"{base}/rest", protocol_binding="HTTP+JSON", protocol_version="1.0"),
        ],
        skills=[AgentSkill(id="kit", name="Kit", description="Anything.", tags=["test"])],
    )


if __name__ == "__main__":
    own = card(int(sys.argv[1]), plain="plain" in sys.argv)
    configs = InMemoryPushNotificationConfigStore()
    pushes = {"push_config_store": configs, "push_sender": BasePushNotificationSender(httpx.AsyncClient(), configs)}
    handler = DefaultRequestHandlerV2(
        agent_executor=Scripted(),
        task_store=InMemoryTaskStore(),
        agent_card=own,
        **({} if "plain" in sys.argv else pushes),  # type: ignore[arg-type]
    )
    routes = [
        *create_jsonrpc_routes(handler, "/"),
        *create_agent_card_routes(own, cache_control="public, max-age=60"),
        *create_rest_routes(handler, path_prefix="/rest"),
    ]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
