"""What a step of a plan and an event of a temporal rule cost, against their definitions in the same run.

`temporal.gate_us` is all that three rules add to a decision: a call of six arguments becomes an event, is judged in the
traces of its agent, its objects and its readers, and what they remember is written as rows.

The definitions (`spec/`) read the whole past at each call; they are slow on purpose. The plan has 12 steps and 20 calls
behind it; the rules have a thousand events behind them, the definition only 200.
Run it: `python -m bench.plan`.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec

from bench.content import SEED
from bench.decide import quantile, row
from bench.flow import asked
from bench.flow import rules as rules_of_flow
from citywatch.core.call import Call
from citywatch.core.enforce.past import UNRULED, event_of, happening_of, remembered, ruled
from citywatch.core.plan.contract import CallFacts, Held, InPlan, Kind, Trace, begin, step
from citywatch.core.plan.narrow import adopt
from citywatch.core.plan.rules import parse_rules
from citywatch.core.plan.temporal import Happening, Memory, advance, compile_rule, start
from citywatch.core.plan.text import format_plan, parse_plan
from spec import plan as plan_law
from spec import temporal as temporal_law

CALLS = 2_000
NAIVE_CALLS = 100
ROUNDS = 5
WINDOW = 200

PLAN: dict[str, Any] = {
    "plan": "bench",
    "within": "1h",
    "steps": [
        *(
            {"step": f"read{n}", "tool": f"files/read{n}", "calls": 4, "arguments": {"path": {"equals": f"{n}.json"}}}
            for n in range(10)
        ),
        {
            "step": "pay",
            "tool": "bank/send_money",
            "after": ["read0"],
            "calls": 4,
            "arguments": {
                "recipient": {"from": {"step": "read0", "field": "$.payee"}},
                "amount": {"from": [{"step": "read0", "field": "$.total"}, "prompt"], "at_most": 500},
                "date": {"not_before": "2026-11-25", "not_after": "2026-11-30"},
                "subject": "free",
            },
        },
        {"step": "tell", "tool": "mail/send", "follows": ["pay"], "arguments": {"to": {"one_of": ["a@x", "b@x"]}}},
    ],
    "forbidden": [["bank/*", "files/*"]],
}
RULES = """
ask mail-after-web per agent when tool is "mail/*" and once within 1h origin is "outside:*";
forbid pooled per agent when event is "call" and count within 1d (event is "call" and origin is "server:crm") >= 20;
forbid write-without-login per agent when effect in ["write", "irreversible"]
    and not (not tool is "desk/logout" since within 8h tool is "desk/login");
