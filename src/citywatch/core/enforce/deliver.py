"""What of a reply its agent may be given: by the readers of its fields, and by what a scan finds in it.

Decides what is replaced by a mark and what is withheld, before anything enters the agent's context: what an agent was
not given has not shaped it, and is no secret that it could tell. Does not decide whether the reply may be released at
all (`settle`). A label is the control: whatever a field says, it is for its readers. The scan is the net under it: it
finds what has a known shape, in replies that nobody declared.

INVARIANTS
1. An agent whose audience may not see a field gets a mark in its place, in the structured content and in the text that
   repeats it; of a failure, an error, a picture or a text beside the fields it gets nothing, if it may not see all.
2. What a ruling keeps back is in no member of what is released, names included (`sift`).
3. Definitions are left alone: a person approved them word by word, and a changed one would be another.
4. What `_meta` says in the gateway's own names (`citywatch/…`) is the gateway's: no server words a refusal of ours, and
   no peer writes beside what it answers in them (`metadata`). An envelope of another gateway ends here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from citywatch.core.call import Call, Direction
from citywatch.core.content.signals import Signal
from citywatch.core.enforce.needs import TOOL_CALL, agent_name
from citywatch.core.enforce.parts import HIDDEN_ERROR, beside, is_text, parts, repeats, told
from citywatch.core.enforce.peers import is_message
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.enforce.settle import Released, Withheld
from citywatch.core.enforce.sift import Ruling, is_open, sift
from citywatch.core.errors import Code
from citywatch.core.flow.fields import UNSEEN, meet
from citywatch.core.label import Label, may_flow
from citywatch.core.manifest import audience_of
from citywatch.core.wire import enveloped, mcp
from citywatch.core.wire.jsonrpc import Response, format_message

READERS: Final = "readers"
Audience = frozenset[str] | None
Places = Mapping[int, Sequence[Signal]]
"""Parts of a result that are known to be kept back, by the number of the leaf (`sift.leaves_of`)."""


class Delivered(msgspec.Struct, frozen=True):
    """The reply as its agent may see it, what was taken out (`personal iban 2`), or why nothing may be (`withheld`)."""

    response: Response
    redacted: tuple[str, ...] = ()
    withheld: str = ""


class Cleaned(msgspec.Struct, frozen=True):
    """The members of a result or an error, without what their receiver is not to have."""

    value: dict[str, Any]
    redacted: tuple[str, ...] = ()
    withheld: str = ""


def deliver(call: Call, response: Response, rules: Rules, known: Places | None = None) -> Delivered:
    """Take out of a reply what its agent is not to be given. `response` may have any shape.

    `known` are places that the stream before this reply has shown to be the end of something, by leaf of the result.
    """
    clearance = rules.cleared(agent_name(call))
    response = enveloped.disowned(response) if is_message(call) else mcp.disowned(response)  # INVARIANT: 4.
    value = response.result if response.error is None else response.error
    if clearance.is_open or call.direction is Direction.TO_AGENT or value is None:
        return Delivered(response)
    if call.method in mcp.OFFERING and response.error is None:  # INVARIANT: 3.
        return Delivered(response)
    cleaned = sift_reply(value, clearance.content, known)
    tool = rules.tools.get((call.server, call.name or "")) if call.method == TOOL_CALL else None
    if tool is not None and clearance.audience is not None and not cleaned.withheld:
        seen = _for_audience(cleaned.value, response.error is not None, tool, audience_of(clearance.audience))
        again = sift_reply(seen.value, clearance.content) if seen.redacted and not seen.withheld else seen
        redacted = (*cleaned.redacted, *seen.redacted, *(again.redacted if again is not seen else ()))
        cleaned = Cleaned(again.value, redacted, seen.withheld or again.withheld)
    if cleaned.withheld:
        return Delivered(response, withheld=cleaned.withheld)
    if not cleaned.redacted:
        return Delivered(response)
    failed = response.error is not None
    changed = Response(response.id, None if failed else cleaned.value, cleaned.value if failed else None)
    return Delivered(msgspec.structs.replace(changed, body=format_message(changed)), cleaned.redacted)


def as_delivered(settled: Released | Withheld, delivered: Delivered, observe: bool) -> Released | Withheld:
    """What was settled, with what was taken out of it; or that it is kept from the agent whatever else holds.

    Where it is only observed, nothing was taken out, and the entry says what would have been.
    """
    if isinstance(settled, Withheld):
        return settled
    if observe:
        would = delivered.withheld or ", ".join(delivered.redacted)
        if not would or settled.code is not None:
            return settled
        code = Code.CONTENT_WITHHELD if delivered.withheld else None
        return msgspec.structs.replace(settled, code=code, detail=f"observed: {would}")
    if delivered.withheld:
        return Withheld(code=Code.CONTENT_WITHHELD, detail=delivered.withheld, report=settled.report)
    return msgspec.structs.replace(settled, redacted=delivered.redacted)


def hides_stream(call: Call, rules: Rules) -> bool:
    """Whether an agent may see nothing that a server reports while it works on this: not all of the reply is for it."""
    clearance = rules.cleared(agent_name(call))
    tool = rules.tools.get((call.server, call.name or "")) if call.method == TOOL_CALL else None
    if tool is None or clearance.audience is None:
        return False
    return not sees(tool.fields.readers, audience_of(clearance.audience))


def sift_reply(value: dict[str, Any], ruling: Ruling, known: Places | None = None) -> Cleaned:
    """Sift all members; a text that repeated the structured content repeats what is left of it."""
    if is_open(ruling):
        return Cleaned(value)
    sifted = sift(value, ruling, known)
    if sifted.found and not sifted.withheld:
        # INVARIANT: 2. What was told once more was not scanned as it stands there.
        again = sift(_told_again(value, sifted.value), ruling)
        sifted = msgspec.structs.replace(again, found=sifted.found + again.found)
    if sifted.withheld:
        return Cleaned({}, withheld=sifted.withheld)
    return Cleaned(sifted.value, counted(sifted.found))


def counted(found: Mapping[str, int]) -> tuple[str, ...]:
    """How an entry says what was taken out, and how often."""
    return tuple(f"{name} {count}" for name, count in sorted(found.items()))


def _told_again(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    if before.get("structuredContent") is None or not isinstance(before.get("content"), list):
        return after
    twins = _twins(before)
    value = told(after)
    content = [
        {**part, "text": _as_text(value, twins[at])} if at in twins else part
        for at, part in enumerate(after["content"])
    ]
    return {**after, "content": content}


def _twins(result: dict[str, Any]) -> dict[int, int | None]:
    """The text parts that repeat the structured content: all of it (None), or the element of that number."""
    value = told(result)
    found: dict[int, int | None] = {}
    for at, part in parts(result):
        if not is_text(part) or not repeats(part["text"], value):
            continue
        text = part["text"]
        one = (
            next((n for n, item in enumerate(value) if repeats(text, item)), None) if isinstance(value, list) else None
        )
        found[at] = None if repeats(text, [value]) else one
    return found


def _as_text(value: Any, element: int | None) -> str:
    said = value if element is None else value[element]
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


# ---- by readers --------------------------------------------------------------------------------------------------


def _for_audience(result: dict[str, Any], failed: bool, tool: ApprovedTool, audience: Audience) -> Cleaned:
    """# INVARIANT: 1."""
    all_fields = tool.fields.readers
    if failed or result.get("isError") is True or result.get("resultType") == "input_required":
        return Cleaned(result) if sees(all_fields, audience) else _nothing_of(result, failed)
    if not isinstance(result.get("content"), list):
        return Cleaned({}, withheld="a result without content")
    value = told(result)
    shown = tool.fields.shown(value, audience)
    if shown.withheld:
        return Cleaned({}, withheld=f"a field that is not for the audience of this agent ({READERS})")
    around = beside(result, value, vouched=False)
    # ... and pictures have readers of their own.
    others = meet((all_fields, audience_of(tool.manifest.parts.readers))) if around.blobs else all_fields
    hides = not around.empty and not sees(others, audience)
    if not shown.hidden and not hides:
        return Cleaned(result)
    return Cleaned(_with(result, shown.value, hides), (f"{READERS} {shown.hidden + hides}",))


