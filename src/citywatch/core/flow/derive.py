"""Amounts that follow from amounts: is this number one short sum away from numbers that entitled sources gave?

Decides only arithmetic. INVARIANT: nothing enters but the numbers passed in; the forms are few and fixed, so that what
a hijacked agent could reach by them is a short list and not any number. Half a bill, a difference, a percentage more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

MAX_NUMBERS: Final = 48
CENT: Final = Decimal("0.01")
_ONE: Final[tuple[tuple[str, Callable[[Decimal], Decimal]], ...]] = (
    ("{a}", lambda a: a),
    ("half of {a}", lambda a: a / 2),
)
_TWO: Final[tuple[tuple[str, Callable[[Decimal, Decimal], Decimal]], ...]] = (
    ("{a} + {b}", lambda a, b: a + b),
    ("{a} - {b}", lambda a, b: a - b),
    ("{a} - half of {b}", lambda a, b: a - b / 2),
)
_SHARE: Final[tuple[tuple[str, Callable[[Decimal, Decimal], Decimal]], ...]] = (
    ("{p} % of {a}", lambda a, p: a * p / 100),
    ("{a} and {p} % more", lambda a, p: a * (100 + p) / 100),
    ("{a} and {p} % less", lambda a, p: a * (100 - p) / 100),
)
_FEE: Final = "{p} % of {a} and {b}"


def derive(value: Decimal, numbers: Sequence[Decimal], percents: Sequence[Decimal]) -> str | None:
    """How `value` follows, to the cent, from at most two of these numbers; None if it does not."""
    if abs(value) < CENT:  # anything less itself is nothing, and so follows from whatever there is
        return None
    few = list(dict.fromkeys(numbers))[:MAX_NUMBERS]
    for a in few:
        for form, one in _ONE:
            if _same(one(a), value):
                return form.format(a=a)
        for b in few:
            if b == a:
                continue  # named once is once: 100 becomes no 200
            for form, two in _TWO:
                if _same(two(a, b), value):
                    return form.format(a=a, b=b)
        for p in percents[:MAX_NUMBERS]:
            for form, share in _SHARE:
                if _same(share(a, p), value):
                    return form.format(a=a, p=p)
            for b in few:
                if _same(a * p / 100 + b, value):
                    return _FEE.format(a=a, b=b, p=p)
    return None


def as_number(text: str) -> Decimal | None:
    """A plain decimal, or None."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < 10**15 else None


def _same(one: Decimal, other: Decimal) -> bool:
    return abs(one - other) * 2 < CENT
