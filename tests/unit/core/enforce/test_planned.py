"""Which paths of a call a plan binds, and which place a part's path names."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.call import Call, Direction
from citywatch.core.enforce.arguments import MAX_VALUES, arguments
from citywatch.core.enforce.planned import Planned, parse_place, paths_bound
from citywatch.core.enforce.steering import Finding
from citywatch.core.flow.fields import MAX_PATH, Fields
from citywatch.core.limit import Path
from citywatch.core.manifest import Role, ToolManifest


def call(arguments: dict[str, Any]) -> Call:
    return Call(
        id="1",
        direction=Direction.TO_SERVER,
        agent="spiffe://x/agent/a",
        server="s",
        method="tools/call",
        name="t",
        arguments=arguments,
        body=b"",
        revision="",
    )


@pytest.mark.parametrize(
    ("given", "bound", "paths"),
    [
        ({"to": "x", "cc": "y"}, [("to",)], {"to"}),
        ({"to": ["x", "y"]}, [("to",)], {"to[0]", "to[1]"}),
        ({"to": {"name": "x"}}, [("to",)], {"to", "to.name"}),
        ({"to": {"name": "x"}}, [("to", "name")], {"to", "to.name"}),
        ({"to": {"name": "x", "cc": "y"}}, [("to", "name")], {"to.name"}),
        # An argument whose name reads like a place within the bound one
        ({"to": {"name": "x"}, "to.name": "y"}, [("to",)], {"to"}),
        ({"to": ["x"], "to[0]": "y"}, [("to",)], set()),
        ({"to": ["x"] * (MAX_VALUES + 1)}, [("to",)], set()),
        ({"to": "x"}, [], set()),
    ],
)
def test_a_path_is_bound_only_if_every_value_under_it_is(
    given: dict[str, Any], bound: list[Path], paths: set[str]
) -> None:
    assert paths_bound(call(given), bound) == paths
    traced = {one.path for one in arguments(call(given), ToolManifest())}
    assert paths <= traced  # written as the gates write it


@pytest.mark.parametrize(
    ("path", "role", "how"),
    [
        ("body", Role.CONTENT, "planned"),
        ("body[3:9]", Role.CONTENT, "planned"),
        ("body[3:9]", Role.DESTINATION, None),
        ("other[3:9]", Role.CONTENT, None),
    ],
)
def test_a_link_in_bound_words_is_bound_and_a_strange_name_is_not(path: str, role: Role, how: str | None) -> None:
    (found,) = Planned(bound=lambda: frozenset(("body",))).over((Finding(path, role, None, ""),))
    assert found.how == how


def test_what_passes_without_the_plan_keeps_its_own_reason() -> None:
    finding = Finding("to", Role.DESTINATION, "named", "there")
    assert Planned(bound=lambda: frozenset(("to",))).over((finding,)) == (finding,)


VALUE: dict[str, Any] = {
    "a": [{"b": 1}, {"b.c": 2, "b[0]": 3, 'q"]': 4, "": 5, "Zoë": 6, "a b": 7, "\\": 8}],
    "0": 9,
    "a[0].b": 10,
}


def test_the_path_of_every_leaf_leads_back_to_it() -> None:
    walk = Fields({}).walk(VALUE)
    numbers = [leaf for leaf in walk.leaves if isinstance(leaf.value, int)]
    assert len(numbers) == 10
    for leaf in numbers:
        found: Any = VALUE
        for one in parse_place(leaf.path):
            found = found[one]
        assert found == leaf.value


@pytest.mark.parametrize("name", ["x" * MAX_PATH + ".iban", 'x".iban' + "x" * MAX_PATH, "é." * MAX_PATH])
def test_a_path_that_may_have_been_cut_names_the_whole_reply_and_no_field(name: str) -> None:
    for value in ({name: 1}, {"iban": {name: 1}}, {name: {"iban": 1}}):
        found = [leaf for leaf in Fields({}).walk(value).leaves if leaf.value == 1]
        assert [parse_place(leaf.path) for leaf in found] == [()]


@pytest.mark.parametrize("path", ["content[1].id", "_meta.id", "beside.id", "beside[0]"])
def test_a_place_beside_the_fields_is_no_field(path: str) -> None:
    assert parse_place(path) == ()
