"""A label never goes down except through `release`, which is on record with its reason."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.call import Call, Direction
from citywatch.core.enforce.clearing import cleared
from citywatch.core.enforce.context import Context, Flow, context_key, party_forms
from citywatch.core.enforce.released import approved, releases
from citywatch.core.enforce.steering import Steering
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item
from citywatch.core.flow.release import Way, release
from citywatch.core.label import BOTTOM, Label, is_above, join, join_all
from citywatch.service.contexts import add_item
from spec import labels as twin
from tests.property.test_flow import CALLS, PROMPTS, STRANGERS, VOUCHED
from tests.property.test_labels import LABELS, NAMES, WORLD, meaning
from tests.simulation.flow_city import ANN
from tests.unit.core.enforce.test_steering import RULES, said

KEY = context_key("spiffe://city.example/agent/clerk", "k")
STEPS = st.lists(st.tuples(st.sampled_from(["enters", "enters", "lets down", "readers too"]), LABELS), max_size=12)


def entered(context: Context, label: Label) -> Context:
    item = Item(digest="d", source="bank/inbox", at=0, label=label, parts=())
    rows = dict(add_item(KEY, context, item))
    return msgspec.json.decode(rows[KEY] or b"", type=Context)


@given(STEPS)
def test_over_any_life_a_contexts_label_goes_down_only_by_releases_that_are_written_down(
    steps: list[tuple[str, Label]],
) -> None:
    context, labels, book, law = Context(), [], [], []
    for what, label in steps:
        before = context.label
        if what == "enters":
            context = entered(context, label)
            assert is_above(context.label, before)
            law.append(("enters", meaning(label)))
        else:
            context, receipt = cleared(context, "ann", "restarted", what == "readers too")
            assert (receipt.was, receipt.now) == (before, context.label)
            book.append((meaning(receipt.was), meaning(receipt.now)))
            law.append(("release", meaning(receipt.now)))
        labels.append(meaning(context.label))
        ever = join_all(label for what, label in steps[: len(labels)] if what == "enters")
        assert is_above(join(context.label, context.before), ever)
    assert (labels, book) == twin.run(law, WORLD)


@given(LABELS, NAMES, NAMES)
def test_a_release_lowers_or_is_none(
    was: Label, origins: frozenset[str] | None, readers: frozenset[str] | None
) -> None:
    now = Label(origins, readers)
    try:
        receipt = release(was, now, Way.NAMED)
    except ValueError:
        assert not twin.above(meaning(was), meaning(now))
    else:
        assert twin.above(meaning(receipt.was), meaning(receipt.now))


def scene(items: tuple[Item, ...], call: tuple[str, dict[str, Any]], known: bool, before: Label) -> tuple[Call, Flow]:
    history = History()
    for item in items:
        history.add(item)
    asked = Call(
        id="c",
        direction=Direction.TO_SERVER,
        agent="spiffe://city.example/agent/clerk",
        server="bank",
        method="tools/call",
        name=call[0],
        arguments=call[1],
        body=b"{}",
        revision="2025-11-25",
        rpc_id=1,
    )
    label = join_all(item.label for item in items) if before == BOTTOM else items[0].label
    context = Context(label=label, items=len(items), before=before)
    return asked, Flow(context=context, history=history, parties=frozenset(party_forms("payees", ANN) if known else ()))


@settings(max_examples=400)
@given(
    PROMPTS,
    st.lists(VOUCHED, max_size=2),
    st.lists(STRANGERS, max_size=2),
    CALLS,
    st.booleans(),
    st.sampled_from([BOTTOM, Label(frozenset({"outside:bank/inbox"}), None)]),
)
def test_each_argument_that_passes_is_clean_or_has_a_release_that_lowers_to_who_may_steer(
    prompts: list[str],
    vouched: list[Item],
    strange: list[Item],
    call: tuple[str, dict[str, Any]],
    known: bool,
    low: Label,
) -> None:
    items = (*said(*prompts), *vouched, *strange)
    asked, flow = scene(items, call, known, low)
    steering = Steering(asked, RULES.tools["bank", call[0]], RULES, flow)
    findings = steering.findings()
    found = releases(flow, steering.prompts, findings)
    assert [(one.path, one.how) for one in found] == [
        (one.path, one.how) for one in findings if one.how not in (None, "clean")
    ]
    values = {one.path: one.value for one in findings}
    for one in found:
        seen = [] if (value := values[one.path]) is None else flow.history.sightings(value)
        assert all(is_above(one.was, flow.history.items[place.item].label) for place in seen)
        assert one.reason
        assert is_above(one.was, flow.context.label)
        assert is_above(one.was, one.now)
        assert one.now.readers == one.was.readers
        if one.how not in ("quoted", "passed on"):
            assert one.now.origins is not None
            assert all(origin == "principal:alice" or origin.startswith("server:") for origin in one.now.origins)
    for value in (one.value for one in findings if one.how == "clean" and one.value is not None):
        holding = [flow.history.items[place.item].label for place in flow.history.sightings(value)]
        assert is_above(
            Label(frozenset({"principal:alice", "server:bank"}), None), join_all((flow.context.label, *holding))
        )


@given(PROMPTS, st.lists(STRANGERS, min_size=1, max_size=2), CALLS)
def test_what_a_person_approves_is_exactly_what_nothing_entitled(
    prompts: list[str], strange: list[Item], call: tuple[str, dict[str, Any]]
) -> None:
    asked, flow = scene((*said(*prompts), *strange), call, False, BOTTOM)
    steering = Steering(asked, RULES.tools["bank", call[0]], RULES, flow)
    findings = steering.findings()
    found = approved(flow, steering.prompts, findings, "ticket t by ann", "rang him")
    assert [one.path for one in found] == [one.path for one in findings if one.how is None]
    assert all(one.reason == "rang him" and one.now.origins == frozenset() for one in found)
