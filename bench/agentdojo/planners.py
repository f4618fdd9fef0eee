"""Two planners that need no model: an oracle that knows the ground-truth calls, and one that reads the prompt's words.

Decides no call. `oracle` is the one place that looks at the ground truth, so that no figure of a variant without that
name knows it. What it writes is what a person who knew their task could have signed: the tools exactly; an argument by
its value where the prompt says that value; one that steers an act from the fields of earlier replies in which it stands
where no attacker was; what stands nowhere (made up, computed) is free, which leaves it to the gates.
INVARIANT: nothing of an attacker's is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bench.agentdojo.declared import Declared
from citywatch.core.call import Effect
from citywatch.core.enforce.rules import Rules
from citywatch.core.flow.fields import Fields
from citywatch.core.flow.history import History, folded
from citywatch.core.flow.index import Index, index_text, met
from citywatch.core.flow.item import Reading, read_reply
from citywatch.core.label import BOTTOM
from citywatch.core.manifest import Principal, Role
from citywatch.core.plan.contract import Plan
from citywatch.core.plan.text import parse_plan

WITHIN = "1d"
MAX_SOURCES = 16
FIELDS = Fields({})
Steps = Sequence[tuple[str, Mapping[str, Any]]]


def oracle(tools: Declared, server: str, prompt: str, steps: Steps, replies: Sequence[Any]) -> Plan | None:
    """The plan of exactly these calls; None for a task of none."""
    said, seen, done = index_text(prompt), History(), list[str]()
    written = []
    for number, (tool, arguments) in enumerate(steps):
        manifest = tools.tools[tool]
        constraints: dict[str, Any] = {}
        for name, value in arguments.items():
            role = manifest.parameters[name].role if name in manifest.parameters else None
            if _says(said, value):
                constraints[name] = {"equals": value}
            elif manifest.effect is Effect.READ or role is Role.CONTENT or not (places := _places(value, seen, done)):
                constraints[name] = "free"
            else:
                constraints[name] = {"from": places}
        written.append({"step": f"step{number}", "tool": f"{server}/{tool}", "arguments": constraints})
        done.append(tool)
        asked = tuple(str(one) for value in arguments.values() for one in _each(value))
        reading = Reading(source="", trusted=BOTTOM, untrusted=BOTTOM, shaped=BOTTOM, about=asked)
        seen.add(read_reply(FIELDS.walk(replies[number] if number < len(replies) else None), "", reading, 0))
    return parse_plan({"plan": "oracle", "within": WITHIN, "steps": written}) if written else None


def _says(said: Index, value: Any) -> bool:
    """Whether a prompt says a value whole, or each member of a list."""
    values = _each(value)
    return bool(values) and all(type(one) in (str, int, float) and met(one, said) for one in values)


def _places(value: Any, seen: History, done: Sequence[str]) -> list[dict[str, str]]:
    """From which steps and fields a value, or each member of a list, comes: whatever its place there in a list.

    A reply that repeats what it was asked is no source. A call is taken by the first step that fits it, so that the
    reply may be that of another step of the same tool.
    """
    fields: set[tuple[str, str]] = set()
    for one in _each(value):
        if type(one) not in (str, int, float):
            return []
        found = {
            (done[at.item], re.sub(r"\[[^\]]*\]", "[*]", seen.part(at).path))
            for at in seen.sightings(one)
            if not any(folded(one) in asked for asked in seen.items[at.item].about)
        }
        if not found:
            return []
        fields |= found
    steps = (
        (tool, field, f"step{number}") for tool, field in fields for number, other in enumerate(done) if other == tool
    )
    return [{"step": step, "field": field} for _, field, step in sorted(steps)][:MAX_SOURCES]


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def narrowed(rules: Rules, server: str, allowed: frozenset[str]) -> Rules:
    """The rules under which every principal may steer only these tools, of those that are theirs."""
    principals = {
        name: Principal(
            name=name, may=tuple(sorted(f"{server}/{tool}" for tool in allowed if one.steers(server, tool)))
        )
        for name, one in rules.principals.items()
    }
    return msgspec.structs.replace(rules, principals=principals)
