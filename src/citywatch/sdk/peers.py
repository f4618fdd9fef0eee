"""The agents behind the gateway, for another: a message and its answer, streamed or whole, and what became of a task.

Decides nothing: what is refused was refused by the gateway. INVARIANTS: a refusal is raised and never returned as an
answer; a message is sent once, and once more only after its ticket was answered, word for word; a chain that is handed
on goes along for its receiver and is never shown as the sender's own.
SPEC: A2A 1.0 §9 (JSON-RPC binding), which the gateway speaks at `/a2a/<peer>`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from citywatch.core.errors import Code, Malformed
from citywatch.core.names import parse_segment
from citywatch.core.wire import a2a, a2a_waiting, mcp
from citywatch.core.wire.jsonrpc import FROM_SERVER, Response, parse_message
from citywatch.core.wire.sse import EventParser
from citywatch.sdk.chain import Chain
from citywatch.sdk.client import SERVER_ERROR
from citywatch.sdk.door import let_through, ticket_state
from citywatch.sdk.errors import Failed, away, raised
from citywatch.sdk.http import http_client
from citywatch.sdk.papers import Papers, check_place

MAX_EVENT = 16 << 20
STREAM = "text/event-stream"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer said. `parts` are A2A's, as JSON; `text` is their text.

    `state` is empty for a plain message, else what a task is in: `working`, `completed`, `input_required`, … Give the
    answer as `after` to go on with its conversation; `peer_task` is the id to ask by.
    """

    text: str
    parts: tuple[Mapping[str, Any], ...]
    state: str = ""
    peer_task: str = ""
    conversation: str = ""


class Peers:
    """Use it as `async with Peers("https://gateway:8460", papers=…) as peers`, in the task that opened it."""

    def __init__(
        self,
        url: str,
        *,
        papers: Papers = None,
        chain: Chain | None = None,
        task: str | None = None,
        timeout_s: float = 300.0,
    ) -> None:
        """`url` is the gateway's, or that of `citywatch connect`, which shows papers itself. `chain` and `task` hold
        for each message that names none of its own."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.path.strip("/") or "@" in parts.netloc:
            raise Malformed(f"`{url}` is no gateway: expected https://host[:port]")
        check_place(parts, papers)
        self._parts, self._papers, self._timeout_s = parts, papers, timeout_s
        self._own = _named(task, chain)
        self._stack = AsyncExitStack()
        self._http: Any = None

    async def __aenter__(self) -> Self:
        self._http = await self._stack.enter_async_context(
            http_client(self._parts.geturl(), self._papers, self._timeout_s)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def card(self, peer: str) -> Mapping[str, Any]:
        """What a person approved of what the peer says of itself, with the gateway's address; signed by the gateway."""
        response = await self._http.get(f"{self._place(peer)}/.well-known/agent-card.json")
        value = _json(response.content)
        if response.status_code == 200 and type(value) is dict:
            return value
        raise _failed(value, f"no card of `{peer}`: status {response.status_code}")

    async def send(
        self,
        peer: str,
        said: str | Sequence[Mapping[str, Any]],
        *,
        skill: str | None = None,
        type: str | None = None,
        task: str | None = None,
        chain: Chain | None = None,
        handed: Chain | None = None,
        after: Answer | None = None,
        at_once: bool = False,
        wait: bool = False,
        patience_s: float | None = None,
    ) -> Answer:
        """Say something to a peer, a text or A2A's parts, and wait for its whole answer.

        `skill` is what it is for, `type` the type that it has, with one `data` part that fits its schema, `handed` a
        chain for the peer to act under. With `at_once` a task is answered as it stands, to be asked after with
        `get_task`. Raises `Refused`, `Unavailable` or another `Failed` if there is no answer; `ApprovalRequired` for a
        message that only a person may let through. With `wait` it waits for them, for `patience_s` or until the ticket
        expires, and is then sent once more, word for word.
        """
        params = self._message(said, skill, _named(task, chain), handed, after, type)
        if at_once:
            params["configuration"] = {"returnImmediately": True}

        async def sent() -> Answer:
            return read_answer(_through(await self._ask(peer, "SendMessage", params)))

        return await let_through(sent, self.ticket, wait=wait, patience_s=patience_s)

    async def stream(
        self,
        peer: str,
        said: str | Sequence[Mapping[str, Any]],
        *,
        skill: str | None = None,
        type: str | None = None,
        task: str | None = None,
        chain: Chain | None = None,
        handed: Chain | None = None,
        after: Answer | None = None,
    ) -> AsyncIterator[Answer]:
        """As `send`, with each piece of the answer as it comes; what is refused is raised, at the start or later."""
        params = self._message(said, skill, _named(task, chain), handed, after, type)
        async for response in self._pieces(peer, "SendStreamingMessage", params):
            yield read_answer(_through(response))

    async def get_task(self, peer: str, peer_task: str) -> Answer:
        """Where a task of this agent at the peer stands."""
        return read_answer(await self._ask(peer, "GetTask", self._about(peer_task)))

    async def cancel_task(self, peer: str, peer_task: str) -> Answer:
        """Ask the peer to stop a task of this agent; says where it stands then."""
        return read_answer(await self._ask(peer, "CancelTask", self._about(peer_task)))

    async def ticket(self, ticket: str, wait_s: float = 0.0) -> tuple[str, int]:
        """As `Client.ticket`."""
        return await ticket_state(self._http, self._parts, ticket, wait_s)

    def _place(self, peer: str) -> str:
        return f"{self._parts.scheme}://{self._parts.netloc}/a2a/{parse_segment(peer, 'name of a peer')}"

    def _about(self, peer_task: str) -> dict[str, Any]:
        return {"id": peer_task, **({"metadata": self._own} if self._own else {})}

    def _message(
        self,
        said: str | Sequence[Mapping[str, Any]],
        skill: str | None,
        named: Mapping[str, Any],
        handed: Chain | None,
        after: Answer | None,
        type: str | None = None,
    ) -> dict[str, Any]:
        parts = [{"text": said}] if isinstance(said, str) else [dict(one) for one in said]
        message: dict[str, Any] = {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": parts}
        if after is not None:
            message |= {} if not after.conversation else {"contextId": after.conversation}
            message |= {} if not _goes_on(after) else {"taskId": after.peer_task}
        metadata = dict(named or self._own)
        metadata |= {} if skill is None else {a2a.SKILL: skill}
        metadata |= {} if type is None else {a2a.TYPE: type}
        metadata |= {} if handed is None else {a2a.HANDED: list(handed.links)}
        return {"message": message, **({"metadata": metadata} if metadata else {})}

    async def _ask(self, peer: str, method: str, params: Mapping[str, Any]) -> Response:
        response = await self._http.post(self._place(peer), json=_request(method, params), headers=_headers())
        return _read(method, response.content, f"the gateway does not answer: status {response.status_code}")

    async def _pieces(self, peer: str, method: str, params: Mapping[str, Any]) -> AsyncIterator[Response]:
        import httpx2

        told = "the stream broke off"
        try:
            async with self._http.stream(
                "POST", self._place(peer), json=_request(method, params), headers=_headers()
            ) as response:
                if not response.headers.get("content-type", "").startswith(STREAM):
                    yield _read(method, await response.aread(), f"no stream: status {response.status_code}")
                    return
                parser = EventParser(MAX_EVENT)
                async for chunk in response.aiter_bytes():
                    for event in parser.feed(chunk):
                        if event.data:
                            yield _read(method, event.data, told)
        except httpx2.HTTPError as failure:
            raise away(f"{told}: {type(failure).__name__.lower()}") from None


def _through(response: Response) -> Response:
    """What a peer says; raises `ApprovalRequired` for the gateway's own task, in which a message waits for a person."""
    result = response.result or {}
    if (ticket := a2a_waiting.waits_in(result)) != "":
        said = "\n".join(part["text"] for part in _status_parts(result.get("task", result)) if "text" in part)
        raise raised(mcp.Told(code=Code.APPROVAL_REQUIRED.value, detail=said, ticket=ticket))
    return response


def read_answer(response: Response) -> Answer:
    """The result of any method, as an answer."""
    value: Mapping[str, Any] = response.result or {}
    if "message" in value and "status" not in value:
        return _said(value["message"])
    if "artifactUpdate" in value:
        piece = value["artifactUpdate"]
        return _answer(piece, piece["artifact"]["parts"], "working", piece["taskId"])
    if "statusUpdate" in value:
        update = value["statusUpdate"]
        return _answer(update, _status_parts(update), _state(update), update["taskId"])
    task = value.get("task", value)
    made = [part for one in task.get("artifacts", ()) for part in one["parts"]]
    return _answer(task, made or _status_parts(task), _state(task), task["id"])


def _said(message: Mapping[str, Any]) -> Answer:
    return _answer(message, message["parts"], "", str(message.get("taskId", "")))


def _answer(value: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], state: str, peer_task: str) -> Answer:
    return Answer(
        text="\n".join(part["text"] for part in parts if "text" in part),
        parts=tuple(parts),
        state=state,
        peer_task=peer_task,
        conversation=str(value.get("contextId", "")),
    )


