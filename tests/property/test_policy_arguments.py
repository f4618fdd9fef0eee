"""The mapping of arguments is total: any JSON becomes what the schema for Cedar says, or is refused by name."""

from __future__ import annotations

import json
from typing import Any

import cedarpy
from hypothesis import event, given, settings
from hypothesis import strategies as st

from citywatch.core.errors import Code, Refused
from citywatch.core.manifest import Parameter, ParameterType, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.policy.arguments import ArgumentMap
from citywatch.core.policy.facts import tool_context
from citywatch.core.policy.reference import to_json
from citywatch.core.policy.values import CedarSet
from citywatch.core.policy.world import AgentFacts, ToolFacts, build_world

PLAIN_NAMES = st.sampled_from(["a", "b", "amount", "a b", "\u00e9", "", "x.y", "type", "id"])
NAMES = PLAIN_NAMES | st.sampled_from(["__entity", "__extn", "\ud800"])
WORDS = st.text(max_size=4) | st.sampled_from(["1.50", "-3", "0.12345", "9" * 25, "\ud800", "__entity"])
NUMBERS = st.integers() | st.integers(-(2**64), 2**64) | st.floats() | st.sampled_from([1.5, 0.25, 19.99, 2**63, 1e22])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
TYPES = st.sampled_from(["string", "integer", "boolean", "number", "null", "array", "object", "odd"])
SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.fixed_dictionaries({}, optional={"type": TYPES, "enum": st.lists(JSON, max_size=2), "const": JSON})
    | st.just({"$ref": "#/properties/a"})
    | st.just({"type": ["string", "null"]}),
    lambda inner: (
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(NAMES, inner, max_size=3)},
            optional={"required": st.lists(NAMES, max_size=2), "additionalProperties": st.booleans()},
        )
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=2)})
    ),
    max_leaves=8,
)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=4),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "number": st.sampled_from([1.5, 0.25, 19.99, 7]),
}


@st.composite
def fitting(draw: st.DrawFn, depth: int = 2) -> tuple[dict[str, Any], Any]:
    """A schema and a value for it; the value now and then something else."""
    schema: dict[str, Any]
    kind = draw(st.sampled_from([*PLAIN, "array", "object", "nullable", "any"] if depth else [*PLAIN]))
    if kind in PLAIN:
        schema, value = {"type": kind}, draw(PLAIN[kind])
    elif kind == "array":
        inner, one = draw(fitting(depth - 1))
        schema, value = {"type": "array", "items": inner}, [one] * draw(st.integers(0, 2))
    elif kind == "object":
        schema, value = draw(fields(depth - 1))
    elif kind == "nullable":
        inner, one = draw(fitting(depth - 1))
        schema, value = {"anyOf": [inner, {"type": "null"}]}, draw(st.sampled_from([one, None]))
    else:
        schema, value = draw(SCHEMAS), draw(JSON)
    return schema, draw(JSON) if draw(st.integers(0, 24)) == 0 else value


@st.composite
def fields(draw: st.DrawFn, depth: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    """An object's schema, and an object for it."""
    names = draw(st.lists(PLAIN_NAMES, min_size=1, max_size=3, unique=True))
    pairs = {name: draw(fitting(depth)) for name in names}
    schema: dict[str, Any] = {"type": "object", "properties": {name: pair[0] for name, pair in pairs.items()}}
    if draw(st.booleans()):
        schema["required"] = draw(st.lists(PLAIN_NAMES, max_size=1))
    return schema, {name: pair[1] for name, pair in pairs.items() if draw(st.integers(0, 4))}


PARAMETERS = st.dictionaries(
    NAMES | st.sampled_from(["a.b", "a[]", "b.amount"]),
    st.builds(Parameter, type=st.none() | st.sampled_from(ParameterType), scale=st.integers(0, 6)),
    max_size=1,
)
EVERYTHING = cedarpy.PolicySet.from_str("permit (principal, action, resource);")
ANN = AgentFacts(id=AgentId("d", "ann"))


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value.items)) if isinstance(value, CedarSet) else set()


def mapped(tool: ArgumentMap, arguments: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return tool.read(arguments)
    except Refused as refusal:
        refused = refusal
    assert refused.code is Code.ARGUMENT_UNSUPPORTED
    refused.detail.encode()
    return None


@settings(max_examples=300)
@given(fields(), PARAMETERS, st.just({}) | st.just({}) | st.just({}) | st.dictionaries(NAMES, JSON, max_size=1))
def test_any_arguments_become_what_the_schema_says_or_are_refused(
    fitted: tuple[dict[str, Any], dict[str, Any]], parameters: dict[str, Parameter], strange: dict[str, Any]
) -> None:
    schema, arguments = fitted[0], {**fitted[1], **strange}
    tool = ToolFacts(server="s", name="t", manifest=ToolManifest(parameters=parameters), input_schema=schema)
    world = build_world([ANN], ["s"], [tool])
    read = mapped(world.tools["s", "t"], arguments)
    event("refused" if read is None else f"read {len(read)}")
    if read is None:
        return
    assert not any(name.startswith("__") for name in keys(read))
    assert read.keys() == {name for name, value in arguments.items() if value is not None}
    request = {
        "principal": {"type": "Agent", "id": str(ANN.id)},
        "action": {"type": "Action", "id": "s/t"},
        "resource": {"type": "Server", "id": "s"},
        "context": json.dumps(to_json(tool_context("t", read, 0))),
    }
    agent = {"uid": request["principal"], "attrs": {"name": "ann", "domain": "d"}, "parents": []}
    server = {"uid": request["resource"], "attrs": {"name": "s"}, "parents": []}
    answer = cedarpy.is_authorized(request, EVERYTHING, [agent, server], world.schema)
    assert answer.decision is cedarpy.Decision.Allow, (answer.diagnostics.errors, schema, read)


@given(st.integers(0, 6), st.integers(-(2**63), 2**63 - 1))
def test_money_written_out_reads_back_to_the_same_minor_units(scale: int, units: int) -> None:
    manifest = ToolManifest(parameters={"m": Parameter(type=ParameterType.MONEY, scale=scale)})
    tool = build_world([], ["s"], [ToolFacts(server="s", name="t", manifest=manifest)]).tools["s", "t"]
    digits = str(abs(units)).rjust(scale + 1, "0")
    text = digits if scale == 0 else f"{digits[:-scale]}.{digits[-scale:]}"
    assert tool.read({"m": "-" * (units < 0) + text}) == {"m": units}
