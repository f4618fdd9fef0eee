"""What A2A's own compatibility kit asks of an agent, requirement by requirement under its own numbers, told anew.

Past 400 lines, and one thing because it is one table, in the order of the specification.
SPEC: A2A 1.0, by the sections that stand at each group.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from a2a.types import a2a_pb2 as sdk
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]

from tests.e2e.gateway.kit_agent import EXTENSION
from tests.e2e.gateway.kit_client import OVER, VERSION, KitClient, Said, kit_id, message

Check = Callable[[KitClient], Awaitable[None]]
CHECKS: dict[str, Check] = {}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z")
SNAKE = re.compile(r"[a-z]+(_[a-z]+)+\Z")
NOT_FOUND, NOT_CANCELABLE, NO_PUSHES, UNSUPPORTED = (-32001, 404), (-32002, 400), (-32003, 400), (-32004, 400)
NO_VERSION = (-32009, 400)


def check(name: str) -> Callable[[Check], Check]:
    def kept(function: Check) -> Check:
        assert name not in CHECKS
        CHECKS[name] = function
        return function

    return kept


def refused(client: KitClient, said: Said, codes: tuple[int, int]) -> None:
    assert not said.ok
    assert said.code == codes[client.is_rest], said.whole


def fits(value: Any, kind: type) -> None:
    """The value has the shape of the specification's, and no member that it does not know."""
    ParseDict(value, kind())


def walk(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for key, one in value.items() for pair in ((key, one), *walk(one))]
    return [pair for one in value for pair in walk(one)] if isinstance(value, list) else []


# ---- 3.1.1 to 3.1.3: messages, streams, tasks ----------------------------------------------------------------------


@check("CORE-SEND-001")
async def _(client: KitClient) -> None:
    said = await client.send("complete-task")
    assert said.ok
    fits(said.value, sdk.SendMessageResponse)


@check("CORE-SEND-002")
async def _(client: KitClient) -> None:
    task = await client.made()
    refused(client, await client.send("terminal", taskId=task["id"]), UNSUPPORTED)


@check("CORE-SEND-003")
async def _(client: KitClient) -> None:
    part = {"raw": "a2l0", "mediaType": "application/x-unsupported-kit-type"}
    refused(client, await client.send("send-003", parts=[part]), (-32005, 400))


@check("CORE-STREAM-001")
async def _(client: KitClient) -> None:
    for event in await client.heard("SendStreamingMessage", message=message("stream-001")):
        fits(client.result(event), sdk.StreamResponse)


@check("CORE-STREAM-002")
async def _(client: KitClient) -> None:
    told = await client.heard("SendStreamingMessage", message=message("message-response"))
    assert [list(client.result(one)) for one in told] == [["message"]]


