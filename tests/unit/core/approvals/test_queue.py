"""What is shown next: by what is at stake, in fair shares, never a flood, and nothing for ever last."""

from __future__ import annotations

import pytest

from citywatch.core.approvals.queue import OLDEST, Queue
from citywatch.core.call import Effect
from tests.unit.core.approvals.asking import HOUR, MINUTE, ask, names, queue, shown

FINAL = Effect.IRREVERSIBLE


def asked(*some: object) -> Queue:
    found = queue()
    for one in some:
        found.ask(one)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    "dearer",
    [{"effect": FINAL}, {"impact": 5}, {"untrusted": 1}, {"told": 1}, {"discloses": True}],
    ids=["irreversible", "impact", "untrusted", "flagged", "discloses"],
)
def test_what_is_dearer_comes_first_though_it_came_later(dearer: dict[str, object]) -> None:
    found = asked(ask("plain", 0), ask("dear", 1, agent="other", **dearer))
    assert [one.ticket for one in found.lines(2)] == ["dear", "plain"]


def test_the_stake_of_what_waits_grows_until_it_comes_first() -> None:
    found = asked(ask("plain", 0), ask("dear", 30 * MINUTE, impact=2, agent="other"))
    assert [one.ticket for one in found.lines(31 * MINUTE)] == ["plain", "dear"]
    assert [one.ticket for one in asked(ask("plain", 0), ask("dear", 0, impact=2)).lines(0)] == ["dear", "plain"]


def test_one_of_ten_that_are_shown_is_the_oldest() -> None:
    """INVARIANT: 3. What nobody would come to is come to, however much dearer all that follows is."""
    found = queue()
    found.ask(ask("old", 0))
    for number in range(40):
        found.ask(ask(f"dear {number:02}", 1, effect=FINAL, impact=10, agent=f"a{number}", root=f"r{number}"))
    assert "old" in shown(found, "otto", 2, OLDEST)


def test_what_is_alike_is_one_question_with_a_count() -> None:
    found = asked(ask("one", 0, resource="r"), ask("two", 1, resource="r"), ask("three", 2, resource="r", agent="b"))
    assert [(one.ticket, one.count, one.folded) for one in found.lines(3)] == [
        ("one", 2, ("two",)),
        ("three", 1, ()),
    ]
    assert len(found) == 3


def test_a_no_ends_all_that_is_folded_and_a_yes_only_what_was_shown() -> None:
    """INVARIANT: 4."""
    found = asked(*(ask(name, 0, resource="r") for name in ("one", "two", "three")))
    assert names(found.pick("otto", 1)) == "one"
    assert found.said("one", "otto", True) is True
    assert [(one.ticket, one.folded) for one in found.lines(2)] == [("two", ("three",))]
    assert found.close("two", approved=False) == ("two", "three")
    assert len(found) == 0


def test_a_folded_ticket_that_is_over_leaves_the_others_in_the_fold() -> None:
    found = asked(*(ask(name, 0, resource="r") for name in ("one", "two", "three")))
    assert found.close("two", approved=None) == ("two",)
    assert found.close("two", approved=None) == ()
    assert found.lines(1)[0].folded == ("three",)


def test_nobody_is_shown_a_ticket_twice_and_no_more_people_than_have_to_say_yes() -> None:
    """INVARIANT: 1."""
    found = queue("otto", "pia", "rosa")
    found.ask(ask("one", 0, need=2, reviewers=3))
    assert names(found.pick("otto", 1)) == "one"
    assert found.pick("otto", 1) is None
    assert names(found.pick("pia", 1)) == "one"
    assert found.pick("rosa", 1) is None, "two look at it, and two are needed"
    assert found.said("one", "otto", True) is None
    assert found.said("one", "pia", False) is None, "one more may be asked, and could still make it two"
    assert found.pick("pia", 2) is None
    assert names(found.pick("rosa", 2)) == "one"
    assert found.said("one", "rosa", True) is True


