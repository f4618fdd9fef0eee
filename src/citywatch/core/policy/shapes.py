"""What a tool's arguments look like to policy: manifest and approved input schema become one tree of types.

Decides the type of each argument, reads no argument. INVARIANTS: the manifest's word goes before the input schema's; a
schema that says anything we have no type for gives the text of its JSON, never a guess; whatever is in the schema, this
ends (local references only, `MAX_DEPTH` levels, `MAX_NODES` places: what lies beyond is text) and never raises.
SPEC: JSON Schema 2020-12 (`type`, `properties`, `required`, `items`, `enum`, `const`, `$ref`, `anyOf`, `oneOf`,
`allOf`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from citywatch.core.manifest import Parameter, ParameterType, ToolManifest

MAX_DEPTH = 16
MAX_NODES = 2_000


class Plain(msgspec.Struct, frozen=True):
    """One value of a type; None means the text of its canonical JSON. `scale` counts for money only."""

    type: ParameterType | None
    scale: int = 0


class Listed(msgspec.Struct, frozen=True):
    """An array, seen as a set: its order and its duplicates are not visible to policy."""

    item: Shape


class Field(msgspec.Struct, frozen=True):
    """One property of an object; one that may be absent or null is not required."""

    shape: Shape
    required: bool


class Recorded(msgspec.Struct, frozen=True):
    """An object with declared properties. `open`: others may occur, each seen as text (no schema is known yet)."""

    fields: Mapping[str, Field]
    open: bool = False


Shape = Plain | Listed | Recorded

TEXT = Plain(None)

_TYPES = {
    "string": ParameterType.STRING,
    "integer": ParameterType.INTEGER,
    "boolean": ParameterType.BOOLEAN,
}


def shape_of(manifest: ToolManifest, input_schema: Mapping[str, Any] | None) -> Recorded:
    """The record that policy sees. A declared parameter that the schema does not have is an optional argument."""
    reader = _Reader(manifest.parameters, input_schema or {})
    shape, _ = reader.read(input_schema or {}, "", 0)
    fields = dict(shape.fields) if isinstance(shape, Recorded) else {}
    for name, parameter in manifest.parameters.items():
        if name not in fields and name not in reader.seen and _usable(name):
            fields[name] = Field(_declared(parameter) or TEXT, required=False)
    return Recorded(fields, open=input_schema is None)


_OPEN = ("anyOf", "oneOf", "allOf", "not", "if", "prefixItems", "patternProperties", "dependentSchemas")
"""Words that say more of a value than its type: with one of them, only a plain type is believed."""


def _more(schema: Mapping[str, Any]) -> bool:
    """Whether an inner object may hold more than its properties: then only its text shows all of it."""
    return not schema["properties"] or schema.get("additionalProperties", False) is not False


def _usable(name: Any) -> bool:
    """Whether a property can be an attribute: calls that hold any other are refused by its name."""
    return isinstance(name, str) and not name.startswith("__") and name.isprintable()


def _declared(parameter: Parameter | None) -> Plain | None:
    if parameter is None or parameter.type is None:
        return None
    return Plain(parameter.type, parameter.scale if parameter.type is ParameterType.MONEY else 0)


class _Reader:
    """Walks one input schema. `path` names the place as manifests do: `order.lines[].price`."""

    def __init__(self, parameters: Mapping[str, Parameter], root: Mapping[str, Any]) -> None:
        self.parameters = parameters
        self.root = root
        self.seen: set[str] = set()

    def read(self, schema: Any, path: str, depth: int) -> tuple[Shape, bool]:
        """The shape at this place, and whether null is allowed there."""
        self.seen.add(path)
        schema, nullable = self._plain(schema)
        declared = _declared(self.parameters.get(path)) if path else None
        if declared is not None:
            return declared, nullable
        return self._shape(schema, path, depth), nullable or _type_of(schema) is None

    def _shape(self, schema: Mapping[str, Any], path: str, depth: int) -> Shape:
        kind = _type_of(schema)
        if kind in _TYPES:
            return Plain(_TYPES[kind])
        # What a server calls a schema may refer to itself a hundred times over: the tree is bounded both ways
        if depth >= MAX_DEPTH or len(self.seen) >= MAX_NODES or (path and any(word in schema for word in _OPEN)):
            return TEXT
        if kind == "array" and isinstance(schema.get("items"), Mapping):
            shape, nullable = self.read(schema["items"], path + "[]", depth + 1)
            return TEXT if nullable else Listed(shape)
        if kind == "object" and isinstance(schema.get("properties"), Mapping):
            return self._record(schema, path, depth) if not _more(schema) or not path else TEXT
        return TEXT

    def _record(self, schema: Mapping[str, Any], path: str, depth: int) -> Recorded:
        required = schema.get("required")
        names = required if isinstance(required, list) else []
        fields = {}
        for name, inner in schema["properties"].items():
            if _usable(name):
                shape, nullable = self.read(inner, f"{path}.{name}" if path else name, depth + 1)
                fields[name] = Field(shape, required=name in names and not nullable)
        return Recorded(fields)

    def _plain(self, schema: Any) -> tuple[Mapping[str, Any], bool]:
        """The schema without references, without a union that only adds null, and whether it did."""
        nullable = False
        for _ in range(MAX_DEPTH):
            if not isinstance(schema, Mapping):
                return {}, True
            if "$ref" in schema:
                schema = self._target(schema["$ref"])
                continue
            inner, adds_null = _without_null(schema)
            nullable = nullable or adds_null
            if inner is schema:
                return schema, nullable
            schema = inner
        return {}, True

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        found: Any = self.root
        for step in reference[2:].split("/"):
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        return found


def _without_null(schema: Mapping[str, Any]) -> tuple[Any, bool]:
    """Peel one layer: `anyOf: [X, null]` → X, `allOf: [X]` → X, `type: [X, "null"]` → `type: X`."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        others = [kind for kind in kinds if kind != "null"]
        return ({**schema, "type": others[0]}, "null" in kinds) if len(others) == 1 else ({}, True)
    for word in ("anyOf", "oneOf", "allOf"):
        branches = schema.get(word)
        if isinstance(branches, list) and "type" not in schema and "properties" not in schema:
            others = [branch for branch in branches if branch != {"type": "null"}]
            has_null = len(others) < len(branches) and word != "allOf"
            return (others[0], has_null) if len(others) == 1 or _alike(others) else (schema, has_null)
    return schema, schema.get("type") == "null" or schema.get("nullable") is True


def _alike(branches: list[Any]) -> bool:
    """Whether every branch is the same plain type (`string` with one format or another): then policy sees that type."""
    kinds = {_type_of(branch) if isinstance(branch, Mapping) else None for branch in branches}
    return len(kinds) == 1 and kinds <= set(_TYPES)


def _type_of(schema: Mapping[str, Any]) -> str | None:
    kind = schema.get("type")
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    values = (
        schema.get("enum") if isinstance(schema.get("enum"), list) else [schema["const"]] if "const" in schema else []
    )
    types = {type(value) for value in values or []}
    return {str: "string", int: "integer", bool: "boolean"}.get(types.pop()) if len(types) == 1 else None
