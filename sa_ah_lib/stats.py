"""Intervals of Pass@1. Needs no torch."""

from statsmodels.stats.proportion import proportion_confint


def wald_interval(correct, total):
    """The paper's 95% interval, p +- 1.96 sqrt(p (1 - p) / N), cut to [0, 1] (Section 4.4); (low, high)."""
    return _interval(correct, total, "normal")


def wilson_interval(correct, total):
    """The 95% Wilson score interval, which keeps its level near 0 and 1; (low, high)."""
    return _interval(correct, total, "wilson")


def _interval(correct, total, method):
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"expected 0 <= correct <= total with total >= 1. Got {correct} and {total}.")
    low, high = proportion_confint(correct, total, alpha=0.05, method=method)
    return float(low), float(high)
