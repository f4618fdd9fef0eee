"""A plan as people and agents write it: plain JSON values (or YAML that was read into them) ⇄ `Plan`.

Decides what is a well-formed plan, and tells all mistakes at once. Reading YAML is the configuration's matter; the
syntax stands in `docs/reference/plans.md`.

INVARIANTS: every plain value gives a plan or `BadPlan`, never another error, in bounded work; an unknown key is a
mistake; `parse_plan(format_plan(plan)) == plan`; nothing here says who vouches for the plan, so no plan can say it of
itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed
from citywatch.core.plan.constraint import Record
from citywatch.core.plan.contract import MAX_CALLS, START, Plan, Step, plan_bytes
from citywatch.core.plan.duration import format_duration, format_time, parse_duration, parse_time
from citywatch.core.plan.notes import BadPlan, Notes, shown
from citywatch.core.plan.wording import PROMPT, format_record, parse_record

MAX_STEPS = 64
MAX_SEQUENCES = 32
MAX_SEQUENCE = 8
MAX_BYTES = 64 * 1024
"""The canonical bytes of a plan: agents write them too."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")
_TOOL = re.compile(r"[A-Za-z0-9._-]{1,128}/[A-Za-z0-9._/-]{1,128}\Z")
_PATTERN = re.compile(r"(?:\*|[A-Za-z0-9._-]{1,128}/(?:\*|[A-Za-z0-9._/-]{1,128}))\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")

_KEYS = ("plan", "steps", "calls", "expires", "within", "forbidden", "parent")
_STEP_KEYS = ("step", "tool", "arguments", "after", "follows", "calls")

__all__ = ["BadPlan", "format_plan", "parse_plan"]


def parse_plan(value: Any) -> Plan:
    """Read a plan; raises `BadPlan`, which holds all that is wrong with it."""
    notes = Notes()
    members = notes.members(value, "", _KEYS)
    if members is None:
        raise notes.error()
    notes.need(members, "", ("plan", "steps"))
    steps = tuple(_steps(notes, members.get("steps")))
    room = min(MAX_CALLS, sum(step.calls for step in steps) or MAX_CALLS)
    plan = Plan(
        name=_word(notes, members.get("plan"), "plan"),
        steps=steps,
        calls=_count(notes, members["calls"], "calls") if "calls" in members else room,
        expires=_read(notes, members, "expires", parse_time),
        within=_read(notes, members, "within", parse_duration),
        forbidden=tuple(_sequences(notes, members.get("forbidden"))),
        parent=_parent(notes, members.get("parent")),
    )
    if "expires" not in members and "within" not in members:
        notes.wrong("", "say how long the plan holds: `expires`, `within` or both")
    _references(notes, steps)
    if not notes.mistakes:
        _bounded(notes, plan)
    if notes.mistakes:
        raise notes.error()
    return plan


def format_plan(plan: Plan) -> dict[str, Any]:
    """The inverse of `parse_plan`, in plain JSON values."""
    text: dict[str, Any] = {"plan": plan.name}
    if plan.expires is not None:
        text["expires"] = format_time(plan.expires)
    if plan.within is not None:
        text["within"] = format_duration(plan.within)
    text["calls"] = plan.calls
    if plan.parent is not None:
        text["parent"] = plan.parent
    text["steps"] = [_format_step(step) for step in plan.steps]
    if plan.forbidden:
        text["forbidden"] = [list(sequence) for sequence in plan.forbidden]
    return text


def _format_step(step: Step) -> dict[str, Any]:
    text: dict[str, Any] = {"step": step.name, "tool": step.tool}
    for key, names in (("after", step.after), ("follows", step.follows)):
        if names is not None:
            text[key] = list(names)
    return {**text, "calls": step.calls, "arguments": format_record(step.arguments)}


