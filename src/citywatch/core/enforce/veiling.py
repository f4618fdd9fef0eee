"""A reply with handles in the place of what its tool's manifest hides, and what stands behind them as a row.

Decides what of such a reply a model is shown: the structured content with its hidden fields replaced, and one text that
is the JSON of it. What cannot be rewritten faithfully (other texts, pictures, failures, members that no path can speak
of) is behind a handle as a whole. Releasing it is `settle`'s, what enters the context `receive`'s.

INVARIANTS
1. Of a tool that hides anything, nothing is shown but the visible fields, and words of ours.
2. What is shown and what `receive` counts as shown are the same: both ask `Output.handle`, or it is all hidden.
3. A handle's label is that of its field, joined with what earlier writes, and the call itself, brought to the reply.
4. A shelf belongs to the context whose agent was given it, and to no other key.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson

from citywatch.core.call import Call, Direction
from citywatch.core.enforce.context import Key
from citywatch.core.enforce.needs import TOOL_CALL
from citywatch.core.enforce.parts import others, told, without_bytes
from citywatch.core.enforce.receive import Entering, hidden_label
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.errors import Malformed
from citywatch.core.flow.handle import LIFE_MS, shelf_of
from citywatch.core.flow.veil import OTHERS, Hidden, Veil
from citywatch.core.label import Label
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import Response, format_message

FAILED: Final = "the server failed; what it said of it is"
BESIDE: Final = "this reply says more, which stands in no declared field:"
KEPT: Final = frozenset(("resultType", "ttlMs", "cacheScope"))
"""Members of a result that are for programs, and have one of a few values."""
ASKING: Final = frozenset(("resultType", "inputRequests", "requestState"))


class Given(msgspec.Struct, frozen=True, array_like=True):
    """What one handle stands for: where it stood in the reply, itself, whether a server vouches for it, its label."""

    field: str
    value: Any
    trusted: bool
    label: Label


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """All that one reply hid. `context` is the home of the context that was given the handles; `expires` in ms."""

    context: str
    source: str
    call: str
    at: int
    expires: int
    given: tuple[Given, ...]


class Veiled(msgspec.Struct, frozen=True):
    """A reply as it may be shown, the call it answers, the name of its shelf, and what stands on it."""

    response: Response
    call: str
    shelf: str
    hidden: tuple[Hidden, ...]

    def row(self, home: str, entering: Entering, server: str, shaped: Label, ambient: Label, at: int) -> Shelf:
        """What is kept; `shaped` is what earlier writes brought to the reply, `ambient` the label of its context."""
        given = []
        for one in self.hidden:
            trusted, label = hidden_label(one.output, one.readers, entering, server, shaped, ambient)
            given.append(Given(one.path, one.value, trusted, label))
        return Shelf(
            context=home,
            source=entering.source,
            call=self.call,
            at=at,
            expires=at + LIFE_MS,
            given=tuple(given),
        )


def shelf_key(shelf: str) -> Key:
    return ("shelf", shelf)


def hiding_tool(call: Call, rules: Rules) -> ApprovedTool | None:
    """The tool of this call, if it hides fields: none does without principals, or where it is only observed."""
    if call.method != TOOL_CALL or call.direction is not Direction.TO_SERVER or not rules.principals:
        return None
    tool = rules.shown(call.agent, call.server, call.name)
    return tool if tool is not None and tool.hides and not rules.observe else None


def veil_reply(call: Call, response: Response, rules: Rules, seed: bytes) -> Veiled | None:
    """The reply as its agent may see it; None if its tool hides nothing. `seed` is chance, for this reply alone.

    A reply of another shape than the method's is left to `settle`, which withholds it.
    """
    tool = hiding_tool(call, rules)
    if tool is None:
        return None
    try:
        mcp.check_reply(call.method, response, call.revision)
    except Malformed:
        return None
    veil = Veil(tool.fields, shelf_of(seed))
    if response.error is not None:
        what = veil.all_of("$", response.error)
        shown = Response(response.id, None, {"code": response.error["code"], "message": f"{FAILED} {what}"})
    else:
        shown = Response(response.id, _result(response.result or {}, veil))
    shown = msgspec.structs.replace(shown, body=format_message(shown))
    return Veiled(shown, call.id, shelf_of(seed), tuple(veil.hidden))


def _result(result: dict[str, Any], veil: Veil) -> dict[str, Any]:
    if result.get("resultType") == "input_required":  # what is asked in it is judged by itself
        return {name: one for name, one in result.items() if name in ASKING}
    kept: dict[str, Any] = {name: one for name, one in result.items() if name in KEPT and type(one) in (str, int)}
    if result.get("isError") is True:
        what = without_bytes({name: one for name, one in result.items() if name not in KEPT})
        return {**kept, "content": [_text(f"{FAILED} {veil.all_of('$', what)}")], "isError": True}
    value = told(result)
    if isinstance(value, str) and result.get("structuredContent") is None:
        return {**kept, "content": [_text(veil.all_of("$", value))], "isError": False}
    shown, structured = veil.over(value), result.get("structuredContent")
    if isinstance(structured, dict) and value is structured and not isinstance(shown, dict):
        shown = {OTHERS: shown}  # the protocol wants an object where there was one
    content = [_text(orjson.dumps(shown).decode())]
    more = [one for _, one in others(result, value) if one not in ("", {})]
    if more:  # INVARIANT: 1.
        content.append(_text(f"{BESIDE} {veil.all_of('$', more)}"))
    kept |= {"content": content, "isError": False}
    if structured is not None:
        kept["structuredContent"] = shown if value is structured else {"result": shown}
    return kept


def _text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}
