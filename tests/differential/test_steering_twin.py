"""What a decision remembers, and what it takes a short way to, is what the forgetful and the slow find."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from citywatch.core.call import Call, Direction, Release
from citywatch.core.enforce.arguments import MAX_VALUES, arguments, trace
from citywatch.core.enforce.context import Context, Flow, flow_need, party_forms
from citywatch.core.enforce.planned import _values, paths_bound
from citywatch.core.enforce.released import MAX_ITEMS, releases
from citywatch.core.enforce.steering import Finding, Steering
from citywatch.core.flow.history import History, Prompt
from citywatch.core.flow.index import met
from citywatch.core.flow.item import Item, read_prompt
from citywatch.core.flow.readings import Readings, Typed
from citywatch.core.label import BOTTOM, Label, join_all
from citywatch.core.limit import Path
from citywatch.core.manifest import ToolManifest
from tests.property.test_flow import CALLS, STRANGERS, VOUCHED
from tests.simulation.flow_city import ANN
from tests.unit.core.enforce.test_steering import MANIFESTS, RULES

TEXTS = st.sampled_from(
    [
        f"Pay 100.50 to {ANN} and 900 to the plumber",
        "Delete the file 'plan.docx'",
        "Write eve into file 13",
        "Send the plan to bob@x.example, his email is on www.bob.example",
        "On 2024-05-26 pay 900 to the plumber",
    ]
)
PROMPTS = st.builds(
    lambda text, who, at: read_prompt(text, f"{who}{at}", who, at),
    TEXTS,
    st.sampled_from(["alice", "guest"]),
    st.just(0),
)
STEPS = st.lists(PROMPTS | VOUCHED | STRANGERS | CALLS, min_size=2, max_size=10)
LOWERED = st.sampled_from([BOTTOM, Label(frozenset({"outside:bank/inbox"}), None)])


def made(name: str, given: dict[str, Any]) -> Call:
    return Call(
        id="c", direction=Direction.TO_SERVER, agent="spiffe://city.example/agent/clerk", server="bank",
        method="tools/call", name=name, arguments=given, body=b"{}", revision="2025-11-25", rpc_id=1,
    )  # fmt: skip


def decided(call: Call, history: History, before: Label, readings: Readings, traced: bool) -> tuple[Any, ...]:
    label = join_all(item.label for item in history.items) if before == BOTTOM else BOTTOM
    context = Context(label=label, items=len(history.items), before=before)
    parties = frozenset(party_forms("payees", ANN))
    flow = Flow(context=context, history=history, parties=parties, readings=readings)
    tool = RULES.tools["bank", call.name or ""]
    found = flow_need(call, tool, "l", "k", readings).traced if traced else None
    steering = Steering(call, tool, RULES, flow, found)
    findings = steering.findings()
    receipts = releases(flow, steering.prompts, findings)
    assert slowly(receipts, flow, steering.prompts, findings)
    return findings, receipts


def slowly(receipts: Sequence[Release], flow: Flow, prompts: Sequence[Prompt], findings: Sequence[Finding]) -> bool:
    """Whether each receipt is what a look at all that holds the value, and at all that people said, gives."""
    passed = [one for one in findings if one.how not in (None, "clean")]
    for receipt, found in zip(receipts, passed, strict=True):
        seen = [] if found.value is None else flow.history.sightings(found.value)
        holding = [flow.history.items[one.item] for one in seen]
        told = Label(frozenset(prompt.source for prompt in prompts), None)
        was = join_all((flow.context.label, told, *(one.label for one in holding)))
        read = None if found.value is None else Typed(found.value)
        saying = [one for one in prompts if read and (met(read, one.held) or read.folded in one.text)]
        people = receipt.how in ("named", "own", "endorsed", "spoken", "anchored") and prompts
        where = [flow.history.items[one.item] for one in saying or prompts] if people else holding
        items = tuple(dict.fromkeys(one.digest for one in where))[:MAX_ITEMS]
        if (receipt.path, receipt.how, receipt.was, receipt.items) != (found.path, found.how, was, items):
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(STEPS, LOWERED)
def test_a_context_decides_as_one_that_has_just_been_read_whatever_was_called_before(
    steps: list[Item | tuple[str, dict[str, Any]]], before: Label
) -> None:
    """Its calls are of acts that one or two people may steer, and between them people say more."""
    history, readings = History(), Readings()
    for step in steps:
        if isinstance(step, Item):
            history.add(step)
            continue
        anew = History()
        for item in history.items:
            anew.add(item)
        call = made(*step)
        forgetful = decided(call, anew, before, Readings(), False)
        assert decided(call, history, before, readings, True) == forgetful
        assert decided(call, history, before, readings, True) == forgetful


VALUES = st.recursive(
    st.text(max_size=3) | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "a[0]"]), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(["a", "b", "a.b", "a[0]", "lines", "to", "id", "text"])
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=5)


@given(ARGUMENTS, ARGUMENTS, st.sampled_from(sorted(MANIFESTS)))
def test_the_values_of_a_call_are_those_of_no_other_call_and_of_no_other_manifest(
    given: dict[str, Any], other: dict[str, Any], name: str
) -> None:
    call, manifest = made("x", given), MANIFESTS[name]
    found = trace(call, manifest)
    assert list(found.values) == list(arguments(call, manifest))
    assert trace(call, manifest, found) is found
    assert list(trace(made("x", other), manifest, found).values) == list(arguments(made("x", other), manifest))
    silent = ToolManifest()
    assert list(trace(call, silent, found).values) == list(arguments(call, silent))


def slow_paths(call: Call, bound: list[Path]) -> frozenset[str]:
    """Value by value, against each bound place."""
    covered: dict[str, bool] = {}
    values = list(_values(call.arguments))
    for text, place, names in values:
        held = any(place[: len(one)] == one or (names and one[: len(place)] == place) for one in bound)
        covered[text] = covered.get(text, True) and held
    return frozenset(text for text, held in covered.items() if held and len(values) <= MAX_VALUES)


@given(ARGUMENTS, st.data())
@example({f"n{number}": "" for number in range(MAX_VALUES + 1)}, None)
def test_a_plan_binds_the_same_paths_whether_its_calls_are_flat_or_not(given: dict[str, Any], data: Any) -> None:
    call = made("x", given)
    places = sorted({place[:cut] for _, place, _ in _values(given) for cut in range(len(place) + 1)}, key=json.dumps)
    bound = [*places] if data is None else data.draw(st.lists(st.sampled_from([*places, ("z",)]), max_size=4))
    for some in (bound, [one for one in bound if len(one) == 1]):
        assert paths_bound(call, some) == slow_paths(call, some)


def test_what_was_said_of_a_value_counts_for_those_who_were_asked() -> None:
    one = Typed("eve")
    alice, guest = object(), object()
    one.said(alice)["x"] = "said"
    assert one.said(alice) == {"x": "said"}
    assert one.said(guest) == {}
    assert one.said(alice) == {}
