"""What a message brings into an agent's context: an item with its label, and the parties that it makes known.

Decides how a released message is read, by the tool's manifest; releasing it is `settle`'s. INVARIANTS: every text that
reaches an agent enters its context; what is no declared field of an approved tool was written by a third party; what
earlier writes brought to an object comes back with it; only a declared field of a reply that no write
shaped makes a party known.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.call import Call, Direction
from citywatch.core.canonical import digest
from citywatch.core.content.model import Model
from citywatch.core.content.signals import Channel
from citywatch.core.enforce.advice import advised
from citywatch.core.enforce.arguments import all_values, arguments
from citywatch.core.enforce.context import (
    ANY_OBJECT,
    Key,
    outside_of,
    party_forms,
    party_key,
    thing_of,
    written_key,
)
from citywatch.core.enforce.needs import TOOL_CALL
from citywatch.core.enforce.rules import Rules
from citywatch.core.flow.fields import Fields, Walk
from citywatch.core.flow.item import Item, Reading, read_reply
from citywatch.core.label import BOTTOM, Label, join_all
from citywatch.core.manifest import Output, Role
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import Response

MAX_THINGS: Final = 64
"""Objects of one reply that are looked up one by one; a longer list is read as if it spoke of all that was written."""
MAX_KNOWN: Final = 256
MAX_ASKED: Final = 16
NOTHING_DECLARED: Final = Fields({})
ALL_HIDDEN: Final = Fields({"$": Output(handle=True)})
"""How a text is read that reaches the agent as a handle."""
_PLUMBING: Final = frozenset(
    ("content", "structuredContent", "isError", "_meta", "resultType", "ttlMs", "cacheScope", "requestState")
)
"""Members of a result that `told_value` and the parts cover, or that are for programs and not for a model."""


class Entering(msgspec.Struct, frozen=True):
    """A message about to enter a context: its leaves, and the rows that say what earlier writes brought to it.

    `carried` is what the handles of the call may have brought to its reply.
    """

    source: str
    body: bytes
    walk: Walk
    written: tuple[Key, ...]
    about: tuple[str, ...] = ()
    call: str = ""
    overlong: bool = False
    carried: Label = BOTTOM

    def rows(self) -> tuple[Key, ...]:
        """What must be read, beside the context's own row, before this enters."""
        return (*self.written, *self._parties())

    def item(self, server: str, shaped: Label, at: int, model: Model | None = None) -> Item:
        """What enters; with a model, what a third party can have written of it is scanned, once and here."""
        item = read_reply(self.walk, digest(self.body), self.reading(server, shaped), at)
        if model is None:
            return item
        pairs = enumerate(zip(self.walk.leaves, item.parts, strict=True))
        texts = [
            (number, leaf.value) for number, (leaf, part) in pairs if isinstance(leaf.value, str) and not part.trusted
        ]
        return advised(item, texts, Channel.DATA, model)

    def reading(self, server: str, shaped: Label) -> Reading:
        """How it is read; `shaped` is what earlier writes brought to it."""
        return Reading(
            source=self.source,
            trusted=Label(frozenset((f"server:{server}",)), None),
            untrusted=Label(frozenset((f"outside:{self.source}",)), None),
            shaped=shaped,
            about=self.about,
            call=self.call,
            overlong=self.overlong,
        )

    def known(self, shaped: Label) -> tuple[Key, ...]:
        """The rows of the parties that this makes known."""
        return () if shaped.origins != BOTTOM.origins else self._parties()

    def _parties(self) -> tuple[Key, ...]:
        found = {
            party_key(form): None
            for leaf in self.walk.leaves
            if leaf.output.party is not None
            for form in party_forms(leaf.output.party, leaf.value)
        }
        return tuple(found)[:MAX_KNOWN]


