"""Intervals and tests for Pass@1 and training variance, by statsmodels, scipy and arch. Needs no torch.

Pass@1 counts are pairs (correct, total). Every resampling uses a fixed seed: equal logs give equal numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from arch.bootstrap import CircularBlockBootstrap, optimal_block_length
from scipy.stats import binom, permutation_test, rankdata, spearmanr
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint, proportions_ztest

from sa_ah_lib.analysis.rounding import ESTIMATED, rounded_to

RESAMPLES, SEED = 4000, 123

Values = Sequence[float] | np.ndarray
"""Numbers or booleans, one for each step or problem."""


@dataclass(frozen=True)
class Difference:
    """An estimated difference (or ratio) with its 95% interval and two-sided p-value (None where no test was made)."""

    estimate: float
    low: float
    high: float
    p_value: float | None = None


@rounded_to(ESTIMATED)
def wald_interval(correct: int, total: int) -> tuple[float, float]:
    """The paper's 95% interval, p +- 1.96 sqrt(p (1 - p) / N), cut to [0, 1] (Section 4.4); (low, high)."""
    return _interval(correct, total, "normal")


@rounded_to(ESTIMATED)
def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95% Wilson score interval, which keeps its level near 0 and 1; (low, high)."""
    return _interval(correct, total, "wilson")


@rounded_to(ESTIMATED)
def half_width(rate: float, total: int) -> float:
    """The paper's printed +-: 1.96 sqrt(p (1 - p) / N), also for a rate that is no count over ``total``."""
    return 1.96 * (rate * (1 - rate) / total) ** 0.5


@rounded_to(ESTIMATED)
def unpaired(first: tuple[int, int], second: tuple[int, int]) -> Difference:
    """Difference in Pass@1 of two counts whose problems are unknown: pooled z-test and Newcombe's interval.

    Args:
        first, second: (correct, total); the difference is first - second.
    """
    (a, n), (b, m) = first, second
    _interval(a, n, "wilson"), _interval(b, m, "wilson")
    # Two equal extreme rates leave the z-test without a variance; they do not differ.
    p_value = 1.0 if a * m == b * n else float(proportions_ztest([a, b], [n, m])[1])
    low, high = confint_proportions_2indep(a, n, b, m, method="newcomb")
    return Difference(a / n - b / m, float(low), float(high), p_value)


@rounded_to(ESTIMATED)
def paired(first: Values, second: Values) -> Difference:
    """Difference in Pass@1 on the same problems: exact McNemar test and an interval for paired shares.

    The interval is Bonett and Price's (2012): Wald's with one problem more that the first alone answers right, and one
    more that the second alone does. It holds its level where few answers differ, or none, where a bootstrap has
    nothing to draw.

    Args:
        first, second: (N,) booleans, one per problem, in one order; the difference is first - second.
    """
    first, second = (np.asarray(values, dtype=bool) for values in (first, second))
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"expected two lists of one length, a boolean a problem. Got {first.shape}, {second.shape}.")
    table = [[np.sum(first & second), np.sum(first & ~second)], [np.sum(~first & second), np.sum(~first & ~second)]]
    p_value = float(mcnemar(table, exact=True).pvalue)
    gained, lost = ((n + 1) / (len(first) + 2) for n in (table[0][1], table[1][0]))
    reach = 1.96 * ((gained + lost - (gained - lost) ** 2) / (len(first) + 2)) ** 0.5
    low, high = max(-1.0, gained - lost - reach), min(1.0, gained - lost + reach)
    return Difference(float(first.mean() - second.mean()), float(low), float(high), p_value)


@rounded_to(ESTIMATED)
def minimal_detectable_difference(rate: float, total: int, power: float = 0.8) -> float:
    """Smallest gain over ``rate`` that a two-sided 5% test on twice ``total`` independent answers finds with ``power``.

    Returns:
        A difference in Pass@1, in (0, 1 - rate].
    """
    effect = NormalIndPower().solve_power(nobs1=total, alpha=0.05, power=power)
    angle = min(np.pi / 2, np.arcsin(np.sqrt(rate)) + effect / 2)
    return float(np.sin(angle) ** 2 - rate)


@rounded_to(ESTIMATED)
def expected_peak(rate: float, total: int, checkpoints: int) -> float:
    """Mean of the best of ``checkpoints`` independent evaluations whose true Pass@1 is ``rate`` throughout.

    Checkpoints of one run share problems and drift slowly, so this bounds what chance alone adds to a peak.
    """
    counts = np.arange(total + 1)
    return float(np.sum(1 - binom.cdf(counts[:-1], total, rate) ** checkpoints) / total)


