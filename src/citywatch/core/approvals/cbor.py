"""The CBOR that authenticators write, and no other: bytes become one value, or `Malformed`.

Decides what is well-formed: integers, byte and text strings, arrays and maps of definite length, booleans and null,
each in its shortest form, no key twice, nothing left over, all within a bound. What is legal CBOR beyond that (floats,
tags, lengths without an end) no registration or assertion that is taken here has. SPEC: RFC 8949 §3, §4.2; CTAP 2 §8.
"""

from __future__ import annotations

from typing import Final

from citywatch.core.errors import Malformed

Item = int | bytes | str | bool | None | list["Item"] | dict["int | str", "Item"]
MAX_BYTES: Final = 16 << 10
MAX_DEPTH: Final = 4
_SIMPLE: Final[dict[int, bool | None]] = {20: False, 21: True, 22: None}


def parse_cbor(data: bytes) -> Item:
    """The one value that these bytes are."""
    item, end = parse_first(data)
    if end != len(data):
        raise Malformed("there is something after the end of a CBOR value")
    return item


def parse_first(data: bytes, start: int = 0) -> tuple[Item, int]:
    """The value that begins there, and where it ends."""
    if len(data) > MAX_BYTES:
        raise Malformed("a CBOR value has at most 16 KiB")
    return _item(data, start, MAX_DEPTH)


def _item(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    if at >= len(data):
        raise Malformed("a CBOR value breaks off")
    major, low = data[at] >> 5, data[at] & 0x1F
    if major == 7:
        if low not in _SIMPLE:
            raise Malformed("a CBOR value is of a kind that is not taken")
        return _SIMPLE[low], at + 1
    count, at = _count(data, at + 1, low)
    if major == 0:
        return count, at
    if major == 1:
        return -1 - count, at
    if major in (2, 3):
        return _string(data, at, count, text=major == 3)
    if major == 4 and depth:
        return _array(data, at, count, depth - 1)
    if major == 5 and depth:
        return _map(data, at, count, depth - 1)
    raise Malformed("a CBOR value is nested too deep or tagged")


def _count(data: bytes, at: int, low: int) -> tuple[int, int]:
    """The number that follows a head, in its shortest form."""
    if low < 24:
        return low, at
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(low)
    if size is None or at + size > len(data):
        raise Malformed("a CBOR length is not definite, or breaks off")
    count = int.from_bytes(data[at : at + size])
    if count < (24 if size == 1 else 1 << (4 * size)):
        raise Malformed("a CBOR number is not in its shortest form")
    return count, at + size


def _string(data: bytes, at: int, count: int, *, text: bool) -> tuple[Item, int]:
    if count > len(data) - at:
        raise Malformed("a CBOR string breaks off")
    found = data[at : at + count]
    try:
        return (found.decode() if text else found), at + count
    except UnicodeDecodeError:
        raise Malformed("a CBOR text is not UTF-8") from None


def _array(data: bytes, at: int, count: int, depth: int) -> tuple[Item, int]:
    if count > len(data) - at:  # each item has at least one byte
        raise Malformed("a CBOR array breaks off")
    items: list[Item] = []
    for _ in range(count):
        item, at = _item(data, at, depth)
        items.append(item)
    return items, at


def _map(data: bytes, at: int, count: int, depth: int) -> tuple[Item, int]:
    if count > len(data) - at:
        raise Malformed("a CBOR map breaks off")
    members: dict[int | str, Item] = {}
    for _ in range(count):
        key, at = _item(data, at, 0)
        if type(key) is not int and type(key) is not str:
            raise Malformed("a CBOR map has a key that is neither a number nor a text")
        if key in members:
            raise Malformed("a CBOR map has a key twice")
        members[key], at = _item(data, at, depth)
    return members, at
