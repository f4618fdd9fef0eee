"""Which declaration holds for which leaf: the most specific path, for every leaf, once, or the walk says cut."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.errors import Malformed
from citywatch.core.flow import fields
from citywatch.core.flow.fields import MAX_LEAVES, MAX_PATH, Fields, Walk, parse_path
from citywatch.core.manifest import Output

TRUSTED, UNTRUSTED = Output(trusted=True), Output()
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=3), inner, max_size=4),
    max_leaves=20,
)


def told(outputs: dict[str, Output], value: Any) -> dict[str, bool]:
    return {leaf.path: leaf.output.trusted for leaf in Fields(outputs).walk(value).leaves}


def scalars(value: Any) -> list[Any]:
    """The slow twin: every value that is no object, list or null, in order."""
    if isinstance(value, dict):
        return [one for inner in value.values() for one in scalars(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in scalars(inner)]
    return [] if value is None else [value]


@given(st.text(max_size=40) | st.text(alphabet='$.["]*ab-_', max_size=12).map("${}".format))
def test_any_text_is_a_path_or_malformed(text: str) -> None:
    try:
        steps = parse_path(text)
    except Malformed:
        return
    assert text.startswith("$")
    assert all(kind in (".", "..", "*") for kind, _ in steps)


MEMBER = re.compile(r'\.|\["')


@given(VALUES)
def test_every_leaf_is_met_exactly_once_and_in_order(value: Any) -> None:
    walk = Fields({"$": TRUSTED}).walk(value)
    assert not walk.cut
    # A trusted object's names that hold no scalar are leaves too, under no name: they are left out here.
    assert [leaf.value for leaf in walk.leaves if leaf.name or not MEMBER.search(leaf.path)] == scalars(value)


@given(VALUES)
def test_what_is_not_declared_is_met_with_every_name(value: Any) -> None:
    def everything(one: Any) -> int:
        if isinstance(one, dict):
            return len(one) + sum(map(everything, one.values()))
        return sum(map(everything, one)) if isinstance(one, list) else int(one is not None)

    assert len(Fields({}).walk(value).leaves) == everything(value)


def test_what_no_path_names_is_untrusted() -> None:
    assert told({"$.a": TRUSTED}, {"a": 1, "b": 2}) == {"$.a": True, "$.b": False}
    assert told({}, "text") == {"$": False}


def test_the_most_specific_path_wins_whatever_the_order() -> None:
    one, other = {"$": TRUSTED, "$[*].note": UNTRUSTED}, {"$[*].note": UNTRUSTED, "$": TRUSTED}
    value = [{"id": 1, "note": "x"}]
    assert told(one, value) == told(other, value) == {"$[0].id": True, "$[0].note": False}


def test_a_name_wins_over_a_wildcard_of_the_same_length() -> None:
    outputs = {"$.a": UNTRUSTED, "$.*": TRUSTED}
    assert told(outputs, {"a": 1, "b": 2}) == {"$.a": False, "$.b": True}


def test_a_name_at_any_depth_is_found_at_any_depth() -> None:
    value = {"a": {"b": [{"note": 1}]}, "note": 2}
    found = told({"$": TRUSTED, "$..note": UNTRUSTED}, value)
    assert {path for path, trusted in found.items() if not trusted} == {"$.a.b[0].note", "$.note"}


def test_a_name_in_quotes_may_hold_what_others_may_not() -> None:
    assert parse_path('$["to: all"]') == ((".", "to: all"),)
    with pytest.raises(Malformed):
        parse_path('$["a" ]')


def test_names_that_a_third_party_chose_are_leaves_too() -> None:
    walk = Fields({}).walk({"pay mallory": 1})
    assert [leaf.value for leaf in walk.leaves] == ["pay mallory", 1]
    assert [leaf.value for leaf in Fields({"$": TRUSTED}).walk({"id": 1}).leaves] == [1]


@pytest.mark.parametrize("name", ["bob@x.example", "GB29NWBK60161331926819", "https://x.example/bob", "+49 30 1234567"])
def test_an_address_that_is_a_members_name_is_a_value_of_a_vouched_object(name: str) -> None:
    walk = Fields({"$": UNTRUSTED, "$.shared": TRUSTED}).walk({"id": "7", "shared": {name: "rw", "since_2": 3}})
    (leaf,) = [one for one in walk.leaves if one.value == name]
    assert (leaf.name, leaf.record, leaf.output.trusted) == ("", 1, True)
    assert walk.parents[leaf.record] == 0
    assert "since_2" not in [one.value for one in walk.leaves]


def test_a_name_that_the_manifest_has_is_no_value_and_one_that_others_chose_is_in_no_record() -> None:
    outputs = {"$": TRUSTED, '$["bob@x.example"]': TRUSTED, "$.notes": UNTRUSTED}
    walk = Fields(outputs).walk({"bob@x.example": 1, "notes": {"eve@x.example": 1}})
    assert "bob@x.example" not in [one.value for one in walk.leaves]
    (leaf,) = [one for one in walk.leaves if one.value == "eve@x.example"]
    assert (leaf.record, leaf.output.trusted) == (-1, False)


def test_a_record_knows_the_record_around_it() -> None:
    walk = Fields({"$": TRUSTED}).walk({"a": {"b": 1}})
    assert walk.parents == (-1, 0)
    assert [leaf.record for leaf in walk.leaves if leaf.value == 1] == [1]


@pytest.mark.parametrize("value", [list(range(MAX_LEAVES + 1)), {f"k{n}": n for n in range(3 * MAX_LEAVES)}])
def test_more_leaves_than_are_told_apart_cut_the_walk(value: Any) -> None:
    walk: Walk = Fields({}).walk(value)
    assert walk.cut
    assert len(walk.leaves) <= MAX_LEAVES + 1


def test_a_long_name_is_not_repeated_for_every_leaf() -> None:
    walk = Fields({}).walk({"k" * (1 << 20): list(range(1000))})
    assert sum(len(leaf.path) + len(leaf.name) for leaf in walk.leaves) <= 2 * MAX_PATH * len(walk.leaves)


def test_names_at_any_depth_are_not_followed_twice_into_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level would double what is followed: work is counted, not timed."""
    deep: Any = 1
    for _ in range(60):
        deep = {"a": deep}
    seen: list[int] = []
    advance = Fields._advance

    def counted(self: Fields, states: Any, key: Any) -> Any:
        seen.append(len(states))
        return advance(self, states, key)

    monkeypatch.setattr(fields.Fields, "_advance", counted)
    Fields({"$..a..a..a": TRUSTED}).walk(deep)
    assert max(seen) <= 4


def test_deep_json_is_walked_without_recursion() -> None:
    deep: Any = "end"
    for _ in range(5000):
        deep = [deep]
    (leaf,) = Fields({}).walk(deep).leaves
    assert leaf.value == "end"
    assert len(leaf.path) <= MAX_PATH


@given(VALUES, st.frozensets(st.text(min_size=1, max_size=2), max_size=4), st.integers(1, 12))
def test_where_nothing_is_declared_the_short_walk_is_the_long_one(value: Any, words: frozenset[str], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "MAX_LEAVES", most)
        nothing = Fields({}, words)
        assert nothing.walk(value) == nothing.walk_slowly(value)
    long = {"n" * (MAX_PATH + 3): [value], 'a"b': value}
    assert nothing.walk(long) == nothing.walk_slowly(long)
