"""Of which tasks a call is a branch, how deep it stands in them, and which task pays for it: with a chain and without.

What a principal asks of one agent grows into a tree: it speaks to others, and they to others. A chain says so itself;
without one nobody does, but who was spoken to for which task is known here, and kept with the receiver.

Decides how far a tree may grow and whose budget a call takes from; whether the call is permitted is asked elsewhere.
INVARIANTS
1. A call belongs to the task that it names. One that names none belongs to the task that its agent was given last and
   to every one for which it was spoken to a while ago: an agent cannot leave a tree by saying nothing.
2. A message goes no further than `max_hops` agents from where its tree began. What several trees could have led to goes
   on in those that have room, and takes all of them along.
3. A call takes one from the budget of a task that it belongs to: of several the one that reached its agent last and has
   something left. Where none has, it is refused, unless it can be for a task without a budget. A refusal takes one too.
4. What is kept of an agent is bounded: of too many trees the shallowest are forgotten, never the deepest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from citywatch.core.call import Call, Deny, Reason
from citywatch.core.enforce.chains import is_act
from citywatch.core.enforce.held import TaskRow
from citywatch.core.enforce.peers import is_message, receiver_of
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code
from citywatch.core.wire import a2a

Key = tuple[str, str]
REACHED: Final = "reached"
MAX_TREES: Final = 64
"""How many trees are told apart for one agent."""
_TALK: Final = "talk:"
"""What an agent begins for no task: no task's id has a colon."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """How many agents a message had come through when it reached its receiver, and when that was, in milliseconds."""

    depth: int
    at: int


class Reached(msgspec.Struct, frozen=True):
    """The trees in which one agent was spoken to."""

    trees: Mapping[str, Mark] = {}

    def open(self, now: int, memory_ms: int) -> dict[str, Mark]:
        """Those that it may still be acting in."""
        return {tree: mark for tree, mark in self.trees.items() if now - mark.at < memory_ms}


NOBODY: Final = Reached()


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """One tree that a call belongs to: the depth of its agent, when it was reached, how many calls the task may make.

    `calls` is 0 where the task has no budget, and for what belongs to no task.
    """

    tree: str
    depth: int
    at: int = 0
    calls: int = 0

    @property
    def budget(self) -> str:
        """The key of the tree's counter; an agent's own begin with its name and a newline, a link's with `grant:`."""
        return f"task:{self.tree}"


def reached_key(agent: str) -> Key:
    """Where it is kept in which trees an agent, by its name, was spoken to."""
    return (REACHED, agent)


def reached_rows(call: Call, rules: Rules) -> tuple[Key, ...]:
    """The rows that say in which trees a call's agent stands, and in which the one it speaks to."""
    if not is_act(call) or not rules.heard:
        return ()
    own, receiver = call.agent.rpartition("/")[2], _receiver(call, rules)
    rows = (reached_key(own),) if own in rules.heard else ()
    return rows if receiver is None or receiver == own else (*rows, reached_key(receiver))


def possible_tasks(call: Call, own: Reached, current: str, rules: Rules, now: int) -> tuple[str, ...]:
    """The tasks that a call may belong to; `current` is the one that its agent was given last, or nothing.

    # INVARIANT: 1.
    """
    if not is_act(call):
        return ()
    if call.task is not None:
        return (call.task,)
    spoken = (tree for tree in own.open(now, rules.hop_memory_ms) if not tree.startswith(_TALK))
    return tuple(dict.fromkeys((*((current,) if current else ()), *spoken)))


def branches(
    call: Call, own: Reached, tasks: Mapping[str, TaskRow | None], rules: Rules, now: int
) -> tuple[Branch, ...]:
    """The trees of a call; `tasks` are the rows of its `possible_tasks`. A task that is over has no tree."""
    if not is_act(call):
        return ()
    marks = own.open(now, rules.hop_memory_ms)
    found = []
    for task, row in tasks.items():
        if row is not None and not row.ended:
            mark = marks.get(task, _ROOT)
            found.append(Branch(tree=task, depth=mark.depth, at=mark.at or row.started, calls=row.calls))
    if call.task is None:
        found += [
            Branch(tree=tree, depth=mark.depth, at=mark.at) for tree, mark in marks.items() if tree.startswith(_TALK)
        ]
    if found:
        return tuple(found)
    return (Branch(tree=f"{_TALK}{call.agent.rpartition('/')[2]}", depth=0),)


_ROOT: Final = Mark(0, 0)


def payer(found: tuple[Branch, ...], used: Mapping[str, int]) -> Branch | None:
    """The branch whose budget a call takes from; None where no task that it belongs to has one. # INVARIANT: 3."""
    paying = [one for one in found if one.calls]
    left = [one for one in paying if used.get(one.budget, 0) < one.calls]
    if not left and any(not one.calls and not one.tree.startswith(_TALK) for one in found):
        return None  # it may as well be for a task that has no budget; what was begun for no task pays for nothing
    return max(left or paying, key=lambda one: (one.at, one.tree), default=None)


def hops_of(found: tuple[Branch, ...], chained: int) -> int:
    """How many agents a message has come through, its sender among them; `chained` is what its chain says, or 0."""
    return max(chained, min((one.depth for one in found), default=0) + 1)


def too_far(call: Call, rules: Rules, found: tuple[Branch, ...], chained: int) -> Deny | None:
    """Refuse a message of which each tree would grow further than it may. # INVARIANT: 2."""
    if not is_message(call) or not a2a.sends(call.method) or hops_of(found, chained) <= rules.max_hops:
        return None
    return Deny(Reason(Code.HOPS_EXCEEDED, detail=f"it came through {rules.max_hops} agents"))


def spoken(call: Call, found: tuple[Branch, ...], receiver: Reached, rules: Rules, now: int) -> Reached | None:
    """What is kept of the receiver once a message is let through to it; None where that is as before, or kept nowhere.

    A mark that says the same is written anew only now and then, so that a busy agent's row is not changed all the time.
    """
    if _receiver(call, rules) is None:
        return None
    marks = receiver.open(now, rules.hop_memory_ms)
    fresh = rules.hop_memory_ms // _RENEWED
    changed = False
    for one in found:
        before, depth = marks.get(one.tree), min(one.depth + 1, rules.max_hops)
        if before is None or depth > before.depth or (depth == before.depth and now - before.at >= fresh):
            marks[one.tree], changed = Mark(depth, now), True
    if not changed:
        return None
    kept = sorted(marks.items(), key=lambda one: (-one[1].depth, -one[1].at, one[0]))[:MAX_TREES]  # INVARIANT: 4.
    return Reached(dict(kept))


_RENEWED: Final = 8


def _receiver(call: Call, rules: Rules) -> str | None:
    return receiver_of(call, rules) if a2a.sends(call.method) else None