@check("CORE-STREAM-003")
async def _(client: KitClient) -> None:
    told = [client.result(one) for one in await client.heard("SendStreamingMessage", message=message("stream-003"))]
    assert "task" in told[0]
    assert told[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


@check("STREAM-ARTIFACT-CHUNKS")
async def _(client: KitClient) -> None:
    word = "stream-artifact-chunked"
    told = [client.result(one) for one in await client.heard("SendStreamingMessage", message=message(word))]
    pieces = [one["artifactUpdate"] for one in told if "artifactUpdate" in one]
    assert [one["artifact"]["parts"][0]["text"] for one in pieces] == ["chunk-1 ", "chunk-2"]
    for kind in ("text", "file"):
        heard = await client.heard("SendStreamingMessage", message=message(f"stream-artifact-{kind}"))
        assert any("artifactUpdate" in client.result(one) for one in heard)


@check("CORE-GET-001")
async def _(client: KitClient) -> None:
    task = await client.made()
    said = await client.ask("GetTask", id=task["id"])
    assert said.task["id"] == task["id"]
    fits(said.value, sdk.Task)


@check("CORE-GET-002")
async def _(client: KitClient) -> None:
    refused(client, await client.ask("GetTask", id=kit_id("nonexistent-get-002")), NOT_FOUND)


# ---- 3.1.4: lists --------------------------------------------------------------------------------------------------


@check("CORE-LIST-001")
async def _(client: KitClient) -> None:
    said = await client.ask("ListTasks", contextId=kit_id("test-context"))
    assert said.ok
    fits(said.value, sdk.ListTasksResponse)


@check("CORE-LIST-002")
async def _(client: KitClient) -> None:
    context = kit_id("pages")
    for _ in range(3):
        assert (await client.send("complete-task", contextId=context)).ok
    first = await client.ask("ListTasks", contextId=context, pageSize=2)
    assert len(first.value["tasks"]) == 2
    assert first.value["nextPageToken"]


@check("CORE-LIST-003")
async def _(client: KitClient) -> None:
    context = kit_id("sorted")
    for _ in range(3):
        assert (await client.send("complete-task", contextId=context)).ok
    said = await client.ask("ListTasks", contextId=context)
    times = [one["status"]["timestamp"] for one in said.value["tasks"]]
    assert len(times) >= 3
    assert times == sorted(times, reverse=True)


@check("CORE-LIST-004")
async def _(client: KitClient) -> None:
    said = await client.ask("ListTasks", contextId=kit_id("test-context"), pageSize=100)
    assert said.value["nextPageToken"] == ""


@check("CORE-LIST-005")
async def _(client: KitClient) -> None:
    context = kit_id("bare")
    assert (await client.send("artifact-text", contextId=context)).ok
    said = await client.ask("ListTasks", contextId=context, includeArtifacts=False)
    assert said.value["tasks"]
    assert not any("artifacts" in one for one in said.value["tasks"])


# ---- 3.1.5, 3.2.2: cancelling, waiting -----------------------------------------------------------------------------


@check("CORE-CANCEL-001")
async def _(client: KitClient) -> None:
    task = await client.waiting()
    said = await client.ask("CancelTask", id=task["id"])
    assert (said.task["id"], said.state) == (task["id"], "CANCELED")


@check("CORE-CANCEL-002")
async def _(client: KitClient) -> None:
    task = await client.made()
    refused(client, await client.ask("CancelTask", id=task["id"]), NOT_CANCELABLE)


@check("CORE-CANCEL-003")
async def _(client: KitClient) -> None:
    refused(client, await client.ask("CancelTask", id=kit_id("nonexistent-cancel-003")), NOT_FOUND)


@check("CORE-EXECUTION-MODE-001")
async def _(client: KitClient) -> None:
    assert (await client.send("delayed-complete", {"returnImmediately": False})).state == "COMPLETED"
    assert (await client.send("auth-required")).state == "AUTH_REQUIRED"


@check("CORE-EXECUTION-MODE-002")
async def _(client: KitClient) -> None:
    assert (await client.send("delayed-complete", {"returnImmediately": True})).state not in OVER


@check("AUTH-INTASK-001/002")
async def _(client: KitClient) -> None:
    task = await client.made("auth-required", "AUTH_REQUIRED")
    assert (await client.ask("GetTask", id=task["id"])).state == "AUTH_REQUIRED"


# ---- 3.3: errors and capabilities ----------------------------------------------------------------------------------


@check("CORE-ERR-001")
async def _(client: KitClient) -> None:
    if client.is_rest:
        assert not (await client.ask("GetTask", id=kit_id("nonexistent-error-test"))).ok
        return
    said = await client.ask("NonExistentMethod")
    assert said.whole["error"].keys() >= {"code", "message"}


@check("CORE-ERR-002")
async def _(client: KitClient) -> None:
    assert not (await client.ask("SendMessage")).ok


@check("CORE-CAP-001")
async def _(client: KitClient) -> None:
    if not client.can("pushNotifications"):
        for task in ("t", kit_id("error-code-003")):
            asked = client.ask("CreateTaskPushNotificationConfig", taskId=task, url="https://example.com")
            refused(client, await asked, NO_PUSHES)


@check("CORE-CAP-002")
async def _(client: KitClient) -> None:
    if not client.can("streaming"):
        async with client.stream("SendStreamingMessage", message=message("cap-stream")) as said:
            assert isinstance(said, Said)
            refused(client, said, UNSUPPORTED)


@check("CORE-CAP-003")
async def _(client: KitClient) -> None:
    assert not client.can("extendedAgentCard")
    refused(client, await client.ask("GetExtendedAgentCard"), UNSUPPORTED)


@check("CORE-CAP-004")
async def _(client: KitClient) -> None:
    """What the kit looks for before it asks: the extension in the card."""
    assert [one["uri"] for one in client.card["capabilities"]["extensions"]] == [EXTENSION]
    assert (await client.ask("SendMessage", VERSION | {"A2A-Extensions": EXTENSION}, message=message("cap-ext"))).ok


# ---- 3.2.4, 3.4: conversations, history ----------------------------------------------------------------------------


@check("CORE-MULTI-001/001a/003")
async def _(client: KitClient) -> None:
    one, other = await client.made(), await client.made()
    assert one["contextId"]
    assert one["id"] != other["id"]


@check("CORE-MULTI-002/002a")
async def _(client: KitClient) -> None:
    for word in ("client-context-001", "client-context-rejected"):
        said = await client.send("complete-task", contextId=kit_id(word))
        assert said.ok, said.whole
        assert said.task["contextId"] == kit_id(word)


@check("CORE-MULTI-004")
async def _(client: KitClient) -> None:
    refused(client, await client.send("multi-004", taskId=kit_id("nonexistent-multi-004")), NOT_FOUND)


@check("CORE-MULTI-005")
async def _(client: KitClient) -> None:
    task = await client.waiting()
    said = await client.send("infer-ctx", taskId=task["id"])
    assert said.task["contextId"] == task["contextId"]


@check("CORE-MULTI-006")
async def _(client: KitClient) -> None:
    for task in (await client.made(), await client.waiting()):
        assert not (await client.send("mismatch", taskId=task["id"], contextId=kit_id("wrong-context"))).ok


async def exchanged(client: KitClient) -> dict[str, Any]:
    task = await client.waiting()
    said = await client.send("complete-task", taskId=task["id"], parts=[{"text": "a follow-up for history"}])
    assert said.state == "COMPLETED"
    return task


@check("CORE-HIST-001")
async def _(client: KitClient) -> None:
    task = await exchanged(client)
    assert not (await client.ask("GetTask", id=task["id"], historyLength=0)).task.get("history")


@check("CORE-HIST-002")
async def _(client: KitClient) -> None:
    task = await exchanged(client)
    assert len((await client.ask("GetTask", id=task["id"], historyLength=1)).task["history"]) == 1


@check("CORE-HIST-003")
async def _(client: KitClient) -> None:
    task = await client.waiting()
    said = await client.send("complete-task", {"historyLength": 0}, taskId=task["id"])
    assert not said.task.get("history")


@check("CORE-HIST-004/005/006")
async def _(client: KitClient) -> None:
    task = await exchanged(client)
    history = (await client.ask("GetTask", id=task["id"], historyLength=10)).task["history"]
    texts = [one["parts"][0]["text"] for one in history if one["role"] == "ROLE_USER"]
    assert texts == ["Hello from the kit", "a follow-up for history"]


# ---- 3.5, 3.1.6: streams -------------------------------------------------------------------------------------------


def final(client: KitClient, event: Any) -> str:
    result = client.result(event)
    about = result.get("statusUpdate", result.get("task", {}))
    found: str = about["status"]["state"].removeprefix("TASK_STATE_")
    return found


async def completed_later(client: KitClient, task: str) -> None:
    said = await client.send("complete-task", taskId=task)
    assert said.ok, said.whole


@check("STREAM-ORDER-001")
async def _(client: KitClient) -> None:
    told = await client.heard("SendStreamingMessage", message=message("stream-ordering-001"))
    order = {"SUBMITTED": 0, "WORKING": 1, "COMPLETED": 2}
    states = [order[final(client, one)] for one in told if "artifactUpdate" not in client.result(one)]
    assert states == sorted(states)
    assert states[-1] == 2


@check("STREAM-ORDER-002/003")
async def _(client: KitClient) -> None:
    task = await client.waiting()
    async with (
        client.stream("SubscribeToTask", id=task["id"]) as one,
        client.stream("SubscribeToTask", id=task["id"]) as other,
        asyncio.timeout(60),
    ):
        assert not isinstance(one, Said)
        assert not isinstance(other, Said)
        told = [[await anext(one)], [await anext(other)]]
        await completed_later(client, task["id"])
        for events, stream in zip(told, (one, other), strict=True):
            events += [event async for event in stream]
    bare = [[client.result(event) for event in events] for events in told]
    assert bare[0] == bare[1]
    assert len(bare[0]) >= 2


@check("STREAM-ORDER-004")
async def _(client: KitClient) -> None:
    task = await client.waiting()
    async with client.stream("SubscribeToTask", id=task["id"]) as stays, asyncio.timeout(60):
        assert not isinstance(stays, Said)
        await anext(stays)
        async with client.stream("SubscribeToTask", id=task["id"]) as goes:
            assert not isinstance(goes, Said)
            await anext(goes)
        await completed_later(client, task["id"])
        rest = [event async for event in stays]
    assert final(client, rest[-1]) == "COMPLETED"


@check("STREAM-SUB-001/002")
async def _(client: KitClient) -> None:
    task = await client.waiting()
    async with client.stream("SubscribeToTask", id=task["id"]) as told, asyncio.timeout(60):
        assert not isinstance(told, Said)
        first = await anext(told)
        fits(client.result(first), sdk.StreamResponse)
        assert client.result(first)["task"]["id"] == task["id"]
        await completed_later(client, task["id"])
        rest = [event async for event in told]
    assert final(client, rest[-1]) == "COMPLETED"


@check("STREAM-SUB-003/004")
async def _(client: KitClient) -> None:
    task = await client.made()
    for name, codes in ((task["id"], UNSUPPORTED), (kit_id("nonexistent-sub-004"), NOT_FOUND)):
        async with client.stream("SubscribeToTask", id=name) as said:
            assert isinstance(said, Said)
            refused(client, said, codes)


# ---- 3.1.7 to 3.1.10, 4.3: pushes ----------------------------------------------------------------------------------

WEBHOOK = {"id": kit_id("push"), "url": "https://example.com/kit-push-webhook"}


async def configured(client: KitClient) -> str:
    task: str = (await client.made())["id"]
    said = await client.ask("CreateTaskPushNotificationConfig", taskId=task, id=WEBHOOK["id"], url=WEBHOOK["url"])
    assert said.ok, said.whole
    return task


@check("PUSH-CREATE-001/002, PUSH-GET-001")
async def _(client: KitClient) -> None:
    task = await configured(client)
    said = await client.ask("GetTaskPushNotificationConfig", taskId=task, id=WEBHOOK["id"])
    assert said.value["url"] == WEBHOOK["url"]


@check("PUSH-GET-002")
async def _(client: KitClient) -> None:
    task = (await client.made())["id"]
    assert not (await client.ask("GetTaskPushNotificationConfig", taskId=task, id=kit_id("nonexistent"))).ok


@check("PUSH-LIST-001")
async def _(client: KitClient) -> None:
    said = await client.ask("ListTaskPushNotificationConfigs", taskId=await configured(client))
    assert [one["id"] for one in said.value["configs"]] == [WEBHOOK["id"]]


@check("PUSH-DEL-001/002")
async def _(client: KitClient) -> None:
    task = await configured(client)
    for _ in range(2):
        assert (await client.ask("DeleteTaskPushNotificationConfig", taskId=task, id=WEBHOOK["id"])).ok
    assert not (await client.ask("GetTaskPushNotificationConfig", taskId=task, id=WEBHOOK["id"])).ok


@check("PUSH-DELIVER-001/002/003")
async def _(client: KitClient) -> None:
    shown = {"scheme": "Bearer", "credentials": "kit-token"}
    config = {"id": WEBHOOK["id"], "url": client.hook.url, "authentication": shown}
    said = await client.send("input-required", {"taskPushNotificationConfig": config})
    await completed_later(client, said.task["id"])
    got = await client.hook.until("", lambda pushes: any("COMPLETED" in json.dumps(one) for one in pushes))
    assert client.hook.shown[""] == {"Bearer kit-token"}
    for one in got:
        fits(one, sdk.StreamResponse)


# ---- 3.6: versions -------------------------------------------------------------------------------------------------


@check("VER-SERVER-002")
async def _(client: KitClient) -> None:
    said = await client.ask("SendMessage", {"A2A-Version": "99.0"}, message=message("ver-002"))
    refused(client, said, NO_VERSION)


@check("VER-SERVER-003")
async def _(client: KitClient) -> None:
    said = await client.ask("SendMessage", {"A2A-Version": ""}, message=message("ver-003"))
    assert said.ok or said.whole["error"]


# ---- 4, 5.7: what an answer is made of -----------------------------------------------------------------------------


@check("DM-TASK, DM-MSG, DM-STATUS, DM-SERIAL-001/002/003/004")
async def _(client: KitClient) -> None:
    said = await client.send("dm-test-001")
    fits(said.value, sdk.SendMessageResponse)
    pairs = walk(said.whole)
    assert not [key for key, _ in pairs if SNAKE.match(key)]
    assert all(isinstance(one, str) for key, one in pairs if key in ("state", "role"))
    assert all(TIME.match(one) for key, one in pairs if key == "timestamp")


@check("DM-SERIAL-005")
async def _(client: KitClient) -> None:
    more = message("dm-serial-005", kitUnknownField="should-be-ignored")
    said = await client.ask("SendMessage", message=more, kitExtraParam=42)
    assert said.ok, said.whole


@check("DM-ART-001: text")
async def _(client: KitClient) -> None:
    assert (await client.made("artifact-text"))["artifacts"][0]["parts"] == [{"text": "Generated text content"}]


@check("DM-ART-001: file")
async def _(client: KitClient) -> None:
    (artifact,) = (await client.made("artifact-file"))["artifacts"]
    assert artifact["artifactId"]
    assert artifact["parts"] == [{"raw": "a2l0", "filename": "output.txt", "mediaType": "text/plain"}]


@check("DM-ART-001: link")
async def _(client: KitClient) -> None:
    (artifact,) = (await client.made("artifact-file-url"))["artifacts"]
    (part,) = artifact["parts"]
    assert (part["url"], part["filename"]) == ("https://example.com/output.txt", "output.txt")


@check("DM-ART-001: data")
async def _(client: KitClient) -> None:
    (artifact,) = (await client.made("artifact-data"))["artifacts"]
    assert artifact["parts"][0]["data"] == {"key": "value", "count": 42}


@check("DM-MSG-001: message")
async def _(client: KitClient) -> None:
    assert (await client.send("message-response")).value["message"]["parts"] == [{"text": "Direct message response"}]


# ---- 8: the card ---------------------------------------------------------------------------------------------------


@check("CARD-DISC-001, CARD-STRUCT-001, CARD-PROTO-001/002, BIND-FIELD-001")
async def _(client: KitClient) -> None:
    required = "name description version capabilities skills supportedInterfaces defaultInputModes defaultOutputModes"
    assert client.card.keys() >= set(required.split())
    fits(client.card, sdk.AgentCard)
    assert {one["protocolBinding"] for one in client.card["supportedInterfaces"]} == {"JSONRPC", "HTTP+JSON"}


@check("CARD-CACHE-001/002")
async def _(client: KitClient) -> None:
    response = await client.http.get(f"{client.where}/.well-known/agent-card.json")
    assert "max-age" in response.headers["cache-control"]
    assert response.headers["etag"]


# ---- 9, 11: the bindings -------------------------------------------------------------------------------------------


@check("JSONRPC-FMT-001/002, HTTP_JSON-SVC-001, HTTP_JSON-STATUS-001")
async def _(client: KitClient) -> None:
    said = await client.send("transport-test-001")
    media = said.headers["content-type"]
    assert media.startswith("application/a2a+json" if client.is_rest else "application/json")
    if not client.is_rest:
        assert said.whole.keys() == {"jsonrpc", "id", "result"}


@check("JSONRPC-SVC-002, HTTP_JSON-SVC-002")
async def _(client: KitClient) -> None:
    headers = VERSION | {"A2A-Extensions": "https://example.com/ext/v1,https://example.com/ext/v2"}
    assert (await client.ask("SendMessage", headers, message=message("svc-002-ext"))).ok


@check("JSONRPC-SSE-001, HTTP_JSON-SSE-001")
async def _(client: KitClient) -> None:
    for event in await client.heard("SendStreamingMessage", message=message("sse-streaming-001")):
        fits(client.result(event), sdk.StreamResponse)
        if not client.is_rest:
            assert event["jsonrpc"] == "2.0"
            assert "id" in event


@check("JSONRPC-ERR-001/002/003, HTTP_JSON-ERR-001/002")
async def _(client: KitClient) -> None:
    said = await client.ask("GetTask", id=kit_id("nonexistent-err-test"))
    refused(client, said, NOT_FOUND)
    error = said.whole["error"]
    assert isinstance(error["message"], str)
    assert said.headers["content-type"].startswith("application/json")
    assert (said.info["reason"], said.info["domain"]) == ("TASK_NOT_FOUND", "a2a-protocol.org")
    assert error.keys() <= ({"code", "status", "message", "details"} if client.is_rest else {"code", "message", "data"})


@check("JSONRPC-SSE-002, HTTP_JSON-STATUS-001: content type")
async def _(client: KitClient) -> None:
    """Where an agent minds the type of a body at all, it says so under the number that there is for it."""
    response = await client.post(
        client.body(message=message("error-code-005")), VERSION | {"Content-Type": "text/plain"}
    )
    said = client.read(response)
    assert said.ok or said.code == (-32005, 400)[client.is_rest]
