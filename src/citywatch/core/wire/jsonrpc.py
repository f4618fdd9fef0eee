"""Bytes ⇄ one JSON-RPC 2.0 message: `Request`, `Notification` or `Response`. Anything else is `Malformed`.

Decides whether bytes are exactly one well-formed message within the limits, and which bytes may be forwarded for it. It
knows no method and no meaning of any parameter. SPEC: JSON-RPC 2.0 §4-5, RFC 8259, RFC 7493 (I-JSON) §2.1, §2.3.

INVARIANTS
1. Any bytes give a message or `Malformed`, never another error.
2. No accepted message has two members of one name, at any depth: no second reader sees another value than we judged.
3. `body` is our own serialisation of the value that was judged; parsing `body` gives the same message and `body`.
4. Integers keep every digit. Other numbers are doubles, and `body` states the double that was judged.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

import msgspec
import orjson

from citywatch.core.errors import Malformed

Id = str | int
"""A request's id. MCP forbids null; we refuse floats and booleans, which peers compare in different ways."""

REFUSED: Final = 1403
UNAVAILABLE: Final = 1503
"""Our own codes in errors: JSON-RPC, MCP and A2A reserve -32768 to -32000."""

_MAX_ID_TEXT: Final = 512
_MAX_METHOD: Final = 128
_MAX_DIGITS: Final = 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one message may be: bytes, levels of nesting, and JSON values in all."""

    size: int
    depth: int
    nodes: int


FROM_AGENT: Final = Limits(size=4 << 20, depth=64, nodes=100_000)
FROM_SERVER: Final = Limits(size=16 << 20, depth=64, nodes=100_000)


class Request(msgspec.Struct, frozen=True):
    """A message that is owed an answer. `params` is None when the member was absent."""

    id: Id
    method: str
    params: dict[str, Any] | None = None
    body: bytes = b""


class Notification(msgspec.Struct, frozen=True):
    """A message that is owed nothing."""

    method: str
    params: dict[str, Any] | None = None
    body: bytes = b""


class Response(msgspec.Struct, frozen=True):
    """An answer: exactly one of `result` and `error` is set. `id` is None only on an error that could not name one."""

    id: Id | None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    body: bytes = b""


Message = Request | Notification | Response


def parse_message(raw: bytes, limits: Limits) -> Message:
    """Read exactly one JSON-RPC message within `limits`; raise `Malformed` for all other bytes.

    Batches are refused: MCP dropped them, and one body with two calls would be judged as one.
    """
    value, body = parse_json(raw, limits)
    if type(value) is not dict:
        raise Malformed("the message is not one JSON object")
    if value.get("jsonrpc") != "2.0":
        raise Malformed('`jsonrpc` is not "2.0"')
    if "method" not in value:
        return _parse_response(value, body)
    method = value["method"]
    if type(method) is not str or not 0 < len(method) <= _MAX_METHOD:
        raise Malformed(f"`method` is not a string of 1 to {_MAX_METHOD} characters")
    params = None
    known = 2
    if "params" in value:
        params = value["params"]
        if type(params) is not dict:
            raise Malformed("`params` is not an object")
        known = 3
    # Presence decides, not truth: `"id": null` is a malformed request, never a notification that is owed no answer.
    if "id" not in value:
        if len(value) != known:
            _refuse_member(value, ("jsonrpc", "method", "params"))
        return Notification(method, params, body)
    if len(value) != known + 1:
        _refuse_member(value, ("jsonrpc", "id", "method", "params"))
    return Request(_check_id(value["id"]), method, params, body)


def format_message(message: Message) -> bytes:
    """The inverse of `parse_message`: bytes made from the fields alone, whatever `body` holds."""
    value: dict[str, Any] = {"jsonrpc": "2.0"}
    if isinstance(message, Response):
        value["id"] = message.id
        if message.error is not None:
            value["error"] = message.error
        else:
            value["result"] = message.result
        return _format_json(value)
    if isinstance(message, Request):
        value["id"] = message.id
    value["method"] = message.method
    if message.params is not None:
        value["params"] = message.params
    return _format_json(value)


def _parse_response(value: dict[str, Any], body: bytes) -> Response:
    if ("result" in value) == ("error" in value):
        raise Malformed("the message has no `method` and not exactly one of `result` and `error`")
    if len(value) != 3 and not (len(value) == 2 and "error" in value):
        _refuse_member(value, ("jsonrpc", "id", "result", "error"))
    if "result" in value:
        result = value["result"]
        if type(result) is not dict:
            raise Malformed("`result` is not an object")
        if "id" not in value:
            raise Malformed("the response has no `id`")
        return Response(_check_id(value["id"]), result, None, body)
    error = value["error"]
    if type(error) is not dict or type(error.get("code")) is not int or type(error.get("message")) is not str:
        raise Malformed("`error` is not an object with an integer `code` and a string `message`")
    # SPEC: JSON-RPC 2.0 §5: an error whose request could not be read carries a null id; MCP's schema lets it be absent.
    if value.get("id") is None:
        if "id" not in value and len(value) != 2:
            _refuse_member(value, ("jsonrpc", "error"))
        return Response(None, None, error, body)
    return Response(_check_id(value["id"]), None, error, body)


def _check_id(value: object) -> Id:
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return value
    if type(value) is str and len(value) <= _MAX_ID_TEXT:
        return value
    raise Malformed(f"`id` is neither a 64-bit integer nor a string of at most {_MAX_ID_TEXT} characters")


def _refuse_member(value: dict[str, Any], known: tuple[str, ...]) -> NoReturn:
    strange = next((key for key in value if key not in known), "id")
    raise Malformed(f"`{_shown(strange)}` is not a member of a JSON-RPC message of this kind")


def _shown(text: str) -> str:
    """A member's name, cut and made safe to print on one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:80])


