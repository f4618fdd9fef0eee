"""The places of an input schema: whatever form a server gives it, nothing that a call can hold is passed over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.enforce.arguments import MORE, silent
from citywatch.core.enforce.places import MAX_PLACES, places
from citywatch.core.manifest import SILENT, Parameter, Role, ToolManifest


def paths(schema: dict[str, Any]) -> list[str]:
    return [one.path for one in places(schema)]


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({}, []),
        ({"properties": {"a": {}, "b": {"type": "string"}}}, ["a", "b"]),
        ({"properties": {"a": {"properties": {"b": {"properties": {"c": {}}}}}}}, ["a", "a.b", "a.b.c"]),
        ({"properties": {"a": {"items": {"type": "string"}}}}, ["a", "a[]"]),
        ({"properties": {"a": {"items": {"items": {"properties": {"b": {}}}}}}}, ["a", "a[]", "a[][]", "a[][].b"]),
        ({"properties": {"a": {"anyOf": [{"type": "null"}, {"properties": {"b": {}}}]}}}, ["a", "a.b"]),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, ["a", "b"]),
        ({"if": {}, "then": {"properties": {"a": {}}}}, ["a"]),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"a": {}}}}}, ["a"]),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, ["a"]),
        ({"properties": {"a": {"$ref": "https://x.example/y"}}}, ["a"]),
        ({"properties": {"a": {"prefixItems": [{"properties": {"b": {}}}]}}}, ["a", "a[]", "a[].b"]),
        ({"properties": {"a[0]": {}, "a": {"items": {}}}}, ["a[]", "a"]),
        ({"properties": 7}, []),
        ({"properties": {"a": 7}}, ["a"]),
    ],
)
def test_a_place_for_each_value_in_every_branch(schema: dict[str, Any], found: list[str]) -> None:
    assert paths(schema) == found


def test_a_schema_that_contains_itself_or_a_million_things_ends() -> None:
    node: dict[str, Any] = {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    assert 2 < len(paths(node)) <= MAX_PLACES
    wide = {"properties": {f"p{n}": {"$ref": "#"} for n in range(5_000)}}
    assert len(paths(wide)) == MAX_PLACES
    assert silent(SILENT, wide)[-1] == MORE


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.dictionaries(
    st.sampled_from(["properties", "items", "anyOf", "$ref", "allOf", "if", "a", "prefixItems"]),
    inner | st.lists(inner, max_size=3), max_size=4), max_leaves=30))  # fmt: skip
def test_no_schema_is_an_error(schema: Any) -> None:
    if isinstance(schema, dict):
        assert len(places(schema)) <= MAX_PLACES


LINES: dict[str, Any] = {"lines": {"items": {"properties": {"price": {}, "sku": {}}}}, "to": {}}


@pytest.mark.parametrize(
    ("roles", "unsaid"),
    [
        ({}, ("lines", "to")),
        ({"to": Role.DESTINATION}, ("lines",)),
        ({"lines": Role.OBJECT}, ("to",)),
        ({"lines[].price": Role.AMOUNT}, ("lines[]", "lines[].sku", "to")),
        ({"lines": Role.OBJECT, "lines[].price": Role.AMOUNT}, ("to",)),
        ({"lines": Role.OBJECT, "lines[].price": None}, ("lines[].price", "to")),
        ({"lines": None, "to": None}, ("lines", "to")),
        ({"lines[]": Role.OBJECT, "lines[].price": Role.AMOUNT, "lines[].sku": Role.OBJECT}, ("to",)),
    ],
)
def test_each_place_without_a_role_is_named_and_nothing_else(
    roles: dict[str, Role | None], unsaid: tuple[str, ...]
) -> None:
    manifest = ToolManifest(parameters={name: Parameter(role=role) for name, role in roles.items()})
    assert silent(manifest, {"properties": LINES}) == unsaid


def test_an_argument_that_is_named_like_a_place_has_no_role_of_the_argument_before_the_dot() -> None:
    manifest = ToolManifest(parameters={"a": Parameter(role=Role.CONTENT)})
    assert silent(manifest, {"properties": {"a": {}, "a.b": {}}}) == ("a.b",)
