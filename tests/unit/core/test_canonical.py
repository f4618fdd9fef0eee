"""How a value is written: the rules above RFC 8785, and what is refused."""

from enum import IntEnum, StrEnum

import pytest

from citywatch.core.canonical import MAX_DEPTH, canonical, digest
from citywatch.core.errors import Malformed


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, b"null"),
        ({"b": [True, False], "a": None}, b'{"a":null,"b":[true,false]}'),
        ((1, "x"), b'[1,"x"]'),
        (Colour.RED, b'"red"'),
        ({Colour.RED: Level.LOW}, b'{"red":1}'),
        (2**53 - 1, b"9007199254740991"),
        (-(2**53) + 1, b"-9007199254740991"),
        (2**53, b'{"$int":"9007199254740992"}'),
        (2**64 - 1, b'{"$int":"18446744073709551615"}'),
        (-(2**63), b'{"$int":"-9223372036854775808"}'),
        ({"$int": "9007199254740992"}, b'{"$$int":"9007199254740992"}'),
        ({"$$int": 1}, b'{"$$$int":1}'),
        ({"$int": 1, "a": 2}, b'{"$int":1,"a":2}'),
        ({"$integer": 1}, b'{"$integer":1}'),
        ({"\U00010000": 1, "\uffff": 2}, '{"\U00010000":1,"\uffff":2}'.encode()),
        ({"é": "\x1f\x7f\u2028"}, '{"é":"\\u001f\x7f\u2028"}'.encode()),
        (1.0, b"1"),
        (-0.0, b"0"),
    ],
)
def test_a_value_is_written_in_one_way(value: object, written: bytes) -> None:
    assert canonical(value) == written


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        [1, {"a": float("nan")}],
        "\ud800",
        {"\udfff": 1},
        {"é\ud800": 1},
        {"a": ["\ud800"]},
        {"a": 1.5, "b": "\ud800"},
        2**64,
        -(2**63) - 1,
        2**4000,
    ],
)
def test_what_has_no_canonical_form_is_malformed(value: object) -> None:
    with pytest.raises(Malformed):
        canonical(value)


@pytest.mark.parametrize("value", [b"bytes", {1: "a"}, {None: 1}, object(), {"a": {1, 2}}, [1, b"x"]])
def test_a_type_that_json_has_not_is_our_mistake(value: object) -> None:
    with pytest.raises(TypeError):
        canonical(value)


def test_depth_is_bounded_on_both_paths() -> None:
    for innermost in ("plain", 1.5):
        value: object = innermost
        for _ in range(MAX_DEPTH):
            value = [value]
        assert canonical(value)
        with pytest.raises(Malformed, match="nested deeper"):
            canonical([value])
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(Malformed):
        canonical(loop)


def test_the_digest_is_sha256_in_hex() -> None:
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
