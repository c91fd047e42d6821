"""One number a run: the measures by which arms are compared. Needs no torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sa_ah_lib.analysis.stats import second_half


@dataclass(frozen=True)
class Metric:
    """One number a run: how to read it (None where the run has none), which way is better, and what matters.

    ``margin`` is the smallest difference worth having; a ratio metric is compared by ratios, margin included.
    ``by_problem`` gives the (problems,) values whose mean ``read`` is, or None where a run does not have them.
    """

    label: str
    short: str
    read: Callable[[Any], float | None]
    larger_is_better: bool
    margin: float
    ratio: bool = False
    by_problem: Callable[[Any], np.ndarray | None] | None = None

    def gain(self, first: Any, second: Any) -> Any:
        """How much better ``first`` is than ``second``, elementwise; in logarithms for a ratio metric."""
        difference = np.log(first) - np.log(second) if self.ratio else first - second
        return difference if self.larger_is_better else -difference

    @property
    def least_gain(self) -> float:
        return math.log(self.margin) if self.ratio else self.margin


def final_pass_at_1(run: Any) -> float | None:
    """Greedy Pass@1 at the run's last evaluated step, in [0, 1]; None without evaluations."""
    counts = list(run.pass_at_1.values())
    return counts[-1][0] / counts[-1][1] if counts else None


def final_answers(run: Any) -> np.ndarray | None:
    """(problems,) 1.0 where the greedy answer at the last evaluated step is right, else 0.0; None without answers."""
    return np.array(run.answers[max(run.answers)], dtype=float) if run.answers else None


def training_variance(run: Any) -> float | None:
    """The paper's: variance of the mean reward a step over the second half of the steps; None where it is 0."""
    rewards = run.curve("reward")[1]
    return float(np.var(second_half(rewards))) or None if len(rewards) > 3 else None


METRICS = {
    # The paper asks for caution below 0.02 (Section 7). Its own claim for the variance is a factor of 3.6.
    "pass_at_1": Metric("final greedy Pass@1", "Pass@1", final_pass_at_1, True, 0.02, by_problem=final_answers),
    "training_variance": Metric("training variance", "variance", training_variance, False, 1.25, ratio=True),
}
