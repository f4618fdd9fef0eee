"""What A2A 1.0 asks of an agent, each as a check against one client. What holds of an agent holds of it through us.

SPEC: A2A 1.0; the sections stand at each check.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from tests.e2e.gateway.suite_client import VERSION, SuiteClient, Told, message

Check = Callable[[SuiteClient], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


async def made(client: SuiteClient, text: str, **params: Any) -> dict[str, Any]:
    """The task that a message starts."""
    told = await client.ask("SendMessage", message=message(text), **params)
    assert not told.reason, told
    task: dict[str, Any] = told.result["task"]
    return task


async def heard(client: SuiteClient, method: str, **params: Any) -> list[Told]:
    return [one async for one in client.stream(method, **params)]


def kinds(told: list[Told]) -> list[str]:
    return [next(iter(one.result)) for one in told]


def state(task: dict[str, Any]) -> str:
    found: str = task["status"]["state"].removeprefix("TASK_STATE_")
    return found


# ---- §3.1.1, §3.2, §3.4: messages --------------------------------------------------------------------------------


@check
async def a_message_gets_a_task_or_a_message(client: SuiteClient) -> None:
    assert state(await made(client, "task")) == "COMPLETED"
    told = await client.ask("SendMessage", message=message("message"))
    assert told.result["message"]["role"] == "ROLE_AGENT"
    assert told.result["message"]["parts"] == [{"text": "a message"}]


@check
async def a_new_task_has_an_id_and_a_conversation_of_its_own(client: SuiteClient) -> None:
    one, other = await made(client, "task"), await made(client, "task")
    assert one["id"] != other["id"]
    assert one["contextId"]
    assert one["contextId"] != other["contextId"]


@check
async def every_kind_of_content_arrives(client: SuiteClient) -> None:
    task = await made(client, "artifacts")
    parts = [one["parts"][0] for one in task["artifacts"]]
    assert parts[0] == {"text": "some text"}
    assert parts[1] == {"raw": "Ynl0ZXM=", "mediaType": "text/plain", "filename": "a.txt"}
    assert parts[2] == {"data": {"key": "value", "count": 42.0}}


@check
async def a_message_waits_for_the_task_unless_it_says_not_to(client: SuiteClient) -> None:
    assert state(await made(client, "task", configuration={"returnImmediately": False})) == "COMPLETED"
    assert state(await made(client, "work", configuration={"returnImmediately": True})) in ("SUBMITTED", "WORKING")


@check
async def a_task_that_waits_goes_on_with_the_next_message(client: SuiteClient) -> None:
    task = await made(client, "wait")
    assert state(task) == "INPUT_REQUIRED"
    told = await client.ask("SendMessage", message=message("task", taskId=task["id"]))
    assert state(told.result["task"]) == "COMPLETED"
    assert (told.result["task"]["id"], told.result["task"]["contextId"]) == (task["id"], task["contextId"])


@check
async def a_conversation_goes_on_with_another_task(client: SuiteClient) -> None:
    task = await made(client, "task")
    told = await client.ask("SendMessage", message=message("task", contextId=task["contextId"]))
    assert told.result["task"]["contextId"] == task["contextId"]
    assert told.result["task"]["id"] != task["id"]


@check
async def a_task_of_another_conversation_is_refused(client: SuiteClient) -> None:
    one, other = await made(client, "wait"), await made(client, "wait")
    told = await client.ask("SendMessage", message=message("task", taskId=one["id"], contextId=other["contextId"]))
    assert told.reason == "INVALID_PARAMS"


@check
async def a_message_to_no_task_is_refused(client: SuiteClient) -> None:
    told = await client.ask("SendMessage", message=message("task", taskId="there-is-none"))
    assert told.reason == "TASK_NOT_FOUND"


@check
async def a_message_to_a_task_that_is_over_is_refused(client: SuiteClient) -> None:
    task = await made(client, "task")
    told = await client.ask("SendMessage", message=message("task", taskId=task["id"]))
    assert told.reason in ("UNSUPPORTED_OPERATION", "INVALID_PARAMS")


@check
async def a_message_that_is_none_is_refused(client: SuiteClient) -> None:
    whole = message("task")
    wrongs: tuple[dict[str, Any], ...] = (
        {},
        {"message": {}},
        {"message": {key: value for key, value in whole.items() if key != "parts"}},
        {"message": whole | {"parts": []}},
        {"message": {key: value for key, value in whole.items() if key != "messageId"}},
    )
    for wrong in wrongs:
        assert (await client.ask("SendMessage", **wrong)).reason == "INVALID_PARAMS"


# ---- §3.1.3, §3.1.5, §3.2.4: tasks -------------------------------------------------------------------------------


@check
async def a_task_is_fetched_as_it_is(client: SuiteClient) -> None:
    task = await made(client, "artifacts")
    told = await client.ask("GetTask", id=task["id"])
    assert (told.result["id"], state(told.result)) == (task["id"], "COMPLETED")
    assert told.result["artifacts"] == task["artifacts"]


@check
async def no_more_history_comes_than_was_asked_for(client: SuiteClient) -> None:
    task = await made(client, "wait")
    await client.ask("SendMessage", message=message("task again", taskId=task["id"]))
    whole = await client.ask("GetTask", id=task["id"])
    assert len(whole.result["history"]) >= 2
    assert "history" not in (await client.ask("GetTask", id=task["id"], historyLength=0)).result
    one = await client.ask("GetTask", id=task["id"], historyLength=1)
    assert one.result["history"] == whole.result["history"][-1:]
    assert "history" not in await made(client, "task", configuration={"historyLength": 0})
    assert (await client.ask("GetTask", id=task["id"], historyLength=-1)).reason == "INVALID_PARAMS"


@check
async def no_task_is_not_found(client: SuiteClient) -> None:
    for method in ("GetTask", "CancelTask"):
        assert (await client.ask(method, id="there-is-none")).reason == "TASK_NOT_FOUND"


@check
async def a_task_at_work_is_canceled_and_one_that_is_over_is_not(client: SuiteClient) -> None:
    task = await made(client, "work", configuration={"returnImmediately": True})
    told = await client.ask("CancelTask", id=task["id"])
    assert state(told.result) == "CANCELED"
    assert (await client.ask("CancelTask", id=task["id"])).reason == "TASK_NOT_CANCELABLE"
    rejected = await made(client, "reject")
    assert state(rejected) == "REJECTED"
    assert (await client.ask("CancelTask", id=rejected["id"])).reason == "TASK_NOT_CANCELABLE"


# ---- §3.1.4: lists -----------------------------------------------------------------------------------------------


@check
async def a_conversations_tasks_are_listed_the_newest_first(client: SuiteClient) -> None:
    first = await made(client, "artifacts")
    context = first["contextId"]
    names = [first["id"]]
    for _ in range(2):
        told = await client.ask("SendMessage", message=message("task", contextId=context))
        names.insert(0, told.result["task"]["id"])
    told = await client.ask("ListTasks", contextId=context)
    assert [one["id"] for one in told.result["tasks"]] == names
    assert (told.result["nextPageToken"], told.result["totalSize"]) == ("", 3)
    assert not any("artifacts" in one for one in told.result["tasks"])
    told = await client.ask("ListTasks", contextId=context, includeArtifacts=True if not client.is_rest else "true")
    assert "artifacts" in told.result["tasks"][-1]


@check
async def a_list_has_pages(client: SuiteClient) -> None:
    context = (await made(client, "task"))["contextId"]
    for _ in range(2):
        await client.ask("SendMessage", message=message("task", contextId=context))
    seen: list[str] = []
    token: dict[str, Any] = {}
    for size in (2, 1):
        told = await client.ask("ListTasks", contextId=context, pageSize=2, **token)
        assert len(told.result["tasks"]) == size
        seen += [one["id"] for one in told.result["tasks"]]
        token = {"pageToken": told.result["nextPageToken"]}
    assert len(set(seen)) == 3
    assert token == {"pageToken": ""}


@check
async def a_list_keeps_to_a_state_and_to_its_bounds(client: SuiteClient) -> None:
    task = await made(client, "wait")
    told = await client.ask("ListTasks", contextId=task["contextId"], status="TASK_STATE_INPUT_REQUIRED")
    assert [one["id"] for one in told.result["tasks"]] == [task["id"]]
    told = await client.ask("ListTasks", contextId=task["contextId"], status="TASK_STATE_COMPLETED")
    assert told.result["tasks"] == []
    assert (await client.ask("ListTasks", contextId="there-is-none")).result["tasks"] == []
    for wrong in ({"pageSize": 0}, {"pageSize": 101}, {"historyLength": -1}):
        assert (await client.ask("ListTasks", **wrong)).reason == "INVALID_PARAMS"  # type: ignore[arg-type]


# ---- §3.1.2, §3.1.6, §3.5: streams -------------------------------------------------------------------------------


@check
async def a_stream_with_a_message_has_nothing_else(client: SuiteClient) -> None:
    assert kinds(await heard(client, "SendStreamingMessage", message=message("message"))) == ["message"]


@check
async def a_stream_begins_with_its_task_and_ends_with_it(client: SuiteClient) -> None:
    told = await heard(client, "SendStreamingMessage", message=message("pieces"))
    assert kinds(told)[0] == "task"
    assert kinds(told)[-1] == "statusUpdate"
    assert state(told[-1].result["statusUpdate"]) == "COMPLETED"
    pieces = [one.result["artifactUpdate"] for one in told if "artifactUpdate" in one.result]
    assert [one["artifact"]["parts"][0]["text"] for one in pieces] == ["one ", "two"]
    assert [one.get("append", False) for one in pieces] == [False, True]


@check
async def a_stream_ends_where_its_task_waits(client: SuiteClient) -> None:
    told = await heard(client, "SendStreamingMessage", message=message("wait"))
    assert state(told[-1].result["statusUpdate"]) == "INPUT_REQUIRED"


@check
async def a_task_at_work_can_be_listened_to_by_two(client: SuiteClient) -> None:
    task = await made(client, "work", configuration={"returnImmediately": True})
    one, other = (client.stream("SubscribeToTask", id=task["id"]) for _ in range(2))
    for stream in (one, other):
        first = await anext(stream)
        assert first.result["task"]["id"] == task["id"]
    await client.ask("CancelTask", id=task["id"])
    for stream in (one, other):
        rest = [told async for told in stream]
        assert state(rest[-1].result["statusUpdate"]) == "CANCELED"


@check
async def nobody_listens_to_a_task_that_is_over_or_to_none(client: SuiteClient) -> None:
    task = await made(client, "task")
    (told,) = await heard(client, "SubscribeToTask", id=task["id"])
    assert told.reason == "UNSUPPORTED_OPERATION"
    (told,) = await heard(client, "SubscribeToTask", id="there-is-none")
    assert told.reason == "TASK_NOT_FOUND"


# ---- §3.1.7 to §3.1.10: pushes, to the address that `client.hook` is -----------------------------------------------


@check
async def configurations_for_pushes_are_kept_until_they_are_removed(client: SuiteClient) -> None:
    task = (await made(client, "wait"))["id"]
    told = await client.ask("CreateTaskPushNotificationConfig", taskId=task, id="one", url=client.hook.url)
    assert (told.result["id"], told.result["url"], told.result["taskId"]) == ("one", client.hook.url, task)
    got = await client.ask("GetTaskPushNotificationConfig", taskId=task, id="one")
    assert got.result["url"] == client.hook.url
    listed = await client.ask("ListTaskPushNotificationConfigs", taskId=task)
    assert [one["id"] for one in listed.result["configs"]] == ["one"]
    for _ in range(2):
        assert not (await client.ask("DeleteTaskPushNotificationConfig", taskId=task, id="one")).reason
    assert (await client.ask("GetTaskPushNotificationConfig", taskId=task, id="one")).reason == "TASK_NOT_FOUND"
    assert not (await client.ask("ListTaskPushNotificationConfigs", taskId=task)).result.get("configs")


@check
async def pushes_of_no_task_are_not_asked_for(client: SuiteClient) -> None:
    told = await client.ask("CreateTaskPushNotificationConfig", taskId="there-is-none", url=client.hook.url)
    assert told.reason == "TASK_NOT_FOUND"
    assert (await client.ask("ListTaskPushNotificationConfigs", taskId="there-is-none")).reason == "TASK_NOT_FOUND"
    task = (await made(client, "wait"))["id"]
    assert (await client.ask("CreateTaskPushNotificationConfig", taskId=task)).reason == "INVALID_PARAMS"


@check
async def what_a_task_does_is_pushed_with_what_the_client_wants_to_be_shown(client: SuiteClient) -> None:
    task = (await made(client, "wait"))["id"]
    config = {"url": client.hook.url, "token": task, "authentication": {"scheme": "Bearer", "credentials": "of-mine"}}
    assert not (await client.ask("CreateTaskPushNotificationConfig", taskId=task, **config)).reason
    await client.ask("SendMessage", message=message("pieces", taskId=task))
    told = await client.hook.until(task, lambda got: "COMPLETED" in str(got[-1]))
    assert [one["artifactUpdate"]["artifact"]["parts"][0]["text"] for one in told if "artifactUpdate" in one] == [
        "one ",
        "two",
    ]
    assert client.hook.shown[task] == {"Bearer of-mine"}


@check
async def a_message_can_ask_for_the_pushes_of_its_own_task(client: SuiteClient) -> None:
    token = uuid.uuid4().hex
    config = {"url": client.hook.url, "token": token}
    task = await made(client, "wait", configuration={"taskPushNotificationConfig": config})
    await client.ask("SendMessage", message=message("task", taskId=task["id"]))
    told = await client.hook.until(token, lambda got: "COMPLETED" in str(got[-1]))
    assert state(told[-1]["statusUpdate"]) == "COMPLETED"


# ---- §3.6, §5.4, §9, §11: the bindings ---------------------------------------------------------------------------


@check
async def another_version_is_refused(client: SuiteClient) -> None:
    for headers in ({"A2A-Version": "99.0"}, {"A2A-Version": "0.3"}, {}):
        told = await client.ask("GetTask", headers, id="any")
        assert told.reason == "VERSION_NOT_SUPPORTED"
        (told,) = [one async for one in _streamed(client, headers)]
        assert told.reason == "VERSION_NOT_SUPPORTED"


async def _streamed(client: SuiteClient, headers: dict[str, str]) -> Any:
    request = client._request("SendStreamingMessage", {"message": message("task")}, headers)
    yield client.read(await client.http.send(request))


@check
async def a_card_that_is_not_declared_is_not_there(client: SuiteClient) -> None:
    assert (await client.ask("GetExtendedAgentCard")).reason == "UNSUPPORTED_OPERATION"


@check
async def what_is_no_json_is_refused(client: SuiteClient) -> None:
    told = await client.post(b'{"jsonrpc": "2.0", ', "/message:send")
    assert told.reason in ("-32700", "INVALID_REQUEST", "INVALID_PARAMS")


@check
async def what_is_no_json_rpc_is_refused_by_number(client: SuiteClient) -> None:
    if client.is_rest:
        return
    assert (await client.post(b"{")).reason == "-32700"
    for wrong in (b"[]", b'{"jsonrpc":"1.0","id":1,"method":"GetTask"}', b'{"jsonrpc":"2.0","id":1}'):
        assert (await client.post(wrong)).reason == "INVALID_REQUEST"
    assert (await client.post(b'{"jsonrpc":"2.0","id":1,"method":"no/such"}')).reason == "METHOD_NOT_FOUND"


@check
async def answers_come_as_what_they_are(client: SuiteClient) -> None:
    good, bad = await client.ask("SendMessage", message=message("task")), await client.ask("GetTask", id="none")
    assert good.media == ("application/a2a+json" if client.is_rest else "application/json")
    assert bad.media == "application/json"


@check
async def what_is_not_known_at_an_address_is_not_found(client: SuiteClient) -> None:
    if client.is_rest:
        response = await client.http.get(f"{client.url}/no/such/place", headers=VERSION)
        assert response.status_code == 404


# ---- §8: the card ------------------------------------------------------------------------------------------------


async def card_checks(client: SuiteClient, base: str) -> None:
    """The card at an address, which leads back there."""
    response = await client.http.get(f"{base}/.well-known/agent-card.json")
    card = response.json()
    for name in ("name", "description", "version", "supportedInterfaces", "capabilities", "skills"):
        assert name in card
    for name in ("defaultInputModes", "defaultOutputModes"):
        assert card[name]
    assert card["capabilities"] == {"streaming": True, "pushNotifications": True}
    bindings = {one["protocolBinding"]: one for one in card["supportedInterfaces"]}
    assert {"JSONRPC", "HTTP+JSON"} <= bindings.keys()
    assert all(one["protocolVersion"] == "1.0" for one in card["supportedInterfaces"])
    assert bindings[client.binding]["url"].rstrip("/") == client.url
    tag = response.headers["etag"]
    again = await client.http.get(f"{base}/.well-known/agent-card.json", headers={"If-None-Match": tag})
    assert again.status_code == 304
