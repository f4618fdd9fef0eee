"""Our reading of A2A beside that of `a2a-sdk`: what one writes the other reads, and they read the same."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import hypothesis.strategies as st
import pytest
from a2a.client.transports.rest import RestTransport
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.types import a2a_pb2 as sdk
from a2a.utils.errors import JSON_RPC_ERROR_CODE_MAP
from google.protobuf import empty_pb2  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError  # type: ignore[import-untyped]
from hypothesis import given

from citywatch.core.call import Call, Direction
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire import a2a, a2a_rest
from citywatch.core.wire.jsonrpc import FROM_AGENT, Request, Response, format_message, parse_message
from tests.property.test_a2a import RESULTS, WHOLE, damaged

WORDS = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**20), 2**20) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
PARTS = st.one_of(
    st.builds(lambda text: sdk.Part(text=text), WORDS),
    st.builds(lambda raw: sdk.Part(raw=raw, media_type="a/b"), st.binary(max_size=8)),
    st.builds(lambda value: ParseDict({"data": value}, sdk.Part()), ANYTHING),
)
MESSAGES = st.builds(
    lambda parts, context, task, more: sdk.Message(
        message_id="m", role=sdk.Role.ROLE_USER, parts=parts, context_id=context, task_id=task, reference_task_ids=more
    ),
    st.lists(PARTS, min_size=1, max_size=3),
    WORDS | st.just(""),
    WORDS | st.just(""),
    st.lists(WORDS, max_size=2),
)
RESULT_TYPES: dict[str, type] = {
    "SendMessage": sdk.SendMessageResponse,
    "SendStreamingMessage": sdk.StreamResponse,
    "SubscribeToTask": sdk.StreamResponse,
    "GetTask": sdk.Task,
    "ListTasks": sdk.ListTasksResponse,
    "CancelTask": sdk.Task,
    "CreateTaskPushNotificationConfig": sdk.TaskPushNotificationConfig,
    "GetTaskPushNotificationConfig": sdk.TaskPushNotificationConfig,
    "ListTaskPushNotificationConfigs": sdk.ListTaskPushNotificationConfigsResponse,
    "DeleteTaskPushNotificationConfig": empty_pb2.Empty,
}


def request(method: str, params: dict[str, Any]) -> Request:
    message = parse_message(format_message(Request(1, method, params)), FROM_AGENT)
    assert isinstance(message, Request)
    return message


def test_every_method_of_the_sdk_is_read_or_refused_by_name() -> None:
    refused = set()
    for method in JsonRpcDispatcher.METHOD_TO_MODEL:
        try:
            a2a.read_request(request(method, {}))
        except Refused as failure:
            refused.add((method, failure.code))
        except Malformed:
            pass
    unknown = {"GetExtendedAgentCard"}
    assert refused == {(one, Code.CARD_UNSUPPORTED) for one in unknown}
    assert {row.method for row in a2a.methods()} == set(JsonRpcDispatcher.METHOD_TO_MODEL) - unknown


class Recorder(httpx.AsyncBaseTransport):
    """What a client of the SDK puts on the wire over HTTP+JSON."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.read = a2a_rest.read(
            request.method,
            request.url.raw_path.partition(b"?")[0],
            request.url.query,
            list(request.headers.raw),
            await request.aread(),
            FROM_AGENT,
        )
        return httpx.Response(200, json={})


@given(MESSAGES, WORDS, st.integers(0, 100))
def test_what_the_sdk_asks_over_http_json_is_what_it_asks_over_json_rpc(
    message: sdk.Message, context: str, count: int
) -> None:
    async def asked() -> None:
        recorder = Recorder()
        async with httpx.AsyncClient(transport=recorder) as http:
            rest = RestTransport(http, sdk.AgentCard(), "https://x.example/a2a")
            rest.url = "https://x.example"
            for call, request in (
                (rest.send_message, sdk.SendMessageRequest(message=message)),
                (rest.get_task, sdk.GetTaskRequest(id="t-1", history_length=count)),
                (rest.list_tasks, sdk.ListTasksRequest(context_id=context, page_size=count, include_artifacts=True)),
                (rest.cancel_task, sdk.CancelTaskRequest(id="t-1")),
                (rest.create_task_push_notification_config, sdk.TaskPushNotificationConfig(task_id="t", url=context)),
                (
                    rest.get_task_push_notification_config,
                    sdk.GetTaskPushNotificationConfigRequest(task_id="t", id="c"),
                ),
                (
                    rest.list_task_push_notification_configs,
                    sdk.ListTaskPushNotificationConfigsRequest(task_id="t", page_size=count),
                ),
                (
                    rest.delete_task_push_notification_config,
                    sdk.DeleteTaskPushNotificationConfigRequest(task_id="t", id="c"),
                ),
            ):
                await call(request)
                assert (recorder.read.params or {}) == MessageToDict(request)
                assert JsonRpcDispatcher.METHOD_TO_MODEL[recorder.read.method] is type(request)

    asyncio.run(asked())


