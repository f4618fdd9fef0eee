"""A tool call that waits for a person, said in MCP's own words: `input_required` with a state that comes back.

Decides which clients can take that, how it is worded, and what comes back with a retry; not what the state says (it is
sealed: `service.pausing`), nor whether the call then goes through.

INVARIANTS
1. A state of ours is never a server's and the other way round: what begins as ours goes to no server.
2. What is judged of a retry is the call without what came back with it.
3. A question of ours gives the address of the console and never a button: no answer to it approves anything.
SPEC: MCP 2026-07-28 `InputRequiredResult`, `ElicitRequestURLParams`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson

from citywatch.core.call import Call, Continuation
from citywatch.core.errors import Malformed
from citywatch.core.wire.elicitation import looking, shows_addresses
from citywatch.core.wire.jsonrpc import FROM_SERVER, Response, format_message, parse_message
from citywatch.core.wire.methods import MODERN
from citywatch.core.wire.refusals import CODE_META, DECISION_META, TICKET_META
from citywatch.core.wire.requests import CLIENT_CAPABILITIES, CONTINUING
from citywatch.core.wire.results import check_agent_reply

SEALED: Final = "citywatch/1/"
"""How a state of ours begins."""
WAITS: Final = "citywatch/waits"
"""The extension by which a client says that it takes `input_required` without a question in it."""
QUESTION: Final = "citywatch/approval"
"""Our key for the question that leads a person to the console."""
RETRY_META: Final = "citywatch/retry_ms"
RETRY_MS: Final = 250
"""How long a client may pause before it comes back; the gateway keeps it waiting then."""


class Takes(msgspec.Struct, frozen=True):
    """What a client can take: a call that waits at all, and a question that leads to an address."""

    waiting: bool
    address: bool


def takes(call: Call) -> Takes:
    """What the client of a call declared in that call. Only a tool call of a stateless revision can wait so."""
    if call.method != "tools/call" or call.revision not in MODERN:
        return Takes(False, False)
    message = parse_message(call.body, FROM_SERVER)  # with every digit: it is ours
    params = None if isinstance(message, Response) else message.params
    declared = _object(_object((params or {}).get("_meta")).get(CLIENT_CAPABILITIES))
    address = shows_addresses(declared)
    return Takes(address or type(_object(declared.get("extensions")).get(WAITS)) is dict, address)


def is_sealed(continuation: Continuation | None) -> bool:
    """# INVARIANT: 1."""
    return continuation is not None and (continuation.state or "").startswith(SEALED)


def without_input(call: Call) -> Call:
    """# INVARIANT: 2. The call as it was made the first time."""
    message = parse_message(call.body, FROM_SERVER)
    if isinstance(message, Response) or message.params is None:
        raise Malformed("only a request is made again")
    params = {key: value for key, value in message.params.items() if key not in CONTINUING}
    body = format_message(msgspec.structs.replace(message, params=params))
    return msgspec.structs.replace(call, body=body, continuation=None)


def declined(responses: Mapping[str, Any], asked: bool) -> bool:
    """Whether the client's own person would rather not look. Raises `Malformed` for what answers no question of ours.

    # INVARIANT: 3. `accept` says that somebody was shown the address, and nothing else.
    """
    if not responses:
        return False
    answer = responses.get(QUESTION)
    if not asked or len(responses) != 1 or type(answer) is not dict:
        raise Malformed("an input answers what was not asked")
    check_agent_reply("elicitation/create", Response(QUESTION, answer, None))
    return bool(answer["action"] != "accept")


def input_required(call: Call, ticket: str, state: str, link: str = "") -> bytes:
    """Tell the client that its call waits. With `link` a person is asked to look there."""
    meta = {CODE_META: "approval_required", DECISION_META: call.id, TICKET_META: ticket, RETRY_META: RETRY_MS}
    result: dict[str, Any] = {"resultType": "input_required", "requestState": state, "_meta": meta}
    if link:
        result["inputRequests"] = {QUESTION: {"method": "elicitation/create", "params": looking(ticket, link)}}
    return orjson.dumps({"jsonrpc": "2.0", "id": call.rpc_id, "result": result})


def _object(value: Any) -> Mapping[str, Any]:
    return value if type(value) is dict else {}
