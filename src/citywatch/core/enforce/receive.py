"""What a message brings into an agent's context: an item with its label, and the parties that it makes known.

Decides how a released message is read, by the tool's manifest; releasing it is `settle`'s. INVARIANTS: every text that
reaches an agent enters its context; what is no declared field of an approved tool was written by a third party; what
earlier writes brought to an object comes back with it; only a declared field of a reply that no write
shaped makes a party known.
"""

from __future__ import annotations

import itertools
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
    Party,
    brought_key,
    onward,
    party_forms,
    party_key,
    thing_of,
    written_key,
)
from citywatch.core.enforce.needs import TOOL_CALL
from citywatch.core.enforce.own import DERIVE, FILLED, SERVER
from citywatch.core.enforce.parts import HIDDEN_ERROR, Beside, beside, told
from citywatch.core.enforce.peers import is_message
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.flow.blob import find_blobs
from citywatch.core.flow.fields import UNSEEN, Fields, Leaf, Walk, meet
from citywatch.core.flow.item import Item, Reading, read_reply
from citywatch.core.label import BOTTOM, Label, has_strangers, join, join_all
from citywatch.core.manifest import Output, Role, audience_of
from citywatch.core.wire import a2a, mcp
from citywatch.core.wire.jsonrpc import Response

MAX_THINGS: Final = 64
"""Objects of one reply that are looked up one by one; a longer list is read as if it spoke of all that was written."""
MAX_KNOWN: Final = 256
MAX_ASKED: Final = 16
NOTHING_DECLARED: Final = Fields({})
SPOKEN: Final = Fields({}, a2a.WORDS)
"""How what a peer says is read: the protocol's own words are nobody's."""
HIDDEN: Final = Output(handle=True)
"""How a text is read that reaches the agent as a handle."""
ALL_HIDDEN: Final = Fields({"$": HIDDEN})


class Inputs(msgspec.Struct, frozen=True):
    """What came out of handles into a derivation: whether servers vouch for all of it, and its label.

    `written`: some of what it follows from is the agent's own writing.
    """

    trusted: bool
    label: Label
    written: bool

    def within(self, ambient: Label) -> tuple[bool, Label]:
        """Whether what follows is vouched for, and its label, in a context of that label.

        INVARIANT: what the agent wrote itself it wrote under all that it has read; of nothing else is that true.
        """
        if not self.written:
            return self.trusted, self.label
        return self.trusted and not has_strangers(ambient), join(self.label, ambient)


