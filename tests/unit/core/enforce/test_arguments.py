"""The values of a call: none of a consequential one is passed over, and silence is read against it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.call import Call, Direction, Effect
from citywatch.core.enforce.arguments import Argument, all_values, arguments, silent, trace
from citywatch.core.manifest import SILENT, Parameter, Role, ToolManifest


def call(**values: Any) -> Call:
    return Call(
        id="c",
        direction=Direction.TO_SERVER,
        agent="spiffe://a/agent/b",
        server="bank",
        method="tools/call",
        name="pay",
        arguments=values,
        body=b"{}",
        revision="2025-11-25",
        rpc_id=1,
    )


def found(manifest: ToolManifest, **values: Any) -> list[Argument]:
    return list(arguments(call(**values), manifest))


def test_silence_about_a_consequential_act_is_a_destination_and_about_a_read_nothing() -> None:
    assert [one.role for one in found(SILENT, x="a")] == [Role.DESTINATION]
    typed = ToolManifest(parameters={"x": Parameter()})
    assert [one.role for one in found(typed, x="a")] == [Role.DESTINATION]
    assert found(ToolManifest(effect=Effect.READ, parameters={"x": Parameter()}), x="a") == []


def test_silent_members_are_destinations_too() -> None:
    values = {"x": {"to": "a"}, "y": ["b"]}
    assert {one.role for one in found(SILENT, **values)} == {Role.DESTINATION}
    assert len(trace(call(**values), SILENT).values) == 3


@pytest.mark.parametrize(("role", "counts"), [(Role.DESTINATION, 1), (Role.COMMAND, 1), (Role.OBJECT, 0)])
def test_of_a_read_only_what_it_asks_and_what_it_runs_counts(role: Role, counts: int) -> None:
    assert len(found(ToolManifest(effect=Effect.READ, parameters={"x": Parameter(role=role)}), x="a")) == counts


def test_an_inner_value_has_the_role_of_its_path_or_of_the_argument_around_it() -> None:
    manifest = ToolManifest(
        parameters={"lines": Parameter(role=Role.OBJECT), "lines[].price": Parameter(role=Role.AMOUNT)}
    )
    values = found(manifest, lines=[{"price": 5, "what": "x"}])
    roles = {(one.path, one.value): one.role for one in values}
    assert roles["lines[0].price", 5] is Role.AMOUNT
    assert roles["lines[0].what", "x"] is Role.OBJECT
    assert roles["lines[0]", "price"] is Role.OBJECT  # the name of a member is the agent's word too


@given(
    st.recursive(
        st.text(min_size=1, max_size=5) | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=4),
        max_leaves=20,
    )
)
def test_every_word_and_number_of_a_call_is_a_value(value: Any) -> None:
    def leaves(one: Any) -> list[Any]:
        if isinstance(one, dict):
            return [*one, *(leaf for inner in one.values() for leaf in leaves(inner))]
        return [leaf for inner in one for leaf in leaves(inner)] if isinstance(one, list) else [one]

    got = [leaf for _, leaf in all_values(call(x=value))]
    assert sorted(map(repr, got)) == sorted(map(repr, leaves(value)))
    assert len(found(SILENT, x=value)) == len(got)


def test_the_arguments_without_a_role_are_named() -> None:
    schema: dict[str, Any] = {"properties": {"to": {}, "amount": {}, "lines": {}}}
    manifest = ToolManifest(
        parameters={"to": Parameter(role=Role.DESTINATION), "lines[].price": Parameter(role=Role.AMOUNT)}
    )
    assert silent(manifest, schema) == ("amount", "lines")  # what else the lines hold, nobody has said
    assert silent(SILENT, schema) == ("amount", "lines", "to")
    assert silent(ToolManifest(effect=Effect.READ), schema) == ()
    assert silent(SILENT, {}) == ()
