"""What a person is shown of one ticket: a document of typed lines, made of typed facts and never of anybody's prose.

    what will happen → on whose authority → where its values come from → what is unusual → what a no does

Decides the words, the order, and what cannot be shown faithfully (`uninspectable`); how a line is drawn is for whoever
draws it (`citywatch tickets`, the console). There is no markup in here to be drawn.
It is one thing because whoever reads what people are shown should read all of our words at once.

INVARIANTS
1. `text` is ours. What an agent, a server or a stranger wrote stands in `quoted` of a line, without what nobody can see
   (`plain`), and whoever draws it sets it apart, line by line. A name that they chose stands in our sentences only
   between “ and ”, short, on one line, without these.
2. A document is one value with one digest: who signs it signs what was shown, down to the last character.
3. What was not shown whole is not passed over in silence: each reason stands in `uninspectable`, and in a line.
4. Making one takes bounded work and never fails, whatever stands in a call.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final

import msgspec

from citywatch.core.approvals.looks import looks
from citywatch.core.approvals.plain import Plain, named, plain, prose, word
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.approvals.wording import does, origin
from citywatch.core.call import Effect, Source
from citywatch.core.canonical import canonical, digest
from citywatch.core.manifest import EVERYBODY, OWNER, ParameterType, Role

MAX_VALUE: Final = 8_000
"""Characters of one value that a person is shown."""
MAX_VALUES: Final = 64
MAX_EXCERPT: Final = 160
"""Characters of a source before, and after, what was taken from it."""
MANY: Final = 10
"""So many recipients are worth a line."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Why(StrEnum):
    """Why a call cannot be shown faithfully. The value is what an approver acknowledges; it is never renamed."""

    ERASED = "erased"
    CHANGED = "changed"
    TOO_LONG = "too_long"
    TOO_MANY = "too_many"
    TOO_DEEP = "too_deep"
    UNPRINTABLE = "unprintable"
    UNKNOWN_TOOL = "unknown_tool"
    UNBOUND = "unbound"
    UNKNOWN_PEER = "unknown_peer"
    FILE = "file"


MEANS: Final[dict[Why, str]] = {
    Why.ERASED: "the call was erased from the log, and nobody can see what it says",
    Why.CHANGED: "what the log has of the call is not what was asked about",
    Why.TOO_LONG: f"a value has more than {MAX_VALUE} characters",
    Why.TOO_MANY: f"the call has more than {MAX_VALUES} values",
    Why.TOO_DEEP: "its arguments are nested deeper than can be shown",
    Why.UNPRINTABLE: "a value holds characters that nobody can see",
    Why.UNKNOWN_TOOL: "the tool is not approved any more as it was when this was asked",
    Why.UNKNOWN_PEER: "the file names whom it goes to, or the shape that it has, otherwise than when this was asked",
    Why.FILE: "a file goes along, of which only the digest is shown",
    Why.UNBOUND: "the ticket is of an earlier version, and bound to no digest",
}


class Kind(StrEnum):
    """What a line is, for whoever draws it."""

    OURS = "ours"
    VALUE = "value"
    QUOTE = "quote"
    UNUSUAL = "unusual"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """`text` is our sentence. `quoted` is somebody else's words, to be set apart; `label` says whose or what it is.

    `start` and `end` mark the characters of `quoted` that the call took over. `notes` are ours, about `quoted`; where
    they name a part of it, they do so in characters of plain text. `odd`: it is a value, or where one came from, that
    nobody entitled supplied.
    """

    kind: Kind
    text: str = ""
    label: str = ""
    quoted: str = ""
    start: int = 0
    end: int = 0
    notes: tuple[str, ...] = ()
    odd: bool = False


