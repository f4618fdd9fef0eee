"""A refusal ⇄ what the asking side is told, and under which HTTP status.

Decides nothing; it words what was decided, and reads that again for the asking side. A refused tool call is a *result*
with `isError`, so that the agent's loop goes on; a refused request of another method is a JSON-RPC error outside the
specification's ranges; what the specification itself has a code for (a bad header, an unknown method) uses that code,
for clients' probes read it.
INVARIANTS: every refusal carries its code and its advice; a notification and a response are never answered; whatever
was sent reads as a refusal or as none, never as an error.
SPEC: JSON-RPC 2.0 §5.1; MCP 2026-07-28 basic/transports (status codes), schema `CallToolResult`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from citywatch.core.call import Call
from citywatch.core.errors import ADVICE, Code
from citywatch.core.wire import a2a
from citywatch.core.wire.jsonrpc import REFUSED, UNAVAILABLE, Id, Message, Request
from citywatch.core.wire.methods import LEGACY, MODERN
from citywatch.core.wire.requests import PROTOCOL_VERSION

CODE_META: Final = "citywatch/code"
DECISION_META: Final = "citywatch/decision"
DETAIL_META: Final = "citywatch/detail"
POLICIES_META: Final = "citywatch/policies"
TICKET_META: Final = "citywatch/ticket"
MAX_POLICIES: Final = 16


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal as its asking side reads it. `code` is a `Code` of this version or of a later one's; `ticket` waits for
    a person's answer; `decision` finds the entry in the log."""

    code: str
    detail: str = ""
    policies: tuple[str, ...] = ()
    ticket: str = ""
    decision: str = ""


# Faults of the exchange, not decisions about an act: a JSON-RPC error whatever the method, tool calls included.
_FAULTS: Final = {
    Code.MALFORMED: (-32602, 400),
    Code.HEADER_MISMATCH: (-32020, 400),
    Code.REVISION_UNSUPPORTED: (-32022, 400),
    Code.METHOD_UNKNOWN: (-32601, 404),
    # SPEC: MCP 2025-11-25 basic/utilities/tasks, "Tool-Level Negotiation": what a server says that takes no tasks.
    Code.TASK_UNSUPPORTED: (-32601, 200),
    # SPEC: MCP 2026-07-28 `InputRequiredResult`: a state that was tampered with is refused with an error, not a result.
    Code.INPUT_UNEXPECTED: (-32602, 200),
    Code.SERVER_UNKNOWN: (REFUSED, 404),
    # SPEC: MCP 2025-11-25 basic/transports "Session Management": 404 tells a client to start a new session.
    Code.SESSION_UNKNOWN: (-32600, 404),
    Code.SESSION_LOST: (-32600, 404),
    Code.ID_IN_USE: (REFUSED, 200),
    Code.PUSH_UNKNOWN: (REFUSED, 404),
    Code.AGENT_UNKNOWN: (REFUSED, 403),
    Code.AGENT_REVOKED: (REFUSED, 403),
    Code.AGENT_QUARANTINED: (REFUSED, 403),
    Code.KEY_REVOKED: (REFUSED, 403),
    Code.HALTED: (REFUSED, 403),
    Code.KEY_NOT_REGISTERED: (REFUSED, 403),
    Code.CREDENTIAL_MISSING: (REFUSED, 401),
    Code.CREDENTIAL_MALFORMED: (REFUSED, 401),
    Code.CREDENTIAL_UNTRUSTED: (REFUSED, 401),
    Code.CREDENTIAL_WRONG_DOMAIN: (REFUSED, 401),
    Code.CREDENTIAL_WRONG_AUDIENCE: (REFUSED, 401),
    Code.CREDENTIAL_EXPIRED: (REFUSED, 401),
    Code.CREDENTIAL_NOT_YET_VALID: (REFUSED, 401),
    Code.CREDENTIAL_NOT_A_LEAF: (REFUSED, 401),
    Code.CREDENTIAL_BAD_NAME: (REFUSED, 401),
}
_UNAVAILABLE: Final = {
    Code.UPSTREAM_UNAVAILABLE,
    Code.UPSTREAM_TIMEOUT,
    Code.UPSTREAM_UNPROVEN,
    Code.STORE_UNAVAILABLE,
    Code.VIEW_STALE,
    Code.CONFLICT,
    Code.DRAINING,
    Code.OVERLOADED,
    Code.UPSTREAM_CROWDED,
    Code.CIRCUIT_OPEN,
}


def error_number(code: Code) -> int:
    """The JSON-RPC error code that stands for a refusal."""
    return _FAULTS[code][0] if code in _FAULTS else UNAVAILABLE if code in _UNAVAILABLE else REFUSED


def is_outage(code: str) -> bool:
    """Whether a code says that nobody could do it now, rather than that somebody may not."""
    return code in _UNAVAILABLE


