"""Intervals and tests against the paper's formula, numbers worked by hand, and simulation."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from sa_ah_lib.analysis import stats
from sa_ah_lib.analysis.stats import wald_interval, wilson_interval

Z = 1.959964


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
    assert round(stats.half_width(printed, 500), 3) == half
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


# --- differences -----------------------------------------------------------------------------------------------------


def wilson_by_formula(k, n):
    p, z2 = k / n, Z * Z
    middle, half = p + z2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)


@pytest.mark.parametrize("a,b,p_value", [(343, 326, 0.253), (343, 330, 0.381), (423, 424, 0.930)])
def test_two_proportions_by_formula(a, b, p_value):
    """DESIGN's own p-values, SA 1.5B against the raw base and GRPO: pooled z; Newcombe's interval from Wilson's."""
    gap = stats.unpaired((a, 500), (b, 500))
    pooled = (a + b) / 1000
    z = (a - b) / 500 / math.sqrt(pooled * (1 - pooled) * 2 / 500)
    assert gap.p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=1e-9) and round(gap.p_value, 3) == p_value
    (p, q), (low_a, high_a), (low_b, high_b) = (a / 500, b / 500), wilson_by_formula(a, 500), wilson_by_formula(b, 500)
    low = p - q - math.hypot(p - low_a, high_b - q)
    high = p - q + math.hypot(high_a - p, q - low_b)
    assert (gap.estimate, gap.low, gap.high) == pytest.approx((p - q, low, high), abs=1e-5)


@pytest.mark.parametrize("counts", [(0, 0), (8, 8), (4, 4)])
def test_equal_counts_do_not_differ(counts):
    """The z-test of two rates of 0 or 1 divides by 0; a NaN would stand in the table."""
    gap = stats.unpaired((counts[0], 8), (counts[1], 8))
    assert gap.p_value == 1.0 and gap.estimate == 0 and gap.low < 0 < gap.high


def test_impossible_counts_are_refused_in_differences_too():
    with pytest.raises(ValueError, match="expected 0 <= correct <= total"):
        stats.unpaired((9, 8), (1, 8))


def answers(both, only_first, only_second, neither):
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


@pytest.mark.parametrize("only_first,only_second", [(8, 1), (1, 8), (5, 0), (3, 3), (12, 4)])
def test_mcnemar_by_the_binomial(only_first, only_second):
    """Only problems on which the two differ count: 2 P(X <= min(b, c)), X of Bin(b + c, 1/2), at most 1."""
    n, k = only_first + only_second, min(only_first, only_second)
    expected = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    gap = stats.paired(*answers(20, only_first, only_second, 10))
    assert gap.p_value == pytest.approx(expected) and gap.estimate == pytest.approx(
        (only_first - only_second) / (30 + n)
    )
    # 8 against 1 by hand: 2 * (1 + 9) / 512.
    assert stats.paired(*answers(20, 8, 1, 10)).p_value == pytest.approx(20 / 512)


def test_pairing_is_what_makes_small_gains_seen():
    """Equal counts, other pairing: an unpaired test in the place of the paired one would not notice."""
    alike, apart = answers(100, 8, 0, 92), answers(60, 48, 40, 52)
    assert np.sum(alike[0]) - np.sum(alike[1]) == np.sum(apart[0]) - np.sum(apart[1]) == 8
    assert stats.paired(*alike).p_value < 0.01 < 0.3 < stats.paired(*apart).p_value


def test_the_paired_interval_by_the_normal_one():
    """At N = 500 it is close to mean +- 1.96 sd / sqrt(N)."""
    first, second = answers(250, 60, 30, 160)
    gaps = np.array(first, float) - np.array(second, float)
    half = 1.96 * gaps.std() / math.sqrt(500)
    gap = stats.paired(first, second)
    assert (gap.low, gap.high) == pytest.approx((0.06 - half, 0.06 + half), abs=0.004)


