"""What a compatibility kit puts on the wire: the same ids again and again, a request in either binding, raw bytes."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx

from tests.e2e.gateway.suite_client import INFO, PATHS, Hook

VERSION = {"A2A-Version": "1.0"}
OVER = ("COMPLETED", "FAILED", "CANCELED", "REJECTED")
SESSION = uuid.uuid4().hex[:8]
"""The kit's ids are the same for a whole run."""


def kit_id(word: str) -> str:
    return f"kit-{word}-{SESSION}"


def message(word: str, text: str = "Hello from the kit", **more: Any) -> dict[str, Any]:
    return {"role": "ROLE_USER", "parts": [{"text": text}], "messageId": kit_id(word), **more}


class Said(NamedTuple):
    """An answer: whether it is one, what of it is the result, its number in JSON-RPC or its status, its head."""

    ok: bool
    value: Any
    code: int
    headers: Mapping[str, str]
    whole: Any

    @property
    def task(self) -> dict[str, Any]:
        found: dict[str, Any] = self.value.get("task", self.value)
        return found

    @property
    def state(self) -> str:
        found: str = self.task["status"]["state"].removeprefix("TASK_STATE_")
        return found

    @property
    def info(self) -> dict[str, Any]:
        """The first detail that says why, as the protocol has it."""
        details = self.whole["error"].get("data" if "jsonrpc" in self.whole else "details")
        found: dict[str, Any] = next(one for one in details if one["@type"] == INFO)
        return found


class KitClient:
    """One agent in one binding, found by its card. `card_headers` are those that the card came with."""

    def __init__(self, http: httpx.AsyncClient, card: dict[str, Any], binding: str, hook: Hook, where: str) -> None:
        self.http = http
        self.card = card
        self.hook = hook
        self.where = where
        self.is_rest = binding == "HTTP+JSON"
        self.url = next(one["url"] for one in card["supportedInterfaces"] if one["protocolBinding"] == binding)

    def can(self, capability: str) -> bool:
        return bool(self.card["capabilities"].get(capability))

    def _request(self, method: str, params: dict[str, Any], headers: dict[str, str]) -> httpx.Request:
        if not self.is_rest:
            body = {"jsonrpc": "2.0", "id": str(uuid.uuid4()), "method": method, "params": params}
            headers = {"Content-Type": "application/json", **headers}
            return self.http.build_request("POST", self.url, json=body, headers=headers)
        verb, path = PATHS[method]
        named = {key: params[key] for key in ("id", "taskId") if "{" + key + "}" in path}
        rest = {key: value for key, value in params.items() if key not in named}
        url = self.url + path.format(**named)
        if verb == "POST":  # the kit says the type of a body that is not there
            headers = {"Content-Type": "application/json", **headers}
            return self.http.build_request(verb, url, json=rest or None, headers=headers)
        asked = {key: str(value).lower() if type(value) is bool else value for key, value in rest.items()}
        return self.http.build_request(verb, url, params=asked or None, headers=headers)

    async def ask(self, method: str, headers: dict[str, str] = VERSION, **params: Any) -> Said:
        return self.read(await self.http.send(self._request(method, params, headers)))

    async def send(self, word: str, configuration: dict[str, Any] | None = None, **more: Any) -> Said:
        params = {"configuration": configuration} if configuration is not None else {}
        return await self.ask("SendMessage", message=message(word, **more), **params)

    async def made(self, word: str = "complete-task", state: str = "COMPLETED") -> dict[str, Any]:
        said = await self.send(word)
        assert said.ok, said.whole
        assert said.state == state
        return said.task

    async def waiting(self) -> dict[str, Any]:
        return await self.made("input-required", "INPUT_REQUIRED")

    async def post(self, content: bytes, headers: dict[str, str], path: str = "/message:send") -> httpx.Response:
        return await self.http.post(self.url + (path if self.is_rest else ""), content=content, headers=headers)

    def body(self, **params: Any) -> bytes:
        """The bytes of a message that is sent, where a test wants other headers around them."""
        whole = params if self.is_rest else {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
        return json.dumps(whole).encode()

    @asynccontextmanager
    async def stream(self, method: str, **params: Any) -> AsyncIterator[AsyncIterator[Any] | Said]:
        """What comes piece by piece, or the error in its place."""
        request = self._request(method, params, VERSION | {"Accept": "text/event-stream"})
        response = await self.http.send(request, stream=True)
        try:
            if response.headers["content-type"].startswith("text/event-stream"):
                yield self._events(response)
            else:
                await response.aread()
                yield self.read(response)
        finally:
            await response.aclose()

    async def _events(self, response: httpx.Response) -> AsyncIterator[Any]:
        async for line in response.aiter_lines():
            if line.startswith("data:") and line.removeprefix("data:").strip():
                yield json.loads(line.removeprefix("data:"))

    async def heard(self, method: str, **params: Any) -> list[Any]:
        """All of a stream; an error in its place fails."""
        async with self.stream(method, **params) as found, asyncio.timeout(60):
            assert not isinstance(found, Said), found
            return [one async for one in found]

    def read(self, response: httpx.Response) -> Said:
        whole = response.json() if response.content else {}
        if self.is_rest:
            return Said(response.status_code < 400, whole, response.status_code, response.headers, whole)
        if "error" in whole:
            return Said(False, None, whole["error"]["code"], response.headers, whole)
        return Said(True, whole["result"], 0, response.headers, whole)

    def result(self, event: Any) -> dict[str, Any]:
        """What an event of a stream is about."""
        found: dict[str, Any] = event if self.is_rest else event["result"]
        return found
