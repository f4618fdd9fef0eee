"""Typed messages against `jsonschema`: what fits here fits there, and the other way round but for bounds."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from citywatch.core.wire.checks import MAX_EXACT
from citywatch.core.wire.schema import DRAFT, read_schema

NAMES = st.sampled_from(["amount", "currency", "to", "lines", "note", ""])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([0.0, 1.0, 2.5, -3.0, 1e20])
    | st.sampled_from(["", "a", "EUR", "ab1", "x" * 9, "ü€"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
COUNTS = st.integers(0, 4)
STRINGS = st.fixed_dictionaries(
    {"type": st.just("string"), "maxLength": st.integers(0, 8)},
    optional={"minLength": COUNTS, "pattern": st.sampled_from(["^[A-Z]{3}$", "[0-9]", "a|b", "^$", "."])},
)
NUMBERS = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number", ["integer", "null"], ["number", "boolean"]])},
    optional={name: st.integers(-3, 3) for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")},
)
LEAVES = (
    STRINGS
    | NUMBERS
    | st.fixed_dictionaries({"type": st.sampled_from(["boolean", "null"])})
    | st.fixed_dictionaries({"enum": st.lists(SCALARS, min_size=1, max_size=3)})
    | st.fixed_dictionaries({"const": SCALARS})
    | st.sampled_from([{"$ref": "#/$defs/one"}, {"$ref": "#/$defs/a~1b"}])
)


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    rest = st.just(False) | inner
    return (
        st.fixed_dictionaries(
            {"type": st.sampled_from(["object", ["object", "null"]]), "additionalProperties": rest},
            optional={
                "properties": st.dictionaries(NAMES, inner, max_size=3),
                "required": st.lists(NAMES, max_size=2, unique=True),
                "minProperties": COUNTS,
                "maxProperties": COUNTS,
            },
        )
        | st.fixed_dictionaries(
            {"type": st.just("array"), "items": rest},
            optional={
                "prefixItems": st.lists(inner, min_size=1, max_size=2),
                "minItems": COUNTS,
                "maxItems": COUNTS,
                "uniqueItems": st.booleans(),
            },
        )
        | st.sampled_from(["anyOf", "oneOf", "allOf"]).flatmap(
            lambda word: st.fixed_dictionaries({word: st.lists(inner, min_size=1, max_size=3)})
        )
    )


SCHEMAS = st.recursive(LEAVES, larger, max_leaves=6)
DEFINITIONS = st.fixed_dictionaries({"one": STRINGS | NUMBERS, "a/b": NUMBERS})


def is_exact(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(is_exact, value.values()))
    if isinstance(value, list):
        return all(map(is_exact, value))
    return not isinstance(value, int | float) or abs(value) <= MAX_EXACT


@settings(max_examples=600)
@given(SCHEMAS, DEFINITIONS, VALUES)
def test_it_fits_here_as_it_fits_there(schema: dict[str, Any], definitions: dict[str, Any], value: Any) -> None:
    whole = {"$schema": DRAFT, "$defs": definitions, **schema}
    theirs = Draft202012Validator(whole).is_valid(value)
    ours = read_schema(whole).misfit(value)
    assert theirs or ours is not None, "INVARIANT 1: what fits here fits by the specification"
    if is_exact(value):
        assert (ours is None) == theirs, ours
