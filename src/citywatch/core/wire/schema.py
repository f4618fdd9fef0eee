"""The shape that a typed message must have: a closed part of JSON Schema 2020-12, read once and held against values.

Decides whether a value fits; which message must fit which schema is `enforce.typed`'s. A schema is an operator's file.
What is read means what the specification says, and what is not understood is a mistake of the file, never passed over:
`format`, which is only a remark there, a reference to elsewhere, a word of another draft.

INVARIANTS
1. A value that fits here fits by the specification (`tests/differential/test_message_schemas.py`).
2. No place of a schema is open: an object says what else it may hold, a string how long it may be. What could hold any
   text would be free text under another name.
3. Work is bounded, and what is told holds no word of the value (`checks`).
SPEC: https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.canonical import digest
from citywatch.core.errors import Malformed
from citywatch.core.wire.checks import (
    MAX_DEPTH,
    Check,
    TooMuch,
    Work,
    all_of,
    bounded,
    elements,
    matching,
    members,
    of_type,
    one_of,
    sized,
    some_of,
    unique,
)

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
MAX_NODES: Final = 1_000


class Schema(msgspec.Struct, frozen=True):
    """A schema that was read; `digest` is of all that stands in it."""

    check: Check
    digest: str

    def misfit(self, value: Any) -> str | None:
        """What is wrong with a value, in one line for its sender; None if it fits."""
        try:
            return self.check(value, "$", Work())
        except TooMuch:
            return "it takes too long to look through: send less, or nest it less"


def read_schema(document: Any) -> Schema:
    """Read a schema; raises `Malformed` with the first mistake and its place."""
    reader = _Reader()
    check = reader.found["#"] = reader.read(document, "#")
    for name, place in reader.wanted.items():
        if name not in reader.found:
            raise Malformed(f"`{place}`: `$ref` to `{name}`, which is not in the file")
    return Schema(check, digest(_SORTED.encode(document)))


_SORTED: Final = msgspec.json.Encoder(order="sorted")
_REMARKS: Final = frozenset(("$schema", "$comment", "title", "description", "default", "examples", "deprecated"))
_NUMBERS: Final[Mapping[str, tuple[Callable[[Any, Any], bool], str]]] = {
    "minimum": (lambda value, bound: value >= bound, "less than"),
    "maximum": (lambda value, bound: value <= bound, "more than"),
    "exclusiveMinimum": (lambda value, bound: value > bound, "not more than"),
    "exclusiveMaximum": (lambda value, bound: value < bound, "not less than"),
}
_SIZES: Final[Mapping[str, tuple[str, bool, str]]] = {
    "minLength": ("string", False, "characters"),
    "maxLength": ("string", True, "characters"),
    "minItems": ("array", False, "elements"),
    "maxItems": ("array", True, "elements"),
    "minProperties": ("object", False, "members"),
    "maxProperties": ("object", True, "members"),
}
_SAYING: Final = ("type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf")


class _Reader:
    """One document. `wanted` are the definitions that something refers to, with where it does."""

    def __init__(self) -> None:
        self.nodes = 0
        self.wanted: dict[str, str] = {}
        self.found: dict[str, Check] = {}

    def read(self, schema: Any, place: str) -> Check:
        """The check of a schema at a place of the document."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Malformed(f"`{place}`: more than {MAX_NODES} schemas in one file")
        if not isinstance(schema, Mapping):
            raise Malformed(f"`{place}`: not an object; what may be anything has no type")
        if place.count("/") > 2 * MAX_DEPTH:
            raise Malformed(f"`{place[:80]}`: nested deeper than {MAX_DEPTH}")
        if not any(word in schema for word in _SAYING):
            raise Malformed(f"`{place}`: says nothing of the value; give it a `type`")
        known: set[str] = {word for word in _REMARKS if word in schema}
        if schema.get("$schema", DRAFT) != DRAFT:
            raise Malformed(f"`{place}`: `$schema` is `{DRAFT}` or absent")
        if place == "#":
            known |= self._definitions(schema)
        checks = [*self._plain(schema, place, known), *self._inner(schema, place, known)]
        unknown = sorted(set(map(str, schema)) - known)
        if unknown:
            raise Malformed(f"`{place}`: `{unknown[0]}` is not understood here")
        self._closed(schema, place)
        return all_of(checks)

    def _definitions(self, schema: Mapping[str, Any]) -> set[str]:
        if "$defs" not in schema:
            return set()
        definitions = schema["$defs"]
        if not isinstance(definitions, Mapping):
            raise Malformed("`#/$defs`: not an object")
        for name, one in definitions.items():
            self.found[f"#/$defs/{name}"] = self.read(one, f"#/$defs/{name}")
        return {"$defs"}

    def _plain(self, schema: Mapping[str, Any], place: str, known: set[str]) -> Iterable[Check]:
        """What is said of a value by itself."""
        if "type" in schema:
            known.add("type")
            yield of_type(schema["type"], place)
        for word, one in (("enum", schema.get("enum")), ("const", [schema.get("const")])):
            if word in schema:
                known.add(word)
                yield one_of(one, f"{place}/{word}")
        for word, (holds, told) in _NUMBERS.items():
            if word in schema:
                known.add(word)
                yield bounded(_number(schema[word], f"{place}/{word}"), holds, told)
        for word, (kind, most, unit) in _SIZES.items():
            if word in schema:
                known.add(word)
                yield sized(_size(schema[word], f"{place}/{word}"), kind, most, unit)
        if "pattern" in schema:
            known.add("pattern")
            yield matching(schema["pattern"], f"{place}/pattern")
        if "uniqueItems" in schema:
            known.add("uniqueItems")
            if type(schema["uniqueItems"]) is not bool:
                raise Malformed(f"`{place}/uniqueItems`: not true or false")
            if schema["uniqueItems"]:
                yield unique

    def _inner(self, schema: Mapping[str, Any], place: str, known: set[str]) -> Iterable[Check]:
        """What is said by other schemas, of the value or of what is in it."""
        if "$ref" in schema:
            known.add("$ref")
            yield self._reference(schema["$ref"], place)
        for word, least, most in (("allOf", None, None), ("anyOf", 1, None), ("oneOf", 1, 1)):
            if word in schema:
                known.add(word)
                parts = [self.read(one, f"{place}/{word}/{at}") for at, one in enumerate(_list(schema, word, place))]
                yield all_of(parts) if least is None else some_of(parts, most)
        if "items" in schema or "prefixItems" in schema:
            known |= {"items", "prefixItems"} & schema.keys()
            first = _list(schema, "prefixItems", place) if "prefixItems" in schema else []
            heads = [self.read(one, f"{place}/prefixItems/{at}") for at, one in enumerate(first)]
            yield elements(heads, self._or_nothing(schema, "items", place))
        words = {"properties", "required", "additionalProperties"} & schema.keys()
        if words:
            known |= words
            yield self._object(schema, place)

    def _object(self, schema: Mapping[str, Any], place: str) -> Check:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, Mapping):
            raise Malformed(f"`{place}/properties`: not an object")
        if not isinstance(required, list) or not all(type(one) is str for one in required):
            raise Malformed(f"`{place}/required`: not a list of names")
        inner = {name: self.read(one, f"{place}/properties/{name}") for name, one in properties.items()}
        return members(inner, tuple(required), self._or_nothing(schema, "additionalProperties", place))

    def _or_nothing(self, schema: Mapping[str, Any], word: str, place: str) -> Check | None:
        """What the rest must be; None: there is no rest. # INVARIANT: 2."""
        if word not in schema:
            raise Malformed(f"`{place}`: say `{word}: false`, or what else there may be")
        return None if schema[word] is False else self.read(schema[word], f"{place}/{word}")

    def _reference(self, name: Any, place: str) -> Check:
        if type(name) is not str or not (name == "#" or name.startswith("#/$defs/")):
            raise Malformed(f"`{place}`: `$ref` names `#` or one of the file's own `#/$defs/...`")
        if name != "#":
            name = name.replace("~1", "/").replace("~0", "~")
            self.wanted.setdefault(name, place)

        def check(value: Any, at: str, work: Work) -> str | None:
            return self.found[name](value, at, work)

        return check

    def _closed(self, schema: Mapping[str, Any], place: str) -> None:
        """# INVARIANT: 2."""
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        listed = "enum" in schema or "const" in schema
        if "string" in kinds and not listed and "maxLength" not in schema:
            raise Malformed(f"`{place}`: a string without a `maxLength`, an `enum` or a `const`")
        if "array" in kinds and not listed and "items" not in schema:
            raise Malformed(f"`{place}`: an array without `items`")
        if "object" in kinds and not listed and "additionalProperties" not in schema:
            raise Malformed(f"`{place}`: an object without `additionalProperties: false`, or what else it may hold")


def _list(schema: Mapping[str, Any], word: str, place: str) -> list[Any]:
    found = schema[word]
    if not isinstance(found, list) or not found:
        raise Malformed(f"`{place}/{word}`: not a list with at least one schema")
    return found


def _number(value: Any, place: str) -> int | float:
    if type(value) is not int and type(value) is not float:
        raise Malformed(f"`{place}`: not a number")
    return value


def _size(value: Any, place: str) -> int:
    if type(value) is not int or value < 0:
        raise Malformed(f"`{place}`: not a count")
    return value
