"""The test of every comparison over seeds, and its correction for several of them. Needs no torch.

The test asks whether the signs of paired gains are more one-sided than chance.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

FLIPS, RNG_SEED = 2**13, 123
"""The test is exact where its pairs have no more sign patterns than ``FLIPS``, and drawn at random beyond."""
TIE = 1e-7
"""Sums of gains that are nearer than this are equal: they are kept with nine digits and differ by far more, or not."""


def sign_flip_p(gains: Sequence[float] | np.ndarray) -> float:
    """Two-sided p-value of the sign-flip test of paired gains; exact up to 13 pairs.

    Patterns of signs that tie with the observed one count as at least as extreme. Sums of equal gains differ in their
    last digits by the order in which they were added, so they are compared with a slack.

    Args:
        gains: (n,), two or more; positive where the first of a pair is better.

    Returns:
        In (0, 1]; 2 / 2^n at the least where the test is exact.
    """
    gains = np.asarray(gains, dtype=float)
    found = stats.permutation_test(
        (gains,), np.sum, permutation_type="samples", n_resamples=FLIPS, rng=np.random.default_rng(RNG_SEED)
    )
    # What was observed is one of all patterns; among drawn ones it is counted beside them.
    own = 0 if 2 ** len(gains) <= FLIPS else 1
    tails = [np.sum(side * found.null_distribution >= side * gains.sum() - TIE) for side in (1, -1)]
    return float(min(1.0, 2 * (min(tails) + own) / (len(found.null_distribution) + own)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of comparisons made together, corrected by Holm's method; in their order, [] of none."""
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []
