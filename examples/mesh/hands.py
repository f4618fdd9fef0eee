"""What an agent acts with: tools over MCP and peers over A2A, at their own addresses or through the gateway.

Decides nothing. The same names either way, so that the model sees no difference. INVARIANT: what was refused by the
gateway is told with its code and the decision's id, and the agent goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.helpers.proto_helpers import get_message_text, new_text_message
from a2a.types import AgentCard, Role, SendMessageRequest
from a2a.utils.errors import A2AError
from mcp import Client as Server
from mcp import MCPError

from citywatch.core.errors import CitywatchError
from citywatch.sdk import Certificate, Chain, Client, Failed
from citywatch.sdk.hooks.a2a import carrying, http_client
from examples.support_desk.agent import SEPARATOR, Http, Step, connect, text_of

Function = dict[str, Any]
INSTRUCTION = {
    "type": "object",
    "properties": {"instruction": {"type": "string", "description": "What to do, in words"}},
    "required": ["instruction"],
}
CASE = re.compile(r"\bC-[0-9]{4}\b")


class Hand(Protocol):
    """One server or one peer: what it offers as functions, and doing one of them."""

    name: str

    async def functions(self) -> list[Function]: ...
    async def do(self, function: str, arguments: Mapping[str, Any]) -> Step: ...


def function(owner: str, name: str, description: str, schema: Mapping[str, Any]) -> Function:
    told = {"name": f"{owner}{SEPARATOR}{name}", "description": description, "parameters": dict(schema)}
    return {"type": "function", "function": told}


class Bare:
    """A server at its own address, with its own token."""

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self._server = server

    async def functions(self) -> list[Function]:
        tools = (await self._server.list_tools()).tools
        return [function(self.name, one.name, one.description or "", one.input_schema) for one in tools]

    async def do(self, function: str, arguments: Mapping[str, Any]) -> Step:
        try:
            result = await self._server.call_tool(function, dict(arguments))
        except MCPError as failure:
            return Step(self.name, function, arguments, "failed", str(failure), {})
        outcome = "failed" if result.is_error else "done"
        return Step(self.name, function, arguments, outcome, text_of(result), {})


class Guarded:
    """A server behind the gateway, by the agent's papers and under the chain that it was handed."""

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self._client = client

    async def functions(self) -> list[Function]:
        return [function(self.name, one.name, one.description, one.schema) for one in await self._client.tools()]

    async def do(self, function: str, arguments: Mapping[str, Any]) -> Step:
        try:
            reply = await self._client.call(function, arguments)
        except Failed as failure:
            return refused(self.name, function, arguments, failure)
        text = reply.text if reply.structured is None else json.dumps(reply.structured, ensure_ascii=False)
        return Step(self.name, function, arguments, "failed" if reply.failed else "done", text, {})


class Peer:
    """A colleague, by its card: each of its skills is a function that takes an instruction in words."""

    def __init__(self, name: str, card: AgentCard, http: httpx.AsyncClient, case: str, way: Way | None) -> None:
        self.name = name
        self._card, self._http, self._case, self._way = card, http, case, way

    async def functions(self) -> list[Function]:
        return [function(self.name, one.id, one.description, INSTRUCTION) for one in self._card.skills]

    async def do(self, function: str, arguments: Mapping[str, Any]) -> Step:
        words = str(arguments.get("instruction", ""))
        if self._case and not CASE.search(words):
            words = f"For customer {self._case}: {words}"
        config = ClientConfig(streaming=False, httpx_client=self._http)
        carries = [] if self._way is None else [self._way.carrying(self.name, function)]
        try:
            client = await create_client(self._card, config, carries)
            request = SendMessageRequest(message=new_text_message(words, role=Role.ROLE_USER))
            told = [one async for one in client.send_message(request)]
        except Failed as failure:
            return refused(self.name, function, {"instruction": words}, failure)
        except (A2AError, httpx.HTTPError, CitywatchError) as failure:
            return Step(self.name, function, {"instruction": words}, "failed", str(failure), {})
        return Step(self.name, function, {"instruction": words}, "done", get_message_text(told[0].message), {})


