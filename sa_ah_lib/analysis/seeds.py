"""Comparisons over seeds: estimates with intervals, differences paired by warm start and seed, and what they decide.

Interquartile means, stratified bootstrap intervals, probabilities of improvement and performance profiles are those of
Agarwal et al. 2021 (arXiv 2108.13264); their strata are tasks, here the warm starts of each scale.
Needs no torch.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestPower

from sa_ah_lib.analysis.comparison import Arm
from sa_ah_lib.analysis.crossed import RNG_SEED, Key, degrees_of_freedom, standard_error
from sa_ah_lib.analysis.measures import METRICS
from sa_ah_lib.analysis.rounding import ESTIMATED, rounded_to
from sa_ah_lib.analysis.sign_flip import holm, sign_flip_p

RESAMPLES = 2000
MIN_SEEDS = 6
"""Fewer pairs decide nothing here: no sign-flip test of less than six can reach p < 0.05."""
LEVEL = 0.05
VERDICTS = ("better", "worse", "equivalent", "undecided")


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

    ``gains``: {(scale, warm start, seed): gain}, positive where ``first`` is better; ``gain``: their mean with its 95 %
    interval, both in logarithms for a ratio metric; ``p_value``: two-sided sign-flip test, exact up to 13 pairs;
    ``adjusted_p``: the same after Holm's correction for the comparisons made together; ``improvement``: probability
    that a run of ``first`` beats one of ``second`` from the same warm start, with a bootstrap interval over seeds;
    ``censored``: how many runs of ``first`` and of ``second`` have a bound in place of a number.
    """

    first: str
    second: str
    metric: str
    gains: dict[Key, float]
    gain: Estimate
    p_value: float
    adjusted_p: float
    improvement: Estimate
    censored: tuple[int, int] = (0, 0)


@rounded_to(ESTIMATED)
def scores(arm: Arm, metric: str) -> dict[Key, float]:
    """{(scale, warm start, seed): value} of an arm's runs that have one."""
    values = {key: METRICS[metric].read(run) for key, run in sorted(arm.runs.items())}
    return {key: value for key, value in values.items() if value is not None}


@rounded_to(ESTIMATED)
def interquartile_mean(arm: Arm, metric: str) -> Estimate:
    """Mean of the middle half of an arm's scores with a stratified bootstrap interval over seeds (percentile, 95%)."""

    def middle(*strata, axis=-1):
        return stats.trim_mean(np.concatenate(strata, axis), 0.25, axis)

    return _estimate(_strata(scores(arm, metric)), middle)


def compare_all(pairs: Iterable[tuple[Arm, Arm]], metric: str) -> list[Comparison]:
    """Compare several pairs of arms, each paired by warm start and seed; Holm's correction is for these pairs.

    The interval is Student's about the mean gain. Its standard error is that of the crossed bootstrap of ``crossed``;
    of seeds alone where there is one warm start and the answers to the single problems are not known, or the metric
    has none. Its degrees of freedom are warm starts less one, or pairs less one where there is one warm start.

    Args:
        pairs: (first, second) arms. metric: a key of ``METRICS``.

    Raises:
        ValueError: the two runs of a pair were made on other problems.
    """
    found = [_compare(first, second, metric) for first, second in pairs]
    tested = [comparison for comparison in found if not math.isnan(comparison.p_value)]
    corrected = {id(c): p for c, p in zip(tested, holm([c.p_value for c in tested]), strict=True)}
    return [replace(c, adjusted_p=corrected.get(id(c), math.nan)) for c in found]


@rounded_to(ESTIMATED)
def _compare(first, second, metric):
    rule, sides = METRICS[metric], [scores(arm, metric) for arm in (first, second)]
    shared = sorted(sides[0].keys() & sides[1].keys())
    _check_problems(first, second, shared)
    values = [np.array([side[key] for key in shared]) for side in sides]
    gains = rule.gain(*values) if shared else np.array([])
    named = dict(zip(shared, gains.tolist(), strict=True))
    mean = float(gains.mean()) if len(gains) else math.nan
    low = high = p_value = math.nan
    if len(gains) > 1:
        p_value = sign_flip_p(gains)
        low, high = student(named, _error(first, second, rule, named))
    sign = 1 if rule.larger_is_better else -1
    strata = [_strata({key: sign * side[key] for key in shared}) for side in sides]
    improvement = _estimate([*strata[0], *strata[1]], _superiority)
    gain = Estimate(mean, float(low), float(high), len(gains))
    ended = [sum(rule.censored(arm.runs[key]) for key in shared) for arm in (first, second)]
    return Comparison(
        first.label, second.label, metric, named, gain, float(p_value), math.nan, improvement, (ended[0], ended[1])
    )