def test_so_many_no_that_not_enough_can_say_yes_is_a_no() -> None:
    found = queue("otto", "pia")
    found.ask(ask("one", 0, need=2, reviewers=2))
    assert names(found.pick("otto", 1)) == "one"
    assert found.said("one", "otto", False) is False
    assert found.said("one", "pia", True) is None, "it is over"
    assert len(found) == 0


def test_who_goes_away_without_an_answer_leaves_it_to_others() -> None:
    found = queue("otto", "pia")
    found.ask(ask("one", 0))
    assert names(found.pick("otto", 1)) == "one"
    assert found.pick("pia", 1) is None
    found.left("one", "otto")
    assert names(found.pick("pia", 2)) == "one"


def test_what_has_expired_is_shown_to_nobody() -> None:
    """INVARIANT: 1."""
    found = asked(ask("one", 0, expires=10))
    assert found.lines(10) == ()
    assert found.pick("otto", 10) is None
    assert found.expire(9) == ()
    assert found.expire(10) == ("one",)


@pytest.mark.parametrize("who", ["agent", "root"])
def test_a_flood_is_one_line_and_nobody_else_waits_for_it(who: str) -> None:
    found = queue()
    for number in range(200):
        flooding = {"agent": f"a{number % 5}" if who == "root" else "loud", "root": "mallory"}
        found.ask(ask(f"flood {number:03}", number, effect=FINAL, impact=10, **flooding))
    found.ask(ask("honest", 300))
    assert [one.ticket for one in found.lines(301)] == ["honest"]
    assert shown(found, "otto", 301) == ["honest"]
    floods = {(one.kind, one.who): one for one in found.flooded(301)}
    flood = floods["agent", "loud"] if who == "agent" else floods["root", "mallory"]
    assert (flood.count, flood.acts) == (200, ("crm/update",))


def test_somebody_else_of_a_root_that_is_flooded_is_shown() -> None:
    """Another agent of the same root, and the same agent's honest neighbour, are no part of the flood."""
    found = queue()
    for number in range(60):
        found.ask(ask(f"flood {number:02}", number, agent="loud"))
    found.ask(ask("honest", 100, agent="quiet"))
    assert "honest" in [one.ticket for one in found.lines(101)]


def test_who_goes_beyond_a_fair_share_comes_after_who_does_not() -> None:
    """Five of one root, dear, and one of another: the first four of the root have its share."""
    found = queue(per_hour=8)
    for number in range(6):
        found.ask(ask(f"dear {number}", number, effect=FINAL, agent=f"a{number}", root="many"))
    found.ask(ask("cheap", 10, root="few", agent="z", act="crm/note"))
    given = [names(found.pick("otto", 11 + at * HOUR // 8)) for at in range(6)]
    assert given[4] == "cheap"


def test_what_is_kept_for_the_few_is_not_given_to_who_asks_much() -> None:
    """INVARIANT: 2."""
    found = queue(per_hour=12)
    for number in range(8):
        found.ask(ask(f"many {number}", number, effect=FINAL, agent="loud", root="many"))
    begun = shown(found, "otto", 10)
    assert begun, "what nobody else asks for is given as long as there is more than what is kept"
    assert len(begun) < 4
    assert found.pick("otto", 10) is None
    found.ask(ask("few", 11, root="few", agent="z"))
    assert names(found.pick("otto", 12)) == "few"


def test_an_agent_that_was_put_aside_is_asked_about_no_more() -> None:
    found = asked(ask("one", 0, agent="loud"), ask("two", 1, agent="loud"), ask("three", 2, agent="quiet"))
    assert found.drop("loud") == ("one", "two")
    assert [one.ticket for one in found.lines(3)] == ["three"]


def test_what_was_approved_before_is_less_new() -> None:
    found = asked(ask("one", 0, resource="r"), ask("two", 1, resource="s"))
    assert [one.novelty for one in found.lines(1)] == [2, 2]
    found.close("one", approved=True)
    found.ask(ask("three", 2, resource="r"))
    found.ask(ask("four", 3, resource="u"))
    assert {one.ticket: one.novelty for one in found.lines(4)} == {"two": 2, "three": 0, "four": 1}