class Withheld:
    """A colleague whose card the gateway does not give."""

    def __init__(self, name: str, failure: Failed) -> None:
        self.name = name
        self.failure = failure

    async def functions(self) -> list[Function]:
        return []

    async def do(self, function: str, arguments: Mapping[str, Any]) -> Step:
        return refused(self.name, function, arguments, self.failure)


class Way:
    """How an agent speaks through the gateway: its papers, the chain it was handed, and to whom it hands that on."""

    def __init__(self, told: Mapping[str, Any], chain: Chain | None) -> None:
        self.url: str = told["url"]
        self.folder = Path(told["folder"])
        self.papers = Certificate(self.folder)
        self.chain = chain
        self._holders: Mapping[str, tuple[str, str]] = told["holders"]

    def carrying(self, peer: str, skill: str) -> Any:
        """All that is left goes along: what the principal did not grant, nobody in between can add."""
        handed = None
        if self.chain is not None and peer in self._holders:
            handed = self.chain.hand_on(self.folder / "key.pem", *self._holders[peer])
        return carrying(self.chain, skill=skill, handed=handed)


def refused(owner: str, name: str, arguments: Mapping[str, Any], failure: Failed) -> Step:
    told = {"code": failure.code, "rules": list(failure.rules), "decision": failure.decision, "detail": failure.detail}
    return Step(owner, name, dict(arguments), "refused", f"this was not done: {failure}", told)


@asynccontextmanager
async def hands(wiring: Mapping[str, Any], chain: Chain | None, words: str) -> AsyncIterator[list[Hand]]:
    """All that this agent can act with for one task."""
    case = CASE.search(words)
    async with AsyncExitStack() as stack:
        if wiring["gateway"] is None:
            yield await _bare(stack, wiring, "" if case is None else case[0])
        else:
            way = Way(wiring["gateway"], chain)
            yield await _guarded(stack, wiring, way, "" if case is None else case[0])


async def _bare(stack: AsyncExitStack, wiring: Mapping[str, Any], case: str) -> list[Hand]:
    found: list[Hand] = []
    for name, place in wiring["servers"].items():
        headers = {"Authorization": f"Bearer {place['token']}"}
        found.append(Bare(name, await stack.enter_async_context(connect(Http(place["url"], headers)))))
    http = await stack.enter_async_context(httpx.AsyncClient(timeout=60, trust_env=False, auth=_Passed(wiring)))
    cards = [await A2ACardResolver(http, url).get_agent_card() for url in wiring["directory"]]
    for card in sorted(cards, key=lambda one: _version(one.version)):  # of one name, the newest: as directories do it
        if card.name in wiring["peers"]:
            found = [one for one in found if one.name != card.name]
            found.append(Peer(card.name, card, http, case, None))
    return found


async def _guarded(stack: AsyncExitStack, wiring: Mapping[str, Any], way: Way, case: str) -> list[Hand]:
    found: list[Hand] = []
    for name in wiring["servers"]:
        client = Client(f"{way.url}/mcp/{name}", papers=way.papers, chain=way.chain, timeout_s=60)
        found.append(Guarded(name, await stack.enter_async_context(client)))
    http = await stack.enter_async_context(http_client(way.url, way.papers, 60))
    for name in wiring["peers"]:
        try:
            card = await A2ACardResolver(http, f"{way.url}/a2a/{name}").get_agent_card()
        except Failed as failure:
            found.append(Withheld(name, failure))
        else:
            found.append(Peer(name, card, http, case, way))
    return found


class _Passed(httpx.Auth):
    """Without a gateway each agent holds the passwords of all the others."""

    def __init__(self, wiring: Mapping[str, Any]) -> None:
        self._tokens: Mapping[str, str] = wiring["tokens"]

    def auth_flow(self, request: httpx.Request) -> Any:
        token = self._tokens.get(f"{request.url.scheme}://{request.url.host}:{request.url.port}")
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        yield request


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"[0-9]+", text))