# ---- JSON --------------------------------------------------------------------------------------------------------


def parse_json(raw: bytes, limits: Limits) -> tuple[Any, bytes]:
    """The one value that these bytes denote, and our serialisation of it; `Malformed` if there is no such value.

    orjson alone is not enough: it keeps the last of two equal keys and turns integers beyond 64 bits into floats. So
    its value is written out again. If that text equals `raw`, then `raw` *is* a serialisation of a tree of Python
    dicts: their keys are unique and distinct keys have distinct escaped forms, so `raw` has no duplicate key at any
    depth; each number in `raw` is the text that orjson itself writes for the number judged, so none lost a digit; and
    NaN or infinity, which orjson writes as null, cannot have been read in the first place. The argument needs equality
    of bytes, nothing about lengths: white space, `-0`, `1e5`, a needless escape only send an honest message down the
    slow road, where a second parser shows us every pair and every digit.
    """
    if len(raw) > limits.size:
        raise Malformed(f"the message is larger than {limits.size} bytes")
    # Bound depth and number of values before any parser builds them: 4 MiB of `[[],[],...` would become 100 MB.
    # Brackets inside strings only raise the count, so this test errs on the side of looking closer. No text has more
    # values than bytes.
    if raw.count(b"{") + raw.count(b"[") > limits.depth or len(raw) > limits.nodes:
        _check_shape(raw, limits)
    try:
        value = orjson.loads(raw)
        body = orjson.dumps(value)
    except (orjson.JSONDecodeError, TypeError):
        # TypeError: orjson writes no more than 254 levels, which only limits wider than ours can reach.
        raise Malformed("the message is not JSON in UTF-8") from None
    if body == raw:
        return value, body
    return _parse_slowly(raw)


def _check_shape(raw: bytes, limits: Limits) -> None:
    """Count levels and values outside of strings. Every value but the first follows a comma or an opening bracket.

    Without escaped backslashes and then escaped quotes, every second piece between quotes lies outside of strings. On
    bytes that are not JSON this holds up to the first error, and no parser builds anything beyond it.
    """
    bare = b"".join(raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    if 1 + bare.count(b",") + bare.count(b"{") + bare.count(b"[") > limits.nodes:
        raise Malformed(f"the message has more than {limits.nodes} values")
    depth = 0
    for opens in bare.translate(_BRACKETS, delete=_NOT_BRACKETS):
        depth += 1 if opens else -1
        if depth > limits.depth:
            raise Malformed(f"the message is nested deeper than {limits.depth} levels")


_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))
_BRACKETS: Final = bytes(1 if byte in b"{[" else 0 for byte in range(256))


def _parse_slowly(raw: bytes) -> tuple[Any, bytes]:
    """The same value from a parser that reports every pair and every digit. Runs only on what orjson accepted."""
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_exact_int,
            parse_float=_finite,
            parse_constant=_refuse_constant,
        )
        return value, _format_json(value)
    except (ValueError, RecursionError):
        # ValueError covers JSONDecodeError, UnicodeDecodeError and UnicodeEncodeError (a lone surrogate).
        raise Malformed("the message is not JSON in UTF-8") from None


def _format_json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # An integer beyond 64 bits, which orjson does not write. `allow_nan` must stay off: NaN is not JSON.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(f"the member `{_shown(twice)}` appears more than once")
    return members


def _exact_int(digits: str) -> int:
    # Python's own bound on digits can be lifted from outside, and conversion takes quadratic time.
    if len(digits) > _MAX_DIGITS:
        raise Malformed(f"an integer has more than {_MAX_DIGITS} digits")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Malformed("a number is beyond the range of a double")
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise Malformed(f"`{text}` is not JSON")
