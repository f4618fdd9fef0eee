"""How a no is worded over A2A 1.0, in either binding: the specification's errors by reason, number and HTTP status.

Decides which of them stands for a refusal of ours; what has none goes out under our own number, with 403, 404 or 503
where it goes out over HTTP alone. INVARIANTS: one table for both bindings, so that an error that is read from one and
written to the other stays what it was; whatever a peer sends as an error gives a number or `Malformed`.
SPEC: A2A 1.0 §5.4 (the table), §9.5 (JSON-RPC), §11.6 (HTTP+JSON: google.rpc.Status as of AIP-193).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
import orjson

from citywatch.core.errors import ADVICE, Code, Malformed
from citywatch.core.wire.jsonrpc import REFUSED, UNAVAILABLE, Id

DOMAIN: Final = "a2a-protocol.org"
OUR_DOMAIN: Final = "citywatch"
INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
INTERNAL: Final = -32603
NOT_JSON: Final = -32700
NO_REQUEST: Final = -32600


class Fault(msgspec.Struct, frozen=True):
    """One error of the specification: its reason, its JSON-RPC number, its HTTP status and that status' name."""

    reason: str
    number: int
    status: int
    name: str


_TABLE: Final = """
TASK_NOT_FOUND                     | -32001 | 404 | NOT_FOUND
TASK_NOT_CANCELABLE                | -32002 | 400 | FAILED_PRECONDITION
PUSH_NOTIFICATION_NOT_SUPPORTED    | -32003 | 400 | FAILED_PRECONDITION
UNSUPPORTED_OPERATION              | -32004 | 400 | FAILED_PRECONDITION
CONTENT_TYPE_NOT_SUPPORTED         | -32005 | 400 | INVALID_ARGUMENT
INVALID_AGENT_RESPONSE             | -32006 | 500 | INTERNAL
EXTENDED_AGENT_CARD_NOT_CONFIGURED | -32007 | 400 | FAILED_PRECONDITION
EXTENSION_SUPPORT_REQUIRED         | -32008 | 400 | FAILED_PRECONDITION
VERSION_NOT_SUPPORTED              | -32009 | 400 | FAILED_PRECONDITION
INVALID_PARAMS                     | -32602 | 400 | INVALID_ARGUMENT
INVALID_REQUEST                    | -32600 | 400 | INVALID_ARGUMENT
METHOD_NOT_FOUND                   | -32601 | 404 | NOT_FOUND
INTERNAL_ERROR                     | -32603 | 500 | INTERNAL
"""


def _faults() -> tuple[Fault, ...]:
    rows = ([cell.strip() for cell in line.split("|")] for line in _TABLE.strip().splitlines())
    return tuple(Fault(reason, int(number), int(status), name) for reason, number, status, name in rows)


FAULTS: Final = _faults()
_BY_REASON: Final[Mapping[str, Fault]] = MappingProxyType({one.reason: one for one in FAULTS})
_BY_NUMBER: Final[Mapping[int, Fault]] = MappingProxyType({one.number: one for one in FAULTS})
_OURS: Final[Mapping[Code, str]] = MappingProxyType(
    {
        Code.MALFORMED: "INVALID_PARAMS",
        Code.MESSAGE_UNFIT: "INVALID_PARAMS",
        Code.METHOD_UNKNOWN: "METHOD_NOT_FOUND",
        Code.REVISION_UNSUPPORTED: "VERSION_NOT_SUPPORTED",
        Code.PUSH_UNSUPPORTED: "PUSH_NOTIFICATION_NOT_SUPPORTED",
        Code.PUSH_ADDRESS_UNKNOWN: "INVALID_PARAMS",
        Code.PEER_TASK_UNKNOWN: "TASK_NOT_FOUND",
        Code.NOT_WHAT_WAITS: "UNSUPPORTED_OPERATION",
        Code.CARD_UNSUPPORTED: "UNSUPPORTED_OPERATION",
        Code.REPLY_MALFORMED: "INVALID_AGENT_RESPONSE",
    }
)
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_OWN: Final[Mapping[int, int]] = MappingProxyType({REFUSED: 403, UNAVAILABLE: 503})
_STATUS_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 408: "DEADLINE_EXCEEDED", 503: "UNAVAILABLE"}
)
_UNSAID: Final[Mapping[int, str]] = MappingProxyType({400: "INVALID_REQUEST", 404: "METHOD_NOT_FOUND"})
"""What a status alone says, where a peer gives no reason that we know."""


