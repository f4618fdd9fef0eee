"""A table is its tickets' documents, whatever stands in them, and nothing in it passes for ours."""

from __future__ import annotations

import re

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.batch import documents_of, tabulate
from citywatch.core.approvals.drawn import table_as_text
from citywatch.core.approvals.recorded import reading_of
from citywatch.core.approvals.showing import Subject, render
from citywatch.core.approvals.statement import MAX_SET
from citywatch.core.errors import Malformed
from tests.property.test_approvals import TEXTS, VALUES, subjects
from tests.unit.core.approvals.test_batch import BOUND


@st.composite
def sets(draw: st.DrawFn) -> list[Subject]:
    """Calls that differ in what stands in them; now and then in more."""
    first = draw(subjects())
    found = []
    for number in range(draw(st.integers(2, 4))):
        facts = tuple(
            msgspec.structs.replace(
                one, value=draw(st.just(one.value) | VALUES), handle=draw(st.just(one.handle) | TEXTS)
            )
            for one in first.facts
        )
        ticket = msgspec.structs.replace(first.ticket, id=f"t{number}", bound=BOUND, expires=number * 86_400_000)
        found.append(msgspec.structs.replace(first, ticket=ticket, facts=facts))
    return found


@given(sets())
def test_a_table_holds_each_document_whole(calls: list[Subject]) -> None:
    """INVARIANT: 3 and 4."""
    documents = [render(one) for one in calls]
    try:
        table = tabulate([one.ticket for one in calls], documents, MAX_SET)
    except Malformed:
        return  # a value that cannot be shown has a line more
    assert documents_of(table) == tuple(documents)
    words, values = reading_of(table)
    assert values >= max(reading_of(one)[1] for one in documents)
    assert words >= max(reading_of(one)[0] for one in documents) - 1
    drawn = table_as_text(table, "n", "anna", width=10**9).split("\n")
    theirs = sum(
        len(line.quoted.split("\n")) for part in table.parts for row in part.rows for line in row.lines if line.quoted
    )
    assert sum(bool(re.match(r"(    |  \d )│ ", one)) for one in drawn) == theirs
    assert sum(one == part.title for part in table.parts for one in drawn) == len(table.parts)
