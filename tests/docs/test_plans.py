"""The plan on the reference page is a plan, and goes as the page says."""

from __future__ import annotations

import re
from pathlib import Path as File

import yaml

from citywatch.core.limit import Path
from citywatch.core.plan.contract import CallFacts, Held, InPlan, Kind, OutOfPlan, Plan, Trace, begin, step
from citywatch.core.plan.narrow import adopt
from citywatch.core.plan.text import _KEYS, _STEP_KEYS, parse_plan
from citywatch.core.plan.wording import _KEYS as CONSTRAINTS

PAGE = (File(__file__).parents[2] / "docs" / "reference" / "plans.md").read_text(encoding="utf-8")


def shown() -> Plan:
    (text,) = re.findall(r"^```yaml\n(plan:.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return parse_plan(yaml.safe_load(text))


def test_the_plan_on_the_page_goes_as_it_says() -> None:
    held = adopt(shown(), Kind.TEMPLATE, clean=False, parent=None)
    assert isinstance(held, Held)
    read = CallFacts(id="1", at=0, tool="files/read_file", arguments={"path": "invoices/2026-11.json"})
    done = step(held, begin(0), read)
    assert isinstance(done, InPlan)
    arguments = {"recipient": "DE89", "amount": 120, "subject": "thanks"}
    traces: dict[Path, tuple[Trace, ...]] = {("recipient",): (Trace("1", ("payee",)),), ("amount",): (Trace(None),)}
    pay = CallFacts(id="2", at=0, tool="bank/send_money", arguments=arguments, traces=traces)
    assert isinstance(step(held, done.progress, pay), InPlan)
    assert isinstance(step(held, begin(0), pay), OutOfPlan)


def test_the_plans_of_the_how_to_are_plans_and_the_second_narrows_the_first() -> None:
    page = (File(__file__).parents[2] / "docs" / "how-to" / "hold-a-task-to-a-plan.md").read_text(encoding="utf-8")
    texts = re.findall(r"^```yaml\n(plan:.*?)^```$", page, re.DOTALL | re.MULTILINE)
    wide, narrow = (parse_plan(yaml.safe_load(text)) for text in texts)
    held = adopt(wide, Kind.SIGNED, clean=False, parent=None)
    assert isinstance(held, Held)
    tighter = adopt(narrow, Kind.SIGNED, clean=False, parent=held)
    assert isinstance(tighter, Held), (tighter, held.digest)


def test_every_key_and_constraint_is_on_the_page() -> None:
    for key in (*_KEYS, *(f"steps.{key}" for key in _STEP_KEYS)):
        assert re.search(rf"^\|.*`{re.escape(key)}`", PAGE, re.MULTILINE), key
    for key in CONSTRAINTS:
        assert re.search(rf"`{key}\b", PAGE), key
