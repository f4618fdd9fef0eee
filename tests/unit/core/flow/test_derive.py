"""One short sum away from numbers that entitled sources gave, or not derived at all."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.flow.derive import MAX_NUMBERS, as_number, derive


@pytest.mark.parametrize(
    ("value", "how"),
    [
        ("50", "half of 100"),
        ("130", "100 + 30"),
        ("70", "100 - 30"),
        ("110", "100 and 10 % more"),
        ("7", None),
        ("200", None),
    ],
)
def test_an_amount_follows_by_one_short_sum_or_not_at_all(value: str, how: str | None) -> None:
    assert derive(Decimal(value), [Decimal(100), Decimal(30)], [Decimal(10)]) == how


def test_sums_are_tried_over_a_bounded_number_of_numbers() -> None:
    many = [Decimal(n) * 1000 for n in range(1, 2 * MAX_NUMBERS)]
    assert derive(Decimal(1000 * (2 * MAX_NUMBERS - 1)), many[:1] * 5 + many[1:], []) is not None
    assert derive(many[-1] * 3, many, []) is None


@given(st.text(max_size=20))
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = as_number(text)
    assert number is None or number.is_finite()


def test_nothing_is_derived_from_nothing() -> None:
    """Any number less itself is 0: it would follow from whatever was named."""
    for value in ("0", "-0", "0.004"):
        assert derive(Decimal(value), [Decimal("100"), Decimal("0.1")], [Decimal(10)]) is None
    assert derive(Decimal("99.9"), [Decimal("100"), Decimal("0.1")], []) is not None
