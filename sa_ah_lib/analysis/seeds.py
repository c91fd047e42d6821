"""Comparisons over seeds: estimates with intervals, differences paired by seed, and what they decide.

Interquartile means, stratified bootstrap intervals, probabilities of improvement and performance profiles are those of
Agarwal et al. 2021 (arXiv 2108.13264), through scipy; their strata are tasks, here scales. Needs no torch.
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from sa_ah_lib.analysis.rounding import ESTIMATED, rounded_to
from sa_ah_lib.analysis.stats import second_half

RESAMPLES, RNG_SEED = 2000, 123
MIN_SEEDS = 6
"""Fewer pairs decide nothing here: no sign-flip test of less than six can reach p < 0.05."""


VERDICTS = ("better", "worse", "equivalent", "undecided")


@dataclass(frozen=True)
class Metric:
    """One number a run: how to read it (None where the run has none), which way is better, and what matters.

    ``margin`` is the smallest difference worth having; a ratio metric is compared by ratios, margin included.
    """

    label: str
    short: str
    read: Callable
    larger_is_better: bool
    margin: float
    ratio: bool = False

    def gain(self, first, second):
        """How much better ``first`` is than ``second``, elementwise; in logarithms for a ratio metric."""
        difference = np.log(first) - np.log(second) if self.ratio else first - second
        return difference if self.larger_is_better else -difference

    @property
    def least_gain(self):
        return math.log(self.margin) if self.ratio else self.margin


def final_pass_at_1(run):
    """Greedy Pass@1 at the run's last evaluated step, in [0, 1]; None without evaluations."""
    counts = list(run.pass_at_1.values())
    return counts[-1][0] / counts[-1][1] if counts else None


def training_variance(run):
    """The paper's: variance of the mean reward a step over the second half of the steps; None where it is 0."""
    rewards = run.curve("reward")[1]
    return float(np.var(second_half(rewards))) or None if len(rewards) > 3 else None


METRICS = {
    # The paper asks for caution below 0.02 (Section 7). Its own claim for the variance is a factor of 3.6.
    "pass_at_1": Metric("final greedy Pass@1", "Pass@1", final_pass_at_1, True, 0.02),
    "training_variance": Metric("training variance", "variance", training_variance, False, 1.25, ratio=True),
}


@dataclass(frozen=True)
class Estimate:
    """A value with its interval (NaN bounds where too few runs give none) from ``count`` runs or pairs."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Comparison:
    """``first`` against ``second`` on the keys both have.

    ``gains``: {(scale, seed): gain}, positive where ``first`` is better; ``gain``: their mean with its interval, both
    in logarithms for a ratio metric; ``p_value``: two-sided sign-flip test, exact up to 13 pairs; ``adjusted_p``: the
    same after Holm's correction for the comparisons made together; ``improvement``: probability that a run of
    ``first`` beats one of ``second``, with a bootstrap interval.
    """

    first: str
    second: str
    metric: str
    gains: dict
    gain: Estimate
    p_value: float
    adjusted_p: float
    improvement: Estimate


@rounded_to(ESTIMATED)
def scores(arm, metric):
    """{(scale, seed): value} of an arm's runs that have one."""
    values = {key: METRICS[metric].read(run) for key, run in sorted(arm.runs.items())}
    return {key: value for key, value in values.items() if value is not None}


@rounded_to(ESTIMATED)
def interquartile_mean(arm, metric):
    """Mean of the middle half of an arm's scores with a stratified bootstrap interval (percentile, 95%)."""
    iqm = lambda *strata, axis=-1: stats.trim_mean(np.concatenate(strata, axis), 0.25, axis)  # noqa: E731
    return _estimate(_strata(scores(arm, metric)), iqm)


def compare(first, second, metric):
    """``compare_all`` of one pair of arms."""
    return compare_all([(first, second)], metric)[0]


def compare_all(pairs, metric):
    """Compare several pairs of arms at once, each paired by seed.

    A gain in Pass@1 is uncertain in its seeds and in its problems: where every answer is known, its standard error is
    that of a bootstrap that draws both anew. Elsewhere it is that of the seeds alone. The intervals are Student's with
    as many degrees of freedom as seeds less one, and hold for all pairs at once (Bonferroni).

    Args:
        pairs: (first, second) arms. metric: a key of ``METRICS``.
    """
    found = [_compare(first, second, metric, len(pairs)) for first, second in pairs]
    tested = [comparison for comparison in found if not math.isnan(comparison.p_value)]
    adjusted = multipletests([c.p_value for c in tested], method="holm")[1] if tested else []
    corrected = {id(c): float(p) for c, p in zip(tested, adjusted, strict=True)}
    return [replace(c, adjusted_p=corrected.get(id(c), math.nan)) for c in found]


