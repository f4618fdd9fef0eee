"""What entered an agent's context, kept as an index: typed tokens, short whole values, labels; never the text itself.

Decides how a prompt and a reply are taken apart; what may be done with a value is for `enforce`. INVARIANTS: the label
of an item is the join of all its text that was shown and of all that the server vouches for; what is behind a handle is
in the index and not in the label; work and size are bounded, and what is beyond the bound keeps the label of
third-party text; only a principal's own prompt is kept as text, because only there whole phrases count.
"""

from __future__ import annotations

from typing import Final

import msgspec

from citywatch.core.flow.blob import BLOB
from citywatch.core.flow.fields import Walk
from citywatch.core.flow.fold import fold, scannable
from citywatch.core.flow.kinds import Kind
from citywatch.core.flow.phrases import find_lines, find_names
from citywatch.core.flow.prints import fingerprints, packed
from citywatch.core.flow.tokens import find_tokens, whole_tokens
from citywatch.core.label import BOTTOM, Label, has_strangers, join_all

MAX_WHOLE: Final = 256
"""A longer value is no name of anything."""
MAX_MARKS: Final = 4096
MAX_CHARS: Final = 64 << 10
MAX_NAMES: Final = 512
"""Names of one item that are kept beside its typed tokens."""
MAX_LINE: Final = 64
"""No longer line is a name (`phrases.find_lines`)."""
NAME: Final = str(Kind.NAME)
MAX_PROMPT: Final = 64 << 10
SPEAKER: Final = "agent:"
"""What the source of an item begins with that an agent of ours said; no server's name has a colon."""
MAX_FOLLOWED: Final = 1 << 20
"""Characters of one item whose fingerprints are taken."""
INJECTION: Final = "injection"
"""The kind of stretch that takes ways to pass away."""

Mark = tuple[str, str, int, int]
"""A typed token: its kind, its normal form, and where in its part it begins and ends."""
Place = tuple[int, int]
"""A part's number, and a character of that part."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One leaf: where it stood, whether the server vouches for it, itself if it is short, the typed tokens in it.

    Bytes that are no text have their type for a name, and their digest for a mark.
    `hidden`: the agent was given a handle in its place.
    """

    path: str
    name: str
    record: int
    trusted: bool
    whole: str
    marks: tuple[Mark, ...]
    hidden: bool = False


class Stretch(msgspec.Struct, frozen=True, array_like=True):
    """What a scan said of the text from one place up to another; `around` is that and one window more at each end."""

    kind: str
    name: str
    score: float
    begin: Place
    end: Place
    around: tuple[Place, Place]

    def meets(self, part: int, start: int, end: int) -> bool:
        """Whether what stands there in a part is in the stretch, or within one window of it."""
        return (part, end) > self.around[0] and (part, start) < self.around[1]


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that entered a context. `source` is `principal:<name>` or `<server>/<what>`; `text` is a prompt's own.

    `parents` has, for each record of the reply, the record around it (-1: none); `about` is all that was asked for,
    folded, or nothing if it was too much or too long to be what a person said (`overlong`).
    `injection` and `advice` are what a scan said of the text that a third party can have written: it permits nothing.
    `call` is the call that brought it, or a prompt's task; `shaped`: earlier writes reached what it speaks of.
    `handed`: a prompt that another agent was given, and that came with a message under its task.
    `prints` are the fingerprints of what a third party can have written of it, `own` those of what a server vouches
    for, packed, where somebody counts them.
    """

    digest: str
    source: str
    at: int
    label: Label
    parts: tuple[Part, ...]
    parents: tuple[int, ...] = ()
    about: tuple[str, ...] = ()
    text: str = ""
    injection: float = 0.0
    advice: tuple[Stretch, ...] = ()
    call: str = ""
    shaped: bool = False
    overlong: bool = False
    handed: bool = False
    prints: bytes = b""
    own: bytes = b""

    @property
    def is_said(self) -> bool:
        """Whether an agent of ours said this; its label is then all that can have shaped what it says."""
        return self.source.startswith(SPEAKER)

    def speaks_for(self, task: str | None) -> bool:
        """Whether a person's words may count in a call under this task: those that were handed on, in theirs alone."""
        return not self.handed or self.call == task


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a reply is read. `shaped` is what earlier writes brought to the objects it speaks of.

    It is joined to everything but the server's own keys, so that a tool that can be written and read is no laundry.
    `carried` came out of handles into the call itself: the reply may repeat it, under whatever field, so it is joined
    to whatever text is shown. Who vouches for a field is the same as if the agent had written those words itself.
    """

    source: str
    trusted: Label
    untrusted: Label
    shaped: Label
    carried: Label = BOTTOM
    about: tuple[str, ...] = ()
    call: str = ""
    overlong: bool = False


def read_prompt(text: str, digest: str, principal: str, at: int, task: str = "", *, followed: bool = False) -> Item:
    """A principal's own words, over their own session. `followed`: with their fingerprints."""
    words = text[:MAX_PROMPT]
    return Item(
        digest=digest,
        source=f"principal:{principal}",
        at=at,
        label=Label(frozenset((f"principal:{principal}",)), None),
        parts=(Part("$", "", -1, True, "", _marks(words, MAX_MARKS)),),
        text=words,
        call=task,
        own=packed(fingerprints(words)) if followed else b"",
    )


