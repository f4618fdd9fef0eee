"""The bounds of a message, and what is said when they are broken; the shapes are in `spec/vectors/wire`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.wire import jsonrpc
from citywatch.core.wire.jsonrpc import (
    FROM_AGENT,
    Limits,
    Notification,
    Request,
    Response,
    format_message,
    parse_message,
)

SMALL = Limits(size=200, depth=4, nodes=10)
FLAT = Limits(size=200, depth=4, nodes=200)


def request(params: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"m","params":%s}' % params.encode()


def test_a_message_is_read_as_what_it_is() -> None:
    assert parse_message(b'{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":1}}', FROM_AGENT) == Request(
        7, "m", {"a": 1}, b'{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":1}}'
    )
    assert parse_message(b'{"jsonrpc":"2.0","method":"m"}', FROM_AGENT) == Notification(
        "m", None, b'{"jsonrpc":"2.0","method":"m"}'
    )
    assert parse_message(b'{"jsonrpc":"2.0","id":"a","result":{"b":2}}', FROM_AGENT) == Response(
        "a", {"b": 2}, None, b'{"jsonrpc":"2.0","id":"a","result":{"b":2}}'
    )


def test_the_largest_message_passes_and_one_byte_more_does_not() -> None:
    fits = request('{"a":"%s"}' % ("x" * (200 - len(request('{"a":""}')))))
    assert len(fits) == 200
    parse_message(fits, SMALL)
    with pytest.raises(Malformed, match="larger than 200 bytes"):
        parse_message(fits + b" ", SMALL)


def test_the_deepest_message_passes_and_one_level_more_does_not() -> None:
    parse_message(request('{"a":[[]]}'), SMALL)
    with pytest.raises(Malformed, match="deeper than 4 levels"):
        parse_message(request('{"a":[[[]]]}'), SMALL)


def test_brackets_that_close_count_no_level() -> None:
    parse_message(request('{"a":[[],[],[]]}'), FLAT)


def test_the_most_values_pass_and_one_more_does_not() -> None:
    # The message, its four members and `a` are six values.
    parse_message(request('{"a":[1,2,3,4]}'), SMALL)
    with pytest.raises(Malformed, match="more than 10 values"):
        parse_message(request('{"a":[1,2,3,4,5]}'), SMALL)


@pytest.mark.parametrize(
    "text",
    ['"[[[[[[[["', r'"\"[[[[[["', r'"\\\\","b":"[[[[[["', r'"\\\"[[[[[["', '",,,,,,,,,,,,"', r'"\\",",":"\\"'],
)
def test_what_stands_in_text_counts_neither_as_level_nor_as_value(text: str) -> None:
    parse_message(request(f'{{"a":{text}}}'), SMALL)


@pytest.mark.parametrize("text", [r'"\\",[[[[[]]]]]', r'"\"",[[[[[]]]]]', r'"\\\\",[[[[[]]]]]'])
def test_text_that_ends_in_escapes_hides_no_level(text: str) -> None:
    with pytest.raises(Malformed, match="deeper"):
        parse_message(request(f'{{"a":[{text}]}}'), FLAT)


@pytest.mark.parametrize("raw", [b"[" * 100_000 + b"]" * 100_000, b"[" * 4_000_000, b'{"a":' * 700_000])
def test_depth_is_refused_before_anything_is_built(raw: bytes) -> None:
    with pytest.raises(Malformed, match=r"deeper than 64 levels|more than 100000 values"):
        parse_message(raw, FROM_AGENT)


@pytest.mark.parametrize("piece", [b"[],", b"1,", b'"",', b"{},"])
def test_many_small_values_are_refused_before_they_are_built(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def parser(_: Any) -> None:
        raise AssertionError("the parser was reached")

    monkeypatch.setattr("citywatch.core.wire.jsonrpc.orjson.loads", parser)
    with pytest.raises(Malformed, match="more than 100000 values"):
        parse_message(b"[" + piece * 1_000_000 + b"1]", FROM_AGENT)


def test_wide_limits_do_not_let_another_error_out() -> None:
    deep = Limits(size=1 << 20, depth=10_000, nodes=1 << 20)
    for levels in (200, 300, 1000, 1025, 5000):
        raw = request('{"a":' + "[" * levels + "]" * levels + "}")
        if levels == 200:
            parse_message(raw, deep)
        else:
            with pytest.raises(Malformed):
                parse_message(raw, deep)


def test_names_in_errors_are_cut_and_stay_on_one_line() -> None:
    hostile = "x\n\x1b[31m" + "y" * 500
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "m", hostile: 1}).encode()
    with pytest.raises(Malformed) as caught:
        parse_message(body, FROM_AGENT)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200
    twice = b'{"jsonrpc":"2.0","id":1,"method":"m","a\\nb":1,"a\\nb":2}'
    with pytest.raises(Malformed, match=r"`a\?b` appears more than once"):
        parse_message(twice, FROM_AGENT)


def test_a_message_without_params_is_written_without_them() -> None:
    assert format_message(Request(1, "m")) == b'{"jsonrpc":"2.0","id":1,"method":"m"}'
    assert format_message(Notification("m")) == b'{"jsonrpc":"2.0","method":"m"}'


def test_an_answer_without_an_id_is_written_with_null() -> None:
    error = {"code": -1, "message": "x"}
    assert format_message(Response(None, None, error)) == (
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"x"}}'
    )


def test_a_value_that_is_no_text_is_not_written() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        format_message(Notification("m", {"a": "\ud800"}))


@pytest.mark.parametrize("rest", ["", ',"result":{},"error":{"code":1,"message":"x"}'])
def test_an_answer_is_a_result_or_an_error(rest: str) -> None:
    with pytest.raises(Malformed, match="exactly one of"):
        parse_message(b'{"jsonrpc":"2.0","id":1%s}' % rest.encode(), FROM_AGENT)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "1" * 1025])
def test_the_long_way_refuses_numbers_by_itself(number: str) -> None:
    """Today the first parser refuses them too; should it ever let one pass, it would be written as `null`."""
    with pytest.raises(Malformed):
        jsonrpc._parse_slowly(number.encode())


def test_a_number_that_json_has_not_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        format_message(Notification("m", {"large": 2**70, "none": float("nan")}))
