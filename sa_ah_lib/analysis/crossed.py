"""How uncertain a mean paired gain is: warm starts, seeds and problems are drawn anew at once. Needs no torch."""

import functools
from collections.abc import Collection, Mapping

import numpy as np

RESAMPLES, RNG_SEED = 10_000, 123

Key = tuple[str, int, int]
"""(scale, warm start, seed) of a run."""


def standard_error(gaps: Mapping[Key, np.ndarray]) -> float:
    """Standard error of the mean gain by a crossed bootstrap, in the unit of ``gaps``.

    Each draw takes, of each scale, as many warm starts as it has, with replacement. Each of those takes as many seeds
    as it has, and as many problems as it has, and all its seeds share these problems. Where a scale has one warm
    start, seeds and problems are what is drawn.

    Args:
        gaps: {key: (problems,) gain of a pair on each problem, or (1,) where only the whole pair's gain is known}.
            Keys of one scale and warm start have one length.
    """
    totals, pairs = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for number, scale in enumerate(sorted({key[0] for key in gaps})):
        blocks = _by_warm_start(gaps, scale)
        chosen = _drawn_warm_starts(len(blocks), number)  # (resamples, slots)
        for slot in range(len(blocks)):
            for start, block in enumerate(blocks):
                rows = chosen[:, slot] == start
                seeds, problems = (_drawn(size, axis, slot, number)[rows] for axis, size in enumerate(block.shape))
                totals[rows] += np.einsum("rp,rp->r", seeds @ block, problems) / block.shape[1]
                pairs[rows] += len(block)
    return float(np.std(totals / pairs))


def degrees_of_freedom(keys: Collection[Key]) -> int:
    """Warm starts less one, summed over scales, where a scale has two or more; else pairs less one."""
    starts = {key[:2] for key in keys}
    return len(starts) - len({scale for scale, _ in starts}) or len(keys) - 1


def _by_warm_start(gaps, scale):
    """One (seeds, problems) array for each warm start of a scale."""
    starts = sorted({key[1] for key in gaps if key[0] == scale})
    return [np.array([gaps[key] for key in sorted(gaps) if key[:2] == (scale, start)]) for start in starts]


@functools.cache
def _drawn_warm_starts(count, number):
    return np.random.default_rng([RNG_SEED, 2, number]).integers(count, size=(RESAMPLES, count))


@functools.cache
def _drawn(size, axis, slot, number):
    """(resamples, size): how often each seed (axis 0) or problem (axis 1) is drawn, alike for every pair of arms."""
    rng = np.random.default_rng([RNG_SEED, axis, slot, number])
    # Held between comparisons, so in as few bytes as the counts need.
    return rng.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype(np.uint8 if size < 256 else np.uint16)
