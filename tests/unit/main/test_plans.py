"""A plan's file says what it seems to say, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from citywatch.core.errors import Malformed
from citywatch.main.plans import MAX_CHARACTERS, read_plan

GOOD = "plan: p\nwithin: 1h\nsteps:\n  - {step: a, tool: s/a, arguments: {to: {equals: x}}}\n"
BAD = {
    "a name twice": GOOD.replace("{equals: x}", "{equals: x}, to: {equals: y}"),
    "a name twice further out": GOOD + "within: 2d\n",
    "an alias": "plan: &p p\nwithin: 1h\nsteps: *p\n",
    "no YAML": "plan: [",
    "no text": "plan: \x00",
    "a name that is a list": GOOD + "? [a]\n: b\n",
    "too deep": "[" * 10_000,
    "too long": GOOD + "#" * MAX_CHARACTERS,
    "no plan": "steps: 1\n",
    "nothing": "",
    "a date without quotes": GOOD.replace("equals: x", "equals: 2026-11-25"),
    "a set": GOOD.replace("equals: x", "equals: !!set {a}"),
}


def test_a_plan_is_read_from_yaml_and_json(tmp_path: Path) -> None:
    file = tmp_path / "plan"
    file.write_text(GOOD)
    plan = read_plan(file)
    file.write_text(
        '{"plan": "p", "within": "1h", "steps": [{"step": "a", "tool": "s/a", "arguments": {"to": {"equals": "x"}}}]}'
    )
    assert read_plan(file) == plan


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_whatever_else_stands_there_is_malformed(tmp_path: Path, text: str) -> None:
    file = tmp_path / "plan"
    file.write_text(text)
    with pytest.raises(Malformed):
        read_plan(file)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(Malformed):
        read_plan(file)