def refusal(
    rpc_id: Id | None,
    code: Code,
    number: int,
    detail: str = "",
    decision: str | None = None,
    *,
    policies: Sequence[str] = (),
    ticket: str = "",
) -> bytes:
    """Tell whoever asked why not, in the shape that A2A gives errors: `data` is a list of typed details.

    The specification's own stands first, where there is one: clients look no further.
    """
    fault = fault_of(code)
    more = {"detail": detail, "policies": "\n".join(policies), "ticket": ticket}
    told = {"code": code.value, "advice": ADVICE[code], **({} if decision is None else {"decision": decision})}
    told |= {key: value for key, value in more.items() if value}
    error = {
        "code": number if fault is None else fault.number,
        "message": f"citywatch: {code.value}: {detail or ADVICE[code]}",
        "data": [*_info(fault), {"@type": INFO, "reason": code.name, "domain": OUR_DOMAIN, "metadata": told}],
    }
    return orjson.dumps({"jsonrpc": "2.0", "id": rpc_id, "error": error})


def read_info(data: Any) -> Mapping[str, Any]:
    """Of an error's details, what a refusal says: code, detail, policies, ticket, decision; empty where none is ours.

    `google.rpc.ErrorInfo` holds texts alone: the policies stand in one, a line each.
    """
    for one in data if type(data) is list else ():
        told = one.get("metadata") if type(one) is dict and one.get("domain") == OUR_DOMAIN else None
        if type(told) is dict:
            named = told.get("policies")
            return {**told, "policies": named.split("\n") if type(named) is str and named else []}
    return _NOTHING


def unread(number: int, detail: str) -> bytes:
    """Tell a sender whose bytes were no request, and so have no id: `NOT_JSON`, or JSON that is no JSON-RPC."""
    told = {"code": Code.MALFORMED.value, "advice": ADVICE[Code.MALFORMED]}
    ours = {"@type": INFO, "reason": Code.MALFORMED.name, "domain": OUR_DOMAIN, "metadata": told}
    data = [*_info(_BY_NUMBER.get(number)), ours]
    error = {"code": number, "message": f"citywatch: malformed: {detail}", "data": data}
    return orjson.dumps({"jsonrpc": "2.0", "id": None, "error": error})


def _info(fault: Fault | None) -> list[dict[str, str]]:
    return [] if fault is None else [{"@type": INFO, "reason": fault.reason, "domain": DOMAIN}]


def fault_of(code: Code) -> Fault | None:
    """The specification's error for a refusal, None if it has none."""
    reason = _OURS.get(code)
    return None if reason is None else _BY_REASON[reason]


def format_status(error: Mapping[str, Any], status: int) -> tuple[int, bytes]:
    """A JSON-RPC error as HTTP says it: its status, and a google.rpc.Status. `status` is for numbers of our own, and
    that of a peer which spoke HTTP itself."""
    fault = _BY_NUMBER.get(error["code"])
    said = status if status >= 400 else fault.status if fault is not None else _OWN.get(error["code"], 500)
    name = fault.name if fault is not None else _STATUS_NAMES.get(said, "UNKNOWN")
    data = error.get("data")
    details = data if type(data) is list else []
    told = {"code": said, "status": name, "message": error["message"], "details": details}
    return said, orjson.dumps({"error": told})


def parse_status(value: object, status: int) -> dict[str, Any]:
    """The JSON-RPC error that a peer's HTTP error is; `Malformed` if it is no google.rpc.Status."""
    error = value.get("error") if type(value) is dict else None
    if type(error) is not dict or type(error.get("message")) is not str:
        raise Malformed("the peer's error is no google.rpc.Status")
    details = error.get("details", [])
    if type(details) is not list or not all(type(one) is dict for one in details):
        raise Malformed("`details` of the peer's error is no list of objects")
    told: dict[str, Any] = next((one for one in details if one.get("@type") == INFO), {})
    reason = told.get("reason")
    fault = _BY_REASON.get(reason) if type(reason) is str else None
    fault = fault or _BY_REASON.get(_UNSAID.get(status, ""))
    number = INTERNAL if fault is None else fault.number
    return {"code": number, "message": error["message"], **({"data": details} if details else {})}
