"""A veil: whatever a reply looks like, nothing that its manifest hides is shown, and what is shown is what it was."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.flow.fields import Fields
from citywatch.core.flow.handle import parse_handle
from citywatch.core.flow.veil import MAX_DEPTH, MAX_HIDDEN, OTHERS, Veil
from citywatch.core.manifest import EVERYBODY, Output, ToolManifest

SHELF = "a" * 26
SECRET = "the hidden words"
NAMES = st.sampled_from(["id", "body", "text", "items", "x", SECRET])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([SECRET, "shown", 5, True, None, ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
OUTPUTS = st.builds(Output, trusted=st.booleans(), handle=st.booleans())
READ_BY = st.builds(
    Output, trusted=st.booleans(), handle=st.booleans(), readers=st.sampled_from([(EVERYBODY,), ("hr",)])
)
PATHS = st.sampled_from(["$", "$.id", "$.body", "$[*]", "$[*].body", "$..text", "$.items[*].id", "$.x"])


@given(VALUES, st.dictionaries(PATHS, OUTPUTS, max_size=5))
def test_no_hidden_leaf_is_shown_and_each_is_kept(value: Any, outputs: dict[str, Output]) -> None:
    fields = Fields(outputs)
    veil = Veil(fields, SHELF)
    shown = veil.over(value)
    seen = fields.walk(shown)
    kept = [one for one in fields.walk(value).leaves if not one.output.handle and one.name]
    assert {one.path for one in kept} >= {one.path for one in seen.leaves if not _made(one.value) and one.name}
    for leaf in seen.leaves:
        assert not leaf.output.handle or _made(leaf.value) or leaf.value in ("id", "body", "text", "items", "x", OTHERS)


@given(VALUES)
def test_all_of_it_is_hidden_by_the_root_and_nothing_without_a_declaration(value: Any) -> None:
    veil = Veil(Fields({"$": Output(handle=True)}), SHELF)
    shown = veil.over(value)
    assert shown is None if value is None else parse_handle(shown)
    assert [one.value for one in veil.hidden] == ([] if value is None else [value])
    assert Veil(Fields({}), SHELF).over(value) == value


@given(VALUES)
def test_names_that_no_path_says_are_hidden_with_what_they_hold(value: Any) -> None:
    veil = Veil(Fields({"$": Output(handle=True), "$..id": Output(trusted=True)}), SHELF)
    assert SECRET not in json.dumps(_without_ids(veil.over(value)))


@given(VALUES, st.dictionaries(PATHS, READ_BY, max_size=5))
def test_an_agents_own_handles_show_the_servers_own_data_for_everybody_and_no_more_than_before(
    value: Any, outputs: dict[str, Output]
) -> None:
    own = Fields(ToolManifest(output=outputs).hidden().output)
    for before, after in zip(Fields(outputs).walk(value).leaves, own.walk(value).leaves, strict=True):
        unsaid = not outputs or before.output == Output()
        for_all = before.output.trusted and before.output.readers == (EVERYBODY,)
        assert after.output.handle == (before.output.handle or unsaid or not for_all)
        assert msgspec.structs.replace(after.output, handle=before.output.handle) == before.output


def test_more_than_there_is_room_for_is_one_handle() -> None:
    veil = Veil(Fields({"$[*]": Output(handle=True)}), SHELF)
    assert parse_handle(veil.over(["x"] * (MAX_HIDDEN + 1))).place == 0
    assert len(veil.hidden) == 1


def test_deep_values_are_hidden_rather_than_walked() -> None:
    value: Any = SECRET
    for _ in range(MAX_DEPTH * 2):
        value = {"x": [value]}
    assert SECRET not in json.dumps(Veil(Fields({"$..text": Output(handle=True)}), SHELF).over(value))


def _made(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("cw:")


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_ids(one) for name, one in value.items() if name != "id"}
    return [_without_ids(one) for one in value] if isinstance(value, list) else value
