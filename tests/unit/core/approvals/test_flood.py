"""Who asks too much is held back, longer each time, and put aside; whoever keeps to their part never is."""

from __future__ import annotations

from citywatch.core.approvals.flood import Allowance, Floods, Strike

HOUR = 3_600_000
COOL = 600_000


def flood(floods: Floods, agent: str, count: int, at: int, root: str = "anna") -> list[Strike]:
    return [strike for number in range(count) for strike in floods.asked(agent, root, at + number)]


def test_within_the_allowance_nothing_happens_and_one_more_is_a_strike() -> None:
    floods = Floods(Allowance())
    assert flood(floods, "desk", 8, 0) == []
    assert floods.until("desk", "anna") == 0
    (strike,) = flood(floods, "desk", 1, 100)
    assert (strike.kind, strike.who, strike.number, strike.until, strike.aside) == (
        "agent",
        "desk",
        1,
        100 + COOL,
        False,
    )
    assert floods.until("desk", "anna") == 100 + COOL
    assert floods.held(200) == (("agent", "desk", 100 + COOL, 1),)
    assert floods.held(100 + COOL) == ()


def test_an_allowance_is_of_any_hour() -> None:
    floods = Floods(Allowance())
    assert flood(floods, "desk", 8, 0) == []
    assert flood(floods, "desk", 8, HOUR + 8) == []
    assert floods.recent("desk", HOUR + 20) == 8


def test_who_goes_on_while_held_back_is_held_back_longer_and_then_put_aside() -> None:
    """INVARIANT: 2."""
    floods = Floods(Allowance())
    first, second, third = flood(floods, "desk", 27, 0)
    assert [one.number for one in (first, second, third)] == [1, 2, 3]
    assert second.until == first.until + 2 * COOL
    assert third.until == second.until + 4 * COOL
    assert [one.aside for one in (first, second, third)] == [False, False, True]


def test_strikes_are_forgotten_after_a_day_without_one() -> None:
    """INVARIANT: 3."""
    floods = Floods(Allowance())
    assert [one.number for one in flood(floods, "desk", 18, 0)] == [1, 2]
    assert [one.number for one in flood(floods, "desk", 9, 24 * HOUR + 100)] == [1]


def test_of_a_root_only_those_are_held_back_who_asked_more_than_their_part() -> None:
    """INVARIANT: 1, 4."""
    floods = Floods(Allowance(per_agent=100))
    for number in range(28):
        floods.asked("loud", "anna", number)
    assert floods.asked("quiet", "anna", 30) == floods.asked("quiet", "anna", 31) == ()
    (strike,) = floods.asked("quiet", "anna", 32)
    assert (strike.kind, strike.who, strike.aside) == ("root", "anna", False)
    assert floods.until("loud", "anna") == 32 + COOL
    assert floods.until("quiet", "anna") == 0
    assert floods.until("loud", "ben") == 0


def test_a_person_can_lift_it() -> None:
    floods = Floods(Allowance())
    flood(floods, "desk", 9, 0)
    floods.lifted("agent", "desk")
    assert floods.until("desk", "anna") == 0
    assert floods.held(20) == ()
