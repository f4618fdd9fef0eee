"""The enforcer against the definition: random rules over random calls of two agents, refused where the law says.

The test says by itself what each call is as an event; traces are whole lists of events, judged by `spec/temporal.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, NamedTuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.call import Effect
from citywatch.core.errors import Code
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.manifest import Parameter, Role, ToolManifest
from citywatch.core.plan.formula import And, Count, Formula, Is, Not, Once, Or, Per, Previously, Rule, Since, Then
from citywatch.service.ports import Append
from spec import temporal as law
from tests.simulation.city import City, code_of
from tests.simulation.flow_city import tool

TOOLS = (tool("send", to="string"), tool("keep", id="string"), tool("read"))
MANIFESTS = {
    "send": ToolManifest(effect=Effect.IRREVERSIBLE, parameters={"to": Parameter(role=Role.DESTINATION)}),
    "keep": ToolManifest(effect=Effect.WRITE, audience=("hr",), parameters={"id": Parameter(role=Role.OBJECT)}),
    "read": ToolManifest(effect=Effect.READ, audience=("hr",)),
}
AGENTS = {"clerk": "spiffe://city.example/agent/clerk", "scout": "spiffe://city.example/agent/scout"}


class Step(NamedTuple):
    agent: str
    tool: str
    word: str
    wait: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(sorted(AGENTS)),
        st.sampled_from(sorted(MANIFESTS)),
        st.sampled_from(["a", "b"]),
        st.sampled_from([0, 1, 9, 10, 11]),
    ),
    min_size=1,
    max_size=10,
)
ATOMS = st.builds(Is, st.just("event"), st.sampled_from([("call",), ("reply",)])) | st.builds(
    Is,
    st.sampled_from(["tool", "agent", "effect", "reader", "resource"]),
    st.sampled_from([("bank/send",), ("bank/keep", "bank/read"), ("clerk",), ("a",), ("hr",), ("bank/*",), ("read",)]),
)


def larger(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    several = st.lists(inner, min_size=2, max_size=2).map(tuple)
    windows = st.none() | st.sampled_from([1, 10, 20])
    return (
        st.builds(Not, inner)
        | st.builds(And, several)
        | st.builds(Or, several)
        | st.builds(Previously, inner)
        | st.builds(Once, inner, windows)
        | st.builds(Since, inner, inner, windows)
        | st.builds(Count, inner, st.integers(1, 3), windows)
    )


FORMULAS: st.SearchStrategy[Formula] = st.recursive(ATOMS, larger, max_leaves=5)
RULES = st.lists(
    st.tuples(st.sampled_from([Per.AGENT, Per.RESOURCE, Per.READER]), FORMULAS), min_size=1, max_size=3
).map(
    lambda drawn: tuple(
        Rule(name=f"r{number}", then=Then.FORBID, per=per, when=when) for number, (per, when) in enumerate(drawn)
    )
)


def event_of(step: Step, kind: str, at: int) -> dict[str, Any]:
    """What the reference page says of these three tools."""
    sends, keeps = step.tool == "send", step.tool == "keep"
    reader = [step.word] if sends else ["hr"]
    values = {
        "event": [kind],
        "agent": [step.agent],
        "server": ["bank"],
        "tool": [f"bank/{step.tool}"],
        "effect": [MANIFESTS[step.tool].effect.value],
        "resource": [f"bank/{step.word}"] if keeps else [],
        "reader": reader if kind == "call" else [],
    }
    return {"at": at, "values": values, "anything": [] if keeps else ["resource"]}


class Law:
    """All that happened, trace by trace."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = [(rule.per.value, msgspec.to_builtins(rule.when)) for rule in rules]
        self.traces: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def matches(self, event: dict[str, Any]) -> bool:
        return any(
            law.verdicts(formula, [*self.traces.get((per, name), []), event])[-1]
            for per, formula in self.rules
            for name in self._names(per, event)
        )

    def happened(self, event: dict[str, Any]) -> None:
        for per in {per for per, _ in self.rules}:
            for name in self._names(per, event):
                self.traces.setdefault((per, name), []).append(event)

    def _names(self, per: str, event: dict[str, Any]) -> list[str]:
        return [*event["values"][per], *(["*"] if per in event["anything"] else [])]


async def judged(rules: tuple[Rule, ...], steps: list[Step]) -> list[tuple[bool, bool]]:
    """For each call whether the enforcer refused it, and whether the law does."""
    city = City(policy='@id("all") permit(principal, action, resource);')
    city.configured = msgspec.structs.replace(city.configured, servers={"bank": MANIFESTS}, temporal=rules)
    city.enforcer.rules = city.rules(*TOOLS)
    await city.settle_in(*TOOLS)
    row = AgentRow(agent=AGENTS["scout"], keys=("scout",), added_at=0)
    await city.store.append(Append(puts=((agent_key("scout"), format_row(row)),)))
    past, found = Law(rules), []
    for step in steps:
        city.clock.advance(step.wait)
        at = city.clock.now_ms()
        name = {"send": "to", "keep": "id"}.get(step.tool)
        call = city.call(
            name=step.tool, arguments={name: step.word} if name else {}, agent=AGENTS[step.agent], rpc_id=1
        )
        papers = {} if step.agent == "clerk" else {"agent": AGENTS["scout"], "key": "scout"}
        code = code_of(await city.ask(call, city.credential(**papers)))
        assert code in (None, Code.RULE_MATCHED.value)
        event = event_of(step, "call", at)
        refused = past.matches(event)
        if not refused:
            past.happened(event)
            past.happened(event_of(step, "reply", at))
        found.append((code is not None, refused))
    return found


@settings(max_examples=400)
@given(RULES, STEPS)
def test_the_enforcer_refuses_what_the_definition_says(rules: tuple[Rule, ...], steps: list[Step]) -> None:
    for ours, theirs in asyncio.run(judged(rules, steps)):
        assert ours == theirs


def test_the_comparison_sees_both_verdicts() -> None:
    """A check that checked nothing fails: rules refuse something here, and let something through."""
    rule = Rule(name="r", then=Then.FORBID, per=Per.READER, when=Count(Is("event", ("call",)), 2, 10))
    steps = [Step(agent, "send", "a", wait) for agent in AGENTS for wait in (0, 3, 11)]
    found = Counter(asyncio.run(judged((rule,), steps)))
    assert found.keys() == {(True, True), (False, False)}, found
