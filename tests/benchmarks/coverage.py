"""How often the intervals of ``analysis.crossed`` hold the truth, in simulated studies of the preregistered size.

``python tests/benchmarks/coverage.py`` takes about two minutes and prints the numbers that docs/statistics.md gives.
"""

import numpy as np
from scipy import stats
from tqdm import tqdm

from sa_ah_lib.analysis import crossed

WARM_STARTS, SEEDS, PROBLEMS, STUDIES = 5, 2, 500, 200
OF_SEED, OF_PROBLEM, OF_ANSWER = 0.03, 0.2, 0.4
"""Standard deviations of the gain, in shares: of a seed, of a problem, and of one answer beside both."""


def study(rng: np.random.Generator, between: float) -> tuple[bool, float]:
    """Whether one study's 95 % interval holds the truth, 0, and its standard error over the true one."""
    gaps = {}
    for start in range(WARM_STARTS):
        common = rng.normal(0, between) + rng.normal(0, OF_PROBLEM, PROBLEMS)
        for seed in range(SEEDS):
            gaps["micro-sum", start, seed] = common + rng.normal(0, OF_SEED) + rng.normal(0, OF_ANSWER, PROBLEMS)
    mean, error = np.mean([gap.mean() for gap in gaps.values()]), crossed.standard_error(gaps)
    variance = between**2 + OF_PROBLEM**2 / PROBLEMS + (OF_SEED**2 + OF_ANSWER**2 / PROBLEMS) / SEEDS
    reach = float(stats.t.ppf(0.975, crossed.degrees_of_freedom(gaps))) * error
    return bool(abs(mean) <= reach), error / np.sqrt(variance / WARM_STARTS)


def main() -> None:
    """Print, for each spread between warm starts, the coverage and the mean ratio of standard errors."""
    for points in (0.2, 2, 4, 8):
        rng = np.random.default_rng(7)
        found = [study(rng, points / 100) for _ in tqdm(range(STUDIES), desc=f"{points} points", leave=False)]
        held, ratios = zip(*found, strict=True)
        share, ratio = np.mean(held), np.mean(ratios)
        print(f"spread {points} points: held in {share:.1%} of {STUDIES}, standard error x {ratio:.2f}")


if __name__ == "__main__":
    main()
