"""Tickets as the queue sees them, for tests."""

from __future__ import annotations

from typing import Any

from citywatch.core.approvals.asked import Asked
from citywatch.core.approvals.flood import Allowance, Floods
from citywatch.core.approvals.load import Load
from citywatch.core.approvals.question import Standing
from citywatch.core.approvals.queue import Queue
from citywatch.core.call import Effect

MINUTE = 60_000
HOUR = 60 * MINUTE


def ask(name: str, at: int = 0, **facts: Any) -> Asked:
    """A question of its own: its resource is its name."""
    given = {
        "agent": "desk",
        "root": "anna",
        "act": "crm/update",
        "effect": Effect.WRITE,
        "template": "t",
        "resource": name,
        "exact": name,
        "expires": at + 24 * HOUR,
        **facts,
    }
    return Asked(id=name, asked=at, **given)


def queue(*people: str, per_hour: int = 1_000) -> Queue:
    """An empty queue before these approvers."""
    load = Load()
    for one in people or ("otto",):
        load.comes(one, per_hour, 0)
    return Queue(Floods(Allowance()), load)


def names(standing: Standing | None) -> str:
    return "" if standing is None else standing.asked.id


def shown(found: Queue, who: str, now: int, most: int = 100) -> list[str]:
    """What somebody is shown one after the other, who approves nothing and denies nothing."""
    given: list[str] = []
    while len(given) < most and (one := found.pick(who, now)) is not None:
        given.append(one.asked.id)
    return given
