"""One small step from values to a value: each way to ask for it wrongly has a line of its own, and repeats no value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.errors import Malformed
from citywatch.core.flow.derivation import MAX_VALUES, Step, Unit, derive_value
from citywatch.core.flow.handle import is_inert

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["5 EUR", "1 May"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("asked", "is_"),
    [
        ({"step": "sum", "values": ["98.70 EUR", "€1.30"]}, "100 EUR"),
        ({"step": "sum", "values": [0.1, 0.2]}, 0.3),
        ({"step": "sum", "values": [1, 2, 3.0]}, 6),
        ({"step": "difference", "values": [10, 12.5]}, -2.5),
        ({"step": "product", "values": ["98.70 EUR"], "by": 0.19, "digits": 2}, "18.75 EUR"),
        ({"step": "product", "values": [200], "by": "0.5"}, 100),
        ({"step": "smallest", "values": ["2026-12-01", "1 May 2026"]}, "2026-05-01"),
        ({"step": "largest", "values": ["5 EUR", "1.20 EUR"]}, "5 EUR"),
        ({"step": "later", "values": ["2026-01-31"], "by": 1, "unit": "months"}, "2026-02-28"),
        ({"step": "later", "values": ["2026-03-31T10:00Z"], "by": -3, "unit": "weeks"}, "2026-03-10T10:00Z"),
    ],
)
def test_what_follows(asked: dict[str, Any], is_: Any) -> None:
    found = derive_value(asked)
    assert (found, type(found)) == (is_, type(is_))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"step": "power", "values": [1]}, "`step` is none of"),
        ({"values": [1]}, "`step` is none of"),
        ({"step": "sum", "values": "12"}, "`values` is a list"),
        ({"step": "sum", "values": [1]}, f"`sum` takes 2 to {MAX_VALUES} values"),
        ({"step": "sum", "values": [1] * (MAX_VALUES + 1)}, f"`sum` takes 2 to {MAX_VALUES} values"),
        ({"step": "difference", "values": [1, 2, 3]}, "`difference` takes 2 values"),
        ({"step": "sum", "values": [1, 2], "by": 3}, "`by` is for"),
        ({"step": "product", "values": [1]}, "`by` is for"),
        ({"step": "sum", "values": [1, 2], "unit": "days"}, "`unit` is for"),
        ({"step": "later", "values": ["2026-01-01"], "by": 1}, "`unit` is for"),
        ({"step": "later", "values": ["2026-01-01"], "by": 1, "unit": "years"}, "`unit` is none of"),
        ({"step": "later", "values": ["2026-01-01"], "by": 1, "unit": "days", "digits": 1}, "`digits` are for amounts"),
        ({"step": "sum", "values": ["5 EUR", "6 USD"]}, "different currencies"),
        ({"step": "sum", "values": ["5 EUR", 6]}, "different currencies"),
        ({"step": "sum", "values": [1, "many"]}, "`values[1]` is not a number"),
        ({"step": "sum", "values": [1, True]}, "`values[1]` is not a number"),
        ({"step": "sum", "values": [1, None]}, "`values[1]` is not a number"),
        ({"step": "sum", "values": [1, [2]]}, "`values[1]` is not a number"),
        ({"step": "sum", "values": [1, "1.200"]}, "`values[1]` can be read as more than one number"),
        ({"step": "sum", "values": [1, "19%"]}, "is a percentage"),
        ({"step": "sum", "values": [1, "1e400"]}, "`values[1]` is not a number"),
        ({"step": "sum", "values": [1, 10**5000]}, "`values[1]` is not a number"),
        ({"step": "sum", "values": [1, "0.1234567890123"]}, "more than 12 digits behind the point"),
        ({"step": "sum", "values": [9e14, 9e14]}, "the result is not below"),
        ({"step": "product", "values": [123456789.12], "by": 1.23456789}, "more digits than a number keeps"),
        ({"step": "product", "values": ["2 EUR"], "by": 0.617}, "could be read as more than one amount"),
        ({"step": "product", "values": [5], "by": "5 EUR"}, "no amount of money"),
        ({"step": "product", "values": [5], "by": 2, "digits": 7}, "`digits` is a whole number"),
        ({"step": "product", "values": [5], "by": 2, "digits": True}, "`digits` is a whole number"),
        ({"step": "later", "values": ["soon"], "by": 1, "unit": "days"}, "`values[0]` is not a date"),
        ({"step": "later", "values": ["05/06/2026"], "by": 1, "unit": "days"}, "more than one date"),
        ({"step": "later", "values": ["May 26"], "by": 1, "unit": "days"}, "without a year"),
        ({"step": "later", "values": ["2026-01-01"], "by": 1.5, "unit": "days"}, "`by` is a whole number"),
        ({"step": "later", "values": ["2026-01-01"], "by": 100_001, "unit": "days"}, "`by` is a whole number"),
        ({"step": "later", "values": ["2199-12-31"], "by": 1, "unit": "days"}, "no date between 1900 and 2199"),
        ({"step": "later", "values": ["2026-01-01"], "by": 99_999, "unit": "months"}, "no date between"),
        ({"step": "smallest", "values": ["2026-01-01T10:00", "2026-01-02"]}, "instants are not compared"),
        ({"step": "smallest", "values": ["2026-01-01", 5]}, "`values[1]` is not a date"),
    ],
)
def test_what_does_not_follow_is_said_in_a_line(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(Malformed, match=r".") as failure:
        derive_value(asked)
    assert why in str(failure.value)


@given(
    st.sampled_from([*Step, "power"]),
    st.lists(JSON, max_size=4),
    st.none() | JSON,
    st.none() | st.sampled_from([*Unit]) | JSON,
    st.none() | st.integers(-1, 8),
)
def test_whatever_is_asked_the_answer_can_carry_no_instruction(
    step: str, values: list[Any], by: Any, unit: Any, digits: int | None
) -> None:
    asked = {"step": step, "values": values, "by": by, "unit": unit, "digits": digits}
    try:
        found: Any = derive_value(asked)
    except Malformed as failure:
        assert_that_no_value_is_in(str(failure), values)
    else:
        assert is_inert(found)


def assert_that_no_value_is_in(line: str, values: list[Any]) -> None:
    """Of our own words some are short enough to be what somebody wrote."""
    assert not any(one in line for one in values if isinstance(one, str) and len(one) > 6)
