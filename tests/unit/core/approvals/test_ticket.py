"""The states of a ticket: which step may follow which, and what time does to it."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from citywatch.core.approvals.ticket import STEPS, Illegal, State, Step, Ticket, after, stepped
from citywatch.core.errors import Malformed

ALLOWED = {
    (State.PENDING, Step.APPROVE): State.APPROVED,
    (State.PENDING, Step.DENY): State.DENIED,
    (State.PENDING, Step.EXPIRE): State.EXPIRED,
    (State.PENDING, Step.SUPERSEDE): State.SUPERSEDED,
    (State.APPROVED, Step.USE): State.USED,
    (State.APPROVED, Step.EXPIRE): State.EXPIRED,
    (State.APPROVED, Step.SUPERSEDE): State.SUPERSEDED,
}
PAIRS = list(itertools.product(State, Step))


def ticket(state: State) -> Ticket:
    return Ticket(
        id="t", agent="a", server="s", tool="x", state=state, asked=0, expires=10, why="w", call="c", by="alice"
    )


@pytest.mark.parametrize(("state", "step"), PAIRS)
def test_every_pair_of_state_and_step_has_its_one_answer(state: State, step: Step) -> None:
    assert after(state, step) == ALLOWED.get((state, step), Illegal(state, step))


@pytest.mark.parametrize(("state", "step"), PAIRS)
def test_an_illegal_step_is_refused_and_a_legal_one_changes_the_state_alone(state: State, step: Step) -> None:
    if (state, step) in ALLOWED:
        assert stepped(ticket(state), step, 9) == msgspec.structs.replace(ticket(state), state=ALLOWED[state, step])
        return
    with pytest.raises(Malformed, match=f"is {state.value} cannot be taken to `{step.value}`"):
        stepped(ticket(state), step, 9)


@pytest.mark.parametrize("step", [Step.APPROVE, Step.DENY, Step.USE])
@pytest.mark.parametrize("state", [State.PENDING, State.APPROVED])
def test_nothing_is_done_with_a_ticket_whose_time_is_over(state: State, step: Step) -> None:
    with pytest.raises(Malformed, match="is expired"):
        stepped(ticket(state), step, 10)


@pytest.mark.parametrize("state", [State.PENDING, State.APPROVED])
def test_a_ticket_can_be_ended_late(state: State) -> None:
    assert stepped(ticket(state), Step.EXPIRE, 99).state is State.EXPIRED
    assert stepped(ticket(state), Step.SUPERSEDE, 99).state is State.SUPERSEDED


def test_time_alone_turns_what_waits_into_expired_and_nothing_else() -> None:
    late = {state: ticket(state).by_now(10) for state in State}
    assert late == {state: State.EXPIRED if STEPS[state] else state for state in State}
    assert {state: ticket(state).by_now(9) for state in State} == {state: state for state in State}


def test_no_walk_uses_an_approval_twice_or_leaves_an_end() -> None:
    for walk in itertools.product(Step, repeat=4):
        state, used, approved = State.PENDING, 0, 0
        for step in walk:
            reached = after(state, step)
            if isinstance(reached, Illegal):
                continue
            assert STEPS[state], "no step leads out of an end"
            used, approved = used + (reached is State.USED), approved + (reached is State.APPROVED)
            state = reached
        assert used <= approved <= 1


def test_a_row_of_an_earlier_version_is_read() -> None:
    row = b'{"id":"t","agent":"a","server":"s","tool":"x","state":"used","asked":1,"expires":2,"why":"w","call":"c"}'
    assert msgspec.json.decode(row, type=Ticket).state is State.USED
