"""How far something went, entry by entry: what a server asks and is answered, what is refused, who stays untouched."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core import events
from citywatch.core.call import Direction
from citywatch.core.enforce.spread import ROOT, Kind, Roots, Spread

WHOLE = ("written", "desk\n")
PLAN = ("written", "desk\nplan")


def call(id_: str, agent: str = "clerk", **changes: Any) -> events.Decided:
    facts: dict[str, Any] = {
        "at": 1,
        "replica": "r1",
        "call": id_,
        "direction": Direction.TO_SERVER.value,
        "agent": agent,
        "key": f"key-of-{agent}",
        "server": "desk",
        "method": "tools/call",
        "name": "write",
        "revision": "2025-11-25",
        "effect": "write",
        "decision": "allow",
        "code": None,
        "policies": (),
        "detail": "",
        "policy": "",
        "manifest": "",
        "pin": None,
        "body": "",
    }
    return events.Decided(**facts | changes)


def asking(name: str, agent: str) -> events.Decided:
    return call(name, agent, direction=Direction.TO_AGENT.value, method="sampling/createMessage", name=None)


def kinds(spread: Spread) -> list[Kind]:
    return [one.kind for one in spread.touches]


def test_what_a_server_asks_an_agent_may_say_what_was_written_to_it() -> None:
    spread = Spread(Roots(calls=frozenset(("c1",))))
    assert not spread.decided(0, asking("s0", "cook")), "nothing was written yet"
    first = call("c1")
    assert spread.decided(1, first)
    spread.wrote(1, first, (PLAN,))
    spread.decided(2, asking("s1", "courier"))
    assert [one.name for one in spread.touches if one.kind is Kind.CONTEXT] == ["courier"]
    assert spread.decided(3, call("c2", "courier"))
    assert not spread.decided(4, call("c3", "cook"))


def test_what_an_agent_answers_a_server_is_written_to_all_of_it() -> None:
    spread = Spread(Roots(agents=frozenset((("clerk", 0),))))
    spread.replied(5, 1, asking("s1", "clerk"), (), ())
    assert kinds(spread) == [Kind.CONTEXT, Kind.ANSWER, Kind.OBJECT]
    spread.replied(6, 2, call("c9", "cook", effect="read"), (WHOLE,), ())
    assert [one.name for one in spread.touches if one.kind is Kind.CONTEXT] == ["clerk", "cook"]


def test_an_answer_of_whom_nothing_reached_touches_nothing() -> None:
    spread = Spread(Roots(calls=frozenset(("c1",))))
    spread.replied(5, 1, asking("s1", "clerk"), (), ())
    assert spread.touches == []


@pytest.mark.parametrize("decision", ["ask", "deny"])
def test_a_refused_call_is_named_and_carries_nothing_on(decision: str) -> None:
    spread = Spread(Roots(calls=frozenset(("c1",))))
    assert spread.decided(0, call("c1", decision=decision))
    assert [(one.kind, one.by, one.decision) for one in spread.touches] == [(Kind.CALL, ROOT, decision)]
    assert not spread.reached("desk")


def test_a_reply_that_speaks_of_another_object_brings_nothing() -> None:
    spread = Spread(Roots(calls=frozenset(("c1",))))
    first, other = call("c1"), call("c2", "cook", effect="read")
    spread.decided(0, first)
    spread.wrote(0, first, (PLAN, ("written", "desk\n*")))
    spread.decided(1, other)
    spread.replied(2, 1, other, (WHOLE, ("written", "desk\nother")), ())
    assert Kind.CONTEXT not in kinds(spread)
    spread.replied(3, 1, other, (WHOLE, ("written", "desk\nplan")), ())
    assert Kind.CONTEXT in kinds(spread)


def test_whoever_passes_by_a_set_that_nobody_can_read_any_more_may_pass_by_what_was_touched() -> None:
    spread = Spread(Roots(calls=frozenset(("c1",))))
    first = call("c1", effect="read")
    spread.decided(0, first)
    spread.replied(1, 1, first, (), ("payees\n=eve",))
    assert not spread.decided(2, call("c2", "cook"), ("payees\n=ann",))
    assert not spread.decided(2, call("c2", "cook"), (), ("contacts",))
    assert spread.decided(3, call("c3", "cook"), ("payees\n=eve",))
    assert spread.decided(4, call("c4", "baker"), (), ("payees",))
    lost = Spread(Roots(calls=frozenset(("c1",))))
    lost.decided(0, first)
    lost.replied(1, 1, first, None, None)
    assert lost.decided(2, call("c2", "cook"), ("payees\n=ann",))
    assert not lost.decided(3, call("c3", "baker"))