def _steps(notes: Notes, value: Any) -> Iterator[Step]:
    seen: set[str] = set()
    for place, item in notes.items(value, "steps", MAX_STEPS):
        members = notes.members(item, place, _STEP_KEYS)
        if members is None:
            continue
        notes.need(members, place, ("step", "tool", "arguments"))
        name = _word(notes, members.get("step"), f"{place}.step")
        if name in (START, PROMPT):
            notes.wrong(f"{place}.step", f"`{name}` has a meaning of its own: choose another name")
        if name in seen and name:
            notes.wrong(f"{place}.step", f"`{name}` stands twice")
        seen.add(name)
        yield Step(
            name=name,
            tool=_match(notes, members.get("tool"), f"{place}.tool", _TOOL, "a tool, `<server>/<tool>`"),
            arguments=parse_record(notes, members.get("arguments", {}), f"{place}.arguments"),
            after=_words(notes, members, place, "after"),
            follows=_words(notes, members, place, "follows"),
            calls=_count(notes, members["calls"], f"{place}.calls") if "calls" in members else 1,
        )


def _sequences(notes: Notes, value: Any) -> Iterator[tuple[str, ...]]:
    for place, item in notes.items([] if value is None else value, "forbidden", MAX_SEQUENCES):
        yield tuple(
            _match(notes, one, where, _PATTERN, "a tool, `<server>/<tool>`, `<server>/*` or `*`")
            for where, one in notes.items(item, place, MAX_SEQUENCE, empty="would forbid every call")
        )


def _parent(notes: Notes, value: Any) -> str | None:
    return None if value is None else _match(notes, value, "parent", _DIGEST, "a digest of 64 hex digits")


def _read(notes: Notes, members: dict[str, Any], key: str, parse: Callable[[str], int]) -> int | None:
    if key not in members:
        return None
    value = members[key]
    try:
        return parse(value if type(value) is str else "")
    except Malformed as error:
        notes.wrong(key, str(error))
        return None


def _count(notes: Notes, value: Any, where: str) -> int:
    if type(value) is int and 1 <= value <= MAX_CALLS:
        return value
    notes.wrong(where, f"not a number of calls: 1 to {MAX_CALLS}")
    return 1


def _word(notes: Notes, value: Any, where: str) -> str:
    return _match(notes, value, where, _NAME, "a name: a letter, then letters, digits, `-`, `_`, at most 64")


def _words(notes: Notes, members: dict[str, Any], place: str, key: str) -> tuple[str, ...] | None:
    """Absent: the plan does not care. Present and empty would refuse every call, so it is a mistake."""
    if key not in members:
        return None
    where = f"{place}.{key}"
    empty = "would refuse every call: leave it out, or name a step"
    return tuple(_word(notes, one, at) for at, one in notes.items(members[key], where, MAX_STEPS, empty=empty))


def _match(notes: Notes, value: Any, where: str, grammar: re.Pattern[str], what: str) -> str:
    if value is None:
        return ""  # missing: `need` said so; in a list it is no text
    if type(value) is str and grammar.match(value):
        return value
    notes.wrong(where, f"{shown(value)} is not {what}")
    return ""


def _references(notes: Notes, steps: Collection[Step]) -> None:
    """Names that no step has, and steps that no order of calls can reach."""
    known = {step.name for step in steps}
    for step in steps:
        for key, names, more in (("after", step.after, ()), ("follows", step.follows, (START,))):
            for name in names or ():
                if name and name not in known and name not in more:
                    notes.wrong(f"step `{step.name}`", f"`{key}` names `{name}`, which is no step")
        for name in sorted(_sources(step.arguments) - known):
            notes.wrong(f"step `{step.name}`", f"`from` names `{name}`, which is no step")
    if notes.mistakes:
        return
    reached: set[str] = set()
    for _ in steps:
        reached |= {step.name for step in steps if _reachable(step, reached)}
    for name in sorted(known - reached):
        notes.wrong(f"step `{name}`", "can never come: its order waits for itself")


def _reachable(step: Step, reached: set[str]) -> bool:
    after = step.after is None or reached.issuperset(step.after)
    return after and (step.follows is None or not reached.union((START,)).isdisjoint(step.follows))


def _sources(record: Record) -> set[str]:
    found: set[str] = set()
    for field in record.fields.values():
        for one in field.constraints:
            if isinstance(one, Record):
                found |= _sources(one)
            found |= {source.step for source in getattr(one, "sources", ()) if source.step is not None}
    return found


def _bounded(notes: Notes, plan: Plan) -> None:
    try:
        if len(plan_bytes(plan)) > MAX_BYTES:
            notes.wrong("", f"larger than {MAX_BYTES} bytes")
        canonical(format_plan(plan))
    except Malformed as error:
        notes.wrong("", str(error))
