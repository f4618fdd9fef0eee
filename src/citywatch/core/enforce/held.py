"""What an agent's task is held to, as rows: the plan that was adopted, and what was done under it.

Decides who may bring a plan in, replace it and lift it; `planned` holds calls against it. A plan follows the agent, not
one of its keys and not a task that the model names: a second key neither escapes it nor gets its steps once more.

INVARIANTS
1. While a plan holds, another can only narrow it, and only the person whose plan it is may bring one.
2. A task without a plan lifts nothing but a plan of the same person whose time is over.
3. `from: prompt` means the prompt of the task that the first plan came with, however often it was narrowed since.
"""

from __future__ import annotations

import msgspec

from citywatch.core.plan.contract import Held, Kind, Plan, Progress, begin, ended
from citywatch.core.plan.narrow import NotAdopted, adopt

Key = tuple[str, str]


class TaskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """An adopted plan, the task it came with, and the principal whose word it is: it entitles to no more than they."""

    held: Held
    task: str
    principal: str


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is held to from now on: no plan if None."""

    plan: TaskPlan | None
    progress: Progress | None


def plan_key(agent: str) -> Key:
    return ("plan", agent)


def progress_key(agent: str) -> Key:
    return ("progress", agent)


def take_up(plan: Plan | None, task: str, principal: str, before: Holding, now: int) -> Holding | NotAdopted:
    """What holds once this principal has started this task, with a plan over their own session or without one."""
    earlier, progress = before.plan, before.progress
    if earlier is None or progress is None or (ended(earlier.held, progress, now) and earlier.principal == principal):
        earlier, progress = None, begin(now)
    if plan is None:
        return Holding(plan=earlier, progress=None if earlier is None else progress)  # INVARIANT: 2
    if earlier is not None and earlier.principal != principal:  # INVARIANT: 1
        return NotAdopted(("the agent is held to a plan of somebody else's",))
    held = adopt(plan, Kind.SIGNED, clean=False, parent=None if earlier is None else earlier.held)
    if isinstance(held, NotAdopted):
        return held
    if ended(held, progress, now):
        return NotAdopted(("its time is over already",))
    first = task if earlier is None else earlier.task  # INVARIANT: 3
    return Holding(plan=TaskPlan(held=held, task=first, principal=principal), progress=progress)
