"""One agent of the mesh, a process of its own: an A2A server on `a2a-sdk`, a model, tools over MCP.

It is reached in plain, and under its own papers once `FOLDER/papers/NAME` says where they are. How it reaches tools and
peers itself stands in `FOLDER/wiring/NAME.json`, read for each task; what it did is written to
`FOLDER/transcripts.jsonl`, a line for each task.
Decides nothing: its model does. INVARIANT: every call that the model asked for is in the transcript, with its end.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
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
from starlette.types import ASGIApp, Receive, Scope, Send

from citywatch.core.errors import CitywatchError
from citywatch.sdk.hooks.a2a import received
from examples.mesh.cast import CAST, VERSION
from examples.mesh.hands import Hand, Withheld, hands
from examples.support_desk.agent import SEPARATOR, Step, Transcript, work
from examples.support_desk.model import Model
from examples.support_desk.servers.serving import guarded

MAX_REPLY = 2000
LOOK_S = 0.05
Span = tuple[int, int]
CARD = "/.well-known/agent-card.json"


class Colleague(AgentExecutor):
    """Does what it is asked, by its model, with what it has in hand; the same words are done once."""

    def __init__(self, name: str, data: Path, model: Model) -> None:
        self._name, self._data, self._model = name, data, model
        self._done: set[tuple[str, str]] = set()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        words = context.get_user_input()
        wiring = json.loads((self._data / "wiring" / f"{self._name}.json").read_text())
        if (wiring["run"], words) in self._done:
            await event_queue.enqueue_event(new_text_message("I have done that.", role=Role.ROLE_AGENT))
            return
        self._done.add((wiring["run"], words))
        try:
            asked = received(context)
            async with hands(wiring, asked.chain, words) as held:
                transcript, times = await _work(self._model, held, wiring["system"], words)
        except* CitywatchError as failures:  # transports wrap what ends them
            transcript, times = Transcript([], [], f"I could not begin: {failures.exceptions[0]}"), []
        self._write(wiring["run"], words, transcript, times)
        await event_queue.enqueue_event(new_text_message(_reply(transcript), role=Role.ROLE_AGENT))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Nothing here takes so long."""

    def _write(self, run: str, words: str, transcript: Transcript, times: list[Span]) -> None:
        steps = [{**asdict(one), "span": span} for one, span in zip(transcript.steps, times, strict=True)]
        told = {"run": run, "agent": self._name, "asked": words, "steps": steps}
        with (self._data / "transcripts.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**told, "final": transcript.final}) + "\n")


async def _work(model: Model, held: list[Hand], system: str, words: str) -> tuple[Transcript, list[Span]]:
    """What was done, and from when to when each call was open."""
    times: list[Span] = []
    by_name = {one.name: one for one in held}
    offered = [found for one in held for found in await one.functions()]

    async def call(name: str, arguments: dict[str, Any]) -> Step:
        owner, _, function = name.partition(SEPARATOR)
        if owner not in by_name:
            times.append((time.monotonic_ns(), time.monotonic_ns()))
            return Step(owner, function, arguments, "failed", f"there is no `{name}`", {})
        begun = time.monotonic_ns()
        step = await by_name[owner].do(function, arguments)
        times.append((begun, time.monotonic_ns()))
        return step

    begun = time.monotonic_ns()
    withheld = [await one.do("card", {}) for one in held if isinstance(one, Withheld)]
    transcript = await work(model, offered, call, system, words)
    transcript.steps[:0] = withheld
    return transcript, [*((begun, begun) for _ in withheld), *times]


def _reply(transcript: Transcript) -> str:
    told = [step.text for step in transcript.steps if step.outcome == "done"]
    return "\n".join([transcript.final, *told])[:MAX_REPLY]


def card(name: str, url: str, version: str = VERSION) -> AgentCard:
    """What an agent says of itself."""
    skills = [AgentSkill(id=one, name=one, description=text, tags=["mesh"]) for one, text in CAST[name].skills.items()]
    return AgentCard(
        name=name,
        description=f"The {name} agent of Northwind Kitchen.",
        version=version,
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        capabilities=AgentCapabilities(streaming=False),
        supported_interfaces=[AgentInterface(url=f"{url}/a2a", protocol_binding="JSONRPC", protocol_version="1.0")],
        skills=skills,
    )


def app(own: AgentCard, executor: AgentExecutor, token: str) -> ASGIApp:
    """The agent as a web application: its card is for all, its work for those who know its token."""
    handler = DefaultRequestHandlerV2(agent_executor=executor, task_store=InMemoryTaskStore(), agent_card=own)
    inner = Starlette(routes=[*create_agent_card_routes(own), *create_jsonrpc_routes(handler, "/a2a")])
    closed = guarded(inner, token)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await (inner if scope.get("path") == CARD else closed)(scope, receive, send)

    return serve


def run(build: Callable[[str], ASGIApp], plain: socket.socket | None, proven: socket.socket, papers: Path) -> None:
    """Serve what `build(url)` gives until standard input ends: in plain, and once it has papers also under those.

    `papers` is a file that names the folder with `svid.pem` and `key.pem`; it may come later.
    """
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    asyncio.run(_run(build, plain, proven, papers, ended))


async def _run(
    build: Callable[[str], ASGIApp],
    plain: socket.socket | None,
    proven: socket.socket,
    papers: Path,
    ended: threading.Event,
) -> None:
    servers = [] if plain is None else [_server(build(address("http", plain)))]
    serving = [asyncio.create_task(one.serve(sockets=[plain])) for one in servers if plain is not None]
    shown = False
    while not ended.is_set():
        if not shown and papers.exists():
            folder, shown = Path(papers.read_text()), True
            own = {"ssl_certfile": folder / "svid.pem", "ssl_keyfile": folder / "key.pem"}
            servers.append(_server(build(address("https", proven)), **own))
            serving.append(asyncio.create_task(servers[-1].serve(sockets=[proven])))
        await asyncio.sleep(LOOK_S)
    for one in servers:
        one.should_exit = True
    await asyncio.gather(*serving)


def _server(served: ASGIApp, **more: Any) -> uvicorn.Server:
    config = uvicorn.Config(served, log_level="error", access_log=False, timeout_graceful_shutdown=1, **more)
    return uvicorn.Server(config)


def address(scheme: str, listener: socket.socket) -> str:
    """Where a listener is reached."""
    return f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
