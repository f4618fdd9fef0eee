"""Replanning only narrows: does a child permit nothing that its parent refuses? And the one way to adopt a plan.

Decides on the two plans alone. It is sound and not complete: a child that is narrower for a reason not listed here is
refused, and its author writes it plainer. Why it is sound: take any progress and any call that the child accepts, by
its step k. The parent's k accepts the call too (arguments, order, edge, budget are compared one by one), and no earlier
step of the parent takes the call away from k: each is disjoint from the child's k, or stands unchanged before k in the
child, where it would have taken the call first. So both make the same progress, and that holds for the next call too.

INVARIANTS: total; every plan narrows itself; what the child permits the parent permits, from every progress.
"""

from __future__ import annotations

import msgspec

from citywatch.core.canonical import canonical
from citywatch.core.limit import Dates, Equal, Numbers, OneOf, Path, within
from citywatch.core.plan.constraint import Constraint, Field, Free, From, Record, Source, admits, covers
from citywatch.core.plan.contract import Held, Kind, Plan, Step, names, plan_digest


class Narrows(msgspec.Struct, frozen=True, tag=True):
    """The child permits nothing that the parent refuses."""


class Widens(msgspec.Struct, frozen=True, tag=True):
    """The child may permit more, and where; one line each, for the plan's author."""

    reasons: tuple[str, ...]


class NotAdopted(msgspec.Struct, frozen=True, tag=True):
    """The task is held to what it was held to before; one line for each reason."""

    reasons: tuple[str, ...]


def adopt(plan: Plan, kind: Kind, *, clean: bool, parent: Held | None) -> Held | NotAdopted:
    """Hold a task to a plan. `clean`: its agent's context holds nothing untrusted, at this moment.

    1. A written plan needs a clean context, whatever it narrows.
    2. A plan names its parent's digest exactly if the task is held to one.
    3. It narrows its parent.
    """
    reasons: tuple[str, ...] = ()
    if kind is Kind.WRITTEN and not clean:  # 1
        reasons += ("an agent whose context holds something untrusted writes no plan",)
    if plan.parent != (None if parent is None else parent.digest):  # 2
        reasons += ("`parent` is not the digest of the plan that the task is held to",)
    if parent is not None:  # 3
        compared = narrows(parent.plan, plan)
        reasons += compared.reasons if isinstance(compared, Widens) else ()
    return NotAdopted(reasons) if reasons else Held(plan=plan, kind=kind, digest=plan_digest(plan))


def narrows(parent: Plan, child: Plan) -> Narrows | Widens:
    """Compare two plans, whatever they are; a child goes on from the progress that its parent made."""
    reasons: list[str] = []
    if child.calls > parent.calls:
        reasons.append("`calls`: more than the parent's")
    for what, wide, tight in (
        ("expires", parent.expires, child.expires),
        ("within", parent.within, child.within),
    ):
        if wide is not None and (tight is None or tight > wide):
            reasons.append(f"`{what}`: later than the parent's")
    for sequence in parent.forbidden:
        if not any(_implies(sequence, tighter) for tighter in child.forbidden):
            reasons.append("`forbidden`: a sequence of the parent's is missing")
    for place, step in enumerate(child.steps):
        if not _dead(step):
            reasons += _step(parent, child, place, step)
    return Widens(tuple(reasons)) if reasons else Narrows()


def _step(parent: Plan, child: Plan, place: int, step: Step) -> list[str]:
    before = next((index for index, one in enumerate(parent.steps) if one.name == step.name), None)
    if before is None:
        return [f"step `{step.name}`: the parent has none of this name"]
    wide = parent.steps[before]
    wrong = []
    if wide.tool != step.tool:
        wrong.append("another tool")
    if step.calls > wide.calls:
        wrong.append("more calls")
    if wide.after is not None and not (wide.after and set(wide.after) <= set(step.after or ())):
        wrong.append("an earlier place in the order")
    if wide.follows is not None and not (step.follows is not None and set(step.follows) <= set(wide.follows)):
        wrong.append("an edge that the parent has not")
    if not _record(wide.arguments, step.arguments):
        wrong.append("wider arguments")
    for earlier in parent.steps[:before]:
        if not _out_of_the_way(earlier, child.steps[:place], step):
            wrong.append(f"step `{earlier.name}` of the parent may take its calls")
    return [f"step `{step.name}`: {text}" for text in wrong]


def _dead(step: Step) -> bool:
    """Whether a step accepts no call at all, because an empty "all of" or "any of" refuses."""
    return step.calls <= 0 or step.after == () or step.follows == ()


