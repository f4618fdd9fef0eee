"""Whoever reads more can say no more: readers only ever shrink, and what is refused stays refused."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.enforce.readers import stands
from citywatch.core.flow.fields import Fields
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Reading, read_reply
from citywatch.core.label import BOTTOM, is_above, join, may_flow
from citywatch.core.manifest import Output

PATHS = st.sampled_from(["$", "$.a", "$.a.b", "$[*]", "$[*].a", "$..b", "$.b", "$.*.b"])
READERS = st.lists(st.sampled_from(["hr", "board", "leads"]), min_size=1, max_size=3, unique=True).map(tuple)
OUTPUTS = st.dictionaries(PATHS, st.builds(Output, trusted=st.booleans(), readers=READERS), max_size=4)
LEAVES = st.sampled_from(["Dora Meyer", "91234", 91234, True, None, "", "hr"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
)
READING = Reading(source="x/y", trusted=BOTTOM, untrusted=BOTTOM, shaped=BOTTOM)


def leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(leaves(one) for one in value.values())
    if isinstance(value, list):
        return sum(leaves(one) for one in value)
    return value is not None


@given(VALUES, READERS, OUTPUTS)
def test_a_reply_declared_for_some_is_for_no_others(value: Any, readers: tuple[str, ...], outputs: Any) -> None:
    found = read_reply(Fields({"$": Output(readers=readers)}).walk(value), "d", READING, 0).label
    if leaves(value):
        assert found.readers == frozenset(readers)
    more = Fields({path: Output(trusted=one.trusted) for path, one in outputs.items()})
    assert read_reply(more.walk(value), "d", READING, 0).label.readers is None


@given(VALUES, OUTPUTS)
def test_a_reply_whose_fields_are_not_told_apart_is_for_those_who_may_see_all(value: Any, outputs: Any) -> None:
    fields = Fields(outputs)
    whole = read_reply(fields.walk(str(value) or "x"), "d", READING, 0).label
    assert is_above(whole, read_reply(fields.walk(value), "d", READING, 0).label)


@given(st.lists(st.tuples(VALUES, OUTPUTS), max_size=4), READERS.map(frozenset) | st.none(), LEAVES)
def test_a_value_that_stands_for_an_audience_stands_in_an_item_for_it(items: Any, audience: Any, value: Any) -> None:
    history, label = History(), BOTTOM
    for one, outputs in items:
        item = read_reply(Fields(outputs).walk(one), "d", READING, 0)
        history.add(item)
        label = join(label, item.label)
    if value is not None and stands(value, history, audience):
        assert any(may_flow(item.label, audience) for item in history.items)
        assert stands(value, history, frozenset({"hr"}) & (audience or frozenset({"hr"})) or audience)
