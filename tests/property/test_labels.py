"""Labels form a lattice that only `flow.release` goes down in, and agree with their slow twin in `spec/`."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core import label as module
from citywatch.core.label import (
    BOTTOM,
    MAX_ORIGINS,
    MAX_READERS,
    TOP,
    Label,
    format_label,
    is_above,
    join,
    join_all,
    may_flow,
    parse_label,
)
from spec import labels as twin

WORLD = frozenset(f"outside:{n}" for n in range(3 * MAX_ORIGINS))
FEW = st.frozensets(st.sampled_from(sorted(WORLD)[:6]), max_size=6)
MANY = st.integers(MAX_ORIGINS - 3, MAX_ORIGINS + 3).map(lambda n: frozenset(sorted(WORLD)[-n:]))
NAMES = st.none() | FEW | FEW | MANY
LABELS = st.builds(Label, NAMES, NAMES)


def meaning(label: Label) -> twin.Pair:
    return twin.meaning(label.origins, label.readers, WORLD)


@given(LABELS, LABELS)
def test_the_order_of_a_join_does_not_matter(a: Label, b: Label) -> None:
    assert join(a, b) == join(b, a)


@given(LABELS, LABELS, LABELS)
def test_the_grouping_of_joins_does_not_matter(a: Label, b: Label, c: Label) -> None:
    assert join(join(a, b), c) == join(a, join(b, c)) == join_all([a, b, c])


@given(LABELS)
def test_a_join_with_itself_or_with_nothing_changes_nothing_and_with_the_unknown_everything(a: Label) -> None:
    assert join(a, a) == a == join(a, BOTTOM)
    assert join(a, TOP) == TOP


@given(LABELS, LABELS)
def test_a_join_is_the_least_label_above_both(a: Label, b: Label) -> None:
    both = join(a, b)
    assert is_above(both, a)
    assert is_above(both, b)
    assert is_above(a, b) == (both == a)


@given(LABELS, LABELS, LABELS)
def test_above_is_an_order(a: Label, b: Label, c: Label) -> None:
    assert is_above(a, a)
    if is_above(a, b) and is_above(b, a):
        assert a == b
    if is_above(a, b) and is_above(b, c):
        assert is_above(a, c)


@given(LABELS, LABELS, LABELS)
def test_more_influence_never_gives_less_taint(a: Label, b: Label, c: Label) -> None:
    if is_above(a, b):
        assert is_above(join(a, c), join(b, c))


@given(LABELS, LABELS, NAMES)
def test_what_may_not_flow_may_not_flow_once_it_is_joined(a: Label, b: Label, audience: frozenset[str] | None) -> None:
    assert not may_flow(join(a, b), audience) or (may_flow(a, audience) and may_flow(b, audience))


@given(NAMES, NAMES)
def test_past_the_bound_anybody_shaped_it_and_nobody_may_see_it(
    origins: frozenset[str] | None, readers: frozenset[str] | None
) -> None:
    label = Label(origins, readers)
    assert label.origins == (None if origins is not None and len(origins) > MAX_ORIGINS else origins)
    assert label.readers == (frozenset() if readers is not None and len(readers) > MAX_READERS else readers)


@given(LABELS, LABELS)
def test_nothing_in_the_module_lowers_a_label(a: Label, b: Label) -> None:
    """Only `join` and `join_all` make labels out of labels; whatever else did would have to be listed here."""
    makers = {
        name for name, made in vars(module).items() if getattr(made, "__annotations__", {}).get("return") == "Label"
    }
    assert makers == {"join", "join_all", "parse_label"}
    for made in (join(a, b), join_all([a, b])):
        assert is_above(made, a)
        assert is_above(made, b)


@given(LABELS)
def test_a_label_comes_back_from_its_json(a: Label) -> None:
    written = orjson.dumps(format_label(a))
    assert parse_label(orjson.loads(written)) == a


@given(LABELS, LABELS)
def test_joins_and_order_are_those_of_the_slow_twin(a: Label, b: Label) -> None:
    assert meaning(join(a, b)) == twin.joined(meaning(a), meaning(b), WORLD)
    assert is_above(a, b) == twin.above(meaning(a), meaning(b))


@given(LABELS, NAMES)
def test_flows_are_those_of_the_slow_twin(a: Label, audience: frozenset[str] | None) -> None:
    assert may_flow(a, audience) == twin.flows(meaning(a), audience, WORLD)
