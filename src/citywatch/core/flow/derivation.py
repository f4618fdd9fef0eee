"""Checked derivations: what follows from values by one small step, and from nothing else.

    sum, difference, product by a number, smallest, largest     of amounts of one currency, or of bare numbers
    smallest, largest                                           of dates
    later by so many days, weeks or months                      of a date

Decides only arithmetic, and whether each value can be read in one way. Whose values they are, and what the result may
be used for, is `enforce`'s. INVARIANTS
1. What comes out is a number, an amount with its currency, or a date: none of them can carry an instruction.
2. A result is exact, or rounded to the digits that were asked for; what cannot be written exactly is refused.
3. A value that has two readings (`1.200`, `05/06/2024`) has none.
4. No message repeats a value: it may stand behind a handle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation, Overflow
from enum import StrEnum
from typing import Any, Final

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.flow.derive import as_number
from citywatch.core.flow.kinds import Kind
from citywatch.core.flow.tokens import Token, exact_tokens

MAX_VALUES: Final = 64
MAX_PLACES: Final = 12
"""Digits behind the point of a value."""
MAX_DIGITS: Final = 6
MAX_STEPS: Final = 100_000
"""How many days, weeks or months a date is moved by."""
YEARS: Final = range(1900, 2200)
"""The years of which `dates` reads a date."""
_LIMIT: Final = Decimal(10**15)
_EXACT: Final = Context(prec=64, rounding=ROUND_HALF_UP, traps=[Inexact, InvalidOperation, Overflow])
_ROUNDING: Final = Context(prec=64, rounding=ROUND_HALF_UP, traps=[InvalidOperation, Overflow])
_DAY: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(T.*)?")


class Step(StrEnum):
    """What is done with the values."""

    SUM = "sum"
    DIFFERENCE = "difference"
    PRODUCT = "product"
    SMALLEST = "smallest"
    LARGEST = "largest"
    LATER = "later"


class Unit(StrEnum):
    """By what a date is moved. A month later is the same day of it, or its last one if it has no such day."""

    DAYS = "days"
    WEEKS = "weeks"
    MONTHS = "months"


_LENGTHS: Final[Mapping[str, int]] = {Unit.DAYS: 1, Unit.WEEKS: 7}


class Amount(msgspec.Struct, frozen=True):
    """A number; with a currency (`EUR`), or without (empty)."""

    number: Decimal
    currency: str = ""


Result = int | float | str


def derive_value(arguments: Mapping[str, Any]) -> Result:
    """What follows from `step`, `values`, `by`, `unit` and `digits`; raise `Malformed` with a line for who asked."""
    step, values = arguments.get("step"), arguments.get("values")
    if step not in tuple(Step):
        raise Malformed(f"`step` is none of {', '.join(Step)}")
    one = Step(step)
    _only(arguments, one)
    if not isinstance(values, list):
        raise Malformed("`values` is a list")
    low, high = _COUNTS[one]
    if not low <= len(values) <= high:
        count = str(low) if low == high else f"{low} to {high}"
        raise Malformed(f"`{one}` takes {count} values")
    if one is Step.LATER:
        return _later(_date(values[0], "values[0]"), _steps(arguments.get("by")), arguments.get("unit"))
    if one in (Step.SMALLEST, Step.LARGEST) and _is_date(values[0]):
        return (min if one is Step.SMALLEST else max)(_dates(values))
    amounts = [_amount(value, f"values[{number}]") for number, value in enumerate(values)]
    if len({amount.currency for amount in amounts}) > 1:
        raise Malformed("the values are of different currencies, or some have one and some have none")
    by = Decimal(1) if one is not Step.PRODUCT else _factor(arguments.get("by"))
    try:
        total = _AMOUNTS[one]([amount.number for amount in amounts], by)
    except (Inexact, Overflow):
        raise Malformed("the result has more digits than are kept") from None
    return _written(Amount(total, amounts[0].currency), arguments.get("digits"))


def _only(arguments: Mapping[str, Any], step: Step) -> None:
    """A member that would do nothing is a mistake of who asks, who would take the answer for another."""
    if (arguments.get("by") is not None) != (step in (Step.PRODUCT, Step.LATER)):
        raise Malformed(f"`by` is for `{Step.PRODUCT}` and `{Step.LATER}`, which need it")
    if (arguments.get("unit") is not None) != (step is Step.LATER):
        raise Malformed(f"`unit` is for `{Step.LATER}`, which needs it")
    if arguments.get("digits") is not None and step is Step.LATER:
        raise Malformed("`digits` are for amounts")


def _product(numbers: Sequence[Decimal], by: Decimal) -> Decimal:
    return _EXACT.multiply(numbers[0], by)


def _sum(numbers: Sequence[Decimal], _: Decimal) -> Decimal:
    total = Decimal(0)
    for number in numbers:
        total = _EXACT.add(total, number)
    return total


_AMOUNTS: Final[Mapping[Step, Callable[[Sequence[Decimal], Decimal], Decimal]]] = {
    Step.SUM: _sum,
    Step.DIFFERENCE: lambda numbers, _: _EXACT.subtract(numbers[0], numbers[1]),
    Step.PRODUCT: _product,
    Step.SMALLEST: lambda numbers, _: min(numbers),
    Step.LARGEST: lambda numbers, _: max(numbers),
}
_COUNTS: Final[Mapping[Step, tuple[int, int]]] = {
    Step.SUM: (2, MAX_VALUES),
    Step.DIFFERENCE: (2, 2),
    Step.PRODUCT: (1, 1),
    Step.SMALLEST: (2, MAX_VALUES),
    Step.LARGEST: (2, MAX_VALUES),
    Step.LATER: (1, 1),
}


# -- amounts -----------------------------------------------------------------------------------------------------------


def _amount(value: Any, where: str) -> Amount:
    """# INVARIANT: 3."""
    money = {one.value for one in _tokens(value) if one.kind is Kind.MONEY}
    if len(money) > 1:
        raise Malformed(f"`{where}` can be read as more than one amount")
    currency = money.pop().partition(" ")[0] if money else ""
    return Amount(_number(value, where), currency)


