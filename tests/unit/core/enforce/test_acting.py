"""Whose authority a call is made with, where no chain says so."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from citywatch.core.call import Call
from citywatch.core.enforce.acting import acting, scope_of
from citywatch.core.enforce.held import TaskRow
from citywatch.core.enforce.needs import Known
from citywatch.core.enforce.verify import Authority
from tests.simulation.city import AGENT, City

AUTHORITY = Authority(agent=AGENT, name="clerk", key="k", entity=cast(Any, None))


def known(task: TaskRow | None) -> Known:
    nothing: Any = None
    return Known(
        rules=nothing,
        agent=None,
        session=None,
        pin=None,
        lost=None,
        invited=None,
        taken=False,
        used={},
        reads=(),
        task=task,
    )


def call(**changes: Any) -> Call:
    return msgspec.structs.replace(City().call(), **changes)


def test_a_task_that_was_given_to_the_agent_says_who_stands_behind_it() -> None:
    row = TaskRow(agent=AGENT, principal="anna", started=1)
    who = acting(call(task="t"), AUTHORITY, known(row))
    assert (who.subject, who.actors, who.task) == ("principal:anna", (AGENT,), "t")


def test_a_task_of_another_agent_says_nothing() -> None:
    """`verify` has refused such a call: this holds by itself all the same."""
    row = TaskRow(agent=AGENT + "2", principal="anna", started=1)
    for one, task in ((call(task="t"), row), (call(task="t"), None), (call(), row)):
        who = acting(one, AUTHORITY, known(task))
        assert (who.subject, who.actors, who.task) == (AGENT, (), None)


@pytest.mark.parametrize(
    ("method", "name", "scope"),
    [
        ("tools/call", "pay", "tool:pay"),
        ("tools/call", 'pay "all"\\', "tool:pay%20%22all%22%5C"),
        ("resources/read", "desk://note", "resources/read"),
        ("tools/list", None, "tools/list"),
    ],
)
def test_the_scope_is_the_one_act(method: str, name: str | None, scope: str) -> None:
    assert scope_of(call(method=method, name=name)) == scope
