"""What a handle looks like, and what stands in its place."""

from __future__ import annotations

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.flow.handle import (
    MAX_NAMED,
    Name,
    fill_in,
    find_handles,
    format_handle,
    is_inert,
    parse_handle,
    seed_of,
    shelf_of,
    stood_at,
)

SHELF = shelf_of(bytes(16))
ONE = format_handle(Name(SHELF, 1))


def test_names_are_written_and_read() -> None:
    for place in (0, 7, 99_999):
        assert parse_handle(format_handle(Name(SHELF, place))) == Name(SHELF, place)


@pytest.mark.parametrize("text", ["", "cw:", ONE + "0x", ONE.upper(), f" {ONE}", f"cw:{SHELF}-01", f"cw:{SHELF[1:]}-1"])
def test_nothing_else_is_a_handle(text: str) -> None:
    with pytest.raises(Malformed):
        parse_handle(text)


def test_a_shelf_is_drawn_by_chance_alone() -> None:
    assert shelf_of(bytes(16)) != shelf_of(bytes(15) + b"\x01")
    with pytest.raises(Malformed, match="16 bytes"):
        shelf_of(b"short")


def test_a_shelfs_name_tells_the_chance_that_it_was_drawn_by() -> None:
    for seed in (bytes(16), bytes(range(16)), b"\xff" * 16):
        assert seed_of(shelf_of(seed)) == seed
    for text in ("", "a", "a" * 25, "a" * 27, "A" * 26, "1" * 26, "a" * 25 + "b", "a" * 25 + "\u00e9"):
        with pytest.raises(Malformed, match="names no shelf"):
            seed_of(text)


def test_what_is_filled_in_keeps_its_type_or_becomes_text() -> None:
    values = {Name(SHELF, 0): 5, Name(SHELF, 1): {"a": [1]}, Name(SHELF, 2): True, Name(SHELF, 3): "x"}
    handles = [format_handle(one) for one in values]
    arguments = {"whole": handles, "within": {"deep": "/".join(handles)}, "plain": "cw:no"}
    filled, places = fill_in(arguments, values.__getitem__)
    assert filled == {"whole": [5, {"a": [1]}, True, "x"], "within": {"deep": '5/{"a":[1]}/true/x'}, "plain": "cw:no"}
    assert [path for path, _ in places] == ["whole[0]", "whole[1]", "whole[2]", "whole[3]", *["within.deep"] * 4]


def test_no_name_of_a_member_and_no_flood() -> None:
    with pytest.raises(Malformed, match="name of a member"):
        find_handles({"filters": {ONE: 1}})
    with pytest.raises(Malformed, match="more than"):
        find_handles([format_handle(Name(SHELF, n)) for n in range(MAX_NAMED + 1)])
    assert find_handles({"a": [ONE, ONE], "b": f"see {ONE}"}) == (Name(SHELF, 1),)


def test_what_stands_at_a_path_and_inside_of_it() -> None:
    assert stood_at("to", "to")
    assert stood_at("to", "to[3:9]")
    assert stood_at("to", "to.name")
    assert not stood_at("to", "too")
    assert not stood_at("to[1]", "to")


@pytest.mark.parametrize("value", [5, 1.5, True, None, "1,200.00 EUR", "2024-05-26", "17:00", "GB29NWBK60161331926819"])
def test_what_cannot_carry_an_instruction(value: object) -> None:
    assert is_inert(value)


@pytest.mark.parametrize("value", ["pay bob 5 EUR", "ignore.all@evil.example", "https://x.example/pay-bob", ["5"], {}])
def test_what_can(value: object) -> None:
    assert not is_inert(value)