class Section(msgspec.Struct, frozen=True):
    """A heading of ours with its lines."""

    title: str
    lines: tuple[Line, ...]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of one ticket. `uninspectable` are the reasons why it is not all."""

    ticket: str
    sections: tuple[Section, ...]
    uninspectable: tuple[str, ...] = ()

    def lines(self) -> Iterator[Line]:
        return itertools.chain.from_iterable(section.lines for section in self.sections)


class Excerpt(msgspec.Struct, frozen=True):
    """What stands around a value where it came from: the text, and from where to where the value is in it."""

    text: str
    start: int
    end: int


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One value of the call, as its manifest types it. `source` is where it came from, `excerpt` what stands there.

    `handle` says which field of which reply it was filled in from, if the agent never saw it.
    """

    path: str
    role: str
    value: str | int | float | bool | None
    type: ParameterType | None = None
    scale: int = 2
    currency: str = ""
    source: Source | None = None
    excerpt: Excerpt | None = None
    handle: str = ""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """All that there is to show of a ticket. `why` are reasons, found before, why not all of it can be.

    `via` are the agents that the task came through, `near` names that people know here: a likeness to one is told.
    `off` is what the gates say of it beside who supplied what; `type` the one that a message says it has.
    """

    ticket: Ticket
    effect: Effect
    audience: tuple[str, ...]
    facts: tuple[Fact, ...]
    why: tuple[Why, ...] = ()
    via: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    type: str = ""


def render(subject: Subject) -> Document:
    """The document of a ticket: the same facts give the same, to the character."""
    values = [_value(fact, subject.near) for fact in subject.facts[:MAX_VALUES]]
    why = list(dict.fromkeys((*subject.why, *_unfaithful(subject.facts))))
    return Document(
        ticket=subject.ticket.id,
        sections=(
            Section("What will happen", (*_act(subject), *values)),
            Section("On whose authority", tuple(_authority(subject))),
            Section("Where its values come from", tuple(_sources(subject.facts[:MAX_VALUES]))),
            Section("What is unusual", tuple(_unusual(subject, why))),
            Section("What a no does", tuple(_no(subject.ticket))),
        ),
        uninspectable=tuple(one.value for one in why),
    )


def document_digest(document: Document, salt: str) -> str:
    """What a signature names of what was shown. # INVARIANT: 2. Salted as the ticket's digest is (`binding`)."""
    members: Any = msgspec.to_builtins(document)
    return digest(b"citywatch/document/v1\n" + canonical({"salt": salt, "document": members}))


def _act(subject: Subject) -> Iterator[Line]:
    ticket = subject.ticket
    done = {
        Effect.READ: "it only reads",
        Effect.WRITE: "it changes something that can be changed back",
        Effect.IRREVERSIBLE: "it cannot be taken back",
    }[subject.effect]
    if ticket.spoken:
        yield from _message(subject)
    else:
        called = (
            f"The agent {_name(ticket.agent)} calls a tool of the server {ticket.server}; {done}. The tool is called"
        )
        yield Line(kind=Kind.OURS, text=called, quoted=word(ticket.tool, 128) or "-")
    reach = [one for one in subject.audience if one != OWNER]
    if EVERYBODY in reach:
        yield Line(kind=Kind.OURS, text="What it carries may be seen by everybody.")
    elif reach:
        yield Line(kind=Kind.OURS, text=f"What it carries may be seen by {', '.join(sorted(reach))[:400]}.")
    counts: dict[str, int] = {}
    for fact in subject.facts:
        if fact.role == Role.DESTINATION and "[" in fact.path:
            name = fact.path.partition("[")[0]
            counts[name] = counts.get(name, 0) + 1
    for name, count in list(counts.items())[:MAX_VALUES]:
        yield Line(
            kind=Kind.OURS,
            text=f"It reaches {count} {'recipient' if count == 1 else 'recipients'} in",
            quoted=word(name),
        )


def _message(subject: Subject) -> Iterator[Line]:
    ticket = subject.ticket
    yield Line(
        kind=Kind.OURS,
        text=f"The agent {_name(ticket.agent)} says to the agent {ticket.server} what stands below; it cannot be taken"
        " back. It is all in the agent's own words.",
    )
    skill = "" if ticket.bound is None else next((one for path, _, one in ticket.bound.names if path == "skill"), "")
    if skill:
        yield Line(kind=Kind.OURS, text="It is for the skill", quoted=word(skill, 128) or "-")
    if subject.type:
        yield Line(
            kind=Kind.OURS, text="It fits the schema of its type, which is", quoted=word(subject.type, 64) or "-"
        )


