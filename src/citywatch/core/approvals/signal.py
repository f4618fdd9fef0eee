"""The arithmetic of signal detection: intervals, sensitivity, exact tests, agreement.

Decides nothing; every function says which formula it is, and what it gives where there is nothing to go by. INVARIANTS:
no figure without its n is an estimate (the interval of nothing is everything); all of it is computed from counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

Z95: Final = 1.959963984540054
Counts = tuple[int, int]
"""How many, out of how many."""


def wilson(hits: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a share; (0, 1) of nothing. SOURCE: Wilson, JASA 22 (1927)."""
    if n <= 0:
        return (0.0, 1.0)
    share, square = hits / n, z * z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return (0.0 if hits == 0 else middle - half, 1.0 if hits == n else middle + half)


def sensitivity(hits: Counts, false_alarms: Counts) -> tuple[float, float]:
    """d' and the criterion c, with the log-linear correction. SOURCE: Hautus, Behav. Res. Methods 27 (1995)."""
    hit = (hits[0] + 0.5) / (hits[1] + 1)
    alarm = (false_alarms[0] + 0.5) / (false_alarms[1] + 1)
    zh, zf = quantile(hit), quantile(alarm)
    return zh - zf, -(zh + zf) / 2


def quantile(share: float) -> float:
    """The standard normal quantile, by bisection on its distribution; for shares strictly between 0 and 1."""
    low, high = -9.0, 9.0
    for _ in range(64):
        middle = (low + high) / 2
        if 0.5 * math.erfc(-middle / math.sqrt(2)) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def fisher(first: Counts, second: Counts) -> float:
    """How likely it is, with both margins given and no difference, that the second share is at least so much above the
    first: Fisher's exact test, one-sided; 1 of nothing."""
    n = first[1] + second[1]
    yes = first[0] + second[0]
    whole = math.comb(n, yes)
    most = min(yes, second[1])
    tail = sum(math.comb(second[1], one) * math.comb(first[1], yes - one) for one in range(second[0], most + 1))
    return tail / whole


def cohen(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa of two people who judged the same tickets; None where chance alone explains all or nothing."""
    n = len(pairs)
    if not n:
        return None
    agreed = sum(one == other for one, other in pairs) / n
    one, other = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    chance = one * other + (1 - one) * (1 - other)
    return None if chance >= 1 else (agreed - chance) / (1 - chance)


def krippendorff(units: Sequence[Sequence[bool]]) -> float | None:
    """Krippendorff's alpha for yes and no, of tickets that any number of people judged; None where nothing varies."""
    judged = [Counter(unit) for unit in units if len(unit) > 1]
    n = sum(unit.total() for unit in judged)
    yes = sum(unit[True] for unit in judged)
    if n < 2 or yes in (0, n):
        return None
    observed = sum(2 * unit[True] * unit[False] / (unit.total() - 1) for unit in judged) / n
    expected = 2 * yes * (n - yes) / (n * (n - 1))
    return 1 - observed / expected


def median(values: Sequence[float]) -> float | None:
    """The middle value, the lower one of two; None of nothing."""
    return sorted(values)[(len(values) - 1) // 2] if values else None
