"""The routing headers of MCP over HTTP, and whether they say the same as the body.

Decides whether `MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` agree with the message; the message
is what counts, and what we forward carries headers made from it, never the sender's.
INVARIANTS: no header is believed without the body; a routing header that stands twice is refused, for its first and
last copy have different readers; `decode_value(encode_value(text)) == text` for every text of Unicode scalar values.
SPEC: MCP 2026-07-28 basic/transports "Standard Headers", "Custom Headers"; RFC 9110 §5.5, §5.6.2.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.errors import Code, Refused


class RoutingHeaders(msgspec.Struct, frozen=True, kw_only=True):
    """The headers of one request that MCP gives a meaning, white space trimmed; `params` by lower-case name."""

    revision: str | None = None
    method: str | None = None
    name: str | None = None
    session: str | None = None
    last_event_id: str | None = None
    params: Mapping[str, str] = {}


class ParamHeader(msgspec.Struct, frozen=True):
    """One argument that a tool's schema wants mirrored: where it is, its header (lower case), and its JSON type."""

    path: tuple[str, ...]
    header: str
    type: str


_FIELDS: Final = {
    b"mcp-protocol-version": "revision",
    b"mcp-method": "method",
    b"mcp-name": "name",
    b"mcp-session-id": "session",
    b"last-event-id": "last_event_id",
}
_PARAM: Final = "mcp-param-"


def read_headers(pairs: Iterable[tuple[bytes, bytes]]) -> RoutingHeaders:
    """Pick MCP's headers out of a request's raw header lines; raise `Refused(HEADER_MISMATCH)` if one stands twice."""
    found: dict[str, str] = {}
    params: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.lower()
        field = _FIELDS.get(name)
        if field is None:
            if not name.startswith(b"mcp-param-"):
                continue
            target, key = params, name.decode("latin-1")
        else:
            target, key = found, field
        if key in target:
            raise Refused(Code.HEADER_MISMATCH, f"the header `{name.decode('latin-1')[:80]}` appears more than once")
        target[key] = _trimmed(raw_value)
    return RoutingHeaders(**found, params=params)