def _status_parts(value: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    parts: Sequence[Mapping[str, Any]] = value["status"].get("message", {}).get("parts", ())
    return parts


def _state(value: Mapping[str, Any]) -> str:
    return str(value["status"]["state"]).removeprefix("TASK_STATE_").lower()


def _goes_on(after: Answer) -> bool:
    """Whether the peer's task takes another message: one that is over does not."""
    return bool(after.peer_task) and after.state in ("submitted", "working", "input_required", "auth_required")


def _named(task: str | None, chain: Chain | None) -> dict[str, Any]:
    """What a request says to be for a task, or made under a chain for its task."""
    if chain is None:
        return {} if task is None else {a2a.TASK: task}
    if task not in (None, chain.task):
        raise Malformed("a chain is for the task that its first link names, and for no other")
    return {a2a.TASK: chain.task, a2a.CHAIN: list(chain.links)}


def _request(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": uuid.uuid4().hex, "method": method, "params": params}


def _headers() -> dict[str, str]:
    return {"A2A-Version": a2a.VERSION, "Accept": f"application/json, {STREAM}"}


def _read(method: str, body: bytes, otherwise: str) -> Response:
    """One response, checked as the gateway checks it; raises what it says of a refusal or of a failure."""
    try:
        message = parse_message(body, FROM_SERVER)
    except Malformed:
        raise _failed(_json(body), otherwise) from None
    if not isinstance(message, Response):
        raise away(otherwise)
    if message.error is not None:
        raise _failed({"error": message.error}, otherwise)
    try:
        a2a.check_reply(method, message, None)
    except Malformed as fault:
        raise away(str(fault)) from None
    return message


def _failed(value: Any, otherwise: str) -> Failed:
    error = value.get("error") if type(value) is dict else None
    if type(error) is not dict:
        return away(otherwise)
    told = mcp.read_error(error.get("data"))
    return raised(told) if told is not None else Failed(mcp.Told(code=SERVER_ERROR, detail=str(error.get("message"))))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
