"""What holds of canonical bytes for every value."""

import json
from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core import canonical as module
from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed

KEYS = st.text(max_size=4) | st.sampled_from(["$int", "$$int", "$$$int", "a", "\uffff", "\U00010000", "\x00"])
INTEGERS = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([2**53 - 1, 2**53, -(2**53), -(2**53) + 1])
SCALARS = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
WILD = st.recursive(
    SCALARS | st.floats() | st.text(st.characters(), max_size=3) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def read(data: bytes) -> Any:
    """The inverse: tags become integers again, and escaped look-alikes lose a `$`."""

    def untag(pairs: list[tuple[str, Any]]) -> Any:
        members = dict(pairs)
        assert len(members) == len(pairs)
        if len(members) == 1:
            ((key, item),) = members.items()
            if key == "$int":
                assert isinstance(item, str)
                return int(item)
            if key.startswith("$") and key.lstrip("$") == "int":
                return {key[1:]: item}
        return members

    def number(digits: str) -> int | float:
        return int(digits) if abs(int(digits)) < 2**53 else float(digits)  # untagged and large: a float's digits

    return json.loads(data, object_pairs_hook=untag, parse_int=number)


@given(VALUES)
def test_the_fast_path_writes_what_the_slow_path_writes(value: object) -> None:
    assert canonical(value) == module._write(value)


@given(VALUES)
def test_nothing_is_lost(value: object) -> None:
    """Integers above 2**53 and look-alikes included: so two values never share bytes."""
    assert read(canonical(value)) == value


@given(VALUES)
def test_it_is_rfc_8785_wherever_our_two_rules_do_not_apply(value: object) -> None:
    try:
        reference = rfc8785.dumps(value)  # type: ignore[arg-type]
    except rfc8785.IntegerDomainError:
        return
    if b'int":' not in reference:
        assert canonical(value) == reference


@given(VALUES)
def test_the_order_of_keys_does_not_matter(value: object) -> None:
    def turned(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: turned(item[key]) for key in reversed(item)}
        return [turned(each) for each in item] if isinstance(item, list) else item

    assert canonical(turned(value)) == canonical(value)


@given(WILD)
def test_every_value_gives_bytes_or_malformed(value: object) -> None:
    try:
        written = canonical(value)
    except Malformed:
        return
    written.decode("utf-8")
