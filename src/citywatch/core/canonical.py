"""A JSON value becomes the only bytes that we hash or sign.

Decides how a value is written: RFC 8785 (JCS), with two rules of ours above it, so that nothing is lost or mixed up.

1. JCS knows no integer from 2**53 on. Up to 64 bits, such an integer is written as a tagged string,
   `{"$int":"9007199254740992"}`; beyond 64 bits it is refused.
2. An object that looks like such a tag (exactly one key, of one or more `$` and then `int`) is written with one more
   `$` in front of its key, so that no text of a user's reads back as an integer.

Decides nothing of what a value means, and reads no bytes: whoever parses has to refuse duplicate keys first.

INVARIANTS: two values give the same bytes only if they are the same JSON value (`1.0` is `1`, a tuple is an array);
bytes depend on nothing but the value; every value of JSON's types gives bytes or `Malformed`. A type that JSON has not
is a mistake of ours, not of the sender's: `TypeError`.
SPEC: RFC 8785 §3.2; `spec/log.md` §1.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import orjson
import rfc8785

from citywatch.core.errors import Malformed

MAX_DEPTH = 128
"""Arrays and objects within each other; deeper values are refused, long before a stack could overflow."""

_SAFE = 2**53
_TAG = "$int"
_LOOK_ALIKE = re.compile(r"\$+int\Z")


def canonical(value: object) -> bytes:
    """Write a JSON value as the one sequence of bytes that stands for it in hashes and signatures.

    Takes None, bool, int, float, str, list, tuple and dict with str keys. Raises `Malformed` for NaN, infinities, lone
    surrogates, integers beyond 64 bits and more than `MAX_DEPTH` levels; `TypeError` for what JSON has not.
    """
    try:
        if _is_plain(value, MAX_DEPTH):
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        pass  # a lone surrogate: the slow path names it
    return _write(value)


def digest(data: bytes) -> str:
    """The SHA-256 of `data`, as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def _is_plain(value: object, depth: int) -> bool:
    # INVARIANT: true only where orjson's sorted output *is* RFC 8785: no floats (other digits, and NaN becomes null),
    # integers that JCS knows, keys whose order by code point is their order by UTF-16 unit (ASCII: checked in O(1)),
    # no tag look-alike, no type that orjson writes in a way of its own.
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return -_SAFE < value < _SAFE  # type: ignore[operator]
    if depth == 0:
        return False
    if kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            if type(key) is not str or not key.isascii() or (type(item) is not str and not _is_plain(item, depth - 1)):
                return False
        return not (len(value) == 1 and _LOOK_ALIKE.match(next(iter(value))))  # type: ignore[arg-type, call-overload]
    if kind is list or kind is tuple:
        return all(type(item) is str or _is_plain(item, depth - 1) for item in value)  # type: ignore[attr-defined]
    return False


def _write(value: object) -> bytes:
    """The slow path: rule by rule, then the reference implementation of RFC 8785."""
    try:
        return rfc8785.dumps(_tagged(value, MAX_DEPTH))
    except rfc8785.FloatDomainError:
        raise Malformed("a number is not finite: JSON has no NaN and no infinity") from None
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise Malformed("a string holds a lone surrogate, which has no UTF-8 form") from None


def _tagged(value: object, depth: int) -> Any:
    """`value` with its large integers as tagged strings and look-alikes escaped: all that JCS itself can write."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if -_SAFE < value < _SAFE:
            return int(value)
        if not -(2**63) <= value < 2**64:
            raise Malformed("an integer does not fit in 64 bits")
        return {_TAG: str(int(value))}
    if not isinstance(value, dict | list | tuple):
        raise TypeError(f"`{type(value).__name__}` is not a JSON type")
    if depth == 0:
        raise Malformed(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a JSON object's keys are strings")
        items = {str.__str__(key): _tagged(item, depth - 1) for key, item in value.items()}
        if len(items) == 1 and _LOOK_ALIKE.match(next(iter(items))):
            return {"$" + key: item for key, item in items.items()}
        return items
    return [_tagged(item, depth - 1) for item in value]
