"""The arithmetic against values that were published or can be counted by hand."""

from __future__ import annotations

from itertools import combinations
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.signal import cohen, fisher, krippendorff, median, quantile, sensitivity, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433), (15, 148, 0.0624, 0.1605)],
)
def test_wilsons_interval(hits: int, n: int, low: float, high: float) -> None:
    """The last row is Newcombe's example (Statistics in Medicine 17, 1998)."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-4)


@given(st.integers(1, 200), st.data())
def test_an_interval_holds_its_share_and_narrows_with_more_of_the_same(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    lower, higher = wilson(hits * 10, n * 10)
    assert higher - lower < high - low


@given(st.floats(0.001, 0.999))
def test_the_quantile_is_that_of_the_normal_distribution(share: float) -> None:
    assert quantile(share) == pytest.approx(NormalDist().inv_cdf(share), abs=1e-9)


def test_sensitivity_with_the_log_linear_correction() -> None:
    """Chance gives none; all right is large and finite; a lax observer has a criterion above zero."""
    assert sensitivity((5, 10), (5, 10)) == pytest.approx((0.0, 0.0))
    perfect, middle = sensitivity((10, 10), (0, 10))
    assert (perfect, middle) == pytest.approx((2 * NormalDist().inv_cdf(10.5 / 11), 0.0))
    assert sensitivity((2, 10), (0, 10))[1] > 0
    assert sensitivity((0, 0), (0, 0)) == pytest.approx((0.0, 0.0))


@pytest.mark.parametrize(("first", "second"), [((3, 8), (7, 9)), ((0, 5), (5, 5)), ((2, 4), (2, 4)), ((6, 6), (1, 5))])
def test_fishers_test_counts_the_tables_that_are_at_least_so_far_apart(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    people = first[1] + second[1]
    draws = list(combinations(range(people), first[0] + second[0]))
    as_far = sum(sum(one >= first[1] for one in draw) >= second[0] for draw in draws)
    assert fisher(first, second) == pytest.approx(as_far / len(draws))
    assert fisher((0, 0), (0, 0)) == 1


def test_cohens_kappa() -> None:
    """SOURCE: the textbook's table 20, 5, 10, 15 has 0.4."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert cohen(pairs) == pytest.approx(0.4)
    assert cohen([]) is None
    assert cohen([(True, True)] * 3) is None


def test_krippendorffs_alpha() -> None:
    """SOURCE: Krippendorff, Computing alpha-reliability (2011), the binary example of two observers: 0.095."""
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    two = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    units = [(bool(a), bool(b)) for a, b in zip(one, two, strict=True)]
    assert krippendorff(units) == pytest.approx(0.095, abs=5e-4)
    assert krippendorff([(True, True), (False, False), (True,)]) == 1
    assert krippendorff([]) is None
    assert krippendorff([(True, True)]) is None


def test_the_median_of_nothing_is_nothing() -> None:
    assert median([]) is None
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0]) == 1.0