def status_of(code: Code, revision: str | None = None) -> int:
    """The HTTP status under which a refusal goes out; `revision` is what the message spoke, if that was found out.

    Other than for faults of the exchange it is 200: the exchange itself went well, and older clients tear their session
    down on anything else.
    """
    if code is Code.METHOD_UNKNOWN and revision in LEGACY:
        return 200
    # SPEC: A2A 1.0 §9: its clients read an error's code from the body, and from a body alone that came with 200.
    if revision == a2a.REVISION and _FAULTS.get(code, (0, 200))[1] not in (401, 403):
        return 200
    return _FAULTS[code][1] if code in _FAULTS else 200


def refusal(call: Call, code: Code, detail: str = "", *, policies: Sequence[str] = (), ticket: str = "") -> bytes:
    """Tell the asking side of a call why it was refused and what to do next; empty for a notification.

    `detail` is shown as it is. The decision's id in the log goes along, which policies spoke, and which ticket waits.
    """
    if call.rpc_id is None:
        return b""
    if call.revision == a2a.REVISION:
        named = policies[:MAX_POLICIES]
        return a2a.refusal(call.rpc_id, code, error_number(code), detail, call.id, policies=named, ticket=ticket)
    if call.method != "tools/call" or code in _FAULTS:
        return refusal_error(call, code, detail, policies=policies, ticket=ticket)
    text = f"citywatch refused this call ({code.value}): {ADVICE[code]}"
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": f"{text}\n{detail}" if detail else text}],
        "isError": True,
        "_meta": {CODE_META: code.value, DECISION_META: call.id},
    }
    meta = {DETAIL_META: detail, POLICIES_META: list(policies[:MAX_POLICIES]), TICKET_META: ticket}
    result["_meta"] |= {key: value for key, value in meta.items() if value}
    if call.revision in MODERN:
        result["resultType"] = "complete"
    return orjson.dumps({"jsonrpc": "2.0", "id": call.rpc_id, "result": result})


def refusal_error(
    call: Call,
    code: Code,
    detail: str,
    *,
    policies: Sequence[str],
    ticket: str,
    number: int | None = None,
    more: Mapping[str, Any] = {},
) -> bytes:
    """The same as a JSON-RPC error, whatever the method; `number` and `more` are what a client reads that knows one."""
    told = {"decision": call.id, "policies": list(policies[:MAX_POLICIES]), "ticket": ticket, **more}
    return _error(call.rpc_id, code, detail, {key: value for key, value in told.items() if value}, number)


def read_refusal(result: Any) -> Told | None:
    """What a tool's result says of a refusal, if it is one: the inverse of `refusal` for calls of tools."""
    meta = result.get("_meta") if type(result) is dict and result.get("isError") is True else None
    if type(meta) is not dict:
        return None
    names = (CODE_META, DETAIL_META, POLICIES_META, TICKET_META, DECISION_META)
    return _told(*(meta.get(name) for name in names))


def read_error(data: Any) -> Told | None:
    """What the `data` of a JSON-RPC error says of a refusal, if it is one of ours: an object in MCP, a list in A2A."""
    data = a2a.read_info(data) if type(data) is list else data
    if type(data) is not dict:
        return None
    return _told(*(data.get(name) for name in ("code", "detail", "policies", "ticket", "decision")))


def _told(code: Any, detail: Any, policies: Any, ticket: Any, decision: Any) -> Told | None:
    if type(code) is not str or not code:
        return None
    named = policies if type(policies) is list else []
    return Told(
        code=code,
        detail=_text(detail),
        policies=tuple(one for one in named[:MAX_POLICIES] if type(one) is str),
        ticket=_text(ticket),
        decision=_text(decision),
    )


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def turned_away(message: Message | None, code: Code, detail: str = "") -> bytes:
    """Tell a sender whose message never became a call; None when its bytes could not be read, and so have no id."""
    if message is None:
        return _error(None, code, detail, {}, -32700 if code is Code.MALFORMED else None)
    if type(message) is not Request:
        return b""
    # SPEC: UnsupportedProtocolVersionError; clients choose their fallback by these two members.
    unsupported = code is Code.REVISION_UNSUPPORTED
    return _error(
        message.id, code, detail, {"supported": MODERN, "requested": _requested(message)} if unsupported else {}
    )


def _error(rpc_id: Id | None, code: Code, detail: str, data: Mapping[str, Any], number: int | None = None) -> bytes:
    data = {**({"detail": detail} if detail else {}), **data}
    error = {
        "code": number or error_number(code),
        "message": f"citywatch: {code.value}: {detail or ADVICE[code]}",
        "data": {"code": code.value, "advice": ADVICE[code], **data},
    }
    return orjson.dumps({"jsonrpc": "2.0", "id": rpc_id, "error": error})


def _requested(message: Request) -> Any:
    meta = (message.params or {}).get("_meta")
    return meta.get(PROTOCOL_VERSION) if type(meta) is dict else None
