"""Where the envelope of a reply stands: beside what the reply is about, in `metadata` over A2A and in `_meta` over MCP.

Decides that place, and what of it gateways alone write. INVARIANTS: any result gives another or is left as it is; with
an envelope put in and parted from it again, a result is what it was, but for what gateways had written there before.
SPEC: docs/reference/envelope.md §1; A2A 1.0, a2a.proto: `metadata` of `Message`, `Task` and the two updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from citywatch.core.wire import a2a, requests
from citywatch.core.wire.claimed import read_token
from citywatch.core.wire.jsonrpc import Response, format_message

METHODS: Final = frozenset(("SendMessage", "SendStreamingMessage", "SubscribeToTask", "GetTask", "CancelTask"))
"""The methods of A2A whose results have a place for it. A list has none, and a configuration is no peer's words."""
_THINGS: Final = frozenset(("message", "task", "statusUpdate", "artifactUpdate"))


def parted(result: Mapping[str, Any], *, spoken: bool) -> tuple[Mapping[str, Any], str | None]:
    """A result without what gateways write beside it, and the envelope that it came in; `Malformed` for one of another
    type. `spoken`: over A2A."""
    _, about, member = _place(result, spoken)
    beside = about.get(member)
    token = read_token(beside, _name(spoken)) if type(beside) is dict else None
    return _bare(result, spoken), token


def put_in(result: Mapping[str, Any], envelope: str, *, spoken: bool) -> dict[str, Any] | None:
    """The result in its envelope; None if what stands in that place is something else."""
    thing, about, member = _place(result, spoken)
    beside = about.get(member, {})
    if type(beside) is not dict:
        return None
    told = {**about, member: {**beside, _name(spoken): envelope}}
    return told if thing is None else {thing: told}


def disowned(response: Response) -> Response:
    """What a peer answered, without the names that only gateways use."""
    if response.result is None:
        return response
    _, about, member = _place(response.result, spoken=True)
    beside = about.get(member)
    if type(beside) is not dict or not any(map(_is_ours, beside)):
        return response
    changed = Response(response.id, dict(_bare(response.result, spoken=True)))
    return msgspec.structs.replace(changed, body=format_message(changed))


def _bare(result: Mapping[str, Any], spoken: bool) -> Mapping[str, Any]:
    """The same without what gateways write; where nothing else stands there, without that member."""
    thing, about, member = _place(result, spoken)
    beside = about.get(member)
    if type(beside) is not dict or (beside and not any(map(_is_ours, beside))):
        return result
    kept = {key: value for key, value in beside.items() if not _is_ours(key)}
    rest = {key: value for key, value in about.items() if key != member}
    told = {**rest, member: kept} if kept else rest
    return told if thing is None else {thing: told}


def _place(result: Mapping[str, Any], spoken: bool) -> tuple[str | None, Mapping[str, Any], str]:
    """The one thing in a result, if it is in one; what the reply is about; and the member beside which it is told."""
    if not spoken:
        return None, result, "_meta"
    thing = next(iter(result)) if len(result) == 1 else None
    if thing in _THINGS and type(result[thing]) is dict:
        return thing, result[thing], "metadata"
    return None, result, "metadata"


def _name(spoken: bool) -> str:
    return a2a.ENVELOPE if spoken else requests.ENVELOPE


def _is_ours(key: str) -> bool:
    return key.startswith(a2a.OURS) or key == a2a.ENVELOPE