def _value(fact: Fact, near: Sequence[str]) -> Line:
    shown = _shown(fact)
    notes = [*_about(shown), *_read(fact)]
    if fact.role in (Role.DESTINATION, Role.OBJECT) and isinstance(fact.value, str):
        notes += looks(fact.value, near)
    if fact.handle:
        notes.append(f"the agent never saw it: it stands behind a handle, from {named(fact.handle, 160)}")
    label = f"{does(fact.role)}, {named(fact.path)}"
    return Line(kind=Kind.VALUE, label=label, quoted=shown.text, notes=tuple(notes), odd=_is_unentitled(fact))


def _is_unentitled(fact: Fact) -> bool:
    return fact.source is not None and fact.source.traced and not fact.source.how


def _shown(fact: Fact) -> Plain:
    value = fact.value
    if value is None or isinstance(value, bool):
        return Plain({None: "", True: "yes", False: "no"}[value])
    return plain(value if isinstance(value, str) else _number(value), MAX_VALUE)


def _about(shown: Plain) -> Iterator[str]:
    if shown.removed:
        yield f"left out here, and sent: {', '.join(shown.removed)}"
    if shown.cut:
        yield f"{shown.cut} more characters are sent and not shown"


def _read(fact: Fact) -> Iterator[str]:
    """A number, an amount or a date as people say it."""
    value = fact.value
    if isinstance(value, bool) or value is None or value == "":
        yield "no value" if value is None else "an empty text" if value == "" else "a yes or a no, not a word"
        return
    if fact.type is ParameterType.MONEY and (amount := _decimal(value)) is not None:
        yield f"an amount of {_money(amount, fact.scale)} {fact.currency or 'in the currency of the account'}"
    elif fact.role == Role.AMOUNT and (amount := _decimal(value)) is not None and abs(amount) >= 1000:
        yield f"that is {amount:,}"
    elif fact.role == Role.TIME and isinstance(value, str) and (day := _day(value)) is not None:
        yield f"a {day:%A}, {day.day} {day:%B %Y}"


def _money(amount: Decimal, scale: int) -> str:
    exact = amount == amount.quantize(Decimal(1).scaleb(-scale))
    return f"{amount:,.{scale}f}" if exact else f"{amount:,} (more digits than the currency has)"


def _decimal(value: str | int | float) -> Decimal | None:
    try:
        found = Decimal(str(value)[:64])
    except InvalidOperation:
        return None
    return found if found.is_finite() and abs(found.adjusted()) < 24 and found == found.normalize() else None


def _number(value: int | float) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _day(value: str) -> date | None:
    try:
        return datetime.fromisoformat(value[:32]).date()
    except ValueError:
        return None


def _authority(subject: Subject) -> Iterator[Line]:
    ticket = subject.ticket
    whose = ", ".join(ticket.authority)[:400]
    yield Line(
        kind=Kind.OURS,
        text=f"The agent acts for {whose}." if whose else "Nobody has given the agent a task of theirs.",
    )
    if subject.via:
        through = ", ".join(named(one.rpartition("/")[2]) for one in subject.via[:MANY])
        yield Line(kind=Kind.OURS, text=f"The task came by a chain of grants through {through}.")
    if ticket.bound is not None and ticket.bound.task:
        yield Line(kind=Kind.OURS, text=f"It names the task {named(ticket.bound.task, 64)}.")
    if ticket.of is not None:
        names = " or ".join(ticket.of)[:400] or "nobody"
        yield Line(kind=Kind.OURS, text=f"To be approved in the name of {names}.")
    if ticket.discloses:
        yield Line(kind=Kind.UNUSUAL, text="A yes also lets out what those whom the call reaches may not see.")


