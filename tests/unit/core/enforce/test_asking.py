"""What a yes is bound to, against the call that wants to use it."""

from __future__ import annotations

import msgspec
import pytest

from citywatch.core.approvals.binding import ticket_digest
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.call import Bound
from citywatch.core.enforce.asking import bound_still
from citywatch.core.enforce.context import Context, Flow
from citywatch.core.flow.history import History
from citywatch.core.label import Label
from tests.simulation.flow_city import FlowCity

BOUND = Bound(
    agent="a", server="bank", tool="pay", effect="write", pin="p", arguments="x", names=(),
    labels=(("to", Label(frozenset({"outside:mail/inbox"}), None)),), chain=(), policies=("all",), code="c", task="",
)  # fmt: skip


def kept(ticket: Ticket, now: Bound) -> bool:
    here = FlowCity()
    flow = Flow(context=Context(), history=History(), ticket=ticket)
    return bound_still(flow, now, here.call(name="pay"), here.enforcer.rules).ticket is not None


def approved(bound: Bound | None = BOUND, digest: str = "") -> Ticket:
    found = digest or ("" if bound is None else ticket_digest(bound, "t", "00", 9))
    return Ticket(
        id="t", agent="a", server="bank", tool="pay", state=State.APPROVED, asked=0, expires=9, why="", call="c",
        bound=bound, digest=found, salt="00",
    )  # fmt: skip


def test_a_binding_whose_digest_is_another_is_none() -> None:
    assert kept(approved(), BOUND)
    assert not kept(approved(digest="0" * 64), BOUND)


@pytest.mark.parametrize("field", ["agent", "server", "tool", "effect", "pin", "arguments", "code", "task"])
def test_whatever_is_another_makes_it_another_call(field: str) -> None:
    assert not kept(approved(), msgspec.structs.replace(BOUND, **{field: "other"}))


def test_a_no_and_what_an_earlier_version_approved_are_bound_to_nothing() -> None:
    other = msgspec.structs.replace(BOUND, pin="q")
    assert kept(approved(None), other)
    assert kept(msgspec.structs.replace(approved(), state=State.DENIED), other)