def read_reply(walk: Walk, digest: str, reading: Reading, at: int, *, followed: bool = False) -> Item:
    """A server's reply, leaf by leaf. `followed`: with its fingerprints."""
    foreign = has_strangers(reading.shaped)
    about = tuple([fold(one) for one in reading.about])
    parts: list[Part] = []
    # Numbers too: they carry no orders, and they are secrets like any other.
    audiences = {walk.readers, reading.shaped.readers, reading.carried.readers}
    said: set[str] = set()  # which labels of the reading, by name: none is hashed for each leaf
    room, names = MAX_MARKS, MAX_NAMES
    for leaf in walk.leaves:
        output, value = leaf.output, leaf.value
        is_text = isinstance(value, str)
        trusted = output.trusted and (output.key or not foreign)
        if isinstance(value, str):
            whole, marks = fold(value) if len(value) <= MAX_WHOLE else "", _marks(value, room)
            room -= len(marks)
            if not trusted and (more := _names(value, names)):
                names -= len(more)
                marks += more
        else:
            whole, marks = str(value), tuple([(str(one.kind), one.value, 0, 0) for one in whole_tokens(value)])
            room -= len(marks)
        parts.append(Part(leaf.path, leaf.name, leaf.record, trusted, whole, marks, output.handle))
        # What is behind a handle was not seen; whoever has it filled in is held to its own label.
        if output.handle:
            continue
        audiences.add(leaf.readers)
        # A number, a yes or a no cannot carry an instruction; text can, if it was shown.
        if output.typed:
            continue
        if is_text and not output.key:
            said.add("carried")
        if trusted:
            said.add("trusted")
            if is_text and not output.key:
                said.add("shaped")  # people's words, that came into the server's own fields by a write
        elif is_text and value:
            said.add("trusted" if output.trusted else "untrusted")
            said.add("shaped")
    for blob in walk.blobs:
        # INVARIANT: pixels carry words. Whoever could have made them shaped what the agent read.
        said |= {"trusted" if walk.vouched else "untrusted", "shaped", "carried"}
        marks = ((BLOB, blob.digest, 0, 0),) if blob.digest else ()
        parts.append(Part(blob.path, blob.media, -1, walk.vouched and not foreign, "", marks))
    if walk.cut:
        said |= {"untrusted", "shaped", "carried"}
    labels = [getattr(reading, name) for name in said]
    labels += [Label(frozenset(), readers) for readers in audiences if readers is not None]
    prints, own = _prints(walk, parts, reading) if followed else (b"", b"")
    return Item(
        digest=digest,
        source=reading.source,
        at=at,
        prints=prints,
        own=own,
        label=join_all(labels),
        parts=tuple(parts),
        parents=walk.parents,
        about=about if all(len(one) <= MAX_WHOLE for one in about) else (),
        overlong=reading.overlong or any(len(one) > MAX_WHOLE for one in about),
        call=reading.call,
        shaped=foreign,
    )


def _prints(walk: Walk, parts: list[Part], reading: Reading) -> tuple[bytes, bytes]:
    """The fingerprints of what others wrote, and of what a server vouches for; values first, then members' names.

    What is behind a handle counts too: it is passed on by its name. Where nobody strange can have written any of it, it
    is nobody's copy: a principal's words stay theirs through whose hands they go.
    """
    others: list[str] = []
    names: list[str] = []
    vouched: list[str] = []
    for leaf, part in zip(walk.leaves, parts, strict=False):  # bytes stand behind the leaves
        if isinstance(leaf.value, str):
            (vouched if part.trusted else others if leaf.name else names).append(leaf.value)
    strange = has_strangers(join_all((reading.untrusted, reading.shaped, reading.carried)))
    found = fingerprints("\n".join((*others, *names))[:MAX_FOLLOWED]) if strange else frozenset[int]()
    return packed(found), packed(fingerprints("\n".join(vouched)[:MAX_FOLLOWED]))


def _names(text: str, room: int) -> tuple[Mark, ...]:
    """What looks like a name in a text of others, or stands on a line of its own: people point at such values."""
    if room <= 0 or len(text) > MAX_CHARS:
        return ()
    if len(text) <= MAX_LINE and text.isascii() and text.isalnum():  # one plain word is a line of its own, and no more
        return () if text.isdecimal() else ((NAME, text.lower(), 0, len(text)),)
    scan = scannable(text)
    found = find_lines(text, scan, room)
    found += find_names(text, scan, room)
    return tuple(dict.fromkeys([(str(one.kind), one.value, one.start, one.end) for one in found]))[:room]


def _marks(text: str, room: int) -> tuple[Mark, ...]:
    if room <= 0:
        return ()
    found = find_tokens(text, names=False)
    return tuple([(str(one.kind), one.value, one.start, one.end) for one in found[:room]]) if found else ()
