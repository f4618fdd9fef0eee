"""The official SDK as a second opinion: which methods exist, and what its header codec and checks say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.shared import inbound
from mcp_types import methods as sdk
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from citywatch.core.call import Direction
from citywatch.core.errors import Malformed, Refused
from citywatch.core.wire import mcp
from citywatch.core.wire.headers import check_params_mirrored, decode_value, encode_value, mirror_params, param_headers
from citywatch.core.wire.jsonrpc import Request
from citywatch.core.wire.methods import find_method

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TABLES = {
    (Direction.TO_SERVER, False): sdk.CLIENT_REQUESTS,
    (Direction.TO_SERVER, True): sdk.CLIENT_NOTIFICATIONS,
    (Direction.TO_AGENT, False): sdk.SERVER_REQUESTS,
    (Direction.TO_AGENT, True): sdk.SERVER_NOTIFICATIONS,
}
ALL = {method for table in TABLES.values() for method, _ in table} | {row.method for row in mcp.all_methods()}

# Where we know more than the SDK, and why: it leaves the experimental tasks of 2025-11-25 out on purpose; it lets older
# revisions have no elicitation, which does not matter for a server that asks all the same, since policy decides; on the
# stateless revision a server asks inside a result (`input_required`), under the same three methods.
OURS_ALONE = {
    *((direction, n, "2025-11-25", method) for direction, n, method in [
        (Direction.TO_SERVER, False, "tasks/get"), (Direction.TO_SERVER, False, "tasks/result"),
        (Direction.TO_SERVER, False, "tasks/list"), (Direction.TO_SERVER, False, "tasks/cancel"),
        (Direction.TO_AGENT, False, "tasks/get"), (Direction.TO_AGENT, False, "tasks/result"),
        (Direction.TO_AGENT, False, "tasks/list"), (Direction.TO_AGENT, False, "tasks/cancel"),
        (Direction.TO_SERVER, True, "notifications/tasks/status"),
        (Direction.TO_AGENT, True, "notifications/tasks/status"),
    ]),
    *((Direction.TO_AGENT, False, revision, "elicitation/create") for revision in ("2024-11-05", "2025-03-26")),
    *((Direction.TO_AGENT, False, "2026-07-28", method)
      for method in ("sampling/createMessage", "elicitation/create", "roots/list")),
}  # fmt: skip


def test_we_know_the_same_revisions() -> None:
    assert mcp.LEGACY == HANDSHAKE_PROTOCOL_VERSIONS
    assert mcp.MODERN == MODERN_PROTOCOL_VERSIONS


@pytest.mark.parametrize(("direction", "notification"), TABLES)
@pytest.mark.parametrize("revision", [*mcp.LEGACY, *mcp.MODERN])
def test_we_know_the_same_methods(direction: Direction, notification: bool, revision: str) -> None:
    for method in sorted(ALL):
        try:
            find_method(direction, revision, method, notification=notification)
            known = True
        except Refused:
            known = False
        theirs = (method, revision) in TABLES[direction, notification]
        assert known == (theirs or (direction, notification, revision, method) in OURS_ALONE), method


@given(TEXT)
@example("=?base64?eA==?=")
@example(" x")
@example("")
def test_header_values_are_read_alike(text: str) -> None:
    assert decode_value(inbound.encode_header_value(text)) == text
    assert inbound.decode_header_value(encode_value(text)) == text


@given(TEXT.map(lambda text: f"=?base64?{text}?=") | TEXT)
@example("=?base64?SGVsbG8?=")
@example("=?base64?SGVsbG9=?=")
@example("=?base64?/w==?=")
@example("=?base64??=")
def test_broken_header_values_are_judged_alike(value: str) -> None:
    if value.isascii() and "\n" not in value:  # the SDK lets an error of base64 out on other letters
        assert decode_value(value) == inbound.decode_header_value(value)


TOKENS = st.sampled_from(["Region", "region", "Size", "a b", "", 7])
TYPES = st.sampled_from(["string", "integer", "boolean", "number", "object", ["string"], None])
LEAVES = st.fixed_dictionaries(
    {"type": TYPES}, optional={"x-mcp-header": TOKENS, "default": st.just({"x-mcp-header": 1})}
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            "items": inner,
            "anyOf": st.lists(inner, max_size=2),
            "$defs": st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
            "enum": st.just([{"x-mcp-header": "Data"}]),
        },
    ),
    max_leaves=6,
)
ARGUMENTS = st.recursive(
    st.one_of(
        TEXT, st.integers(-(2**70), 2**70), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)
    ),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
).filter(lambda value: isinstance(value, dict))
SENT = st.dictionaries(
    st.sampled_from(["mcp-param-region", "mcp-param-size", "mcp-param-other"]),
    st.sampled_from(["x", "42", "42.0", "42.5", "true", "=?base64?eA==?=", "=?base64?!?=", "-0"])
    | TEXT.map(encode_value),
)


@given(SCHEMAS, ARGUMENTS)
def test_arguments_are_mirrored_alike(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    if inbound.find_invalid_x_mcp_header(schema) is not None:
        assert param_headers(schema) == ()
        return
    theirs = inbound.mcp_param_headers(inbound.x_mcp_header_map(schema), arguments)
    ours = mirror_params(param_headers(schema), arguments)
    assert ours == {name.lower(): value for name, value in theirs.items()}


@given(SCHEMAS, ARGUMENTS, SENT, st.booleans())
def test_mirrored_headers_are_judged_alike(
    schema: dict[str, Any], arguments: dict[str, Any], sent: dict[str, str], honest: bool
) -> None:
    if honest:
        sent = sent | mirror_params(param_headers(schema), arguments)
    try:
        check_params_mirrored(param_headers(schema), sent, arguments)
        accepted = True
    except Refused:
        accepted = False
    assert accepted == (inbound.validate_mcp_param_headers(schema, arguments, sent) is None)


META: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "io.modelcontextprotocol/protocolVersion": st.sampled_from(["2026-07-28", "2025-11-25", "v9", 7, None]),
        "io.modelcontextprotocol/clientCapabilities": st.just({}),
    },
)
HEADERS = st.fixed_dictionaries(
    {"mcp-protocol-version": st.sampled_from(["2026-07-28", "v9"])},
    optional={
        "mcp-method": st.sampled_from(["tools/list", "tools/call", "TOOLS/LIST", "x/y"]),
        "mcp-name": st.sampled_from(["a", "b", "=?base64?YQ==?="]),
    },
)


@given(
    st.sampled_from(["tools/list", "tools/call", "x/y"]), st.none() | META, st.sampled_from([None, "a", "b"]), HEADERS
)
def test_the_ladder_of_a_stateless_request_is_climbed_alike(
    method: str, meta: dict[str, Any] | None, name: str | None, headers: dict[str, str]
) -> None:
    params: dict[str, Any] = {} if meta is None else {"_meta": meta}
    if name is not None and method == "tools/call":
        params["name"] = name
    verdict = inbound.classify_inbound_request({"method": method, "params": params}, headers=headers)
    theirs = verdict.code if isinstance(verdict, inbound.InboundLadderRejection) else 0
    request = Request(1, method, params)
    try:
        mcp.read_message([(key.encode(), value.encode()) for key, value in headers.items()], request, lambda _: ())
        ours = 0
    except Malformed:
        ours = -32602
    except Refused as refusal:
        ours = mcp.error_number(refusal.code)
    if theirs == 0:
        # The SDK leaves method and parameters to its dispatcher; the spec has these codes for both.
        assert ours == (-32601 if method == "x/y" else -32602 if method == "tools/call" and name is None else 0)
    else:
        assert ours == theirs
