"""Checked derivations, against the slow twin in `spec/derivations.py`: the value that follows, and its label."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.call import Call, Direction, Filled
from citywatch.core.enforce.receive import inputs_of
from citywatch.core.errors import Malformed
from citywatch.core.flow.derivation import YEARS, derive_value
from citywatch.core.label import Label
from spec import derivations as twin

NUMBERS = st.decimals(-(10**9), 10**9, places=2)
CURRENCIES = st.sampled_from(["", " EUR", " USD"])
NAMES = st.sampled_from(["principal:alice", "server:bank", "outside:bank/inbox"])
SETS = st.none() | st.frozensets(NAMES, max_size=2)
LABELS = st.builds(Label, SETS, st.none() | st.frozensets(st.sampled_from(["hr", "managers"]), max_size=2))


@given(st.sampled_from(["sum", "smallest", "largest"]), st.lists(NUMBERS, min_size=2, max_size=8), CURRENCIES)
def test_sums_and_extremes_are_exact(step: str, values: list[Decimal], currency: str) -> None:
    given = [f"{value:f}{currency}" for value in values]
    exact = twin.number(step, [Fraction(value) for value in values])
    assert _read(derive_value({"step": step, "values": given}), currency) == exact


@given(NUMBERS, st.decimals(-1000, 1000, places=3), st.integers(0, 2), CURRENCIES)
def test_a_product_is_rounded_as_on_a_bill(value: Decimal, by: Decimal, digits: int, currency: str) -> None:
    exact = twin.rounded(twin.number("product", [Fraction(value)], Fraction(by)), digits)
    asked = {"step": "product", "values": [f"{value:f}{currency}"], "by": float(by), "digits": digits}
    assert _read(derive_value(asked), currency) == exact


@given(NUMBERS, NUMBERS)
def test_a_difference_is_exact(one: Decimal, other: Decimal) -> None:
    exact = twin.number("difference", [Fraction(one), Fraction(other)])
    assert _read(derive_value({"step": "difference", "values": [str(one), str(other)]}), "") == exact


@given(
    st.dates(date(1990, 1, 1), date(2100, 1, 1)), st.integers(-500, 500), st.sampled_from(["days", "weeks", "months"])
)
def test_a_day_is_moved_as_the_calendar_says(start: date, by: int, unit: str) -> None:
    asked = {"step": "later", "values": [start.isoformat()], "by": by, "unit": unit}
    assert derive_value(asked) == twin.day(start, by, unit).isoformat()


@given(
    st.dates(date(1900, 1, 1), date(2199, 12, 31)), st.integers(-(10**5), 10**5), st.sampled_from(["days", "months"])
)
def test_a_day_beyond_the_years_that_are_read_is_none(start: date, by: int, unit: str) -> None:
    asked = {"step": "later", "values": [str(start)], "by": by, "unit": unit}
    months = start.year * 12 + start.month - 1 + (by if unit == "months" else 0)
    days = start.toordinal() + (by if unit == "days" else 0)
    if months // 12 in YEARS and date(1900, 1, 1).toordinal() <= days <= date(2199, 12, 31).toordinal():
        assert int(str(derive_value(asked))[:4]) in YEARS
    else:
        with pytest.raises(Malformed, match="no date between"):
            derive_value(asked)


@given(st.lists(LABELS, max_size=3), st.integers(0, 2), LABELS)
def test_the_label_is_that_of_the_inputs_and_the_contexts_only_for_what_the_agent_wrote(
    handles: list[Label], written: int, ambient: Label
) -> None:
    if not handles and not written:
        return
    filled = tuple(
        Filled(path=f"values[{n}]", handle="", source="", field="", trusted=False, inert=True, label=one)
        for n, one in enumerate(handles)
    )
    values = [100] * (len(handles) + written)
    call = Call(
        id="c",
        direction=Direction.TO_SERVER,
        agent="a",
        server="citywatch",
        method="tools/call",
        name="derive",
        arguments={"step": "sum", "values": values, "digits": 2},
        body=b"",
        revision="",
        filled=filled,
    )
    _, label = inputs_of(call).within(ambient)
    sides = [(one.origins, one.readers) for one in handles]
    assert (label.origins, label.readers) == twin.label(sides, written > 0, (ambient.origins, ambient.readers))


def _read(result: object, currency: str) -> Fraction:
    text = str(result)
    assert text.endswith(currency)
    return Fraction(Decimal(text.removesuffix(currency)))