class Entering(msgspec.Struct, frozen=True):
    """A message about to enter a context: its leaves, and the rows that say what earlier writes brought to it.

    `carried` is what the handles of the call may have brought to its reply; `inputs` what a derived value in it follows
    from. `said` is the label of all of it, where an agent said it of whom that is known. `beside` is what another
    domain's gateway says of it, whatever its fields are. `followed`: its fingerprints are counted.
    """

    source: str
    body: bytes
    walk: Walk
    written: tuple[Key, ...]
    about: tuple[str, ...] = ()
    call: str = ""
    overlong: bool = False
    carried: Label = BOTTOM
    inputs: Inputs | None = None
    said: Label | None = None
    beside: Label | None = None
    followed: bool = False

    @property
    def names_parties(self) -> bool:
        """Whether any field is declared to hold somebody's name; of most messages none is."""
        return any(leaf.output.party is not None for leaf in self.walk.leaves)

    def rows(self) -> tuple[Key, ...]:
        """What must be read, beside the context's own row, before this enters."""
        if not self.names_parties:
            return self.written
        server = self._server
        return (*self.written, *self._parties(), *(brought_key(server, form) for _, form in self._forms()))

    def item(self, server: str, shaped: Label, at: int, model: Model | None = None) -> Item:
        """What enters; with a model, what a third party can have written of it is scanned, once and here."""
        item = read_reply(self.walk, digest(self.body), self.reading(server, shaped), at, followed=self.followed)
        if self.beside is not None:
            item = msgspec.structs.replace(item, label=join(item.label, self.beside))
        if self.said is not None:  # all of it, a number too: who said it chose it
            item = msgspec.structs.replace(item, label=join(item.label, self.said))
        if model is None:
            return item
        parts = item.parts  # bytes stand behind the leaves
        texts = [
            (number, leaf.value)
            for number, leaf in enumerate(self.walk.leaves)
            if isinstance(leaf.value, str) and not parts[number].trusted
        ]
        return advised(item, texts, Channel.DATA, model)

    def reading(self, server: str, shaped: Label) -> Reading:
        """How it is read; `shaped` is what earlier writes brought to it."""
        return Reading(
            source=self.source,
            trusted=Label(frozenset((f"server:{server}",)), None),
            untrusted=Label(frozenset((f"outside:{self.source}",)), None) if self.said is None else self.said,
            shaped=shaped,
            carried=self.carried,
            about=self.about,
            call=self.call,
            overlong=self.overlong,
        )

    def known(self, shaped: Label) -> tuple[Key, ...]:
        """The rows of the parties that this can make known."""
        return () if has_strangers(shaped) else self._parties()

    def learnt(self, shaped: Label, brought: Mapping[Key, Label], at: int) -> dict[Key, Party]:
        """The parties that this makes known; `brought` says who had which of these names carried to the server.

        INVARIANT: no name that a stranger's words may have brought is known; one that an agent's write may have brought
        waits for a later task; what no write has touched counts at once.
        """
        found: dict[Key, Party] = {}
        for leaf, form in self._forms():
            marks = self._marks(leaf, brought)
            label = join_all((shaped, *marks))
            if not has_strangers(label):
                people = tuple(sorted(one for one in label.origins or () if one.startswith("principal:")))
                found[party_key(form)] = Party(at=at, waits=bool(marks or people), by=people)
        return found

    def _marks(self, leaf: Leaf, brought: Mapping[Key, Label]) -> list[Label]:
        """Who brought this party, under any of its names."""
        keys = (brought_key(self._server, form) for form in party_forms("", leaf.value))
        return [brought[key] for key in keys if key in brought]

    @property
    def _server(self) -> str:
        return self.source.partition("/")[0]

    def _forms(self) -> Iterator[tuple[Leaf, str]]:
        """The parties that stand in it, under each of their names."""
        found: dict[str, Leaf] = {}
        for leaf in self.walk.leaves:
            if leaf.output.party is not None:
                for form in party_forms(leaf.output.party, leaf.value):
                    found.setdefault(form, leaf)
        yield from ((leaf, form) for form, leaf in itertools.islice(found.items(), MAX_KNOWN))

    def _parties(self) -> tuple[Key, ...]:
        return tuple(party_key(form) for _, form in self._forms())


def entering_reply(call: Call, response: Response, rules: Rules) -> Entering | None:
    """What a released reply brings in; None for an agent's own answers and for definitions, which a person approved."""
    found = _entering_reply(call, response, rules)
    return found if found is None or not rules.follows else msgspec.structs.replace(found, followed=True)


def _entering_reply(call: Call, response: Response, rules: Rules) -> Entering | None:
    if call.direction is Direction.TO_AGENT or (call.method in mcp.OFFERING and response.error is None):
        return None
    tool = rules.shown(call.agent, call.server, call.name) if call.method == TOOL_CALL else None
    hides = (
        tool is not None and tool.hides and not rules.observe
    )  # as in `veiling`: what is not a field that may be shown is a handle
    if tool is None or response.result is None:
        value = response.result if response.error is None else response.error
        fields = SPOKEN if is_message(call) else NOTHING_DECLARED
        walk = ALL_HIDDEN.walk(value) if hides else undeclared(value, fields)
        unseen = hides or response.error == HIDDEN_ERROR
        if tool is not None and not unseen:  # an error may say anything of what would have come
            walk = msgspec.structs.replace(walk, readers=tool.fields.readers)
        source = f"{call.server}/{call.name or call.method}"
        return Entering(source, response.body, walk, (), carried=carried(call))
    # INVARIANT: the text of a failure is no field of the reply, and often repeats what the agent or a stranger said.
    failed = response.result.get("isError") is True
    value = told(response.result)
    # A server that asks for more is not veiled: `veiling` lets through its questions alone.
    veiled = hides and response.result.get("resultType") != "input_required"
    untold = failed or (isinstance(value, str) and response.result.get("structuredContent") is None)
    fields = ALL_HIDDEN if veiled and untold else NOTHING_DECLARED if failed else tool.fields
    walk = fields.walk(value)
    more = beside(response.result, value, vouched=tool.vouched and not failed)
    if veiled:
        hidden = tuple(msgspec.structs.replace(leaf, output=HIDDEN) for leaf in more.leaves)
        walk = Walk((*walk.leaves, *hidden), walk.parents, walk.cut or more.cut, walk.readers)
    elif (failed and value != UNSEEN) or not more.empty:
        walk = _with(walk, more, tool, vouched=tool.manifest.parts.trusted and not failed)
    named = {thing_of(one.value) for one in arguments(call, tool.manifest) if one.role is Role.OBJECT}
    things = named | {thing_of(leaf.value) for leaf in walk.leaves if leaf.output.key}
    # INVARIANT: a reply that names no object may speak of any.
    names = sorted(things) if 0 < len(things) <= MAX_THINGS else [ANY_OBJECT]
    written = (written_key(call.server), *(written_key(call.server, one) for one in names))
    derives = (call.server, call.name) == (SERVER, DERIVE)
    inputs = inputs_of(call) if derives and not failed else None
    asked = tuple(str(value) for _, value in itertools.islice(all_values(call), MAX_ASKED + 1))
    overlong = len(asked) > MAX_ASKED or derives  # what follows from values is no answer about them
    # INVARIANT: all of the question or none of it. Cut off, it would leave out the part that no person said.
    asked = () if overlong else asked
    step = "" if failed else call.id
    source = f"{call.server}/{call.name}"
    return Entering(source, response.body, walk, written, asked, step, overlong, carried(call), inputs)


