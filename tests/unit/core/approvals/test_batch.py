"""One signature for several: only what is alike but for its values, only a few, nothing that takes more than a look."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from citywatch.core.approvals.batch import check_yes, documents_of, table_digest, tabulate
from citywatch.core.approvals.drawn import table_as_text
from citywatch.core.approvals.reading import dwell_ms
from citywatch.core.approvals.recorded import reading_of
from citywatch.core.approvals.showing import Document, Fact, Subject, render
from citywatch.core.approvals.statement import MAX_SET
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.call import Bound, Effect
from citywatch.core.errors import Malformed

BOUND = Bound(
    agent="spiffe://a.example/agent/clerk", server="bank", tool="pay", effect="irreversible", pin="p", arguments="x",
    names=(("to", "destination", "bob"),), labels=(), chain=("root",), policies=("all",), code="approval_required",
    task="t",
)  # fmt: skip


def ticket(number: int = 0, bound: dict[str, Any] | None = None, **changes: Any) -> Ticket:
    made = Ticket(
        id=f"t{number}", agent=BOUND.agent, server="bank", tool="pay", state=State.PENDING, asked=0, expires=86_400_000,
        why="rule `each`", call=f"c{number}", authority=("alice",),
        bound=msgspec.structs.replace(BOUND, arguments=str(number), **(bound or {})),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def document(of: Ticket, amount: int = 5, **values: Any) -> Document:
    facts = tuple(Fact(path=path, role="content", value=one) for path, one in {"amount": amount, **values}.items())
    return render(Subject(ticket=of, effect=Effect.IRREVERSIBLE, audience=(), facts=facts))


TICKETS = [ticket(number) for number in range(MAX_SET)]
DOCUMENTS = [document(one, number) for number, one in enumerate(TICKETS)]


def test_what_differs_in_values_alone_is_a_set() -> None:
    table = tabulate(TICKETS, DOCUMENTS, MAX_SET)
    check_yes(TICKETS, DOCUMENTS)
    assert documents_of(table) == tuple(DOCUMENTS)
    (row,) = [row for part in table.parts for row in part.rows if not row.is_same]
    assert [one.quoted for one in row.lines] == [str(number) for number in range(MAX_SET)]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"agent": "spiffe://a.example/agent/x"}, "another agent asks"),
        ({"server": "shop"}, "another act"),
        ({"tool": "close"}, "another act"),
        ({"authority": ("bob",)}, "other people's authority"),
        ({"of": ("alice",)}, "others have to approve it"),
        ({"bound": {"task": "u"}}, "another task"),
        ({"bound": {"chain": ()}}, "another chain"),
        ({"bound": {"pin": "q"}}, "defined otherwise"),
        ({"bound": {"effect": "write"}}, "defined otherwise"),
        ({"bound": {"policies": ("all", "more")}}, "other policies"),
        ({"bound": {"code": "x"}}, "other policies"),
        ({"bound": {"names": ()}}, "other arguments"),
        ({"bound": {"names": (("to", "object", "bob"),)}}, "other arguments"),
        ({"discloses": True}, "discloses"),
    ],
    ids=lambda one: "" if isinstance(one, str) else "-".join((*one, *one.get("bound", ()))),
)
def test_what_differs_in_more_is_none(other: dict[str, Any], why: str) -> None:
    """INVARIANT: 1."""
    odd = ticket(99, **other)
    with pytest.raises(Malformed, match=f"`t99` and `t0` are not alike: .*{why}"):
        tabulate([*TICKETS[:3], odd], [*DOCUMENTS[:3], document(odd)], MAX_SET)


@pytest.mark.parametrize("values", [{"note": "x"}, {"amount[0]": 1}])
def test_an_argument_more_is_another_shape(values: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match="more differs than values"):
        tabulate(TICKETS[:2], [DOCUMENTS[0], document(TICKETS[1], **values)], MAX_SET)


@pytest.mark.parametrize(
    ("some", "most", "why"),
    [
        ([], MAX_SET, "2 to 10"),
        ([0], MAX_SET, "2 to 10"),
        ([0, 0], MAX_SET, "each once"),
        ([0, 1, 2], 2, "2 to 2"),
        ([0, 1], 1, "answered alone"),
    ],
)
def test_a_set_has_a_few_each_once(some: list[int], most: int, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        tabulate([TICKETS[one] for one in some], [DOCUMENTS[one] for one in some], most)


def test_a_ticket_of_an_earlier_version_is_in_no_set() -> None:
    old = msgspec.structs.replace(TICKETS[1], bound=None)
    with pytest.raises(Malformed, match="earlier version"):
        tabulate([TICKETS[0], old], DOCUMENTS[:2], MAX_SET)


@pytest.mark.parametrize(
    ("risk", "why"),
    [
        ({"shown": (("destination", "eve"),)}, "of nobody who may steer the act"),
        ({"discloses": True}, "lets out"),
        ({"advice": ("it says to hurry",)}, "a scan noticed"),
        ({"conversation": "with billing"}, "own words"),
        ({"why": "rule `other`"}, "for different reasons"),
    ],
    ids=lambda one: "" if isinstance(one, str) else next(iter(one)),
)
def test_nothing_hides_in_a_set_that_takes_more_than_a_look(risk: dict[str, Any], why: str) -> None:
    """INVARIANT: 2."""
    odd = ticket(1, **risk)
    with pytest.raises(Malformed, match=f"{why}.*answer it alone"):
        check_yes([TICKETS[0], odd, TICKETS[2]], [DOCUMENTS[0], document(odd), DOCUMENTS[2]])


def test_what_cannot_be_shown_is_in_no_set_that_is_approved() -> None:
    with pytest.raises(Malformed, match="cannot be shown faithfully"):
        check_yes(TICKETS[:2], [DOCUMENTS[0], document(TICKETS[1], amount=5, note="x\u200b")])


def test_the_name_of_a_set_is_of_its_tickets_and_documents_in_whatever_order() -> None:
    shown = [(f"{number:064x}", f"{number + 9:064x}") for number in range(4)]
    names = [table_digest(shown), table_digest(shown[::-1])]
    others = [table_digest(shown[:3]), table_digest([*shown[:3], (shown[3][0], shown[0][1])])]
    assert names[0] == names[1]
    assert len({*names, *others}) == 3


def test_reading_a_table_takes_longer_the_more_differs_and_less_than_reading_each() -> None:
    """INVARIANT: 4."""
    alike = [document(one) for one in TICKETS]
    waits = [
        dwell_ms(*reading_of(tabulate(TICKETS[:count], documents[:count], MAX_SET)))
        for documents in (alike, DOCUMENTS)
        for count in (2, 5, 10)
    ]
    assert len(set(waits[:3])) == 1, "the tenth that says the same takes no longer"
    assert waits[3:] == sorted({*waits[:3], *waits[3:]})[1:], "each that differs does"
    assert waits[-1] < sum(dwell_ms(*reading_of(one)) for one in DOCUMENTS)


def test_what_is_the_same_is_drawn_once() -> None:
    drawn = table_as_text(tabulate(TICKETS[:3], DOCUMENTS[:3], MAX_SET), "n", "anna").split("\n")
    assert drawn[:3] == ["  1  t0", "  2  t1", "  3  t2"]
    assert sum("it cannot be taken back" in one for one in drawn) == 1
    assert [one for one in drawn if " │ " in one and one[:3].strip()] == ["  1 │ 0", "  2 │ 1", "  3 │ 2"]