def _check_problems(first, second, keys):
    """Raise ValueError where the runs of a pair say that they saw other problems: their gain would be of both."""
    for key in keys:
        data = [arm.runs[key].environment.get("data", {}) for arm in (first, second)]
        hashes = {record["sha256"] for record in data if record.get("sha256")}
        if len(hashes) > 1:
            raise ValueError(
                f"a pair must be made on the same problems. {first.label} and {second.label} ({key[0]}, warm start "
                f"{key[1]}, seed {key[2]}) have problems with SHA-256 {' and '.join(h[:12] for h in sorted(hashes))}; "
                "leave one's logs out and train it on the other's problems."
            )


def _error(first, second, rule, gains):
    by_problem = rule.by_problem or (lambda run: None)
    sides = [{key: by_problem(arm.runs[key]) for key in gains} for arm in (first, second)]
    lengths = {(key[:2], _size(side[key])) for side in sides for key in gains}
    starts = {key[:2] for key in gains}
    if len(lengths) == len(starts) and all(length for _, length in lengths):
        return standard_error({key: rule.gain(sides[0][key], sides[1][key]) for key in gains})
    return error_of_pairs(gains)


def error_of_pairs(gains: Mapping[Key, float]) -> float:
    """Standard error of the mean of paired gains of which nothing else is known: of seeds, and warm starts if several.

    Args:
        gains: {(scale, warm start, seed): gain}, two or more.
    """
    starts = {key[:2] for key in gains}
    if len(starts) == len({scale for scale, _ in starts}):
        return float(stats.sem(list(gains.values())))
    return standard_error({key: np.array([gain]) for key, gain in gains.items()})


def student(gains: Mapping[Key, float], error: float) -> tuple[float, float]:
    """Student's 95 % interval of the mean gain, (low, high); for its degrees of freedom see ``compare_all``."""
    mean = float(np.mean(list(gains.values())))
    reach = float(stats.t.ppf(1 - LEVEL / 2, degrees_of_freedom(gains))) * error
    return mean - reach, mean + reach


def _size(values):
    return 0 if values is None else len(values)


def verdict(comparison: Comparison) -> str:
    """What a comparison decides: one of ``VERDICTS``.

    "better" or "worse": the interval excludes 0 and Holm's p is below 0.05. "equivalent": neither, and the interval
    lies inside the metric's margin on both sides. "undecided": none of these, or fewer than ``MIN_SEEDS`` pairs.

    A run that ended too soon looks better than it is. So no arm is better by bounds of its own, and where a number is a
    bound nothing is equivalent.
    """
    gain = comparison.gain
    if gain.count < MIN_SEEDS:
        return "undecided"
    if comparison.adjusted_p < LEVEL and not gain.low <= 0 <= gain.high:
        decided, flattered = ("better", comparison.censored[0]) if gain.low > 0 else ("worse", comparison.censored[1])
        return "undecided" if flattered else decided
    return "equivalent" if _inside_margin(comparison) and not any(comparison.censored) else "undecided"


def outcome(comparison: Comparison) -> str:
    """``verdict`` as tables write it: "better, smaller than the margin" where both hold."""
    decided = verdict(comparison)
    small = decided in ("better", "worse") and _inside_margin(comparison)
    return f"{decided}, smaller than the margin" if small else decided


def _inside_margin(comparison):
    margin = METRICS[comparison.metric].least_gain
    return -margin < comparison.gain.low and comparison.gain.high < margin


def seeds_needed(comparison: Comparison) -> int | None:
    """Pairs at which a gain of the metric's margin is seen with 80% power by a t-test.

    None where pairs are too few to say, or come from several warm starts: more seeds of one warm start are no others.
    """
    gains = list(comparison.gains.values())
    if len(gains) < 2 or not np.ptp(gains) or len({key[:2] for key in comparison.gains}) > 1:
        return None
    effect = METRICS[comparison.metric].least_gain / float(np.std(gains, ddof=1))
    if TTestPower().power(effect, MIN_SEEDS, 0.05) >= 0.8:
        return MIN_SEEDS
    return math.ceil(TTestPower().solve_power(effect, alpha=0.05, power=0.8))


@rounded_to(ESTIMATED)
def performance_profile(arm: Arm, metric: str, thresholds: np.ndarray) -> np.ndarray:
    """Share of an arm's runs at least as good as each threshold, with pointwise bootstrap bounds: (3, thresholds).

    The bounds are over seeds: runs are drawn within their warm start.
    """
    strata, rng = _strata(scores(arm, metric)), np.random.default_rng(RNG_SEED)
    drawn = np.concatenate([values[rng.integers(len(values), size=(RESAMPLES, len(values)))] for values in strata], 1)
    reached = np.greater_equal if METRICS[metric].larger_is_better else np.less_equal
    shares = [reached(values[..., None], thresholds).mean(-2) for values in (np.concatenate(strata), drawn)]
    return np.stack([shares[0], *np.quantile(shares[1], [0.025, 0.975], axis=0)])


def _strata(scores):
    by_warm_start = itertools.groupby(sorted(scores), key=lambda key: key[:2])
    return [np.array([scores[key] for key in keys]) for _, keys in by_warm_start]


def _superiority(*sides, axis=-1):
    """Mean over warm starts of P(x > y) + P(x = y) / 2; the first half of ``sides`` are x, the second half y."""
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
