"""Numbers from the gradients of prompts: norm, cosine, signal-to-noise, with bootstrap intervals. Needs no torch.

With g_p the gradient of prompt p, mu its mean over all prompts there are and S its covariance: squared norms and inner
products of means are means over pairs of *different* prompts, so that noise adds nothing to them, however few they
are.
"""

from dataclasses import dataclass

import numpy as np

RESAMPLES, SEED = 2000, 123


@dataclass(frozen=True)
class Measured:
    """One measure of one part of a rule's gradient, with its 95% interval; see ``with_interval``."""

    estimate: float
    low: float
    high: float


def resamples(prompts: int, count: int = RESAMPLES) -> np.ndarray:
    """(1 + count, prompts): how often each prompt counts; once each in the first row, drawn with replacement below."""
    drawn = np.random.default_rng(SEED).multinomial(prompts, np.full(prompts, 1 / prompts), size=count)
    return np.vstack([np.ones(prompts), drawn])


def measure(gradients: np.ndarray, reference: np.ndarray, weights: np.ndarray, step: int) -> dict[str, np.ndarray]:
    """The measures of one rule's gradients at every resample.

    Args:
        gradients: (P, D), one row per prompt. reference: (P, D) of plain GRPO on the same prompts.
        weights: (R, P) of ``resamples``.
        step: prompts of an optimizer step.

    Returns:
        {measure: (R,)}: ``norm`` |mu|; ``noise`` sqrt(tr S / step), the noise of a step; ``signal_to_noise`` their
        ratio; ``cosine`` of mu with GRPO's mu; ``step_cosine``, what a step's own gradient has with GRPO's mu, in the
        ratio of root mean squares. Noise can put an estimated cosine beyond 1: it is cut there. Where a squared norm is
        estimated at 0 or below, the two cosines are NaN.
    """
    gradients, reference = gradients.astype(np.float64), reference.astype(np.float64)
    own = gradients @ gradients.T  # (P, P)
    squared, base, shared = (
        _pairs(products, weights) for products in (own, reference @ reference.T, gradients @ reference.T)
    )
    whole = weights @ np.diag(own) / weights.sum(1)
    noise = np.sqrt(np.maximum(whole - squared, 0) / step)
    norm = np.sqrt(np.maximum(squared, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        usable = np.where((squared > 0) & (base > 0), 1.0, np.nan)
        return {
            "norm": norm,
            "cosine": usable * np.clip(shared / np.sqrt(np.abs(squared * base)), -1, 1),
            "noise": noise,
            "signal_to_noise": norm / noise,
            "step_cosine": usable * shared / np.sqrt(np.abs(base) * (np.maximum(squared, 0) + noise**2)),
        }


def with_interval(values: np.ndarray) -> Measured:
    """The first value as the estimate, the 2.5th and 97.5th percentiles of the others as the interval.

    A ratio to nothing is infinite, and stays in its tail: the bound is infinite where 2.5 % are. Where more than 5 % of
    the others are not defined, neither bound is.
    """
    defined = values[1:][~np.isnan(values[1:])]
    low = high = np.nan
    if len(defined) >= 0.95 * (len(values) - 1) > 0:
        # The outer of two neighbours, because between a number and infinity there is nothing to interpolate.
        low, high = (np.quantile(defined, q, method=side) for q, side in ((0.025, "lower"), (0.975, "higher")))
    return Measured(float(values[0]), float(low), float(high))


def _pairs(products, weights):
    """(R,): the weighted mean of (P, P) ``products`` over pairs of different prompts."""
    apart = products - np.diag(np.diag(products))
    pairs = weights.sum(1) ** 2 - (weights**2).sum(1)
    # A resample of one prompt alone has no pair: NaN.
    return np.einsum("rp,pq,rq->r", weights, apart, weights, optimize=True) / np.where(pairs > 0, pairs, np.nan)