def claimed_session(pairs: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The session that `read_headers` will find: which revision it speaks has to be known before a request is read."""
    return next((_trimmed(value) for name, value in pairs if name.lower() == b"mcp-session-id"), None)


def _trimmed(raw: bytes) -> str:
    return raw.decode("latin-1").strip(" \t")


def check_header(header: str, value: str | None, expected: str) -> None:
    """Raise `Refused(HEADER_MISMATCH)` unless the header is there and, decoded, equals the body's value exactly."""
    if value is None:
        raise Refused(Code.HEADER_MISMATCH, f"the header `{header}` is missing")
    if decode_value(value) != expected:
        raise Refused(Code.HEADER_MISMATCH, f"the header `{header}` does not match the body")


_PLAIN: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?\Z")
_SENTINEL: Final = re.compile(r"=\?base64\?(.*)\?=\Z", re.DOTALL)


def encode_value(text: str) -> str:
    """Write any text as a header value: as it is if it is plain, otherwise as `=?base64?…?=`."""
    if (_PLAIN.match(text) and not _SENTINEL.match(text)) or not text:
        return text
    return f"=?base64?{b64encode(text.encode()).decode()}?="


def decode_value(value: str) -> str | None:
    """The inverse of `encode_value`. None for a sentinel whose payload is not canonical base64 of UTF-8.

    None equals no body value, so a broken sentinel never matches by accident.
    """
    wrapped = _SENTINEL.match(value)
    if wrapped is None:
        return value
    try:
        decoded = b64decode(wrapped[1].encode("ascii"), validate=True)
        if b64encode(decoded).decode() != wrapped[1]:
            return None
        return decoded.decode()
    except (binascii.Error, UnicodeError):
        return None


# ---- Mcp-Param-* -------------------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_MIRRORED: Final = frozenset(("string", "integer", "boolean"))
# The keywords of JSON Schema 2020-12 under which schemas stand: one, a list, a map; data (`enum`) is none.
_ONE: Final = {
    *("items", "contains", "unevaluatedItems", "additionalProperties", "propertyNames", "unevaluatedProperties"),
    *("not", "if", "then", "else", "contentSchema"),
}
_LIST: Final = {"allOf", "anyOf", "oneOf", "prefixItems"}
_MAP: Final = {"patternProperties", "dependentSchemas", "$defs", "definitions"}


def param_headers(schema: Mapping[str, Any]) -> tuple[ParamHeader, ...]:
    """The `x-mcp-header` annotations of a tool's input schema; empty if it has none or one of them is not allowed.

    Allowed is a string, integer or boolean reached from the root through `properties` alone, under a header name that
    is an RFC 9110 token and unique. SPEC: a client drops a tool that breaks this, so there is nothing to compare.
    """
    found: dict[str, ParamHeader] = {}
    for path, node in _positions(schema):
        if "x-mcp-header" not in node:
            continue
        token, kind = node["x-mcp-header"], node.get("type")
        if not path or type(token) is not str or not _TOKEN.match(token) or type(kind) is not str:
            return ()
        header = _PARAM + token.lower()
        if kind not in _MIRRORED or header in found:
            return ()
        found[header] = ParamHeader(path, header, kind)
    return tuple(found.values())


def check_params_mirrored(wanted: tuple[ParamHeader, ...], headers: Mapping[str, str], arguments: Any) -> None:
    """Raise `Refused(HEADER_MISMATCH)` unless each annotated argument and its header agree or are both absent.

    A header without its argument is refused too: whoever routed on it routed on a value the call never had.
    """
    for param in wanted:
        value = _value_at(param.path, arguments)
        text = _mirrored(value)
        header = headers.get(param.header)
        if text is None:
            if header is not None:
                raise Refused(Code.HEADER_MISMATCH, f"the header `{param.header}` has no argument in the body")
            continue
        if header is None:
            raise Refused(Code.HEADER_MISMATCH, f"the header `{param.header}` is missing")
        decoded = decode_value(header)
        if decoded != text and not (param.type == "integer" and _same_integer(decoded, value)):
            raise Refused(Code.HEADER_MISMATCH, f"the header `{param.header}` does not match the body")


def mirror_params(wanted: tuple[ParamHeader, ...], arguments: Any) -> dict[str, str]:
    """The `mcp-param-*` headers that belong to these arguments: what we forward beside our own body."""
    texts = ((param.header, _mirrored(_value_at(param.path, arguments))) for param in wanted)
    return {header: encode_value(text) for header, text in texts if text is not None}


def mirrored_anew(headers: Mapping[str, str], wanted: tuple[ParamHeader, ...], arguments: Any) -> Mapping[str, str]:
    """The same headers beside other arguments: what they say of an argument is said of the new one, or not at all."""
    if not wanted:
        return headers
    names = {param.header for param in wanted}
    kept = {name: value for name, value in headers.items() if name not in names}
    return kept | (mirror_params(wanted, arguments) if names & headers.keys() else {})


def _positions(schema: Any) -> Iterator[tuple[tuple[str, ...] | None, dict[str, Any]]]:
    """Each place of a schema where a schema stands, with its path of property names (None off that path)."""
    waiting: list[tuple[tuple[str, ...] | None, Any]] = [((), schema)]
    while waiting:
        path, node = waiting.pop()
        if type(node) is not dict:
            continue
        yield path, node
        for key, value in node.items():
            if key == "properties" and type(value) is dict:
                waiting += [(None if path is None else (*path, name), child) for name, child in value.items()]
            elif key in _ONE:
                waiting.append((None, value))
            elif key in _LIST and type(value) is list:
                waiting += [(None, child) for child in value]
            elif key in _MAP and type(value) is dict:
                waiting += [(None, child) for child in value.values()]


def _value_at(path: tuple[str, ...], arguments: Any) -> Any:
    for name in path:
        if type(arguments) is not dict:
            return None
        arguments = arguments.get(name)
    return arguments


def _mirrored(value: Any) -> str | None:
    if value is True or value is False:
        return "true" if value else "false"
    if type(value) in (str, int, float):
        return str(value)
    return None


_DECIMAL: Final = re.compile(r"(-?[0-9]{1,1024})(?:\.0{1,64})?\Z")


def _same_integer(text: str | None, value: Any) -> bool:
    """SPEC: integers compare as numbers, `42` with `42.0`; exactly, with no way through a double."""
    whole = _DECIMAL.match(text or "")
    if whole is None or type(value) not in (int, float) or value != value // 1:
        return False
    return int(whole[1]) == int(value)