def _with(result: dict[str, Any], value: Any, hides: bool) -> dict[str, Any]:
    """The result with this value, told once more as text, and what stands beside it unless that is hidden."""
    structured = result.get("structuredContent")
    twins = _twins(result) if structured is not None else {}
    content: list[Any] = [] if structured is not None else [_text(value, None)]
    for at, part in enumerate(result["content"]):
        if at in twins:
            content.append(_text(value, twins[at]))
        elif hides or (structured is None and isinstance(part, dict) and is_text(part)):
            continue  # without structured content all texts together are the value
        else:
            content.append(part)
    if hides:
        content.append({"type": "text", "text": UNSEEN})
    kept = {name: one for name, one in result.items() if not hides or name in _FRAME}
    if structured is not None:
        only = isinstance(structured, dict) and structured.keys() == {"result"}
        kept["structuredContent"] = {"result": value} if only else value
    return {**kept, "content": content}


_FRAME: Final = frozenset(("structuredContent", "isError", "resultType", "ttlMs", "cacheScope"))
"""Members of a result that say nothing of what is in it."""


def _text(value: Any, element: int | None) -> dict[str, Any]:
    return {"type": "text", "text": _as_text(value, element)}


def _nothing_of(result: dict[str, Any], failed: bool) -> Cleaned:
    """Of a failure: that there was one. A question in place of a reply has no half."""
    if failed:
        return Cleaned(HIDDEN_ERROR, (f"{READERS} 1",))
    if result.get("resultType") == "input_required":
        return Cleaned({}, withheld=f"a question about what is not for the audience of this agent ({READERS})")
    kept = {name: one for name, one in result.items() if name in _FRAME - {"structuredContent"}}
    return Cleaned({**kept, "content": [{"type": "text", "text": UNSEEN}]}, (f"{READERS} 1",))


def sees(readers: frozenset[str] | None, audience: Audience) -> bool:
    """Whether all of an audience are among these readers."""
    return may_flow(Label(frozenset(), readers), audience)
