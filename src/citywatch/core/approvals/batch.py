"""Several tickets answered by one signature: only what is alike in all but its values, only a few, nothing risky.

Decides whether tickets may be answered as a set, and what is shown of them: one table, in which what all say is said
once, and what differs stands beside each other. Each ticket keeps a digest, an answer and an end of its own; whether it
may be answered at all is asked of each (`answers`), and what is signed for them is `statement`'s.

INVARIANTS
1. A set holds 2 to `most` tickets, each once, of one agent, act, authority, task, chain and definition, which come by
   the same policies, with the same arguments: what differs are values, and each stands in the table.
2. A yes to a set holds nothing that takes more than a look: nothing that cannot be shown faithfully, or that discloses,
   no value that nobody entitled supplied, nothing that a scan noticed, and nothing that is asked for another reason.
3. A table is made of nothing but the documents of its tickets, and leaves out nothing of them (`documents_of`).
4. What there is to read of a table is all that is said once, and all that differs for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from citywatch.core.approvals.showing import Document, Line, Section
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.call import Bound
from citywatch.core.canonical import canonical, digest
from citywatch.core.errors import Malformed

PREFIX: Final = b"citywatch/table/v1\n"
Facet = Callable[[Ticket, Bound], object]
_ALIKE: Final[tuple[tuple[str, Facet], ...]] = (
    ("another agent asks", lambda ticket, _: ticket.agent),
    ("it is another act", lambda ticket, _: (ticket.server, ticket.tool)),
    ("it uses other people's authority", lambda ticket, _: ticket.authority),
    ("others have to approve it", lambda ticket, _: ticket.of),
    ("it is made for another task", lambda _, bound: bound.task),
    ("it is made under another chain of grants", lambda _, bound: bound.chain),
    ("the tool was defined otherwise", lambda _, bound: (bound.pin, bound.effect)),
    ("other policies let it come so far", lambda _, bound: (bound.policies, bound.code)),
    ("it discloses something", lambda ticket, _: ticket.discloses),
    ("it has other arguments", lambda _, bound: sorted((path, role) for path, role, _value in bound.names)),
)
_YES: Final[tuple[tuple[str, Callable[[Ticket, Document], object]], ...]] = (
    ("cannot be shown faithfully", lambda _, document: document.uninspectable),
    ("lets out what not all may see whom it reaches", lambda ticket, _: ticket.discloses),
    ("holds a value of nobody who may steer the act", lambda ticket, _: ticket.shown),
    ("is asked after something that a scan noticed", lambda ticket, _: ticket.advice),
    ("is an agent's own words to another", lambda ticket, _: ticket.spoken),
)


class Row(msgspec.Struct, frozen=True):
    """A line that all tickets have: one where all say the same, else one for each, in their order."""

    lines: tuple[Line, ...]

    @property
    def is_same(self) -> bool:
        return len(self.lines) == 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What is noted of all of them alike."""
        return self.lines[0].notes if len({one.notes for one in self.lines}) == 1 else ()

    def said(self) -> tuple[Line, ...]:
        """These lines as they are drawn: a sentence of ours, or notes, that all of them have stand once."""
        texts, notes = {one.text for one in self.lines}, {one.notes for one in self.lines}
        last = len(self.lines) - 1
        return tuple(
            msgspec.structs.replace(
                one,
                text=one.text if len(texts) > 1 or not number else "",
                notes=one.notes if len(notes) > 1 or number == last else (),
            )
            for number, one in enumerate(self.lines)
        )


class Part(msgspec.Struct, frozen=True):
    """A heading of ours with its rows."""

    title: str
    rows: tuple[Row, ...]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of several tickets. `uninspectable` are the reasons why that is not all, of each."""

    tickets: tuple[str, ...]
    parts: tuple[Part, ...]
    uninspectable: tuple[tuple[str, ...], ...]

    def lines(self) -> Iterator[Line]:
        """All that there is to read. # INVARIANT: 4."""
        return (line for part in self.parts for row in part.rows for line in row.said())


def tabulate(tickets: Sequence[Ticket], documents: Sequence[Document], most: int) -> Table:
    """The table of these tickets, each with its document; `Malformed`, with the reason, if they are no set."""
    if not 2 <= len(tickets) <= most or len({one.id for one in tickets}) < len(tickets):
        raise Malformed(f"a set holds 2 to {most} tickets, each once" if most > 1 else "each is answered alone here")
    first = tickets[0]
    for one in tickets:  # INVARIANT: 1
        if one.bound is None or first.bound is None:
            raise Malformed(f"the ticket `{one.id}` is of an earlier version: let the agent ask again")
        for why, of in _ALIKE:
            if of(one, one.bound) != of(first, first.bound):
                raise Malformed(f"`{one.id}` and `{first.id}` are not alike: {why}; answer it alone")
    for document in documents:
        if _shape(document) != _shape(documents[0]):
            raise Malformed(
                f"`{document.ticket}` and `{first.id}` are not alike: more differs than values; answer it alone"
            )
    sections = zip(*(one.sections for one in documents), strict=True)
    return Table(
        tickets=tuple(one.id for one in tickets),
        parts=tuple(Part(each[0].title, tuple(_rows(each))) for each in sections),
        uninspectable=tuple(one.uninspectable for one in documents),
    )


def check_yes(tickets: Sequence[Ticket], documents: Sequence[Document]) -> None:
    """`Malformed`, with the reason, if one yes may not answer all of these; a no may. # INVARIANT: 2."""
    for ticket, document in zip(tickets, documents, strict=True):
        for why, of in _YES:
            if of(ticket, document):
                raise Malformed(f"the ticket `{ticket.id}` {why}: answer it alone")
        if ticket.why != tickets[0].why:
            raise Malformed(
                f"`{ticket.id}` and `{tickets[0].id}` are asked about for different reasons: answer it alone"
            )


def documents_of(table: Table) -> tuple[Document, ...]:
    """# INVARIANT: 3. The documents that a table was made of."""

    def line(row: Row, number: int) -> Line:
        return row.lines[0 if row.is_same else number]

    return tuple(
        Document(
            ticket=name,
            sections=tuple(Section(part.title, tuple(line(row, number) for row in part.rows)) for part in table.parts),
            uninspectable=table.uninspectable[number],
        )
        for number, name in enumerate(table.tickets)
    )


def table_digest(shown: Sequence[tuple[str, str]]) -> str:
    """What names a set as it was shown: the digests of its tickets and of their documents, in whatever order."""
    return digest(PREFIX + canonical(sorted([ticket, document] for ticket, document in shown)))


def _shape(document: Document) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(one.title, [(line.kind.value, line.label) for line in one.lines]) for one in document.sections]


def _rows(sections: Sequence[Section]) -> Iterator[Row]:
    for lines in zip(*(one.lines for one in sections), strict=True):
        yield Row(lines[:1] if len(set(lines)) == 1 else lines)
