"""A document, or the table of several, as plain text for a terminal or a mail.

Decides how lines are drawn where there is nothing but characters. INVARIANT: whatever somebody else wrote stands behind
a bar, on each of its lines, and a line of ours never begins with one; marks around a part of it are ours, and what it
says itself of them is said behind the bar.
"""

from __future__ import annotations

from collections.abc import Iterator

from citywatch.core.approvals.batch import Row, Table
from citywatch.core.approvals.reading import layout
from citywatch.core.approvals.showing import Document, Kind, Line


def as_text(document: Document, width: int = 100) -> str:
    """The document for a terminal or a plain text: quoted words have a bar before each of their lines."""
    told: list[str] = []
    for section in document.sections:
        told += ["", section.title, ""]
        for line in section.lines:
            told += _drawn(line, width)
    return "\n".join(told[1:])


def table_as_text(table: Table, nonce: str, person: str, width: int = 100) -> str:
    """The table of a set: what all say once, what differs under the numbers of the tickets, which stand at the top."""
    told = [f"{number:>3}  {name}" for number, name in enumerate(table.tickets, 1)]
    for part in layout(table.parts, nonce, person):
        told += ["", part.title, ""]
        for row in part.rows:
            told += _drawn(row.lines[0], width) if row.is_same else _beside(row, width)
    return "\n".join(told)


def _beside(row: Row, width: int) -> Iterator[str]:
    """A row that differs: what is the same of it once, and the rest of each behind its number."""
    heads, notes = [_head(line) for line in row.lines], {line.notes for line in row.lines}
    if len(set(heads)) == 1 and heads[0].strip():
        yield heads[0]
    for number, (head, line) in enumerate(zip(heads, row.said(), strict=True), 1):
        if len(set(heads)) > 1:
            yield f"{number:>3} {head.removeprefix('  ')}"
        yield from (f"{number:>3} {one[4:]}" for one in _quoted(line, width))
        yield from _notes(line, f"{number:>3} " if len(notes) > 1 else "    ")


def _head(line: Line) -> str:
    mark = "! " if line.kind is Kind.UNUSUAL or (line.odd and line.kind is Kind.VALUE) else ""
    return f"  {mark}{line.text}{line.label}{':' if line.quoted or line.kind is Kind.VALUE else ''}"


def _drawn(line: Line, width: int) -> Iterator[str]:
    if (head := _head(line)).strip():
        yield head
    yield from _quoted(line, width)
    yield from _notes(line, "    ")


def _quoted(line: Line, width: int) -> Iterator[str]:
    shown = line.quoted
    if line.end > line.start:
        shown = f"{shown[: line.start]}»{shown[line.start : line.end]}«{shown[line.end :]}"
    for one in shown.split("\n") if line.quoted else ():
        for at in range(0, max(1, len(one)), width):
            yield f"    │ {one[at : at + width]}"


def _notes(line: Line, before: str) -> Iterator[str]:
    return (f"{before}({note})" for note in line.notes)
