"""A client that says the same request in either binding, and reads the same answer from it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import httpx
from a2a.utils.errors import A2A_ERROR_MAPPING, JSON_RPC_ERROR_CODE_MAP

DEADLINE_S = 60.0
VERSION = {"A2A-Version": "1.0"}
INFO = "type.googleapis.com/google.rpc.ErrorInfo"
PATHS = {
    "SendMessage": ("POST", "/message:send"),
    "SendStreamingMessage": ("POST", "/message:stream"),
    "GetTask": ("GET", "/tasks/{id}"),
    "ListTasks": ("GET", "/tasks"),
    "CancelTask": ("POST", "/tasks/{id}:cancel"),
    "SubscribeToTask": ("POST", "/tasks/{id}:subscribe"),
    "CreateTaskPushNotificationConfig": ("POST", "/tasks/{taskId}/pushNotificationConfigs"),
    "GetTaskPushNotificationConfig": ("GET", "/tasks/{taskId}/pushNotificationConfigs/{id}"),
    "ListTaskPushNotificationConfigs": ("GET", "/tasks/{taskId}/pushNotificationConfigs"),
    "DeleteTaskPushNotificationConfig": ("DELETE", "/tasks/{taskId}/pushNotificationConfigs/{id}"),
    "GetExtendedAgentCard": ("GET", "/extendedAgentCard"),
}
NUMBERS = {mapping.reason: JSON_RPC_ERROR_CODE_MAP[kind] for kind, mapping in A2A_ERROR_MAPPING.items()}
STATUSES = {mapping.reason: (mapping.http_code, mapping.grpc_status) for mapping in A2A_ERROR_MAPPING.values()}


class Told(NamedTuple):
    """An answer: its result, or the reason of its error; and as what it came."""

    result: Any
    reason: str
    media: str


class Hook:
    """Where a client takes pushes: what came is kept by the token that came with it."""

    def __init__(self) -> None:
        self.got: dict[str, list[Any]] = {}
        self.shown: dict[str, set[str | None]] = {}
        self._came = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def open(self, port: int) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{port}/hook"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def until(self, token: str, condition: Callable[[list[Any]], bool]) -> list[Any]:
        """Everything that came with this token, once that is so."""
        async with asyncio.timeout(DEADLINE_S):
            while not (token in self.got and condition(self.got[token])):
                self._came.clear()
                await self._came.wait()
        return self.got[token]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        token = headers.get("x-a2a-notification-token", "")
        self.got.setdefault(token, []).append(json.loads(body))
        self.shown.setdefault(token, set()).add(headers.get("authorization"))
        self._came.set()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()


class SuiteClient:
    """One agent in one binding; `hook` is where its pushes may go."""

    def __init__(self, http: httpx.AsyncClient, url: str, binding: str, hook: Hook) -> None:
        self.http = http
        self.hook = hook
        self.url = url.rstrip("/")
        self.binding = binding

    @property
    def is_rest(self) -> bool:
        return self.binding == "HTTP+JSON"

    def _request(self, method: str, params: dict[str, Any], headers: dict[str, str]) -> httpx.Request:
        if not self.is_rest:
            body = {"jsonrpc": "2.0", "id": str(uuid.uuid4()), "method": method, "params": params}
            return self.http.build_request("POST", self.url, json=body, headers=headers)
        verb, path = PATHS[method]
        named = {key: params[key] for key in ("id", "taskId") if "{" + key + "}" in path}
        rest = {key: value for key, value in params.items() if key not in named}
        url = self.url + path.format(**named)
        if verb == "POST":
            bare = not rest and ":" in path.partition("}")[2]  # an act on a task has a body only if it says something
            return self.http.build_request(verb, url, json=None if bare else rest, headers=headers)
        return self.http.build_request(verb, url, params=rest or None, headers=headers)

    async def ask(self, method: str, headers: dict[str, str] = VERSION, **params: Any) -> Told:
        return self.read(await self.http.send(self._request(method, params, headers)))

    async def post(self, body: bytes, path: str = "") -> Told:
        """Any bytes where a request is expected."""
        where = self.url + (path if self.is_rest else "")
        headers = VERSION | {"Content-Type": "application/json"}
        return self.read(await self.http.post(where, content=body, headers=headers))

    async def stream(self, method: str, **params: Any) -> AsyncIterator[Told]:
        request = self._request(method, params, VERSION | {"Accept": "text/event-stream"})
        response = await self.http.send(request, stream=True)
        try:
            if not response.headers["content-type"].startswith("text/event-stream"):
                await response.aread()
                yield self.read(response)
                return
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    value = json.loads(line.removeprefix("data:"))
                    yield Told(value if self.is_rest else value["result"], "", "text/event-stream")
        finally:
            await response.aclose()

    def read(self, response: httpx.Response) -> Told:
        media = response.headers.get("content-type", "").partition(";")[0]
        value = response.json() if response.content else {}
        if self.is_rest:
            if response.status_code < 400:
                return Told(value, "", media)
            error, details = value["error"], value["error"].get("details", [])
            assert error["code"] == response.status_code
            assert isinstance(error["status"], str)
        else:
            assert response.status_code == 200, response.text
            assert value["jsonrpc"] == "2.0"
            if "error" not in value:
                return Told(value["result"], "", media)
            error, details = value["error"], value["error"].get("data") or []
        assert isinstance(error["message"], str)
        reason = self._reason(error, details)
        return Told(None, reason, media)

    def _reason(self, error: dict[str, Any], details: Any) -> str:
        """The reason of an error: as its details say it, which its number and its status have to agree with."""
        infos = [one for one in details if one["@type"] == INFO] if isinstance(details, list) else []
        if not infos:
            names = [name for name, number in NUMBERS.items() if number == error["code"]]
            return names[0] if names else str(error["code"])
        if error["code"] == -32700:  # the specification gives it no reason
            return "-32700"
        reason: str = infos[0]["reason"]
        assert infos[0]["domain"] == "a2a-protocol.org"
        if self.is_rest:
            assert STATUSES[reason] == (error["code"], error["status"])
        else:
            assert NUMBERS[reason] == error["code"]
        return reason


def message(text: str, **more: Any) -> dict[str, Any]:
    return {"messageId": str(uuid.uuid4()), "role": "ROLE_USER", "parts": [{"text": text}], **more}
