"""What holds of A2A requests and results whatever bytes they are."""

from __future__ import annotations

import copy
import json
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import example, given

from citywatch.core.call import Call, Direction
from citywatch.core.enforce.pinning import definition_bytes, definition_digest
from citywatch.core.enforce.receive import NOTHING_DECLARED, SPOKEN, Entering
from citywatch.core.errors import Malformed, Refused
from citywatch.core.flow.fields import Fields
from citywatch.core.flow.item import Item
from citywatch.core.label import BOTTOM
from citywatch.core.wire import a2a, a2a_card, a2a_push, a2a_rest
from citywatch.core.wire.jsonrpc import FROM_AGENT, Request, Response, parse_message
from tests.unit.core.wire.test_a2a_card import CARD

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
WHOLE: dict[str, Any] = {
    "message": {
        "messageId": "m",
        "role": "ROLE_USER",
        "contextId": "c",
        "taskId": "t",
        "parts": [{"text": "a"}, {"raw": "YQ==", "mediaType": "text/plain"}, {"data": {"a": 1}, "metadata": {"b": 2}}],
        "metadata": {"x": "y"},
        "extensions": ["https://x.example/e"],
        "referenceTaskIds": ["u"],
    },
    "configuration": {"acceptedOutputModes": ["text/plain"], "historyLength": 1, "returnImmediately": True},
    "metadata": {a2a.SKILL: "refund", a2a.TASK: "t1", a2a.CHAIN: ["link"], "z": [1]},
}
TASK = {
    "id": "t",
    "contextId": "c",
    "status": {"state": "TASK_STATE_WORKING", "message": {"messageId": "m", "parts": [{"text": "a"}]}},
    "artifacts": [{"artifactId": "a", "parts": [{"data": [1]}]}],
    "history": [{"messageId": "m", "parts": [{"text": "b"}]}],
}
RESULTS: dict[str, Any] = {
    "SendMessage": {"task": TASK},
    "SendStreamingMessage": {"artifactUpdate": {"taskId": "t", "contextId": "c", "artifact": TASK["artifacts"][0]}},  # type: ignore[index]
    "SubscribeToTask": {"statusUpdate": {"taskId": "t", "contextId": "c", "status": TASK["status"]}},
    "GetTask": TASK,
    "ListTasks": {"tasks": [TASK], "nextPageToken": "", "pageSize": 1, "totalSize": 1},
    "CancelTask": TASK,
    **{
        method: {"taskId": "t", "id": "c", "url": "https://x"}
        for method in ("CreateTaskPushNotificationConfig", "GetTaskPushNotificationConfig")
    },
    "ListTaskPushNotificationConfigs": {
        "configs": [{"taskId": "t", "id": "c", "url": "https://x"}],
        "nextPageToken": "",
    },
    "DeleteTaskPushNotificationConfig": {},
}
NAMES = st.sampled_from(
    [
        "url",
        "task_id",
        "taskId",
        "text",
        "parts",
        "state",
        "citywatch/hops",
        "citywatch/sender",
        "id",
        "tenant",
        "message",
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in inner for found in places(one, (*path, key)))]


