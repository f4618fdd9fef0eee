"""The queue against its definition: random days, the same order at every look."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.approvals.asked import Asked
from citywatch.core.approvals.flood import Allowance, Floods
from citywatch.core.approvals.load import Load
from citywatch.core.approvals.queue import Queue
from citywatch.core.call import Effect
from spec import queue as law

MINUTE = 60_000


def day(chance: Random, length: int) -> tuple[list[dict[str, Any]], int]:
    """Play a day: each look compares the order; the history, and how many looks had something to compare."""
    load = Load()
    for who in ("otto", "pia"):
        load.comes(who, 12, 0)
    queue, history, now, looks = Queue(Floods(Allowance()), load), [], 0, 0  # type: Queue, list[dict[str, Any]], int, int
    few = chance.choice((1, 2, 4))
    for number in range(length):
        now += chance.choice((0, 1, MINUTE, 7 * MINUTE)) if chance.random() < 0.98 else 25 * 60 * MINUTE
        if chance.random() < 0.7:
            history.append(_asked(chance, number, now, few))
            queue.ask(_ticket(history[-1]))
        elif chance.random() < 0.6:
            one = queue.pick(chance.choice(("otto", "pia")), now)
            if one is not None:
                assert law.held_until(history, one.asked.agent, one.asked.root) <= now
                history.append({"do": "shown", "at": now, "id": one.asked.id})
        else:
            over = chance.choice([one["id"] for one in history if one["do"] == "ask"] or ["none"])
            approved = chance.choice((True, False, None))
            standing = queue.standing(over) is not None
            queue.close(over, approved=approved if standing else None)
            if any(one["id"] == over for one in history):
                history.append({"do": "over", "id": over, "approved": approved if standing else None})
        if chance.random() < 0.3:
            order = law.order(history, now, load.capacity)
            assert [one.ticket for one in queue.lines(now)] == order
            looks += len(order) > 1
    return history, looks


def _asked(chance: Random, number: int, now: int, few: int) -> dict[str, Any]:
    return {
        "do": "ask",
        "at": now,
        "id": f"t{number:03}",
        "agent": f"a{chance.randrange(few)}",
        "root": f"p{chance.randrange(few)}",
        "act": f"s/t{chance.randrange(2)}",
        "effect": chance.choice(list(Effect)).value,
        "template": chance.choice("xy"),
        "resource": f"r{chance.randrange(5 * few)}",
        "stake_parts": (chance.randint(1, 10), chance.randrange(5), chance.randrange(5)),
    }


def _ticket(event: dict[str, Any]) -> Asked:
    impact, untrusted, told = event["stake_parts"]
    return Asked(
        id=event["id"],
        agent=event["agent"],
        root=event["root"],
        act=event["act"],
        effect=Effect(event["effect"]),
        template=event["template"],
        resource=event["resource"],
        exact=event["id"],
        asked=event["at"],
        expires=1 << 50,
        impact=impact,
        untrusted=untrusted,
        told=told,
    )


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_is_the_one_that_the_definition_gives(chance: Random) -> None:
    day(chance, 40)


def test_and_it_was_not_for_want_of_floods_and_of_things_to_order() -> None:
    days = [day(Random(seed), 60) for seed in range(40)]
    assert sum(looks for _, looks in days) > 200
    assert sum(bool(law.strikes(history)) for history, _ in days) > 20
    assert sum(one["do"] == "shown" for history, _ in days for one in history) > 200
