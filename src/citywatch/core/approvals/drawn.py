"""A document as plain text, for a terminal or a mail.

Decides how lines are drawn where there is nothing but characters. INVARIANT: whatever somebody else wrote stands behind
a bar, on each of its lines, and a line of ours never begins with one; marks around a part of it are ours, and what it
says itself of them is said behind the bar.
"""

from __future__ import annotations

from collections.abc import Iterator

from citywatch.core.approvals.showing import Document, Kind, Line


def as_text(document: Document, width: int = 100) -> str:
    """The document for a terminal or a plain text: quoted words have a bar before each of their lines."""
    told: list[str] = []
    for section in document.sections:
        told += ["", section.title, ""]
        for line in section.lines:
            told += _drawn(line, width)
    return "\n".join(told[1:])


def _drawn(line: Line, width: int) -> Iterator[str]:
    mark = "! " if line.kind is Kind.UNUSUAL or (line.odd and line.kind is Kind.VALUE) else ""
    head = f"  {mark}{line.text}{line.label}{':' if line.quoted or line.kind is Kind.VALUE else ''}"
    if head.strip():
        yield head
    shown = line.quoted
    if line.end > line.start:
        shown = f"{shown[: line.start]}»{shown[line.start : line.end]}«{shown[line.end :]}"
    for one in shown.split("\n") if line.quoted else ():
        for at in range(0, max(1, len(one)), width):
            yield f"    │ {one[at : at + width]}"
    for note in line.notes:
        yield f"    ({note})"
