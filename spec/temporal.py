"""What temporal rules mean, by definition: each formula read over the whole trace, at each event. Slow and obvious.

The law that `citywatch.core.plan.temporal` is held to; it shares no line with `src/`. Formulas are the plain JSON
values of `citywatch.core.plan.formula`, a trace is a list of `{"at": ms, "values": {attribute: [text, …]},
"anything": [attribute, …]}`, all of one agent, task, resource or reader.
"""

from __future__ import annotations

from typing import Any


def verdicts(formula: dict[str, Any], trace: list[dict[str, Any]]) -> list[bool]:
    """Whether the formula holds, at each event of the trace."""
    return [holds(formula, trace, index, True) for index in range(len(trace))]


def time_of(trace: list[dict[str, Any]], index: int) -> int:
    """Time never counts backwards: an event is as late as the latest up to it, and none is before the epoch."""
    return max(0, *(int(event["at"]) for event in trace[: index + 1]))


def holds(formula: dict[str, Any], trace: list[dict[str, Any]], now: int, favour: bool) -> bool:
    """Whether the formula holds at event number `now`. `favour`: it stands under an even number of `not`."""

    def held(part: dict[str, Any], index: int) -> bool:
        return holds(part, trace, index, favour)

    def recent(index: int) -> bool:
        within = formula.get("within")
        return within is None or time_of(trace, now) - time_of(trace, index) <= int(within)

    kind, of = formula["type"], formula.get("of")
    past = range(now + 1)
    match kind:
        case "is":
            if formula["attribute"] in trace[now]["anything"]:
                return favour
            return any(
                value.startswith(wanted[:-1]) if wanted.endswith("*") else value == wanted
                for value in trace[now]["values"].get(formula["attribute"], [])
                for wanted in formula["values"]
            )
        case "not":
            return not holds(formula["of"], trace, now, not favour)
        case "and":
            return all(held(part, now) for part in formula["of"])
        case "or":
            return any(held(part, now) for part in formula["of"])
        case "previously":
            return now > 0 and held(formula["of"], now - 1)
        case "once":
            return any(held(formula["of"], index) and recent(index) for index in past)
        case "count":
            return sum(held(formula["of"], index) and recent(index) for index in past) >= int(formula["times"])
        case "since":
            return any(
                held(formula["start"], index)
                and recent(index)
                and all(held(formula["of"], after) for after in range(index + 1, now + 1))
                for index in past
            )
    raise ValueError(f"`{kind}` of {of!r} is no formula")
