"""One number a run: the measures by which arms are compared. Needs no torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from sa_ah_lib.analysis.stats import second_half

LEVELS = {"micro-s": 0.25, "micro-l": 0.25}
"""{scale: share of the wrong answers before training that are right at the level of ``steps_to``}; elsewhere
``HALF``. The published comparisons of these two stop before GRPO has undone half of its errors."""
HALF = 0.5


@dataclass(frozen=True)
class Metric:
    """One number a run: how to read it (None where the run has none), which way is better, and what matters.

    ``margin`` is the smallest difference worth having; a ratio metric is compared by ratios, margin included.
    ``by_problem`` gives the (problems,) values whose mean ``read`` is, or None where a run does not have them.
    ``censored`` tells whether a run's number is only a bound, because the run ended first.
    """

    label: str
    short: str
    read: Callable[[Any], float | None]
    larger_is_better: bool
    margin: float
    ratio: bool = False
    by_problem: Callable[[Any], np.ndarray | None] | None = None
    censored: Callable[[Any], bool] = lambda run: False

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


def learning_curve(run: Any) -> tuple[np.ndarray, np.ndarray]:
    """(steps, greedy Pass@1 at each) of every evaluation, step 0 included where it was made."""
    rates = {step: correct / total for step, (correct, total) in run.pass_at_1.items()}
    rates = rates if run.base is None else {0: run.base, **rates}
    return np.array(sorted(rates)), np.array([rates[step] for step in sorted(rates)])


def area(run: Any) -> float | None:
    """Area under greedy Pass@1 over steps 0 to the last, by trapezoids, divided by the last step; in [0, 1].

    None where step 0 or a later step was not evaluated.
    """
    steps, rates = learning_curve(run)
    return float(np.trapezoid(rates, steps) / steps[-1]) if len(steps) > 1 and steps[0] == 0 else None


def area_by_problem(run: Any) -> np.ndarray | None:
    """(problems,) ``area`` of each problem's answers; None where they are not known at every evaluated step."""
    steps = sorted(run.answers)
    if len(steps) < 2 or steps[0] or len({len(run.answers[step]) for step in steps}) > 1:
        return None
    answers = np.array([run.answers[step] for step in steps], dtype=float)  # (steps, problems)
    return np.trapezoid(answers, steps, axis=0) / steps[-1]


def steps_to_level(run: Any) -> tuple[float, bool] | None:
    """When greedy Pass@1 first reaches the run's level: (steps, whether the run ended before it did).

    The level is base + share x (1 - base), with Pass@1 before training as base and the share of ``LEVELS``: where half
    of the errors are gone. It is fixed before training, the same for all arms of one warm start, and as far to go from
    a low base as from a high one. Between two evaluations Pass@1 is taken for a straight line. A run that does not
    reach its level counts as its last evaluated step. At least 1; None without step 0 or where nothing was wrong.
    """
    steps, rates = learning_curve(run)
    if len(steps) < 2 or steps[0] or rates[0] == 1:
        return None
    level = rates[0] + LEVELS.get(run.config.scale, HALF) * (1 - rates[0])
    # With a slack, because half of the way from 0.2 to 1 is 0.6000000000000001.
    reached = int(np.argmax(rates >= level - 1e-9))
    if not reached:
        return float(steps[-1]), True
    return max(1.0, float(np.interp(level, rates[[reached - 1, reached]], steps[[reached - 1, reached]]))), False


def pass_at_k(samples: Any, correct: Any, k: int) -> np.ndarray:
    """Unbiased Pass@k of each problem (Chen et al. 2021, arXiv 2107.03374): 1 - C(n - c, k) / C(n, k).

    Args:
        samples, correct: (problems,) n sampled completions and the c right ones among them. k: 1 to the least n.

    Returns:
        (problems,) in [0, 1].

    Raises:
        ValueError: k is below 1 or above some n.
    """
    samples, correct = np.asarray(samples), np.asarray(correct)
    if k < 1 or (samples < k).any():
        raise ValueError(f"k must be in 1 to the number of samples of every problem. Got {k} and {samples.min()}.")
    # The probability that k completions drawn without replacement hold a right one.
    return hypergeom.sf(0, samples, correct, k)


def pass_at_16_by_problem(run: Any) -> np.ndarray | None:
    """(problems,) ``pass_at_k`` for k = 16 from ``samples.jsonl``; None without 16 samples of each of its problems."""
    rows = sorted(run.samples, key=lambda row: row["problem"])
    if not rows or [row["problem"] for row in rows] != list(range(rows[0]["problems"])):
        return None
    if min(row["n"] for row in rows) < 16:
        return None
    return pass_at_k([row["n"] for row in rows], [row["correct"] for row in rows], 16)


def pass_at_16(run: Any) -> float | None:
    """Mean of ``pass_at_16_by_problem``, or None."""
    found = pass_at_16_by_problem(run)
    return None if found is None else float(found.mean())


def training_variance(run: Any) -> float | None:
    """The paper's: variance of the mean reward a step over the second half of the steps; None where it is 0."""
    rewards = run.curve("reward")[1]
    return float(np.var(second_half(rewards))) or None if len(rewards) > 3 else None


def _steps(run):
    found = steps_to_level(run)
    return None if found is None else found[0]


def _ended_first(run):
    found = steps_to_level(run)
    return found is not None and found[1]


METRICS = {
    # The paper asks for caution below 0.02 (Section 7). Its own claim for the variance is a factor of 3.6.
    "pass_at_1": Metric("final greedy Pass@1", "Pass@1", final_pass_at_1, True, 0.02, by_problem=final_answers),
    "auc": Metric("area under greedy Pass@1", "area", area, True, 0.02, by_problem=area_by_problem),
    "steps_to": Metric(
        "steps to the level", "steps", _steps, False, 1.25, ratio=True, censored=_ended_first
    ),
    "pass_at_16": Metric("sampled Pass@16", "Pass@16", pass_at_16, True, 0.02, by_problem=pass_at_16_by_problem),
    "training_variance": Metric("training variance", "variance", training_variance, False, 1.25, ratio=True),
}  # fmt: skip
"""{key: measure}. Pass@1, Pass@16 and the area are in [0, 1]; steps in optimizer steps; the variance in points^2."""