def carried(call: Call) -> Label:
    """What came out of handles into a call may come back in its reply: its readers, and who shaped its words.

    INVARIANT: or a tool that repeats what it is told would show a hidden text under the label of the server's own.
    """
    if not call.filled:
        return BOTTOM
    brought = (onward(one.label) for one in call.filled)
    words = (
        Label(frozenset(), label.readers) if one.inert else label
        for one, label in zip(call.filled, brought, strict=True)
    )
    return join_all(words)


def inputs_of(call: Call) -> Inputs:
    """What a derivation follows from: its handles, and whatever else stands among the values it is given."""
    places = {one.path for one in call.filled}
    values = [path for path, _ in all_values(call) if path.partition("[")[0] in FILLED[DERIVE]]
    return Inputs(
        trusted=all(one.trusted for one in call.filled),
        label=join_all(one.label for one in call.filled),
        written=not values or not places.issuperset(values),  # none: it was not kept what they were
    )


def hidden_label(
    output: Output, readers: frozenset[str] | None, entering: Entering, server: str, shaped: Label, ambient: Label
) -> tuple[bool, Label]:
    """Whether a server vouches for a hidden field, and its label: as `read_reply` would label it if it were shown.

    `ambient` is the label of the context in which the call was made.
    """
    if entering.inputs is not None:
        return entering.inputs.within(ambient)
    reading = entering.reading(server, shaped)
    shaped = join(shaped, entering.carried)  # a hidden text that a field repeats comes out of it as it went in
    foreign = shaped.origins != BOTTOM.origins
    trusted = output.trusted and (output.key or not foreign)
    own = reading.trusted if output.trusted else reading.untrusted
    brought = Label(frozenset() if trusted else shaped.origins, shaped.readers)
    return trusted, join_all((own, brought, Label(frozenset(), readers)))


def _with(walk: Walk, more: Beside, tool: ApprovedTool, *, vouched: bool) -> Walk:
    """What the fields hold and what stands beside them, for the eyes of those alone who may see every field."""
    readers = tool.fields.readers
    if more.blobs:
        readers = meet((readers, audience_of(tool.manifest.parts.readers)))
    return Walk(
        (*walk.leaves, *more.leaves), walk.parents, walk.cut or more.cut, readers, blobs=more.blobs, vouched=vouched
    )


def entering_request(
    call: Call, readers: frozenset[str] | None = None, *, hushed: bool = False, followed: bool = False
) -> Entering:
    """What a server's own message brings in: all of it is text of that server's making.

    It is for `readers` alone: while a server works on a call, it may tell of what will stand in the reply. `hushed`:
    its words were taken out (`hush`), and what is left says nothing.
    """
    walk = ALL_HIDDEN.walk(call.arguments) if hushed else undeclared(call.arguments)
    walk = msgspec.structs.replace(walk, readers=readers)
    return Entering(f"{call.server}/{call.method}", call.body, walk, (), followed=followed)


def undeclared(value: Any, fields: Fields = NOTHING_DECLARED) -> Walk:
    """Whatever no manifest speaks of, with the bytes in it."""
    walk = fields.walk(value)
    blobs, more = find_blobs(value, "$")
    if not blobs and not more:
        return walk
    return msgspec.structs.replace(walk, blobs=blobs, cut=walk.cut or more)