def _number(value: Any, where: str) -> Decimal:
    if isinstance(value, str) and "%" in value:
        raise Malformed(f"`{where}` is a percentage: write 0.19 for 19 %")
    readings = {one.value for one in _tokens(value) if one.kind is Kind.NUMBER}
    if readings and not isinstance(value, str):
        readings = {repr(value)}  # a number of JSON is written in one way only
    if len(readings) > 1:
        raise Malformed(f"`{where}` can be read as more than one number")
    number = as_number(readings.pop()) if readings else None
    if number is None:
        raise Malformed(f"`{where}` is not a number below {_LIMIT:.0e} nor an amount")
    if _places(number) > MAX_PLACES:
        raise Malformed(f"`{where}` has more than {MAX_PLACES} digits behind the point")
    return number


def _factor(by: Any) -> Decimal:
    if any(one.kind is Kind.MONEY for one in _tokens(by)):
        raise Malformed("`by` is a number, and no amount of money")
    return _number(by, "by")


def _written(amount: Amount, digits: Any) -> Result:
    """# INVARIANT: 2."""
    number = amount.number
    if digits is not None:
        if type(digits) is not int or not 0 <= digits <= MAX_DIGITS:
            raise Malformed(f"`digits` is a whole number from 0 to {MAX_DIGITS}")
        number = number.quantize(Decimal(1).scaleb(-digits), context=_ROUNDING)
    if abs(number) >= _LIMIT:
        raise Malformed(f"the result is not below {_LIMIT:.0e}")
    if amount.currency:
        if digits is None:
            number = number.normalize(_ROUNDING)
        text = f"{number:f} {amount.currency}"
        if len([one for one in exact_tokens(text) if one.kind is Kind.MONEY]) != 1:
            raise Malformed("the result could be read as more than one amount: say how many `digits` it is rounded to")
        return text
    if number == number.to_integral_value():
        return int(number)
    if Decimal(repr(float(number))) != number:
        raise Malformed("the result has more digits than a number keeps: say how many `digits` it is rounded to")
    return float(number)


def _places(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


# -- dates -------------------------------------------------------------------------------------------------------------


def _is_date(value: Any) -> bool:
    """Whether a value is a date and nothing else: `20261201` is a number."""
    kinds = {one.kind for one in _tokens(value)}
    return Kind.DATE in kinds and Kind.NUMBER not in kinds


def _date(value: Any, where: str) -> str:
    """The normal form of a date, with its time if it has one. # INVARIANT: 3."""
    readings = {one.value for one in _tokens(value) if one.kind is Kind.DATE}
    if len(readings) > 1:
        raise Malformed(f"`{where}` can be read as more than one date: write it as 2026-12-01")
    if not readings:
        raise Malformed(f"`{where}` is not a date")
    found = readings.pop()
    if not _DAY.fullmatch(found):
        raise Malformed(f"`{where}` is a date without a year")
    return found


def _dates(values: Sequence[Any]) -> list[str]:
    """Dates that can be compared: all of them days, or all of them instants on one clock."""
    found = [_date(value, f"values[{number}]") for number, value in enumerate(values)]
    if any("T" in one for one in found):
        raise Malformed("instants are not compared: a value has a time of day")
    return found


def _steps(by: Any) -> int:
    number = _number(by, "by")
    if number != number.to_integral_value() or abs(number) > MAX_STEPS:
        raise Malformed(f"`by` is a whole number of at most {MAX_STEPS} for `{Step.LATER}`")
    return int(number)


def _later(day: str, steps: int, unit: Any) -> str:
    if unit not in tuple(Unit):
        raise Malformed(f"`unit` is none of {', '.join(Unit)}")
    hit = _DAY.fullmatch(day)
    if hit is None:
        raise Malformed("`values[0]` is not a date")
    start = date(int(hit[1]), int(hit[2]), int(hit[3]))
    try:
        moved = _months(start, steps) if unit == Unit.MONTHS else start + timedelta(steps * _LENGTHS[unit])
    except (OverflowError, ValueError):
        moved = None
    if moved is None or moved.year not in YEARS:
        raise Malformed(f"the result is no date between {YEARS[0]} and {YEARS[-1]}")
    return moved.isoformat() + (hit[4] or "")


def _months(start: date, steps: int) -> date:
    years, month = divmod(start.month - 1 + steps, 12)
    first = date(start.year + years, month + 1, 1)
    last = (first.replace(day=28) + timedelta(4)).replace(day=1) - timedelta(1)
    return first.replace(day=min(start.day, last.day))


def _tokens(value: Any) -> Sequence[Token]:
    return exact_tokens(value) if isinstance(value, str | int | float) else ()
