"""What holds of the wire for all bytes, all values and all ways to cut a stream."""

from __future__ import annotations

import contextlib
import json
import math
import random
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from citywatch.core.errors import Malformed, Refused
from citywatch.core.wire import jsonrpc, mcp
from citywatch.core.wire.headers import (
    check_params_mirrored,
    decode_value,
    encode_value,
    mirror_params,
    param_headers,
    read_headers,
)
from citywatch.core.wire.jsonrpc import (
    FROM_AGENT,
    Limits,
    Message,
    Notification,
    Request,
    Response,
    format_message,
    parse_message,
)
from citywatch.core.wire.sse import Event, EventParser, format_event

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1e22, 2**64]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)
IDS = st.one_of(st.integers(-(2**63), 2**63 - 1), TEXT)
METHODS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ERRORS = st.builds(
    lambda extra, code, message: {**extra, "code": code, "message": message},
    OBJECTS,
    st.integers(-(2**40), 2**40),
    TEXT,
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Request, IDS, METHODS, st.none() | OBJECTS),
    st.builds(Notification, METHODS, st.none() | OBJECTS),
    st.builds(Response, IDS, OBJECTS, st.none()),
    st.builds(Response, st.none() | IDS, st.none(), ERRORS),
)


def same(left: Any, right: Any) -> bool:
    """Equal in type too, at every depth: to Python `1 == 1.0 == True`."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


def fields(message: Message) -> tuple[Any, ...]:
    return tuple(getattr(message, name) for name in message.__struct_fields__ if name != "body")


# ---- messages ----------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(Malformed):
        parse_message(raw, FROM_AGENT)


@given(MESSAGES, st.randoms(use_true_random=False))
def test_a_damaged_message_gives_a_message_or_malformed(message: Message, chance: random.Random) -> None:
    raw = bytearray(format_message(message))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(raw) + 1)
        piece = chance.choice(
            (b'"', b"\\", b"{", b"}", b"[", b",", b":", b"\xff", b"\\ud800", b"1e999", b"9" * 30, b" ")
        )
        raw[place : place + chance.randint(0, 3)] = piece
    try:
        read = parse_message(bytes(raw), FROM_AGENT)
    except Malformed:
        return
    assert parse_message(read.body, FROM_AGENT) == read


@given(MESSAGES)
def test_what_is_written_reads_back_as_the_same_message(message: Message) -> None:
    read = parse_message(format_message(message), FROM_AGENT)
    assert type(read) is type(message)
    assert same(list(fields(read)), list(fields(message)))


@given(MESSAGES, st.sampled_from([None, 1, "\t"]), st.booleans(), st.booleans())
def test_the_body_is_the_judged_value_however_the_sender_wrote_it(
    message: Message, indent: int | str | None, ascii_only: bool, sort: bool
) -> None:
    value = json.loads(format_message(message))
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only, sort_keys=sort).encode()
    read = parse_message(raw, FROM_AGENT)
    assert json.loads(read.body) == value
    assert parse_message(read.body, FROM_AGENT) == read


@given(VALUES)
def test_the_short_way_and_the_long_way_read_the_same_value(value: Any) -> None:
    raw = jsonrpc._format_json(value)
    quick, quick_body = jsonrpc.parse_json(raw, FROM_AGENT)
    slow, slow_body = jsonrpc._parse_slowly(raw)
    assert same(quick, slow)
    assert quick_body == slow_body


@given(VALUES, st.data())
def test_a_second_member_of_one_name_is_refused_wherever_it_stands(value: Any, data: st.DataObject) -> None:
    """Built as text, so that the duplicate really is in the bytes, under any of its spellings and with any value."""
    name = data.draw(TEXT)
    spellings = [json.dumps(name), json.dumps(name, ensure_ascii=False), '"' + "".join(map(escaped, name)) + '"']
    first, second = data.draw(st.sampled_from(spellings)), data.draw(st.sampled_from(spellings))
    one, other = jsonrpc._format_json(value).decode(), jsonrpc._format_json(data.draw(VALUES)).decode()
    text = f"{{{first}:{one},{second}:{other}}}"
    for _ in range(data.draw(st.integers(0, 3))):
        text = data.draw(st.sampled_from([f'{{"in":{text}}}', f"[1,{text}]", f'{{"a":{text},"b":2}}']))
    raw = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"p":%s}}' % text.encode()
    with pytest.raises(Malformed, match="more than once"):
        parse_message(raw, FROM_AGENT)


def escaped(letter: str) -> str:
    units = letter.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2))


@given(VALUES, st.integers(1, 6), st.integers(1, 30))
def test_the_bounds_hold_exactly(value: Any, depth: int, nodes: int) -> None:
    limits = Limits(size=1 << 20, depth=depth, nodes=nodes)
    fits = levels(value) <= depth and count(value) <= nodes
    try:
        jsonrpc.parse_json(jsonrpc._format_json(value), limits)
    except Malformed:
        assert not fits
    else:
        assert fits


def levels(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


def count(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    # An empty container is counted with the value it might have held: the bound errs by no more than that.
    return 1 + sum(map(count, inner)) if inner or not isinstance(value, dict | list) else 2


@given(st.integers(-(10**60), 10**60))
@example(2**63)
@example(-(2**63) - 1)
@example(2**64)
def test_no_integer_loses_a_digit(number: int) -> None:
    raw = b'{"jsonrpc":"2.0","method":"m","params":{"n":%d}}' % number
    message = parse_message(raw, FROM_AGENT)
    assert isinstance(message, Notification)
    assert message.params == {"n": number}
    assert type(message.params["n"]) is int
    assert message.body == raw


# ---- MCP ---------------------------------------------------------------------------------------------------------

HEADER_NAMES = st.sampled_from(
    [b"mcp-method", b"Mcp-Name", b"MCP-Protocol-Version", b"mcp-session-id", b"mcp-param-x", b"last-event-id", b"host"]
)
HEADERS = st.lists(
    st.tuples(HEADER_NAMES, st.sampled_from([b"tools/call", b"x", b"2026-07-28", b"2025-11-25", b"\xff", b""]))
)
KNOWN = sorted({row.method for row in mcp.all_methods()})
PARAMS = st.dictionaries(
    st.sampled_from(
        ["name", "arguments", "uri", "_meta", "cursor", "ref", "argument", "progressToken", "progress", "x"]
    ),
    st.one_of(VALUES, st.just({"io.modelcontextprotocol/protocolVersion": "2026-07-28"}), st.just("x")),
)


@given(
    HEADERS,
    st.one_of(
        MESSAGES,
        st.builds(Request, IDS, st.sampled_from(KNOWN), st.none() | PARAMS),
        st.builds(Notification, st.sampled_from(KNOWN), st.none() | PARAMS),
    ),
)
def test_any_message_under_any_headers_is_read_or_refused(headers: list[tuple[bytes, bytes]], message: Message) -> None:
    with contextlib.suppress(Malformed, Refused):
        mcp.read_message(headers, message, lambda _: ())


@given(st.sampled_from(KNOWN), OBJECTS, st.sampled_from([None, *mcp.LEGACY, *mcp.MODERN]))
def test_any_result_of_any_method_is_checked_or_malformed(
    method: str, result: dict[str, Any], revision: str | None
) -> None:
    response = Response(1, result)
    try:
        mcp.check_reply(method, response, revision)
    except Malformed:
        return
    offered = mcp.definitions(method, response)
    assert mcp.definitions(method, mcp.keep_only(method, response, [True] * len(offered))) == offered
    assert mcp.definitions(method, mcp.keep_only(method, response, [False] * len(offered))) == ()


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=5), OBJECTS), unique_by=lambda pair: pair[0], max_size=6), st.data()
)
def test_a_rebuilt_list_holds_the_kept_tools_unchanged_and_no_other(
    tools: list[tuple[str, dict[str, Any]]], data: st.DataObject
) -> None:
    entries = [{**extra, "name": name, "inputSchema": {}, "description": "d", "title": "t"} for name, extra in tools]
    response = Response(1, {"tools": entries})
    try:
        mcp.check_reply("tools/list", response, "2025-11-25")
    except Malformed:
        return
    keep = data.draw(st.lists(st.booleans(), min_size=len(entries), max_size=len(entries)))
    kept = mcp.keep_only("tools/list", response, keep)
    expected = [entry for entry, flag in zip(entries, keep, strict=True) if flag]
    assert json.loads(kept.body)["result"] == {"tools": json.loads(jsonrpc._format_json(expected))}


def damaged(value: Any, data: st.DataObject) -> Any:
    """The same value with something else in one place: nearly right is where checks forget a case."""
    here: st.SearchStrategy[Any] = st.sampled_from(
        [[], {}, None, True, 1, 1.5, "", "x", ["x"], {"x": 1}, [[]], [{}], "input_required"]
    )
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: damaged(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], damaged(value[place], data), *value[place + 1 :]]
    return data.draw(here)


RESULTS: dict[str, dict[str, Any]] = {
    "tools/list": {"tools": [{"name": "a", "inputSchema": {}, "description": "d"}], "nextCursor": "c", "_meta": {}},
    "tools/call": {"content": [{"type": "text"}], "isError": False, "structuredContent": {}, "resultType": "complete"},
    "prompts/get": {
        "resultType": "input_required",
        "inputRequests": {"k": {"method": "elicitation/create", "params": {"message": "m", "_meta": {}}}},
        "requestState": "s",
    },
    "resources/read": {"contents": [{"uri": "u", "text": "t", "blob": "b"}], "cacheScope": "public"},
    "completion/complete": {"completion": {"values": ["v"]}},
    "initialize": {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}, "instructions": "i"},
    "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {}, "instructions": "i"},
    "elicitation/create": {"action": "accept", "content": {}},
    "sampling/createMessage": {"role": "r", "model": "m", "content": {}},
    "roots/list": {"roots": [{"uri": "u", "name": "n"}]},
}


@given(st.sampled_from(sorted(RESULTS)), st.sampled_from([None, *mcp.LEGACY, *mcp.MODERN]), st.data())
def test_a_damaged_result_is_checked_or_malformed(method: str, revision: str | None, data: st.DataObject) -> None:
    result = damaged(RESULTS[method], data)
    if not isinstance(result, dict):
        return
    response = Response(1, result)
    with contextlib.suppress(Malformed):
        mcp.check_reply(method, response, revision)
        mcp.definitions(method, response)
        mcp.private(response)
        mcp.negotiated(response)
    with contextlib.suppress(Malformed):
        mcp.check_agent_reply(method, response)
    with contextlib.suppress(Malformed):
        mcp.input_requests(response)


LEADS: dict[str, Any] = {
    "code": -32042,
    "message": "m",
    "data": {"elicitations": [{"mode": "url", "elicitationId": "e", "url": "u", "message": "m"}]},
}


@given(st.data())
def test_a_damaged_error_that_leads_people_somewhere_asks_no_less_or_is_malformed(data: st.DataObject) -> None:
    error = damaged(LEADS, data)
    if not isinstance(error, dict) or type(error.get("code")) is not int:
        return
    with contextlib.suppress(Malformed):
        asked = mcp.led_to(Response(1, None, error))
        assert [one.params for one in asked] == (error["data"]["elicitations"] if error["code"] == -32042 else [])
        assert all(one.params and one.params["mode"] == "url" for one in asked)


@given(st.data())
def test_what_is_nearly_a_client_that_shows_addresses_is_none(data: st.DataObject) -> None:
    declared = damaged({"elicitation": {"url": {}}}, data)
    shows = isinstance(declared, dict) and isinstance(declared.get("elicitation"), dict)
    assert mcp.can_be_led("2025-11-25", declared) is (shows and isinstance(declared["elicitation"].get("url"), dict))


ASKED: list[tuple[str, dict[str, Any]]] = [
    ("tools/call", {"name": "n", "arguments": {"a": 1}, "_meta": {"progressToken": 1}}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "n"}, "argument": {}, "context": {}}),
    ("resources/read", {"uri": "u", "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}),
    ("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}),
    ("sampling/createMessage", {"messages": [], "maxTokens": 1}),
    ("notifications/progress", {"progressToken": "t", "progress": 1.5}),
]


@given(st.sampled_from(ASKED), st.booleans(), st.sampled_from([*mcp.LEGACY, *mcp.MODERN]), st.data())
def test_damaged_params_are_read_or_refused(
    asked: tuple[str, dict[str, Any]], notifies: bool, revision: str, data: st.DataObject
) -> None:
    method, params = asked[0], damaged(asked[1], data)
    if not isinstance(params, dict):
        return
    message = Notification(method, params) if notifies else Request(1, method, params)
    headers = [(b"mcp-protocol-version", revision.encode()), (b"mcp-method", method.encode()), (b"mcp-name", b"n")]
    with contextlib.suppress(Malformed, Refused):
        mcp.read_message(headers, message, lambda _: ())
    with contextlib.suppress(Malformed, Refused):
        mcp.read_server_message(message, revision)


# ---- headers -----------------------------------------------------------------------------------------------------


@given(TEXT | st.from_regex(r"=\?base64\?.*\?=", fullmatch=True).filter(lambda text: text.isprintable()))
def test_every_text_survives_a_header_and_never_breaks_it(text: str) -> None:
    value = encode_value(text)
    assert decode_value(value) == text
    assert value.isascii()
    assert value.isprintable()
    assert read_headers([(b"mcp-name", b" \t" + value.encode() + b" ")]).name == value


@given(st.text(max_size=40).map(lambda text: f"=?base64?{text}?="))
def test_a_sentinel_decodes_to_what_encodes_to_it_or_to_nothing(value: str) -> None:
    decoded = decode_value(value)
    if decoded is not None and decoded != value:
        assert f"=?base64?{b64encode(decoded.encode()).decode()}?=" == value


SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "size": {"type": "integer", "x-mcp-header": "Size"},
        "deep": {"type": "object", "properties": {"on": {"type": "boolean", "x-mcp-header": "On"}}},
    },
}
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "region": TEXT,
        "size": st.integers(-(2**70), 2**70),
        "deep": st.fixed_dictionaries({"on": st.booleans()}),
    },
)


@given(ARGUMENTS)
def test_headers_made_from_arguments_agree_with_them(arguments: dict[str, Any]) -> None:
    mirrored = param_headers(SCHEMA)
    assert len(mirrored) == 3
    check_params_mirrored(mirrored, mirror_params(mirrored, arguments), arguments)


@given(ARGUMENTS, ARGUMENTS)
def test_headers_made_from_other_arguments_are_refused(sent: dict[str, Any], other: dict[str, Any]) -> None:
    mirrored = param_headers(SCHEMA)
    if mirror_params(mirrored, sent) == mirror_params(mirrored, other):
        return
    with pytest.raises(Refused):
        check_params_mirrored(mirrored, mirror_params(mirrored, other), sent)


# ---- server-sent events ------------------------------------------------------------------------------------------

FIELDS = st.sampled_from(
    [
        b"data: {}",
        b"data",
        b"data:x",
        b"id: 1",
        b"id",
        b"event: message",
        b"event: ping",
        b"retry: 10",
        b": c",
        b"",
        b"x: y",
    ]
)
BREAKS = st.sampled_from([b"\n", b"\r", b"\r\n"])
STREAMS = st.lists(st.tuples(FIELDS | st.binary(max_size=6), BREAKS)).map(
    lambda lines: b"".join(a + b for a, b in lines)
)


@given(st.sampled_from([b"", b"\xef\xbb\xbf"]), STREAMS, st.lists(st.integers(0, 200)))
def test_the_events_do_not_depend_on_where_the_stream_was_cut(mark: bytes, stream: bytes, cuts: list[int]) -> None:
    stream = mark + stream
    whole = EventParser(1 << 20).feed(stream)
    parser, at, pieces = EventParser(1 << 20), 0, []
    for cut in [*sorted(cuts), len(stream)]:
        pieces += parser.feed(stream[at:cut]) if cut > at else parser.feed(b"")
        at = max(at, cut)
    bytewise = EventParser(1 << 20)
    single = [event for place in range(len(stream)) for event in bytewise.feed(stream[place : place + 1])]
    assert pieces == whole
    assert single == whole


LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=10)
EVENTS = st.builds(
    Event,
    LINE.map(str.encode),
    st.none() | LINE,
    LINE.map(lambda text: text or "message"),
    st.none() | st.integers(0, 10**9 - 1),
)


@given(st.lists(EVENTS))
def test_what_is_written_reads_back_as_the_same_events(events: list[Event]) -> None:
    stream = b"".join(map(format_event, events))
    assert EventParser(1 << 20).feed(stream) == events


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_events_or_malformed_and_little_is_kept(stream: bytes, limit: int) -> None:
    parser = EventParser(limit)
    try:
        for place in range(0, len(stream), 7):
            parser.feed(stream[place : place + 7])
            assert len(parser._line) <= limit
            assert sum(map(len, parser._data)) <= limit
    except Malformed:
        pass


@given(OBJECTS)
def test_a_body_never_breaks_the_line_it_travels_on(value: dict[str, Any]) -> None:
    body = format_message(Notification("m", value))
    assert b"\n" not in body
    assert b"\r" not in body
