"""Which type policy sees, for what input schemas say; and that no schema can make this run away."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.manifest import Parameter, ParameterType, ToolManifest
from citywatch.core.policy.shapes import MAX_NODES, TEXT, Field, Listed, Plain, Recorded, Shape, shape_of

S, N, B = Plain(ParameterType.STRING), Plain(ParameterType.INTEGER), Plain(ParameterType.BOOLEAN)


def of(schema: Any, required: bool = True, definitions: Any = None) -> Field:
    root = {"type": "object", "properties": {"x": schema}, "required": ["x"], "$defs": definitions or {}}
    return shape_of(ToolManifest(), root).fields["x"]


@pytest.mark.parametrize(
    ("schema", "shape", "required"),
    [
        ({"type": "string"}, S, True),
        ({"type": "integer"}, N, True),
        ({"type": "boolean"}, B, True),
        ({"type": "number"}, TEXT, True),
        ({"type": ["string", "null"]}, S, False),
        ({"type": ["string", "integer"]}, TEXT, False),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, N, False),
        ({"anyOf": [{"type": "string", "format": "uri"}, {"type": "string"}]}, S, True),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, TEXT, False),
        ({"allOf": [{"type": "string"}]}, S, True),
        ({"enum": ["a", "b"]}, S, True),
        ({"enum": ["a", 1]}, TEXT, False),
        ({"const": 5}, N, True),
        ({"const": True}, B, True),
        ({"$ref": "#/$defs/Name"}, S, True),
        ({"$ref": "#/$defs/Loop"}, TEXT, False),
        ({"$ref": "https://elsewhere.example/schema"}, TEXT, False),
        ({"$ref": "#/$defs/Nowhere"}, TEXT, False),
        ({"$ref": 5}, TEXT, False),
        ({}, TEXT, False),
        (True, TEXT, False),
        (5, TEXT, False),
        ({"type": "null"}, TEXT, False),
        ({"type": "string", "nullable": True}, S, False),
        ({"type": "array", "items": {"type": "string"}}, Listed(S), True),
        ({"type": "array", "items": {"type": ["string", "null"]}}, TEXT, True),
        ({"type": "array"}, TEXT, True),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "string"}}, TEXT, True),
        ({"type": "object"}, TEXT, True),
        ({"type": "object", "properties": {}}, TEXT, True),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, Recorded({"a": Field(S, False)}), True),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {}}, TEXT, True),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "patternProperties": {"b": {}}}, TEXT, True),
        ({"type": "string", "pattern": "a+"}, S, True),
        ({"type": {"not": "a type"}}, TEXT, False),
    ],
)
def test_each_schema_has_one_type(schema: Any, shape: Shape, required: bool) -> None:
    assert of(schema, definitions={"Name": {"type": "string"}, "Loop": {"$ref": "#/$defs/Loop"}}) == Field(
        shape, required
    )


def test_the_manifests_word_goes_before_the_schemas() -> None:
    manifest = ToolManifest(parameters={"o.x": Parameter(type=ParameterType.MONEY, scale=3)})
    inner = {"type": "object", "properties": {"x": {"type": "string"}}}
    shape = shape_of(manifest, {"type": "object", "properties": {"o": inner}})
    assert shape == Recorded({"o": Field(Recorded({"x": Field(Plain(ParameterType.MONEY, 3), False)}), False)})


def test_properties_count_although_the_whole_has_alternatives() -> None:
    schema = {"properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert shape_of(ToolManifest(), schema) == Recorded({"a": Field(S, False)})


def test_a_schema_that_contains_itself_ten_times_over_ends() -> None:
    node = {"type": "object", "properties": {f"p{n}": {"$ref": "#/$defs/Node"} for n in range(10)}}
    shape = shape_of(
        ToolManifest(), {"type": "object", "properties": {"x": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": node}}
    )

    def size(found: Shape) -> int:
        inner = [field.shape for field in found.fields.values()] if isinstance(found, Recorded) else []
        return 1 + sum(map(size, inner))

    assert size(shape) < 2 * MAX_NODES


def test_no_schema_raises() -> None:
    schemas: tuple[dict[str, Any], ...] = (
        {"properties": 5},
        {"properties": {"a": None}},
        {"required": 5},
        {"type": []},
        {"anyOf": []},
        {"enum": []},
    )
    for junk in schemas:
        assert isinstance(shape_of(ToolManifest(), junk), Recorded)
        assert isinstance(of(junk), Field)