@given(MESSAGES, st.dictionaries(WORDS, ANYTHING, max_size=2))
def test_what_the_sdk_writes_we_read_as_the_sdk_does(message: sdk.Message, metadata: dict[str, Any]) -> None:
    params = MessageToDict(ParseDict({"metadata": metadata}, sdk.SendMessageRequest(message=message)))
    reading = a2a.read_request(request("SendMessage", params))
    named = [("context", message.context_id)] if message.context_id else []
    named += [
        ("task", one) for one in ([message.task_id] if message.task_id else []) + list(message.reference_task_ids)
    ]
    assert list(reading.things) == list(dict.fromkeys(named))


def called(reading: a2a.Reading) -> Call:
    return Call(
        id="c",
        direction=Direction.TO_SERVER,
        agent="spiffe://d/agent/a",
        server="s",
        method=reading.row.method,
        name=reading.name,
        arguments=reading.arguments,
        body=b"",
        revision=a2a.REVISION,
        rpc_id=1,
    )


@given(damaged({key: WHOLE[key] for key in ("message", "configuration")}))
def test_what_we_take_the_sdk_takes_and_finds_the_same_in_it(params: Any) -> None:
    try:
        reading = a2a.read_request(request("SendMessage", params))
    except (Malformed, Refused):
        return
    read = sdk.SendMessageRequest()
    failed = ""
    try:
        ParseDict(json.loads(json.dumps(params)), read, ignore_unknown_fields=True)  # as its servers do
    except ParseError as failure:
        failed = str(failure)
    if failed:  # base64, the range of a number: refused there, and nothing that we had not seen
        return
    assert {name for kind, name in reading.things if kind == "context"} == ({read.message.context_id} - {""})
    tasks = {read.message.task_id, *read.message.reference_task_ids} - {""}
    assert {name for kind, name in reading.things if kind == "task"} == tasks
    assert not any(part.HasField("url") for part in read.message.parts)
    inline = params.get("configuration", {}).get("taskPushNotificationConfig")
    assert read.configuration.HasField("task_push_notification_config") is (inline is not None)
    told = json.loads(a2a.forwarded(called(reading), None))["params"]
    exact = sdk.SendMessageRequest()
    ParseDict({key: value for key, value in told.items() if key != "metadata"}, exact)  # it knows all of it
    assert exact.message == read.message
    if inline is not None:
        config = read.configuration.task_push_notification_config
        assert (config.url, config.token) == (inline["url"], inline.get("token", ""))


@given(st.sampled_from(sorted(RESULTS)))
def test_results_of_the_sdk_have_the_shapes_that_we_check(method: str) -> None:
    value = MessageToDict(ParseDict(RESULTS[method], RESULT_TYPES[method]()))
    a2a.check_reply(method, Response(1, value))
    for wrong in (sdk.Part(url="http://10.0.0.1/"), sdk.Part()):
        task = sdk.Task(id="t", status=sdk.TaskStatus(state=sdk.TaskState.TASK_STATE_WORKING))
        task.artifacts.append(sdk.Artifact(artifact_id="a", parts=[wrong]))
        with pytest.raises(Malformed):
            a2a.check_reply("GetTask", Response(1, MessageToDict(task)))


def test_our_numbers_are_those_of_the_sdk() -> None:
    theirs = {kind.__name__: number for kind, number in JSON_RPC_ERROR_CODE_MAP.items()}
    for code, name in (
        (Code.PUSH_UNSUPPORTED, "PushNotificationNotSupportedError"),
        (Code.PEER_TASK_UNKNOWN, "TaskNotFoundError"),
        (Code.REVISION_UNSUPPORTED, "VersionNotSupportedError"),
        (Code.METHOD_UNKNOWN, "MethodNotFoundError"),
        (Code.MALFORMED, "InvalidParamsError"),
    ):
        assert json.loads(a2a.refusal(1, code, 1403))["error"]["code"] == theirs[name]