def entering_reply(call: Call, response: Response, rules: Rules) -> Entering | None:
    """What a released reply brings in; None for an agent's own answers and for definitions, which a person approved."""
    if call.direction is Direction.TO_AGENT or (call.method in mcp.OFFERING and response.error is None):
        return None
    tool = rules.tools.get((call.server, call.name or "")) if call.method == TOOL_CALL else None
    hides = tool is not None and tool.hides  # as in `veiling`: what is not a field that may be shown is a handle
    if tool is None or response.result is None:
        value = response.result if response.error is None else response.error
        walk = (ALL_HIDDEN if hides else NOTHING_DECLARED).walk(value)
        if tool is not None and not hides:  # an error may say anything of what would have come
            walk = msgspec.structs.replace(walk, readers=tool.fields.readers)
        source = f"{call.server}/{call.name or call.method}"
        return Entering(source, response.body, walk, (), carried=carried(call))
    # INVARIANT: the text of a failure is no field of the reply, and often repeats what the agent or a stranger said.
    failed = response.result.get("isError") is True
    told = told_value(response.result)
    # A server that asks for more is not veiled: `veiling` lets through its questions alone.
    unsaid = hides and response.result.get("resultType") != "input_required"
    untold = failed or (isinstance(told, str) and response.result.get("structuredContent") is None)
    fields = ALL_HIDDEN if unsaid and untold else NOTHING_DECLARED if failed else tool.fields
    walk = fields.walk(told)
    more_told = tuple(beside(response.result, told))
    for one in more_told:
        # INVARIANT: what no path can speak of is as trusted as the least trusted field, or a reply could say in words
        # what its fields may not.
        loose = ALL_HIDDEN if unsaid else tool.fields if not failed and tool.vouched else NOTHING_DECLARED
        more = loose.walk(one)
        walk = Walk((*walk.leaves, *more.leaves), walk.parents, walk.cut or more.cut, walk.readers)
    if (failed or more_told) and not unsaid:  # ... and for the eyes of those alone who may see every field
        walk = msgspec.structs.replace(walk, readers=tool.fields.readers)
    named = {thing_of(one.value) for one in arguments(call, tool.manifest) if one.role is Role.OBJECT}
    things = named | {thing_of(leaf.value) for leaf in walk.leaves if leaf.output.key}
    # INVARIANT: a reply that names no object may speak of any.
    names = sorted(things) if 0 < len(things) <= MAX_THINGS else [ANY_OBJECT]
    written = (written_key(call.server), *(written_key(call.server, one) for one in names))
    asked = tuple(str(value) for _, value in itertools.islice(all_values(call), MAX_ASKED + 1))
    overlong = len(asked) > MAX_ASKED
    # INVARIANT: all of the question or none of it. Cut off, it would leave out the part that no person said.
    asked = asked if len(asked) <= MAX_ASKED else ()
    step = "" if failed else call.id
    source = f"{call.server}/{call.name}"
    return Entering(source, response.body, walk, written, asked, step, overlong, carried(call))


def carried(call: Call) -> Label:
    """What came out of handles into a call may come back in its reply: its readers, and who shaped its words.

    INVARIANT: or a tool that repeats what it is told would show a hidden text under the label of the server's own.
    """
    brought = (outside_of(one.label) for one in call.filled)
    words = (
        Label(frozenset(), label.readers) if one.inert else label
        for one, label in zip(call.filled, brought, strict=True)
    )
    return join_all(words)


def hidden_label(
    output: Output, readers: frozenset[str] | None, entering: Entering, server: str, shaped: Label
) -> tuple[bool, Label]:
    """Whether a server vouches for a hidden field, and its label: as `read_reply` would label it if it were shown."""
    reading = entering.reading(server, shaped)
    foreign = shaped.origins != BOTTOM.origins
    trusted = output.trusted and (output.key or not foreign)
    own = reading.trusted if output.trusted else reading.untrusted
    brought = Label(frozenset() if trusted else shaped.origins, shaped.readers)
    return trusted, join_all((own, brought, Label(frozenset(), readers)))


def entering_request(call: Call) -> Entering:
    """What a server's own message brings in: all of it is text of that server's making."""
    return Entering(f"{call.server}/{call.method}", call.body, NOTHING_DECLARED.walk(call.arguments), ())


def told_value(result: Mapping[str, Any]) -> Any:
    """The value that paths speak of: the structured content, or the text if it is JSON, or the text."""
    structured = result.get("structuredContent")
    if structured is not None:
        only = isinstance(structured, dict) and structured.keys() == {"result"}
        return structured["result"] if only else structured
    text = "\n".join(part["text"] for part in _parts(result) if part.get("type") == "text" and "text" in part)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict | list) else text


def beside(result: Mapping[str, Any], told: Any) -> Iterator[Any]:
    """What else the agent sees: text that says other things than the structured content, parts that are no text, and
    members of the result that the protocol gives to the agent beside both.
    """
    spoken = result.get("structuredContent") is not None
    for part in _parts(result):
        if part.get("type") != "text":
            yield json.dumps({name: one for name, one in part.items() if name not in ("data", "blob")})
        elif spoken and not _repeats(part.get("text", ""), told):
            yield part.get("text", "")
    yield from (one for name, one in result.items() if name not in _PLUMBING)


def _repeats(text: str, told: Any) -> bool:
    """Whether a text says what the structured content says, all of it or one element, as SDK servers write it."""
    among = [told, *told] if isinstance(told, list) else [told]
    if text in among:
        return True
    try:
        return json.loads(text) in among
    except (ValueError, RecursionError):
        return False


def _parts(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = result.get("content")
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
