"""Is this call a step of the plan? A plan is the contract a task is held to; here is what it holds and how it is kept.

    expiry → budget in all → forbidden sequences → the first step that fits (arguments, order, edge, budget)

Decides on a plan that was adopted (`Held`), what the task has done (`Progress`) and the facts of one call. It does not
trace values (it is told), does not check signatures, and permits nothing: policy and entitlement have their own say.

INVARIANTS
1. What the plan does not name is out of it. An empty plan permits nothing; an empty "all of" or "any of" refuses.
2. A call that is refused changes nothing: only `InPlan` carries another `Progress`.
3. A call is taken by the first step that fits it, so the same calls always make the same progress; and `narrows` can be
   computed from the two plans alone.
4. Time never counts backwards: a call is judged at the latest time that the task has seen.
5. A plan that an agent wrote is adopted only while its context holds nothing untrusted; a child only if it names its
   parent's digest and narrows it. Both, because a tainted agent that "narrows" a free argument to the attacker's
   value would otherwise see that value bound by the plan.
6. A call that other rules let through beside the plan counts in the sequences that the plan forbids; nowhere else.
7. A call that goes on after a server's question is the step that it was, and takes no second one; but what was done in
   between counts in the forbidden sequences, for its effect comes after that.

Assumptions: templates and signed plans hold under *havoc*, written ones under *honest until tainted*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from citywatch.core.canonical import canonical, digest
from citywatch.core.limit import Path
from citywatch.core.plan.constraint import Bound, Record, Source, Traced, bindings, covers, refused

START = "start"
"""In `follows`: the call may be the first one."""

MAX_CALLS = 256
"""Calls of one plan, in all: `Progress` remembers each of them."""

MAX_BESIDE = 256
"""Calls beside the plan that are remembered. After them, each call that could end a forbidden sequence does."""

LONGEST = 8
"""As often as it is remembered that one tool was called beside the plan in a row: no sequence is longer."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One act: `tool` is `<server>/<tool>`. `after`: all these came before. `follows`: one of these came just before.

    None means that the plan does not care; empty refuses.
    """

    name: str
    tool: str
    arguments: Record
    after: tuple[str, ...] | None = None
    follows: tuple[str, ...] | None = None
    calls: int = 1


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What it says, not who vouches for it. Times in milliseconds: `expires` since the epoch, `within` of the start.

    `forbidden`: sequences of `<server>/<tool>` (or `<server>/*`, `*`); a call that would complete one, other calls in
    between or not, is out of the plan. `parent` is the digest of the plan that this one narrows.
    """

    name: str
    steps: tuple[Step, ...]
    calls: int
    expires: int | None = None
    within: int | None = None
    forbidden: tuple[tuple[str, ...], ...] = ()
    parent: str | None = None


class Kind(StrEnum):
    """Who vouches for a plan. It is never read from the plan itself."""

    TEMPLATE = "template"
    SIGNED = "signed"
    WRITTEN = "written"

    @property
    def assumes(self) -> str:
        """Under which assumption a plan of this kind holds."""
        return "honest until tainted" if self is Kind.WRITTEN else "havoc"


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """An adopted plan: what a task is held to from now on. Only `narrow.adopt` makes one."""

    plan: Plan
    kind: Kind
    digest: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a task has done under its plans: step, tool and id of each accepted call, in order. JSON-codable.

    It outlives its plan: a child goes on from its parent's progress, spent budgets and forbidden sequences included.
    """

    begun: int
    at: int
    steps: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    beside: tuple[tuple[int, str], ...] = ()
    """Calls let through beside the plan that one of its sequences names: after how many steps, and the tool."""


class Trace(msgspec.Struct, frozen=True):
    """A place where an argument's leaf stands whole: in the reply to an earlier call (by id); None: in the prompt."""

    call: str | None
    path: Path = ()


class CallFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One attempted tool call. `traces` names, for a leaf's path in the arguments, the places where it stands whole.

    `at` is milliseconds since the epoch, `id` unique among the task's calls; replies are traced to it.
    """

    id: str
    at: int
    tool: str
    arguments: dict[str, Any]
    traces: Mapping[Path, Iterable[Trace]] = {}


class Why(StrEnum):
    """Why a call is out of the plan; of several steps of one tool, the one that came nearest says it."""

    EXPIRED = "expired"
    SPENT = "spent"  # the budget in all
    FORBIDDEN = "forbidden"
    NO_STEP = "no_step"
    ARGUMENT = "argument"
    ORDER = "order"
    EDGE = "edge"
    STEP_SPENT = "step_spent"


class InPlan(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The call is a step of the plan, which constrains the arguments that were `given` as `arguments` says."""

    step: str
    progress: Progress
    arguments: Record
    given: Mapping[str, Any]

    def bound(self) -> tuple[Bound, ...]:
        """Each argument that the plan holds, and how; the others are free."""
        return tuple(bindings(self.arguments, self.given))


class OutOfPlan(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The call is no step of the plan. `argument` is the path of the first argument that did not fit, never a value."""

    why: Why
    step: str | None = None
    argument: Path = ()


def begin(now: int) -> Progress:
    """A task that has done nothing yet."""
    return Progress(begun=now, at=now)


def step(held: Held, progress: Progress, facts: CallFacts) -> InPlan | OutOfPlan:
    """Say whether a call is a step of the plan, and what the task has done once it is made."""
    plan = held.plan
    if ended(held, progress, facts.at):
        return OutOfPlan(why=Why.EXPIRED)
    if len(progress.steps) >= min(plan.calls, MAX_CALLS):
        return OutOfPlan(why=Why.SPENT)
    if forbids(held, progress, facts.tool):
        return OutOfPlan(why=Why.FORBIDDEN)
    nearest, reached = OutOfPlan(why=Why.NO_STEP), 0
    traced = _traced(progress, facts)
    for one in plan.steps:  # INVARIANT: 3
        if one.tool != facts.tool:
            continue
        gate, found = _judge(one, progress, facts, traced)
        if found is None:
            done = Progress(
                begun=progress.begun,
                at=max(progress.at, facts.at),  # INVARIANT: 4
                steps=(*progress.steps, one.name),
                tools=(*progress.tools, one.tool),
                calls=(*progress.calls, facts.id),
                beside=progress.beside,
            )
            return InPlan(step=one.name, progress=done, arguments=one.arguments, given=facts.arguments)
        if gate > reached:
            nearest, reached = found, gate
    return nearest  # INVARIANT: 1


def continued(held: Held, progress: Progress, before: str, facts: CallFacts) -> InPlan | OutOfPlan:
    """Say whether a call that goes on with an accepted one is still a step. `before` is that one's id, in `progress`.

    It is judged as the first was, where that one stood. # INVARIANT: 7
    """
    place = progress.calls.index(before)
    if forbids(held, _cut(progress, place, place + 1), facts.tool):
        return OutOfPlan(why=Why.FORBIDDEN)
    found = step(held, _cut(progress, place, len(progress.calls)), facts)
    if isinstance(found, OutOfPlan):
        return found
    done = msgspec.structs.replace(
        progress,
        at=max(progress.at, facts.at),
        steps=(*progress.steps[:place], found.step, *progress.steps[place + 1 :]),
        calls=(*progress.calls[:place], facts.id, *progress.calls[place + 1 :]),
    )
    return msgspec.structs.replace(found, progress=done)


def _cut(progress: Progress, first: int, last: int) -> Progress:
    """What was done without the calls from `first` up to `last`."""
    return msgspec.structs.replace(
        progress,
        steps=(*progress.steps[:first], *progress.steps[last:]),
        tools=(*progress.tools[:first], *progress.tools[last:]),
        calls=(*progress.calls[:first], *progress.calls[last:]),
        beside=tuple((number - max(0, min(number, last) - first), tool) for number, tool in progress.beside),
    )


def ended(held: Held, progress: Progress, now: int) -> bool:
    """Whether the plan's time is over."""
    plan, now = held.plan, max(progress.at, now)  # INVARIANT: 4
    late = plan.expires is not None and now >= plan.expires
    return late or (plan.within is not None and now >= progress.begun + plan.within)


def over(held: Held, progress: Progress, now: int) -> bool:
    """Whether no step can be taken under the plan any more, whatever is called."""
    return ended(held, progress, now) or len(progress.steps) >= min(held.plan.calls, MAX_CALLS)


def forbids(held: Held, progress: Progress, tool: str) -> bool:
    """Whether a call of this tool, a step or not, would complete a forbidden sequence."""
    if not held.plan.forbidden:
        return False
    done = _in_order(progress)
    full = len(progress.beside) >= MAX_BESIDE
    return any(
        _completes(sequence, done, tool) or (full and names(sequence[-1], tool)) for sequence in held.plan.forbidden
    )


def beside(held: Held, progress: Progress, tool: str) -> Progress:
    """What the task has done once a call was let through that is no step. # INVARIANT: 6"""
    mark, seen = (len(progress.steps), tool), progress.beside
    named = any(names(pattern, tool) for sequence in held.plan.forbidden for pattern in sequence)
    if not named or len(seen) >= MAX_BESIDE or (len(seen) >= LONGEST and set(seen[-LONGEST:]) == {mark}):
        return progress
    return msgspec.structs.replace(progress, beside=(*seen, mark))


def _in_order(progress: Progress) -> tuple[str, ...]:
    """The tools of all calls that count in forbidden sequences, as they came."""
    if not progress.beside:
        return progress.tools
    found: list[str] = []
    at = 0
    for number, tool in progress.beside:
        found += (*progress.tools[at:number], tool)
        at = number
    return (*found, *progress.tools[at:])


def _judge(one: Step, progress: Progress, facts: CallFacts, traced: Traced) -> tuple[int, OutOfPlan | None]:
    """The gates of one step: which of them refused, and how; or None."""
    done = progress.steps
    place = refused(one.arguments, facts.arguments, (), traced)
    if place is not None:
        return 1, OutOfPlan(why=Why.ARGUMENT, step=one.name, argument=place)
    if one.after is not None and not (one.after and all(name in done for name in one.after)):
        return 2, OutOfPlan(why=Why.ORDER, step=one.name)
    if one.follows is not None and (done[-1] if done else START) not in one.follows:
        return 3, OutOfPlan(why=Why.EDGE, step=one.name)
    if done.count(one.name) >= one.calls:
        return 4, OutOfPlan(why=Why.STEP_SPENT, step=one.name)
    return 5, None


def _traced(progress: Progress, facts: CallFacts) -> Traced:
    def traced(source: Source, path: Path) -> bool:
        for trace in facts.traces.get(path, ()):
            if source.step is None or trace.call is None:
                if source.step is None and trace.call is None:
                    return True
            elif covers(source.field, trace.path) and (source.step, trace.call) in zip(
                progress.steps, progress.calls, strict=True
            ):
                return True
        return False

    return traced


def _completes(sequence: tuple[str, ...], done: tuple[str, ...], tool: str) -> bool:
    """Whether this call would be the last of a forbidden sequence. An empty sequence has always happened."""
    if not sequence:
        return True
    if not names(sequence[-1], tool):
        return False
    wanted = iter(done)
    return all(any(names(pattern, one) for one in wanted) for pattern in sequence[:-1])


def names(pattern: str, tool: str) -> bool:
    """Whether `<server>/<tool>`, `<server>/*` or `*` names a tool, or all that another such pattern names."""
    return pattern in ("*", tool) or (pattern.endswith("/*") and tool.startswith(pattern[:-1]))


def plan_digest(plan: Plan) -> str:
    """The digest that names a plan, in logs and as a child's parent."""
    return digest(b"citywatch/plan/v1\n" + plan_bytes(plan))


def plan_bytes(plan: Plan) -> bytes:
    """The canonical bytes of all that a plan says."""
    return canonical(msgspec.to_builtins(plan))


def signing_bytes(plan: Plan, *, audience: str, task: str, nonce: str) -> bytes:
    """What a principal signs: the whole plan, for one gateway's domain and one task, once."""
    payload = {"type": "citywatch/plan/v1", "plan": msgspec.to_builtins(plan)}
    return canonical({**payload, "audience": audience, "task": task, "nonce": nonce})