"""
GATE_RULES = """
forbid pooled per reader when event is "call" and count within 1h event is "call" >= 250;
forbid wiped per resource when tool is "office/wipe" and once within 1h (event is "call" and tool is "office/inbox");
forbid post-after-inbox per agent when tool is "office/post" and once within 1h tool is "office/inbox";
"""


def timed(function: Callable[[Any], Any], cases: list[Any]) -> list[float]:
    """Microseconds of each case, the collector held off."""
    clock, taken = time.perf_counter_ns, []
    gc.collect()
    gc.disable()
    for case in cases:
        before = clock()
        function(case)
        taken.append((clock() - before) / 1000)
    gc.enable()
    return taken


def steps() -> list[dict[str, Any]]:
    """A payment that four places trace, after 20 reads: the dearest step that the plan has."""
    held = adopt(parse_plan(PLAN), Kind.TEMPLATE, clean=True, parent=None)
    assert isinstance(held, Held)
    progress, past = begin(0), []
    for number in range(20):
        facts = CallFacts(
            id=f"c{number}", at=number, tool=f"files/read{number % 10}", arguments={"path": f"{number % 10}.json"}
        )
        verdict = step(held, progress, facts)
        assert isinstance(verdict, InPlan)
        progress = verdict.progress
        past.append((verdict.step, {**msgspec.structs.asdict(facts), "traces": []}))
    calls = [
        CallFacts(
            id=f"p{number}",
            at=100 + number,
            tool="bank/send_money",
            arguments={"recipient": f"DE{number}", "amount": number % 500, "date": "2026-11-26", "subject": "x"},
            traces={
                ("recipient",): (Trace("c3", ("payee",)), Trace("c10", ("payee", "iban"))),
                ("amount",): (Trace("c0", ("notes",)), Trace(None)),
            },
        )
        for number in range(CALLS)
    ]
    plain = [
        {
            **msgspec.structs.asdict(facts),
            "traces": [
                {"leaf": [*leaf], "call": trace.call, "path": [*trace.path]}
                for leaf, found in facts.traces.items()
                for trace in found
            ],
        }
        for facts in calls[:NAIVE_CALLS]
    ]
    text = format_plan(held.plan)
    assert all(isinstance(step(held, progress, facts), InPlan) for facts in calls)
    assert all(plan_law.step_of(text, 0, past, one) == "pay" for one in plain)
    ours = [quantile(timed(lambda facts: step(held, progress, facts), calls), 0.5) for _ in range(ROUNDS)]
    law = [quantile(timed(lambda one: plan_law.step_of(text, 0, past, one), plain), 0.5) for _ in range(ROUNDS)]
    return [
        row("plan.step_us", ours, "us", CALLS, "plan.definition_us", law),
        row("plan.definition_us", law, "us", NAIVE_CALLS),
    ]


def events() -> list[dict[str, Any]]:
    """One event under three rules."""
    rules = parse_rules(RULES)
    automata = [compile_rule(rule) for rule in rules]
    tools = ("mail/send", "desk/login", "desk/logout", "crm/read", "bank/pay")
    happenings = [
        Happening(
            at=1000 * number,
            values={
                "event": ("call",),
                "tool": (tools[number % 5],),
                "effect": ("write",),
                "origin": ("server:crm" if number % 7 else "outside:web/get",),
            },
        )
        for number in range(CALLS)
    ]
    memories = [start(automaton) for automaton in automata]

    def judged(happening: Happening) -> None:
        for place, automaton in enumerate(automata):
            _, memories[place] = advance(automaton, memories[place], happening)

    for happening in happenings[:1000]:
        judged(happening)
    trace = [msgspec.to_builtins(happening) for happening in happenings[:WINDOW]]
    formulas = [msgspec.to_builtins(rule.when) for rule in rules]

    def by_definition(now: int) -> None:
        for formula in formulas:
            temporal_law.holds(formula, trace, now, True)

    ours = [quantile(timed(judged, happenings), 0.5) for _ in range(ROUNDS)]
    law = [quantile(timed(by_definition, [WINDOW - 1] * 10), 0.5) for _ in range(ROUNDS)]
    return [
        row("temporal.event_us", ours, "us", CALLS, "temporal.definition_us", law),
        row("temporal.definition_us", law, "us", 10),
    ]


def gate() -> list[dict[str, Any]]:
    """What a decision takes longer where rules hold."""
    law = msgspec.structs.replace(
        rules_of_flow(True), temporal=tuple(compile_rule(rule) for rule in parse_rules(GATE_RULES))
    )
    chance = random.Random(SEED)
    calls = [asked(chance, number)[1] for number in range(CALLS)]
    rows: dict[tuple[str, str], Memory] = {}
    at = 0

    def judged(call: Call) -> None:
        nonlocal at
        at += 1000
        event = event_of(call, law, "irreversible")
        assert event is not None
        here = {key: memory for key in event.rows if (memory := rows.get(key)) is not None}
        assert ruled(event, law, None, here, call, at) is UNRULED
        for key, memory in remembered(law, here, happening_of(event, None, call, at)):
            rows[key] = msgspec.json.decode(msgspec.json.encode(memory), type=Memory)

    ours = [quantile(timed(judged, calls), 0.5) for _ in range(ROUNDS)]
    return [row("temporal.gate_us", ours, "us", CALLS)]


def run() -> list[dict[str, Any]]:
    """`ratio` is ours over the definition's p50 (less is faster)."""
    return [*steps(), *events(), *gate()]


def main() -> None:
    for found in run():
        against = f"  {found['ratio']} of {found['against']}" if found["against"] else ""
        print(f"{found['name']:<28}{found['value']:>10} {found['unit']:<3} spread {found['spread']:<6}{against}")


if __name__ == "__main__":
    main()