def _sources(facts: Iterable[Fact]) -> Iterator[Line]:
    for fact in facts:
        source = fact.source
        if source is None:
            continue
        said = origin(source)
        label = named(fact.path)
        if fact.excerpt is None:
            yield Line(kind=Kind.OURS, label=label, text="", notes=(said,), odd=_is_unentitled(fact))
            continue
        yield _quote(fact.excerpt, label, said, _is_unentitled(fact))


def _quote(excerpt: Excerpt, label: str, said: str, odd: bool) -> Line:
    """What stands around a value, with the value marked: no more than an excerpt, whatever was handed in."""
    start, end = max(0, excerpt.start), max(0, excerpt.start, excerpt.end)
    before = prose(excerpt.text[max(0, start - MAX_EXCERPT) : start], MAX_EXCERPT)
    taken = prose(excerpt.text[start:end], MAX_EXCERPT)
    after = prose(excerpt.text[end : end + MAX_EXCERPT], MAX_EXCERPT)
    head = "…" if start > MAX_EXCERPT else ""
    quoted = f"{head}{before.text}{taken.text}{after.text}{'…' if len(excerpt.text) > end + MAX_EXCERPT else ''}"
    at = len(head) + len(before.text)
    gone = tuple(dict.fromkeys((*before.removed, *taken.removed, *after.removed)))
    notes = (said, *((f"left out here: {', '.join(gone)[:200]}",) if gone else ()))
    return Line(
        kind=Kind.QUOTE, label=label, quoted=quoted or "-", start=at, end=at + len(taken.text), notes=notes, odd=odd
    )


def _unusual(subject: Subject, why: Sequence[Why]) -> Iterator[Line]:
    for one in why:
        yield Line(kind=Kind.UNUSUAL, text=f"This cannot be shown faithfully: {MEANS[one]}.")
    for fact in subject.facts[:MAX_VALUES]:
        if _is_unentitled(fact):
            yield Line(
                kind=Kind.UNUSUAL,
                text=f"Nobody who may decide {does(fact.role)} said this. The value stands in",
                quoted=word(fact.path) or "-",
            )
    reached = sum(fact.role == Role.DESTINATION for fact in subject.facts)
    if reached >= MANY:
        yield Line(kind=Kind.UNUSUAL, text=f"It reaches {reached} recipients at once.")
    for off in subject.off[:MANY]:
        yield Line(kind=Kind.UNUSUAL, text="The gates stopped it", quoted=prose(off, 300).text or "-")
    for advice in subject.ticket.advice[:8]:
        yield Line(kind=Kind.UNUSUAL, text="A scan of what the agent read says", quoted=prose(advice, 300).text or "-")


def _no(ticket: Ticket) -> Iterator[Line]:
    same = "act on the same values is refused, however it is written"
    if ticket.spoken:
        same = "words are not sent on to the same agent, whatever the message calls itself"
    yield Line(
        kind=Kind.OURS,
        text="The agent is told that a person refused it, and not who or why. Until"
        f" {when(ticket.expires)} the same {same}; the agent can go on with the rest of its task.",
    )
    yield Line(kind=Kind.OURS, text="Without an answer by then it is a no as well.")


def _unfaithful(facts: Sequence[Fact]) -> Iterator[Why]:
    """# INVARIANT: 3."""
    if len(facts) > MAX_VALUES:
        yield Why.TOO_MANY
    for fact in facts[:MAX_VALUES]:
        if isinstance(fact.value, str):
            shown = plain(fact.value, MAX_VALUE)
            if shown.cut:
                yield Why.TOO_LONG
            if shown.removed:
                yield Why.UNPRINTABLE
        if not plain(fact.path, MAX_VALUE).faithful:
            yield Why.UNPRINTABLE


def _name(agent: str) -> str:
    return word(agent.rpartition("/")[2], 128)


def when(at: int) -> str:
    """An instant, in milliseconds since 1970, for people."""
    return f"{_EPOCH + timedelta(milliseconds=min(max(0, at), 253_000_000_000_000)):%Y-%m-%d %H:%M} UTC"
