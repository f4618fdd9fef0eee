"""What an agent's task is held to, as rows: the plan that was adopted, and what was done under it.

Decides who may bring a plan in, replace it and lift it; `planned` holds calls against it. A plan follows the agent, not
one of its keys and not a task that the model names: a second key neither escapes it nor gets its steps once more. Only
where *honest runtime* is assumed of an agent, a plan follows the task that it came with.

INVARIANTS
1. While a plan holds, another can only narrow it, and only the person whose plan it is may bring one.
2. A task without a plan lifts nothing but a plan of the same person that is over: out of time, or with no call left.
3. What people said up to then entitles to nothing any more: words that a plan held to one payment are not good for a
   second one because the plan is over.
4. `from: prompt` means the prompt of the task that the first plan came with, however often it was narrowed since.
5. An agent writes a plan only in a task, and only while nothing but that task's principal and servers' own data could
   have shaped any of its contexts (*honest until tainted*). It narrows whatever holds.
6. What an agent wrote holds until the same principal's next task: then what a person gave holds again. An agent cannot
   bind its principal's hands, nor loosen them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from citywatch.core.flow.item import Item
from citywatch.core.label import Label
from citywatch.core.plan.contract import Held, Kind, Plan, Progress, begin, over
from citywatch.core.plan.narrow import NotAdopted, adopt

Key = tuple[str, str]


class TaskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """An adopted plan, the task it came with, and the principal whose word it is: it entitles to no more than they."""

    held: Held
    task: str
    principal: str


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is held to: no plan if None. The last plan was lifted at `since`, by the task `first`.

    `under` is the plan that a person gave, where one that the agent wrote narrows it.
    """

    plan: TaskPlan | None = None
    since: int = 0
    first: str = ""
    under: TaskPlan | None = None

    def counts(self, item: Item) -> bool:
        """Whether a person's words still entitle to anything. # INVARIANT: 3"""
        return item.at > self.since or item.call == self.first


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """A task that a principal gave an agent. `ended` is when it was over, 0 while it is not; milliseconds.

    `calls` is how many may be made for it in all, by whomever it came to; 0: as many as there are. `home` is the trust
    domain that it came from, under a chain: then `agent` is called as it is called there, and `started` is when it was
    first heard of; empty for a task that was begun here.
    """

    agent: str
    principal: str
    started: int
    ended: int = 0
    halted: bool = False
    calls: int = 0
    home: str = ""


FREE = Holding()


def task_key(task: str) -> Key:
    return ("task", task)


def holder_of(agent: str, task: str | None) -> str:
    """Whom a plan follows: the agent, or one task of one that keeps its tasks apart. No SPIFFE ID has a newline."""
    return agent if task is None else f"{agent}\n{task}"


def plan_key(agent: str) -> Key:
    return ("plan", agent)


def progress_key(agent: str) -> Key:
    return ("progress", agent)


def take_up(
    plan: Plan | None,
    task: str,
    principal: str,
    before: Holding,
    progress: Progress | None,
    now: int,
    kind: Kind = Kind.SIGNED,
) -> tuple[Holding, Progress | None] | NotAdopted:
    """What holds once this principal has started this task, with a plan over their own session or without one.

    `kind` says whether the plan is the principal's own or the operator's template.
    """
    before, progress = _unwritten(before, progress, task, principal, now)
    earlier = before.plan
    if earlier is None:
        holding, progress = before, begin(now)
    elif progress is None:  # a row is missing: it is not known whether the plan is over
        return NotAdopted(("what was done under the present plan is not on record",))
    elif over(earlier.held, progress, now) and earlier.principal == principal:  # INVARIANT: 2
        holding, progress = Holding(since=max(now, progress.at, before.since), first=task), begin(now)
    else:
        holding = before
    if plan is None:
        return holding, None if holding.plan is None else progress
    if holding.plan is not None and holding.plan.principal != principal:  # INVARIANT: 1
        return NotAdopted(("the agent is held to a plan of somebody else's",))
    held = adopt(plan, kind, clean=False, parent=None if holding.plan is None else holding.plan.held)
    if isinstance(held, NotAdopted):
        return held
    if over(held, progress, now):
        return NotAdopted(("its time is over already, or its calls are",))
    first = task if holding.plan is None else holding.plan.task  # INVARIANT: 4
    taken = TaskPlan(held=held, task=first, principal=principal)
    return msgspec.structs.replace(holding, plan=taken), progress


def _unwritten(
    before: Holding, progress: Progress | None, task: str, principal: str, now: int
) -> tuple[Holding, Progress | None]:
    """What holds without what the agent wrote in this principal's earlier tasks. # INVARIANT: 6"""
    written = before.plan
    if written is None or written.held.kind is not Kind.WRITTEN or written.principal != principal or progress is None:
        return before, progress
    if before.under is not None:
        return msgspec.structs.replace(before, plan=before.under, under=None), progress
    return Holding(since=max(now, progress.at, before.since), first=task), None


def write_down(
    plan: Plan,
    task: str,
    principal: str,
    labels: Iterable[Label],
    before: Holding,
    progress: Progress | None,
    now: int,
) -> tuple[Holding, Progress] | NotAdopted:
    """What holds once the agent has written this plan itself. `task` is the last that a principal gave it, or empty.

    `labels` are those of all its contexts.
    """
    present = before.plan
    if not task:
        return NotAdopted(("no principal has given the agent a task",))
    if present is not None and progress is None:
        return NotAdopted(("what was done under the present plan is not on record",))
    done = begin(now) if present is None or progress is None else progress
    clean = all(is_clean(label, principal) for label in labels)  # INVARIANT: 5
    held = adopt(plan, Kind.WRITTEN, clean=clean, parent=None if present is None else present.held)
    if isinstance(held, NotAdopted):
        return held
    if over(held, done, now):
        return NotAdopted(("its time is over already, or its calls are",))
    first = TaskPlan(held=held, task=task, principal=principal)
    written = first if present is None else msgspec.structs.replace(present, held=held)
    given = before.under if present is None or present.held.kind is Kind.WRITTEN else present
    return msgspec.structs.replace(before, plan=written, under=given), done


def is_clean(label: Label, principal: str) -> bool:
    """Whether nobody but this principal, and servers for their own data, could have shaped what has this label."""
    allowed = f"principal:{principal}"
    return label.origins is not None and all(one == allowed or one.startswith("server:") for one in label.origins)