def _out_of_the_way(earlier: Step, kept: tuple[Step, ...], step: Step) -> bool:
    """Whether an earlier step of the parent leaves to `step` all that the child would give to `step`."""
    if earlier.tool != step.tool or _dead(earlier) or _records_apart(earlier.arguments, step.arguments):
        return True
    return any(_written(earlier) == _written(one) for one in kept)


def _written(step: Step) -> bytes:
    # Python says that `True == 1`, and so would two structs
    return canonical(msgspec.to_builtins(step))


def _implies(sequence: tuple[str, ...], tighter: tuple[str, ...]) -> bool:
    """Whether a call that completes `sequence` completes `tighter`: the last for the last, the rest within the rest.

    Not just somewhere within: what the parent let happen before would then have completed it, and nothing refuses now.
    """
    if not tighter or not sequence:
        return not tighter
    rest = iter(sequence[:-1])
    return names(tighter[-1], sequence[-1]) and all(
        any(names(pattern, one) for one in rest) for pattern in tighter[:-1]
    )


def _record(parent: Record, child: Record) -> bool:
    """Whether every object that keeps the child keeps the parent."""
    if child.open and not parent.open:
        return False
    for name, field in child.fields.items():
        wide = parent.fields.get(name)
        if wide is None:
            if not parent.open:
                return False
        elif not _field(wide, field):
            return False
    for name, wide in parent.fields.items():
        if name not in child.fields and not (wide.optional and (not child.open or _is_free(wide))):
            return False
    return True


def _field(parent: Field, child: Field) -> bool:
    if child.optional and not parent.optional:
        return False
    if not child.constraints or not parent.constraints:
        # INVARIANT: an empty "all of" admits no value: as the child's it is the narrowest, as the parent's too
        return not child.constraints
    return all(any(_constraint(wide, tight) for tight in child.constraints) for wide in parent.constraints)


def _is_free(field: Field) -> bool:
    return bool(field.constraints) and all(isinstance(one, Free) for one in field.constraints)


def _constraint(parent: Constraint, child: Constraint) -> bool:
    """Whether every value, wherever it came from, that keeps the child keeps the parent."""
    match parent, child:
        case Free(), _:
            return True
        case _, Equal():
            return admits(parent, child.value, (), _untraced)
        case ((OneOf() | Numbers() | Dates()), OneOf()):
            return all(admits(parent, option, (), _untraced) for option in child.values)
        case Numbers(), Numbers():
            return parent.unit == child.unit and _inside(parent.low, parent.high, child.low, child.high)
        case Dates(), Dates():
            return _inside(parent.low, parent.high, child.low, child.high)
        case From(), From():
            return all(any(_source(wide, tight) for wide in parent.sources) for tight in child.sources)
        case Record(), Record():
            return _record(parent, child)
    return False


def _source(parent: Source, child: Source) -> bool:
    return parent.step == child.step and (parent.step is None or covers(parent.field, child.field))


def _inside(low: object, high: object, lower: object, higher: object) -> bool:
    """Whether a range lies within another. An open end lies within an open end alone."""
    return (low is None or (lower is not None and within(low, lower, None))) and (
        high is None or (higher is not None and within(None, higher, high))
    )


def _untraced(source: Source, path: Path) -> bool:
    """A bound value came from nowhere: it is the plan's own word, and no source's."""
    return False


def _records_apart(one: Record, two: Record) -> bool:
    """Whether no object keeps both: a member that one requires and the other does not know, or keeps apart."""
    for first, second in ((one, two), (two, one)):
        for name, field in first.fields.items():
            other = second.fields.get(name)
            if field.optional:
                continue
            if other is None:
                if not second.open:
                    return True
            elif any(_apart(a, b) for a in field.constraints for b in other.constraints):
                return True
    return False


def _apart(one: Constraint, two: Constraint) -> bool:
    """Whether no value keeps both. What depends on where a value came from is never apart."""
    match one, two:
        case (From() | Free(), _) | (_, From() | Free()):
            return False
        case Equal(), _:
            return not _holds_from(two) and not admits(two, one.value, (), _untraced)
        case _, Equal():
            return _apart(two, one)
        case OneOf(), (OneOf() | Numbers() | Dates()):
            return not any(admits(two, option, (), _untraced) for option in one.values)
        case _, OneOf():
            return _apart(two, one)
        case Numbers(), Numbers():
            return one.unit == two.unit and not (_reach(one.low, two.high) and _reach(two.low, one.high))
        case Dates(), Dates():
            return not (_reach(one.low, two.high) and _reach(two.low, one.high))
        case Record(), Record():
            return _records_apart(one, two)
    return False


def _reach(low: object, high: object) -> bool:
    return low is None or high is None or within(low, high, None)


def _holds_from(constraint: Constraint) -> bool:
    """Whether a constraint could depend on where a value came from; records are not looked into."""
    return isinstance(constraint, Record | From)