@st.composite
def damaged(draw: st.DrawFn, whole: Any) -> Any:
    """The value with up to three places in it replaced, removed, or given one more member."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(value)))
        if not path:
            continue
        home = value
        for key in path[:-1]:
            home = home[key]
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "replace":
            home[path[-1]] = draw(VALUES)
        elif how == "remove":
            del home[path[-1]]
        elif isinstance(home, dict):
            home[draw(NAMES)] = draw(VALUES)
    return value


def links(value: Any) -> list[Any]:
    """Every object under `parts`, at any depth of a message or a task, that has a link."""
    if isinstance(value, list):
        return [found for one in value for found in links(one)]
    if not isinstance(value, dict):
        return []
    parts = value.get("parts")
    own = [part for part in parts if isinstance(part, dict) and "url" in part] if isinstance(parts, list) else []
    return own + [found for key, one in value.items() if key not in ("data", "metadata") for found in links(one)]


@example({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {**WHOLE, "id": None}})
@given(st.binary(max_size=200) | damaged({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": WHOLE}))
def test_any_bytes_are_a_reading_or_are_refused(given_: Any) -> None:
    raw = given_ if isinstance(given_, bytes) else json.dumps(given_).encode()
    try:
        message = parse_message(raw, FROM_AGENT)
        reading = a2a.read_request(message)
    except (Malformed, Refused):
        return
    assert isinstance(message, Request)
    params = message.params or {}
    named = {("task", one) for one in params.get("message", {}).get("referenceTaskIds", [])}
    if message.method != "SendMessage":  # which has no such member: it is left out
        named |= {("task", params["id"])} if "id" in params else set()
    assert a2a_push.parted(message)[1] is None or "taskPushNotificationConfig" in params["configuration"]
    named |= {(kind, params["message"][key]) for kind, key in (("task", "taskId"), ("context", "contextId"))
              if key in params.get("message", {})}  # fmt: skip
    assert set(reading.things) == named
    assert not links(params.get("message", {}))
    call = Call(
        id="c",
        direction=Direction.TO_SERVER,
        agent="spiffe://d/agent/a",
        server="s",
        method=reading.row.method,
        name=reading.name,
        arguments=reading.arguments,
        body=message.body,
        revision=a2a.REVISION,
        rpc_id=message.id,
        task=reading.task,
    )
    for hops in (None, 3):
        told = parse_message(a2a.forwarded(call, hops), FROM_AGENT)
        assert isinstance(told, Request)
        assert msgspec.structs.replace(told, body=b"") == msgspec.structs.replace(edited(message, hops), body=b"")


def known(value: dict[str, Any], members: str) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key in members.split()}


def edited(message: Request, hops: int | None) -> Request:
    """What is forwarded, told slowly: the request that came, without what nobody knows and its chain, with its sender
    and hops."""
    params = known(message.params or {}, "message configuration metadata id historyLength taskId url token")
    if "message" in params:
        members = "messageId role parts contextId taskId metadata extensions referenceTaskIds"
        params["message"] = known(params["message"], members)
    if "configuration" in params:
        members = "acceptedOutputModes historyLength returnImmediately taskPushNotificationConfig"
        params["configuration"] = known(params["configuration"], members)
    if message.method == "SendMessage":
        params = known(params, "message configuration metadata")
    metadata = {key: value for key, value in params.pop("metadata", {}).items() if key != a2a.CHAIN}
    metadata = {key: one for key, one in metadata.items() if one is not None or key not in (a2a.SKILL, a2a.TASK)}
    if message.method not in ("SendMessage", "SendStreamingMessage", "CancelTask"):
        return Request(message.id, message.method, params)
    params["metadata"] = metadata | {a2a.SENDER: "spiffe://d/agent/a"} | ({} if hops is None else {a2a.HOPS: hops})
    return Request(message.id, message.method, params)


PLAIN = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
PARAMS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "SendMessage": st.just(WHOLE),
    "SendStreamingMessage": st.just(WHOLE),
    "GetTask": st.fixed_dictionaries({"id": PLAIN}, optional={"historyLength": st.integers(0, 99)}),
    "ListTasks": st.fixed_dictionaries(
        {},
        optional={
            "contextId": st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            "pageSize": st.integers(1, 100),
            "includeArtifacts": st.booleans(),
        },
    ),
    "CancelTask": st.fixed_dictionaries({"id": PLAIN}, optional={"metadata": st.just({"a": [1]})}),
    "SubscribeToTask": st.fixed_dictionaries({"id": PLAIN}),
    "CreateTaskPushNotificationConfig": st.fixed_dictionaries({"taskId": PLAIN, "url": TEXT}),
    "GetTaskPushNotificationConfig": st.fixed_dictionaries({"taskId": PLAIN, "id": PLAIN}),
    "ListTaskPushNotificationConfigs": st.fixed_dictionaries({"taskId": PLAIN}, optional={"pageToken": TEXT}),
    "DeleteTaskPushNotificationConfig": st.fixed_dictionaries({"taskId": PLAIN, "id": PLAIN}),
    "GetExtendedAgentCard": st.just({}),
}


@given(st.sampled_from(a2a_rest.ROUTES).flatmap(lambda one: st.tuples(st.just(one.method), PARAMS[one.method])))
def test_what_is_written_for_a_peer_over_http_reads_as_what_was_judged(case: tuple[str, dict[str, Any]]) -> None:
    method, params = case
    verb, target, body = a2a_rest.write(Request(5, method, params))
    path, _, query = target.partition("?")
    assert target.isascii()
    assert not set(target) & set(" \r\n#")
    found = a2a_rest.read(verb, path.encode(), query.encode(), [], body or b"", FROM_AGENT)
    assert (found.method, found.params) == (method, params)


@given(
    st.sampled_from(["GET", "POST", "DELETE"]), st.binary(max_size=30), st.binary(max_size=30), st.binary(max_size=30)
)
def test_any_request_over_http_is_one_or_is_refused(verb: str, path: bytes, query: bytes, body: bytes) -> None:
    for where in (path, b"/tasks/" + path, b"/tasks", b"/message:send"):
        try:
            found = a2a_rest.read(verb, where, query, [], body, FROM_AGENT)
        except (Malformed, Refused):
            continue
        assert parse_message(found.body, FROM_AGENT) == found


@given(st.integers(200, 599), st.binary(max_size=60) | damaged({"error": {"code": 1, "message": "", "details": [{}]}}))
def test_any_answer_over_http_is_one_or_malformed(status: int, given_: Any) -> None:
    raw = given_ if isinstance(given_, bytes) else json.dumps(given_).encode()
    for kind in ("message", "error"):
        try:
            message = parse_message(a2a_rest.heard(1, status, raw, FROM_AGENT), FROM_AGENT)
            assert isinstance(message, Response)
            assert isinstance(parse_message(a2a_rest.streamed(1, kind, raw, FROM_AGENT), FROM_AGENT), Response)
        except Malformed:
            continue


@given(st.binary(max_size=60) | damaged(RESULTS["SubscribeToTask"]) | damaged(RESULTS["SendMessage"]))
def test_any_push_is_one_of_a_task_or_malformed(given_: Any) -> None:
    try:
        response, task = a2a_push.pushed(given_)
    except Malformed:
        return
    assert parse_message(response.body, FROM_AGENT) == response
    (inner,) = given_.values()
    assert task in (inner.get("id"), inner.get("taskId"))
    assert not links(given_)


@given(st.sampled_from(sorted(RESULTS)).flatmap(lambda method: st.tuples(st.just(method), damaged(RESULTS[method]))))
def test_any_result_is_checked_or_malformed_and_holds_no_link(case: tuple[str, Any]) -> None:
    method, result = case
    response = Response(1, result)
    try:
        a2a.check_reply(method, response)
    except Malformed:
        return
    assert not links(result)
    a2a.is_last(response)
    assert all(isinstance(name, str) for _, name in a2a.given(response))


def entered(fields: Fields, result: Any) -> Item:
    return Entering("billing/SendMessage", b"{}", fields.walk(result), ()).item("billing", BOTTOM, 1)


@given(st.sampled_from(sorted(RESULTS)).flatmap(lambda method: damaged(RESULTS[method])))
def test_the_protocols_own_words_are_read_once_and_all_that_the_peer_said(result: Any) -> None:
    slow, fast, heard = NOTHING_DECLARED.walk(result), SPOKEN.walk(result), False
    left = []
    for leaf in slow.leaves:
        own = leaf.value in a2a.WORDS if isinstance(leaf.value, str) else False
        if not (own and heard):
            left.append(leaf)
        heard = heard or (own and leaf.record == -1)  # a member's name is in no record
    assert list(fast.leaves) == left
    assert fast.parents == slow.parents
    assert entered(SPOKEN, result).label == entered(NOTHING_DECLARED, result).label


@given(damaged(CARD), st.lists(VALUES, max_size=2), st.randoms(use_true_random=False))
def test_a_card_is_the_same_card_as_long_as_it_says_the_same(other: Any, signatures: list[Any], order: Any) -> None:
    """Whoever signed it, in whatever order: and any other difference is another card."""

    def digest_of(card: Any) -> str:
        return definition_digest(definition_bytes(a2a_card.content(card)))

    pairs = list(CARD.items())
    order.shuffle(pairs)
    assert digest_of({**dict(pairs), "signatures": signatures}) == digest_of(CARD)
    told = [json.dumps({**one, "signatures": 0}, sort_keys=True) for one in (other, CARD)]
    same = told[0] == told[1]
    assert (digest_of(other) == digest_of(CARD)) is same
