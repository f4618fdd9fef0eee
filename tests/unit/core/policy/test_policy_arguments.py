"""How a call's JSON arguments reach policy: each rule lets one through and stops one."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.errors import Code, Refused
from citywatch.core.manifest import Parameter, ParameterType, ToolManifest
from citywatch.core.policy.arguments import argument_map, text_of
from citywatch.core.policy.values import MAX_LONG, MIN_LONG, CedarSet, Decimal

NUMBER: dict[str, Any] = {"type": "number"}
STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}


def read(
    arguments: dict[str, Any],
    properties: dict[str, Any] | None = None,
    required: tuple[str, ...] = (),
    **parameters: Any,
) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties or {}, "required": list(required)}
    return argument_map(ToolManifest(parameters=parameters), schema).read(arguments)


def refused(arguments: Any, properties: dict[str, Any] | None = None, **more: Any) -> str:
    with pytest.raises(Refused) as refusal:
        read(arguments, properties, **more)
    assert refusal.value.code is Code.ARGUMENT_UNSUPPORTED
    return refusal.value.detail


MONEY = Parameter(type=ParameterType.MONEY)
YEN = Parameter(type=ParameterType.MONEY, scale=0)
DECIMAL = Parameter(type=ParameterType.DECIMAL)


@pytest.mark.parametrize(
    ("value", "cents"),
    [
        (50, 5000),
        (50.0, 5000),
        (19.99, 1999),
        ("19.99", 1999),
        ("-0.5", -50),
        (0.1, 10),
        (1e3, 100_000),
        (-0.0, 0),
        (92233720368547758, 9223372036854775800),
        ("92233720368547758.07", MAX_LONG),
        (1.1, 110),
        (4.35, 435),  # 4.35 * 100 is 434.99999999999994 in floating point
    ],
)
def test_money_becomes_minor_units_exactly(value: Any, cents: int) -> None:
    assert read({"amount": value}, {"amount": NUMBER}, amount=MONEY) == {"amount": cents}


@pytest.mark.parametrize(
    "value",
    [
        *(19.999, "19.999", "19.990", 1e-7, 92233720368547759, 1e300, float("inf"), float("nan"), 2**63),
        *("", " 5", "5 ", "+5", "5,00", "1e3", "0x10", "05", "5.", ".5", "\u0665", "5\n", "NaN", "1" * 40, "9" * 30),
        *(True, [50], {"amount": 50}),
    ],
)
def test_money_that_is_not_exact_or_not_plain_is_refused_by_name(value: Any) -> None:
    assert "`amount`" in refused({"amount": value}, {"amount": NUMBER}, amount=MONEY)


def test_the_scale_of_money_is_the_currencys() -> None:
    assert read({"amount": 500}, {"amount": NUMBER}, amount=YEN) == {"amount": 500}
    assert "at most 0 digits" in refused({"amount": 0.5}, {"amount": NUMBER}, amount=YEN)


def test_a_declared_decimal_keeps_four_digits_and_no_more() -> None:
    assert read({"rate": 1.2345}, {"rate": NUMBER}, rate=DECIMAL) == {"rate": Decimal(12_345)}
    assert read({"rate": "-3"}, {"rate": NUMBER}, rate=DECIMAL) == {"rate": Decimal(-30_000)}
    assert "at most 4 digits" in refused({"rate": 1.23456}, {"rate": NUMBER}, rate=DECIMAL)


def test_a_number_that_nobody_declared_is_seen_as_its_text() -> None:
    assert read({"x": 0.1}, {"x": NUMBER}) == {"x": "0.1"}
    assert read({"x": 5.0}, {"x": NUMBER}) == read({"x": 5}, {"x": NUMBER}) == {"x": "5"}
    assert "not finite" in refused({"x": float("inf")}, {"x": NUMBER})


def test_null_is_absent() -> None:
    assert read({"note": None}, {"note": STRING}) == {}
    assert read({"note": None}, {"note": {"type": ["string", "null"]}}, required=("note",)) == {}


def test_what_is_required_must_be_there() -> None:
    assert "`note`: required" in refused({}, {"note": STRING}, required=("note",))
    assert "`note`: required" in refused({"note": None}, {"note": STRING}, required=("note",))


@pytest.mark.parametrize("value", [MAX_LONG, MIN_LONG, 0, -1])
def test_an_integer_of_64_bits_passes(value: int) -> None:
    assert read({"n": value}, {"n": INTEGER}) == {"n": value}


@pytest.mark.parametrize("value", [MAX_LONG + 1, MIN_LONG - 1, 10**40])
def test_a_longer_integer_is_refused_by_name_wherever_it_stands(value: int) -> None:
    assert refused({"n": value}, {"n": INTEGER}) == "`n`: the integer does not fit in 64 bits"
    assert refused({"n": value}, {"n": NUMBER}, n=MONEY).startswith("`n`")
    assert refused({"o": {"a": [value]}}, {"o": {"type": "object"}}).startswith("`o.a[]`")


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (INTEGER, True),
        (INTEGER, 5.0),
        (INTEGER, "5"),
        (INTEGER, [5]),
        ({"type": "boolean"}, 1),
        ({"type": "boolean"}, 0),
        ({"type": "boolean"}, "true"),
        (STRING, 5),
        (STRING, True),
        (STRING, ["a"]),
        ({"type": "array", "items": STRING}, "a"),
        ({"type": "array", "items": STRING}, {"a": "b"}),
        ({"type": "array", "items": STRING}, ["a", 1]),
        ({"type": "array", "items": STRING}, ["a", None]),
        ({"type": "array", "items": NUMBER}, [1.5, None]),
    ],
)
def test_a_value_of_another_type_is_refused(schema: dict[str, Any], value: Any) -> None:
    assert "`x" in refused({"x": value}, {"x": schema})


@pytest.mark.parametrize(
    "arguments",
    [
        {"__entity": {"type": "Role", "id": "admin"}},
        {"__extn": {"fn": "decimal", "arg": "1.0"}},
        {"who": {"__entity": {"type": "Agent", "id": "root"}}},
        {"free": {"a": [{"__entity": {"type": "Role", "id": "admin"}}]}},
        {"list": [{"name": "a", "__proto__": 1}]},
        {"__": 1},
    ],
)
def test_a_forged_entity_is_refused_at_any_depth(arguments: dict[str, Any]) -> None:
    person = {"type": "object", "properties": {"name": STRING}}
    properties = {"who": person, "free": {"type": "object"}, "list": {"type": "array", "items": person}}
    assert "must not start with `__`" in refused(arguments, properties)
    with pytest.raises(Refused, match="must not start with `__`"):
        argument_map(ToolManifest(), None).read(arguments)
    with pytest.raises(Refused, match="must not start with `__`"):
        text_of(arguments)


def test_a_manifest_cannot_declare_a_forged_entity_into_being() -> None:
    declared = {"__entity": Parameter(type=ParameterType.STRING)}
    schema = {"type": "object", "properties": {"__entity": STRING}}
    for found in (argument_map(ToolManifest(parameters=declared), schema), argument_map(ToolManifest(), schema)):
        assert "__entity" not in found.shape.fields
        with pytest.raises(Refused):
            found.read({"__entity": "x"})


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
def test_a_lone_surrogate_is_refused_in_values_and_names(text: str) -> None:
    assert refused({"s": text}, {"s": STRING}) == "`s`: holds a lone surrogate"
    assert "surrogate" in refused({"s": [text]}, {"s": {}})
    assert "surrogate" in refused({"s": {text: 1}}, {"s": {}})
    refused({text: 1}, {text: STRING}).encode()


def test_what_is_not_declared_is_refused_by_name() -> None:
    assert "`o.extra`: declared by neither" in refused(
        {"o": {"a": 1, "extra": 1}}, {"o": {"type": "object", "properties": {"a": INTEGER}}}
    )
    assert "`extra`: declared by neither" in refused({"extra": 1}, {"a": INTEGER})


def test_a_manifest_may_declare_what_the_schema_leaves_out() -> None:
    assert read({"to": "x"}, {}, to=Parameter(type=ParameterType.STRING)) == {"to": "x"}
    assert read({"to": "x"}, {}, to=Parameter()) == {"to": '"x"'}


def test_without_a_schema_everything_else_is_seen_as_text() -> None:
    read_it = argument_map(ToolManifest(parameters={"amount": MONEY}), None).read
    assert read_it({"amount": 5, "b": {"c": 1.5}, "d": None}) == {"amount": 500, "b": '{"c":1.5}'}


def test_a_free_form_argument_is_seen_whole() -> None:
    value = {"b": [1, {"z": None, "a": 1.50}], "a": "\u00e9"}
    assert read({"o": value}, {"o": {"type": "object"}}) == {"o": '{"a":"\u00e9","b":[1,{"a":1.5,"z":null}]}'}


def test_nested_records_and_sets_keep_their_types() -> None:
    line = {"type": "object", "properties": {"sku": STRING, "price": NUMBER}, "required": ["sku"]}
    schema = {"lines": {"type": "array", "items": line}, "tags": {"type": "array", "items": STRING}}
    price: dict[str, Any] = {"lines[].price": MONEY}
    found = read({"lines": [{"sku": "a", "price": "1.50"}], "tags": ["x", "y", "x"]}, schema, **price)
    assert found == {"lines": CedarSet([{"sku": "a", "price": 150}]), "tags": CedarSet(["x", "y"])}
    assert "`lines[].price`" in refused({"lines": [{"sku": "a", "price": 0.001}]}, schema, **price)


def test_a_text_tells_apart_what_a_server_tells_apart() -> None:
    union = {"x": {"type": ["string", "integer"]}}
    assert read({"x": "5"}, union) != read({"x": 5}, union)


def test_nesting_without_end_is_refused() -> None:
    deep: Any = 1
    for _ in range(1_000):
        deep = [deep]
    assert "nested deeper" in refused({"x": deep}, {"x": {}})


def test_arguments_that_are_no_object_are_refused() -> None:
    assert refused([1]) == "`arguments`: must be an object"


def test_a_refusal_names_the_argument_and_never_its_value() -> None:
    assert "hunter2" not in refused({"token": "hunter2"}, {"token": INTEGER})


def test_a_refusal_is_one_line_whatever_the_argument_is_called() -> None:
    detail = refused({"a\n\x1b[31mred\ud800" + "x" * 999: 1})
    assert detail == f"`a??[31mred?{'x' * 189}`: declared by neither the manifest nor the input schema"


class Watched(str):
    """A member's name that counts how often it is written into something longer."""

    __slots__ = ()
    written = 0

    def __format__(self, spec: str) -> str:
        Watched.written += 1
        return str.__format__(self, spec)

    def __radd__(self, other: str) -> str:
        Watched.written += 1
        return other + str(self)

    def __getitem__(self, cut: Any) -> str:
        Watched.written += 1
        return str.__getitem__(self, cut)


def test_one_long_name_is_not_written_once_for_each_member_below_it() -> None:
    """3 MB with ten thousand members below a name of 1.5 MB took 13 seconds, before policy."""
    text_of({Watched("k"): {Watched(f"m{number}"): [0, {Watched("n"): 1}] for number in range(1000)}})
    assert Watched.written == 0


def test_what_is_refused_is_named_by_its_path_however_long_its_names_are() -> None:
    with pytest.raises(Refused) as refusal:
        text_of({"a": [{"b": {"__c": 1}}]})
    assert refusal.value.detail.startswith("`params.a[].b.__c`: ")
    with pytest.raises(Refused) as refusal:
        text_of({"k" * 1_000_000: {"b": {"__c": 1}}})
    assert len(refusal.value.detail) < 400