@rounded_to(ESTIMATED)
def corrected_peak(answers: Values) -> tuple[float, float]:
    """The peak over checkpoints less its optimism, by resampling problems.

    Args:
        answers: (checkpoints, N) booleans on the same problems.

    Returns:
        (peak, corrected peak): the optimism is how far the resampled peaks lie above the peak that was resampled.
    """
    answers = np.asarray(answers, dtype=float)
    peak = answers.mean(1).max()
    rng = np.random.default_rng(SEED)
    draws = rng.multinomial(answers.shape[1], np.full(answers.shape[1], 1 / answers.shape[1]), size=RESAMPLES)
    optimism = (draws @ answers.T / answers.shape[1]).max(1).mean() - peak  # (RESAMPLES, checkpoints) -> ()
    return float(peak), float(peak - optimism)


def second_half(values: Values) -> np.ndarray:
    """The paper's window for training variance: the last half of the steps (Table 2), the odd one included."""
    return np.asarray(values, dtype=float)[len(values) // 2 :]


@rounded_to(ESTIMATED)
def training_variance(rewards: Values) -> Difference:
    """Population variance of the mean reward a step over the second half of the steps (Table 2), 95% interval.

    The interval is a circular block bootstrap's, because the rewards of neighbouring steps are not independent.
    """
    window = _window(rewards)
    low, high = np.quantile(_resampled(window, np.var), [0.025, 0.975])
    return Difference(float(np.var(window)), float(low), float(high))


@rounded_to(ESTIMATED)
def trend(steps: Values, values: Values) -> Difference:
    """Spearman's rank correlation of a logged value with the step; ``estimate`` in [-1, 1], with its p-value.

    Logged steps depend on their neighbours, so the p-value is too small; the sign is what a reader should take. Of up
    to 7 points it is exact, over all orders: four points in perfect order still have p = 0.083.
    """
    result = spearmanr(steps, values)
    p_value = result.pvalue
    if len(steps) <= 7:
        ranks, places = rankdata(values), rankdata(steps)

        def agreement(order, axis):
            return (order * places).sum(axis)

        p_value = permutation_test((ranks,), agreement, permutation_type="pairings", vectorized=True).pvalue
    return Difference(float(result.statistic), -1.0, 1.0, float(p_value))


@dataclass(frozen=True)
class VarianceSplit:
    """Where a training variance comes from; the parts add up to ``total`` (``rest`` may be negative by chance)."""

    total: float
    trend: float
    prompts: float
    rollouts: float
    rest: float


@rounded_to(ESTIMATED)
def variance_split(rewards: Values, between: Values, within: Values, prompts: int, generations: int) -> VarianceSplit:
    """Split the training variance into a straight trend, the draw of prompts, the draw of rollouts, and the rest.

    With P prompts a step and G rollouts a prompt, a fixed policy's step mean varies by between / P, of which
    within / (P G) is the rollouts' part; what is left after the trend is the policy's wandering.

    Args:
        rewards: (steps,) mean reward a step; between, within: (steps,) the logged variance of the group means
            and mean variance within groups. prompts: P; generations: G.
    """
    window = _window(rewards)
    steps = np.arange(len(window))
    trend = float(np.var(np.polyval(np.polyfit(steps, window, 1), steps)))
    drawn = float(second_half(between).mean()) / prompts
    rollouts = float(second_half(within).mean()) / (prompts * generations)
    total = float(np.var(window))
    return VarianceSplit(total, trend, drawn - rollouts, rollouts, total - trend - drawn)


def _window(rewards):
    window = second_half(rewards)
    if len(window) < 2:
        raise ValueError(f"expected at least 4 steps, for a variance of their second half. Got {len(rewards)}.")
    return window


def _resampled(window, statistic):
    if not np.ptp(window):
        return np.full(RESAMPLES, statistic(window))
    length = optimal_block_length(window)["circular"].iloc[0] if len(window) > 10 else 1
    length = int(np.clip(np.ceil(length if np.isfinite(length) else 1), 1, max(1, len(window) // 3)))
    return CircularBlockBootstrap(length, window, seed=SEED).apply(statistic, RESAMPLES).ravel()


def _interval(correct, total, method):
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"expected 0 <= correct <= total with total >= 1. Got {correct} and {total}.")
    low, high = proportion_confint(correct, total, alpha=0.05, method=method)
    return float(low), float(high)
