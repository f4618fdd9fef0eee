"""What a plan means, by definition: its text, all calls that were accepted, and one more. Slow and obvious.

The law that `citywatch.core.plan.contract` is held to; it shares no line with `src/`. Plans are in their text form
(plain JSON values, as `docs/reference/plans.md` describes), calls are `{"id", "at", "tool", "arguments", "traces"}`;
`traces` lists `{"leaf": [...], "call": id or None, "path": [...]}`. A call is taken by the first step that fits it.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def taken(plan: dict[str, Any], begun: int, calls: list[dict[str, Any]]) -> list[str | None]:
    """For each attempted call of a task, in order: the step that takes it, or None if it is out of the plan."""
    accepted: list[tuple[str, dict[str, Any]]] = []
    found: list[str | None] = []
    for call in calls:
        step = step_of(plan, begun, accepted, call)
        if step is not None:
            accepted.append((step, call))
        found.append(step)
    return found


def step_of(
    plan: dict[str, Any], begun: int, accepted: list[tuple[str, dict[str, Any]]], call: dict[str, Any]
) -> str | None:
    now = max([begun, call["at"], *(done["at"] for _, done in accepted)])
    if "expires" in plan and now >= milliseconds(plan["expires"]):
        return None
    if "within" in plan and now >= begun + duration(plan["within"]):
        return None
    if len(accepted) >= plan.get("calls", sum(step.get("calls", 1) for step in plan["steps"])):
        return None
    tools = [done["tool"] for _, done in accepted]
    for sequence in plan.get("forbidden", []):
        if names(sequence[-1], call["tool"]) and happened(sequence[:-1], tools):
            return None
    for step in plan["steps"]:
        if fits(step, accepted, call):
            return str(step["step"])
    return None


def fits(step: dict[str, Any], accepted: list[tuple[str, dict[str, Any]]], call: dict[str, Any]) -> bool:
    done = [name for name, _ in accepted]
    return (
        step["tool"] == call["tool"]
        and done.count(step["step"]) < step.get("calls", 1)
        and all(name in done for name in step.get("after", []))
        and ("follows" not in step or ([*done, "start"][-1 - bool(done)]) in step["follows"])
        and record(step["arguments"], call["arguments"], [], accepted, call)
    )


def happened(sequence: list[str], tools: list[str]) -> bool:
    """Whether the tools hold the sequence, in order, others in between or not."""
    if not sequence:
        return True
    return any(names(sequence[0], tool) and happened(sequence[1:], tools[n + 1 :]) for n, tool in enumerate(tools))


def names(pattern: str, tool: str) -> bool:
    return pattern in ("*", tool) or pattern == tool.split("/")[0] + "/*"


def record(wanted: dict[str, Any], value: Any, place: list[Any], accepted: list[Any], call: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return False
    for name in value:
        if name not in wanted and "*" not in wanted:
            return False
    for name, constraint in wanted.items():
        if name == "*" or constraint == "free":
            if constraint == "free" and name != "*" and value.get(name) is None:
                return False
            continue
        if value.get(name) is None:
            if not constraint.get("optional"):
                return False
        elif not kept(constraint, value[name], [*place, name], accepted, call):
            return False
    return True


def kept(constraint: dict[str, Any], value: Any, place: list[Any], accepted: list[Any], call: dict[str, Any]) -> bool:
    """Whether a value keeps all that is said of it."""
    if "equals" in constraint and not same(constraint["equals"], value):
        return False
    if "fields" in constraint and not record(constraint["fields"], value, place, accepted, call):
        return False
    scalars = leaves(value, place)
    if "one_of" in constraint and not each(scalars, lambda _, leaf: any(same(o, leaf) for o in constraint["one_of"])):
        return False
    for low, high, read in (("at_least", "at_most", amount), ("not_before", "not_after", day)):
        ends = [constraint[end] for end in (low, high) if end in constraint]
        if not ends:
            continue
        unit = currency(ends[0])
        between = range_of(constraint.get(low), constraint.get(high), unit, read)
        if not each(scalars, between):
            return False
    if "from" in constraint:
        sources = constraint["from"] if isinstance(constraint["from"], list) else [constraint["from"]]
        return each(scalars, lambda leaf, _: any(stands(source, leaf, accepted, call) for source in sources))
    return True


def range_of(low: Any, high: Any, unit: str, read: Any) -> Any:
    def between(_: list[Any], leaf: Any) -> bool:
        found = read(leaf, unit)
        return (
            found is not None
            and (low is None or read(low, unit) <= found)
            and (high is None or found <= read(high, unit))
        )

    return between


def stands(source: Any, leaf: list[Any], accepted: list[Any], call: dict[str, Any]) -> bool:
    """Whether the leaf was traced to the source."""
    for trace in call["traces"]:
        if trace["leaf"] != leaf:
            continue
        if source == "prompt":
            if trace["call"] is None:
                return True
        elif any(step == source["step"] and done["id"] == trace["call"] for step, done in accepted):
            pattern = segments(source.get("field", "$"))
            if len(pattern) <= len(trace["path"]) and all(
                one == "[*]" or one == (f"[{two}]" if isinstance(two, int) else two)
                for one, two in zip(pattern, trace["path"], strict=False)
            ):
                return True
    return False


def segments(field: str) -> list[str]:
    found = re.findall(r"\.([\w-]+)|(\[[*\d]+\])|\[\"([^\"]*)\"\]", field)
    return [name or index or quoted for name, index, quoted in found]


def leaves(value: Any, place: list[Any]) -> list[tuple[list[Any], Any]] | None:
    """The scalars of a value or of lists within each other; None if an object, null or an empty list is among them."""
    if not isinstance(value, list):
        return None if value is None or isinstance(value, dict) else [(place, value)]
    below = [leaves(item, [*place, index]) for index, item in enumerate(value)]
    if not below or None in below:
        return None
    return [leaf for found in below if found is not None for leaf in found]


def each(scalars: list[tuple[list[Any], Any]] | None, ask: Any) -> bool:
    return bool(scalars) and all(ask(place, leaf) for place, leaf in scalars or [])


def same(one: Any, two: Any) -> bool:
    """The same JSON value: as written, but that `1.0` is `1`."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return json.dumps(plain(one), sort_keys=True) == json.dumps(plain(two), sort_keys=True)


def currency(end: Any) -> str:
    return end[-3:] if isinstance(end, str) and end[-3:].isalpha() else ""


def amount(value: Any, unit: str) -> Decimal | None:
    if isinstance(value, str):
        parts = value.split(" ")
        if unit and (len(parts) != 2 or unit not in parts):
            return None
        if unit:
            parts.remove(unit)
        text = parts[0] if len(parts) == 1 else ""
        return Decimal(text) if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", text, re.ASCII) else None
    if unit or isinstance(value, bool):
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def day(value: Any, unit: str) -> str | None:
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d([T ]|\Z)", value, re.ASCII):
        return None
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return None
    return value[:10]


def milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def duration(text: str) -> int:
    match = re.fullmatch(r"(\d+)([a-z]+)", text)
    assert match is not None
    return int(match[1]) * UNITS[match[2]]
