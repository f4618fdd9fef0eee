"""The `a2a-sdk`. To speak: `http_client` shows papers and raises what was refused, `carrying` says what it is about.

    async with http_client(url, papers) as http:
        client = await create_client(card, ClientConfig(httpx_client=http), [carrying(chain, skill="invoice")])

`let_through(client, request)` sends a message, waits where a person has to let it through, and sends it again then.

To be spoken to: `received` says in an executor who asks, for which task, and what was handed on to act under.

    async with Client(desk, papers=papers, chain=received(context).chain) as tools: ...

Decides nothing. INVARIANTS: a chain that was handed on is read before it is used, and what is none is refused here; a
token is shown to the gateway alone, wherever a card leads.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.wire import a2a, a2a_waiting, mcp
from citywatch.sdk.chain import Chain
from citywatch.sdk.door import FIRST_PAUSE_S, LONGEST_PAUSE_S, SLOWER
from citywatch.sdk.errors import raised
from citywatch.sdk.papers import Papers, Token, check_place

__all__ = ["Received", "carrying", "http_client", "let_through", "received"]


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """What came beside a message: `sender` is a SPIFFE ID and `hops` how many agents the task came through, both in the
    gateway's words; `chain` was handed on by the sender, for this agent to act under."""

    sender: str
    task: str | None
    skill: str | None
    type: str | None
    hops: int | None
    chain: Chain | None


def http_client(url: str, papers: Papers, timeout_s: float = 300.0) -> Any:
    """An `httpx.AsyncClient` for the gateway at this URL that shows these papers, and raises `Refused` or another
    `Failed` for what was refused; `Malformed` if anybody would see the papers."""
    import httpx

    gateway = httpx.URL(url)

    class Shown(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Any:
            there = (request.url.scheme, request.url.host, request.url.port)
            if isinstance(papers, Token) and there == (gateway.scheme, gateway.host, gateway.port):
                request.headers["Authorization"] = papers.shown()
            yield request

    async def checked(response: httpx.Response) -> None:
        if not response.headers.get("content-type", "").startswith("application/json"):
            return
        told = _refusal(await response.aread())
        if told is not None:
            raise raised(told)

    context = check_place(urlsplit(url), papers)
    return httpx.AsyncClient(
        auth=Shown(),
        verify=context or True,
        event_hooks={"response": [checked]},
        timeout=timeout_s,
        trust_env=False,
    )


def carrying(
    chain: Chain | None = None, *, skill: str | None = None, type: str | None = None, handed: Chain | None = None
) -> Any:
    """An interceptor: each message is made under `chain` for its task, is for `skill`, of `type`, and hands on
    `handed`."""
    from a2a.client.interceptors import ClientCallInterceptor

    own: dict[str, Any] = {} if chain is None else {a2a.TASK: chain.task, a2a.CHAIN: list(chain.links)}
    told = own | ({} if skill is None else {a2a.SKILL: skill})
    told |= {} if type is None else {a2a.TYPE: type}
    told |= {} if handed is None else {a2a.HANDED: list(handed.links)}

    class Carrying(ClientCallInterceptor):
        async def before(self, args: Any) -> None:
            if args.method.startswith("send_message"):
                args.input.metadata.update(told)
            elif own and hasattr(args.input, "metadata"):
                args.input.metadata.update(own)

        async def after(self, args: Any) -> None:
            """What comes back is left as it is."""

    return Carrying()


async def let_through(client: Any, request: Any) -> AsyncIterator[Any]:
    """What the peer answers to a `SendMessageRequest`; where a person has to let it through, after they have.

    Waits as long as the ticket does: put a time limit around it. A no is raised as what is refused is.
    """
    import anyio

    asked, pause = request, FIRST_PAUSE_S
    while True:
        began, task = anyio.current_time(), None
        async for response in client.send_message(asked):
            task = task or _waiting(response)
            if task is None:
                yield response
        if task is None:
            return
        if request.message.task_id:
            await _answered(client, task.id)  # it goes on with another task, and can name no second one
        else:
            asked = type(request)()
            asked.CopyFrom(request)
            asked.message.task_id = task.id  # there it is kept waiting, and is not judged meanwhile
        if anyio.current_time() - began < pause:
            await anyio.sleep(pause)
            pause = min(pause * SLOWER, LONGEST_PAUSE_S)


async def _answered(client: Any, name: str) -> None:
    """Return as soon as the task is found to wait no more."""
    import anyio
    from a2a.types import GetTaskRequest, TaskState

    pause = FIRST_PAUSE_S
    while (await client.get_task(GetTaskRequest(id=name))).status.state == TaskState.TASK_STATE_AUTH_REQUIRED:
        await anyio.sleep(pause)
        pause = min(pause * SLOWER, LONGEST_PAUSE_S)


def _waiting(response: Any) -> Any:
    """The gateway's own task in which a message waits for a person; None where it went through."""
    from a2a.types import TaskState

    if not response.HasField("task") or a2a_waiting.parse_task_name(response.task.id) is None:
        return None
    return response.task if response.task.status.state == TaskState.TASK_STATE_AUTH_REQUIRED else None


def received(context: Any) -> Received:
    """What an executor's `RequestContext` says of its sender; `Malformed` or `Refused` for a chain that is none."""
    metadata: Mapping[str, Any] = context.metadata
    links, hops = metadata.get(a2a.HANDED), metadata.get(a2a.HOPS)
    if links is not None and not (type(links) is list and all(type(one) is str for one in links)):
        raise Malformed(f"`{a2a.HANDED}` holds no chain")
    chain = None if links is None else Chain(tuple(links))
    return Received(
        sender=str(metadata.get(a2a.SENDER, "")),
        task=metadata.get(a2a.TASK),
        skill=metadata.get(a2a.SKILL),
        type=metadata.get(a2a.TYPE),
        hops=None if hops is None else int(hops),
        chain=chain,
    )


def _refusal(body: bytes) -> mcp.Told | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    error = value.get("error") if type(value) is dict else None
    return mcp.read_error(error.get("data")) if type(error) is dict else None