def test_the_paired_interval_covers():
    """A 95% interval that covers the truth in 80 of 100 samples is not one."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        common = rng.random(200)
        gap = stats.paired(common < 0.6, common + rng.normal(0, 0.1, 200) < 0.6)  # the truth differs by 0 at 0.6
        covered += gap.low <= 0 <= gap.high
    assert covered >= 52


@pytest.mark.parametrize("first,second", [([True], [True, False]), ([], []), ([[True]], [[False]])])
def test_answers_must_pair(first, second):
    """Lists of two lengths would be compared problem against another problem."""
    with pytest.raises(ValueError, match="expected two lists of one length"):
        stats.paired(first, second)


def test_the_same_answers_do_not_differ():
    same = stats.paired([True, False], [True, False])
    assert (same.estimate, same.p_value) == (0, 1)


@pytest.mark.parametrize("count", [20, 500])
def test_few_differing_answers_do_not_show_that_two_policies_are_equal(count):
    """0 of 20 against 0 of 20 was printed as [+0.000, +0.000], and one lost answer ruled out every gain.

    By hand, of equal answers: one is added on each side, so the bounds are +- 1.96 sqrt(2) / (N + 2).
    """
    same = stats.paired([False] * count, [False] * count)
    assert (same.low, same.high) == pytest.approx((-1.96 * 2**0.5 / (count + 2), 1.96 * 2**0.5 / (count + 2)))
    one = stats.paired([False] * count, [True] + [False] * (count - 1))
    assert one.estimate == -1 / count and one.low < same.low and 0 < one.high < same.high


@pytest.mark.parametrize("rate,total", [(0.66, 500), (0.3, 200)])
def test_the_detectable_difference_has_its_power(rate, total):
    """Simulated: at that gain the z-test finds 80% of the cases; at none, 5%."""
    gain = stats.minimal_detectable_difference(rate, total)
    rng = np.random.default_rng(1)

    def found(better):
        a, b = (rng.binomial(total, p, 20000) / total for p in (better, rate))
        pooled = (a + b) / 2
        return np.mean(np.abs(a - b) > 1.96 * np.sqrt(pooled * (1 - pooled) * 2 / total))

    assert found(rate + gain) == pytest.approx(0.8, abs=0.015) and found(rate) == pytest.approx(0.05, abs=0.01)


# --- peaks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate,total,checkpoints", [(0.66, 500, 5), (0.3, 40, 6), (0.5, 10, 1)])
def test_the_expected_peak_by_simulation(rate, total, checkpoints):
    """What chance alone adds to the best of several evaluations."""
    draws = np.random.default_rng(2).binomial(total, rate, (40000, checkpoints)).max(1) / total
    assert stats.expected_peak(rate, total, checkpoints) == pytest.approx(draws.mean(), abs=2e-3)


def test_a_peak_among_equals_is_mostly_luck():
    """Six checkpoints of one true rate: corrected, their peak comes back to the mean; a real peak stays."""
    rng = np.random.default_rng(3)
    flat = rng.random((6, 400)) < 0.5
    peak, corrected = stats.corrected_peak(flat)
    assert peak == flat.mean(1).max() and flat.mean() - 0.02 < corrected < peak - 0.01
    outstanding = np.vstack([rng.random((5, 400)) < 0.2, rng.random((1, 400)) < 0.9])
    peak, corrected = stats.corrected_peak(outstanding)
    assert corrected == pytest.approx(peak, abs=1e-3)


# --- training variance -----------------------------------------------------------------------------------------------


def test_the_second_half_is_the_paper_s_window():
    """75 of 150 steps and 90 of 180; of an odd number, the middle step belongs to it."""
    assert [len(stats.second_half(range(n))) for n in (150, 180, 5, 1)] == [75, 90, 3, 1]
    assert stats.second_half([1, 2, 3, 4, 5]).tolist() == [3, 4, 5]


def test_the_training_variance_by_hand():
    """Population variance of the window, not of the run, nor the sample variance."""
    assert stats.training_variance([99, 0, 1, 3]).estimate == 1.0
    assert stats.training_variance([0, 0, 2, 2, 2, 2]) == stats.Difference(0.0, 0.0, 0.0)


@pytest.mark.parametrize("rewards", [[], [1], [1, 2]])
def test_a_variance_needs_two_steps(rewards):
    with pytest.raises(ValueError, match="at least 4 steps"):
        stats.training_variance(rewards)


def autocorrelated(rng, steps, strength):
    noise = rng.normal(size=steps)
    for t in range(1, steps):
        noise[t] = strength * noise[t - 1] + math.sqrt(1 - strength**2) * noise[t]
    return noise


def test_the_variance_s_interval_holds_the_truth():
    """Neighbouring steps depend on each other; resampled one by one, the interval would be far too narrow."""
    rng = np.random.default_rng(4)
    intervals = [stats.training_variance(autocorrelated(rng, 400, 0.5)) for _ in range(12)]
    assert sum(i.low <= 1 <= i.high for i in intervals) >= 9
    assert all(0 < i.low < i.estimate < i.high for i in intervals)
    assert stats.training_variance([1, 5, 2, 4] * 20) == stats.training_variance([1, 5, 2, 4] * 20)


def test_a_trend_by_ranks():
    """By hand: of the 120 orders of five, one agrees wholly and four but for one pair of neighbours."""
    found = stats.trend([1, 2, 3, 4, 5], [1, 10, 100, 1000, 999])
    assert found.estimate == pytest.approx(0.9) and found.p_value == pytest.approx(2 * 5 / 120)
    assert stats.trend([1, 2, 3, 4, 5], [999, 1000, 100, 10, 1]).estimate == pytest.approx(-0.9)
    # Perfect order: 2 / n!, where the usual approximation gives 0.
    assert stats.trend([1, 2, 3, 4], [1, 2, 3, 4]).p_value == pytest.approx(2 / 24)
    values = np.random.default_rng(8).normal(size=40)
    assert stats.trend(range(40), values).p_value == pytest.approx(scipy_stats.spearmanr(range(40), values)[1])


def simulated(prompts, generations, steps=4000, slope=0.0, wander=0.0, prompt_sd=1.0, rollout_sd=2.0, seed=6):
    """Step means and the logged variances of ``prompts`` groups of ``generations`` rollouts with known parts."""
    rng = np.random.default_rng(seed)
    policy = slope * np.arange(steps) + wander * rng.normal(size=steps)
    rewards = (
        policy[:, None, None]
        + prompt_sd * rng.normal(size=(steps, prompts, 1))
        + rollout_sd * rng.normal(size=(steps, prompts, generations))
    )
    groups = rewards.mean(2)
    return rewards.mean((1, 2)), groups.var(1, ddof=1), rewards.var(2, ddof=1).mean(1)


def test_parts_of_the_variance_come_back():
    """Prompts of sd 1 and rollouts of sd 2 in 8 groups of 4: 1/8, 4/32, and nothing left for the policy."""
    split = stats.variance_split(*simulated(8, 4), 8, 4)
    assert (split.prompts, split.rollouts) == pytest.approx((1 / 8, 4 / 32), rel=0.05)
    assert split.trend == pytest.approx(0, abs=1e-3) and abs(split.rest) < 0.02
    assert split.trend + split.prompts + split.rollouts + split.rest == pytest.approx(split.total)


def test_trend_and_wandering_are_told_from_the_draws():
    """A rising reward is variance too: slope^2 n^2 / 12 over n steps, and a policy's own wandering is the rest."""
    still = stats.variance_split(*simulated(8, 4), 8, 4)
    moved = stats.variance_split(*simulated(8, 4, slope=0.002, wander=0.5), 8, 4)
    assert moved.trend == pytest.approx((0.002 * 2000) ** 2 / 12, rel=0.1) and moved.rest == pytest.approx(
        0.25, rel=0.15
    )
    assert (moved.prompts, moved.rollouts) == pytest.approx((still.prompts, still.rollouts), rel=0.05)
