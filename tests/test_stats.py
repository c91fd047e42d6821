"""Intervals of Pass@1 against the paper's formula and numbers worked by hand."""

import math

import pytest

from sa_ah_lib.stats import wald_interval, wilson_interval


@pytest.mark.parametrize("correct,total", [(318, 500), (415, 500), (1, 8), (250, 500), (900, 1319)])
def test_wald_is_the_paper_s_formula(correct, total):
    """Section 4.4 prints 1.96 sqrt(p (1 - p) / N); another quantile or N - 1 would not be its interval."""
    p = correct / total
    half = 1.96 * math.sqrt(p * (1 - p) / total)
    assert wald_interval(correct, total) == pytest.approx((max(0, p - half), p + half), abs=1e-3)


# Pass@1 and half-width as printed in Table 2, N = 500.
TABLE_2 = [(0.637, 0.042), (0.660, 0.042), (0.668, 0.041), (0.686, 0.041), (0.862, 0.030)]


@pytest.mark.parametrize("printed,half", TABLE_2)
def test_the_paper_s_printed_half_widths(printed, half):
    """Read as another confidence level or another N, Table 2 would not come out."""
    # 0.637 is no multiple of 1/500 (0.652 less 1.5 points by hand), so the nearest count stands for it.
    low, high = wald_interval(round(printed * 500), 500)
    assert round((high - low) / 2, 3) == half


def test_wilson_against_a_value_worked_by_hand():
    """9 of 10: centre (0.9 + z2/20) / (1 + z2/10), z = 1.959964, so [0.59585, 0.98212]."""
    assert wilson_interval(9, 10) == pytest.approx((0.59585, 0.98212), abs=1e-5)


@pytest.mark.parametrize("total", [1, 8, 500])
def test_bounds_at_zero_and_one(total):
    """Bounds outside [0, 1] are no rates; Wald's width vanishes there, Wilson's must not."""
    assert wald_interval(0, total) == (0.0, 0.0) and wald_interval(total, total) == (1.0, 1.0)
    low, high = wilson_interval(0, total)
    assert low == pytest.approx(0, abs=1e-12) and low >= 0 and 0 < high < 1
    low, high = wilson_interval(total, total)
    assert high == pytest.approx(1, abs=1e-12) and high <= 1 and 0 < low < 1


def test_a_small_sample_is_cut_to_rates():
    """1 of 3 by Wald reaches below 0, which no figure can show."""
    low, high = wald_interval(1, 3)
    assert low == 0.0 and high == pytest.approx(1 / 3 + 1.96 * math.sqrt(2 / 27), abs=1e-3)


@pytest.mark.parametrize("interval", [wald_interval, wilson_interval])
def test_plain_floats_come_back(interval):
    """numpy scalars would be written into JSON as an error."""
    assert all(type(bound) is float for bound in interval(3, 8))


@pytest.mark.parametrize("interval", [wald_interval, wilson_interval])
@pytest.mark.parametrize("correct,total", [(-1, 5), (6, 5), (0, 0), (0, -3), (float("nan"), 5)])
def test_impossible_counts_are_refused(interval, correct, total):
    """Swapped arguments give an interval of nothing; the message quotes both."""
    with pytest.raises(ValueError, match=f"expected 0 <= correct <= total.*Got {correct} and {total}"):
        interval(correct, total)
