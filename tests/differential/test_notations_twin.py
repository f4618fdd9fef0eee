"""Numbers, dates and times as core reads them, against the slow twin in `spec/notations.py`."""

from __future__ import annotations

from datetime import date, time
from decimal import Context, Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from citywatch.core.flow import dates, numbers
from spec import notations as twin


@given(st.text("0123456789.,'_ ", min_size=1, max_size=14) | st.text("12.,0", min_size=1, max_size=9))
@example("1.200")
@example("0,123")
@example("1,00,000.5")
@example("12,34,567")
@example("1,234,567")
@example("1.234.567,8")
def test_separated_digits_mean_the_same_numbers(text: str) -> None:
    read = {Decimal(numbers.normal_number(*each, 0, False)) for each in numbers.readings(text)}
    assert read == twin.numbers(text)


@given(st.from_regex(r"\A[0-9]{1,30}\Z"), st.from_regex(r"\A[0-9]{0,30}\Z"), st.integers(-90, 90), st.booleans())
def test_a_normal_form_is_the_exact_number_and_there_is_one(whole: str, part: str, exponent: int, below: bool) -> None:
    written = numbers.normal_number(whole, part, exponent, below)
    exact = Decimal(("-" if below else "") + whole + "." + (part or "0")).scaleb(exponent, Context(prec=200))
    assert Decimal(written) == exact
    again = numbers.normal_number("00" + whole, part + "000", exponent, below)
    assert again == written
    assert "." not in written or written[-1] != "0" or "e" in written


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1990, 2100))
def test_slashed_dates_mean_the_same_days(one: int, two: int, year: int) -> None:
    text = f"{one}/{two}/{year}"
    assert {date.fromisoformat(read) for read in dates.slashed(text)} == twin.days(text)


@given(st.integers(1, 12), st.integers(0, 59), st.sampled_from(["am", "pm"]))
def test_the_twelve_hour_clock_means_the_same_time(hour: int, minute: int, half: str) -> None:
    read = dates.clock(f"{hour}:{minute:02}{half}")
    assert read is not None
    assert time.fromisoformat(read) == twin.time_of_day(hour, minute, half)