@rounded_to(ESTIMATED)
def _compare(first, second, metric, comparisons):
    rule, sides = METRICS[metric], [scores(arm, metric) for arm in (first, second)]
    shared = sorted(sides[0].keys() & sides[1].keys())
    values = [np.array([side[key] for key in shared]) for side in sides]
    gains = rule.gain(*values) if shared else np.array([])
    mean = float(gains.mean()) if len(gains) else math.nan
    low = high = p_value = math.nan
    if len(gains) > 1:
        p_value = stats.permutation_test((gains,), np.mean, permutation_type="samples", rng=RNG_SEED).pvalue
        error = _crossed_error(first, second, shared) if metric == "pass_at_1" else None
        error = stats.sem(gains) if error is None else error
        reach = stats.t.ppf(1 - 0.025 / comparisons, len(gains) - 1) * error
        low, high = mean - reach, mean + reach
    sign = 1 if rule.larger_is_better else -1
    strata = [_strata({key: sign * side[key] for key in shared}) for side in sides]
    improvement = _estimate([*strata[0], *strata[1]], _superiority)
    gain = Estimate(mean, float(low), float(high), len(gains))
    named = dict(zip(shared, gains.tolist(), strict=True))
    return Comparison(first.label, second.label, metric, named, gain, float(p_value), math.nan, improvement)


def _crossed_error(first, second, shared):
    """Standard error of the mean gain when seeds and problems are both drawn anew, or None without all answers.

    Within a scale every seed is evaluated on the same problems, so a draw of problems is shared by its seeds.
    """
    total = np.zeros(RESAMPLES)
    for _, group in itertools.groupby(shared, key=lambda key: key[0]):
        keys = list(group)
        sides = [[_final_answers(arm.runs[key]) for key in keys] for arm in (first, second)]
        lengths = {len(answers) for side in sides for answers in side}
        if len(lengths) > 1 or 0 in lengths:
            return None
        gaps = np.array(sides[0], dtype=float) - np.array(sides[1], dtype=float)  # (seeds, problems)
        by_seed, by_problem = (_drawn(count, axis) for axis, count in enumerate(gaps.shape))
        total += ((by_seed @ gaps) * by_problem).sum(1) / gaps.shape[1]
    return float(np.std(total / len(shared)))


@functools.cache
def _drawn(count, axis):
    """(resamples, count): how often each seed (axis 0) or problem (axis 1) is drawn, alike for every pair of arms."""
    rng = np.random.default_rng([RNG_SEED, axis])
    return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)


def _final_answers(run):
    return run.answers[max(run.answers)] if run.answers else []


def verdict(comparison):
    """What the gain's interval decides: one of ``VERDICTS``.

    "better": it lies above 0. "worse": below 0. "equivalent": inside the metric's margin on both sides. "undecided":
    none of these, or fewer than ``MIN_SEEDS`` pairs. A gain above 0 and inside the margin is "better"; whoever reports
    it says that it is small.
    """
    gain, margin = comparison.gain, METRICS[comparison.metric].least_gain
    if gain.count < MIN_SEEDS:
        return "undecided"
    if gain.low > 0:
        return "better"
    if gain.high < 0:
        return "worse"
    return "equivalent" if -margin < gain.low and gain.high < margin else "undecided"


def seeds_needed(comparison):
    """Pairs at which a gain of the metric's margin is seen with 80% power; None where pairs are too few to say."""
    gains = list(comparison.gains.values())
    if len(gains) < 2 or not np.ptp(gains):
        return None
    effect = METRICS[comparison.metric].least_gain / float(np.std(gains, ddof=1))
    if TTestPower().power(effect, MIN_SEEDS, 0.05) >= 0.8:
        return MIN_SEEDS
    return math.ceil(TTestPower().solve_power(effect, alpha=0.05, power=0.8))


@rounded_to(ESTIMATED)
def performance_profile(arm, metric, thresholds):
    """Share of an arm's runs at least as good as each threshold, with pointwise bootstrap bounds: (3, thresholds)."""
    values = np.array(list(scores(arm, metric).values()))
    draws = np.random.default_rng(RNG_SEED).integers(len(values), size=(RESAMPLES, len(values)))
    reached = lambda v: v[..., None] >= thresholds if METRICS[metric].larger_is_better else v[..., None] <= thresholds  # noqa: E731
    resampled = reached(values)[draws].mean(1)  # (resamples, thresholds)
    return np.stack([reached(values).mean(0), *np.quantile(resampled, [0.025, 0.975], axis=0)])


def _strata(scores):
    by_scale = itertools.groupby(sorted(scores), key=lambda key: key[0])
    return [np.array([scores[key] for key in keys]) for _, keys in by_scale]


def _superiority(*sides, axis=-1):
    """Mean over scales of P(x > y) + P(x = y) / 2; the first half of ``sides`` are x, the second half y."""
    half = len(sides) // 2
    gaps = [x[..., :, None] - y[..., None, :] for x, y in zip(sides[:half], sides[half:], strict=True)]
    return np.mean([((gap > 0) + 0.5 * (gap == 0)).mean((-2, -1)) for gap in gaps], axis=0)


def _estimate(strata, statistic):
    count = sum(map(len, strata))
    if not strata:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(statistic(*strata))
    if min(map(len, strata)) < 2:
        return Estimate(value, math.nan, math.nan, count)
    rng = np.random.default_rng(RNG_SEED)
    result = stats.bootstrap(strata, statistic, vectorized=True, n_resamples=RESAMPLES, method="percentile", rng=rng)
    interval = result.confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), count)
