"""The rows each figure draws, one dict per point, as they are saved beside it as CSV. Needs no torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sa_ah_lib.analysis.results import Family, MissingData, variance
from sa_ah_lib.analysis.rounding import DRAWN, rounded_to
from sa_ah_lib.analysis.stats import wald_interval, wilson_interval
from sa_ah_lib.config import METHODS
from sa_ah_lib.train.run import Run

Rows = list[dict[str, Any]]


@rounded_to(DRAWN)
def pass_at_1(family: Family, methods: Sequence[str] | None = None, trained: Run | None = None) -> Rows:
    """One row per method and checkpoint with a 95% interval: the paper's Wald for its numbers, Wilson for ours.

    Args:
        methods: all of the family's where none are named. trained: a run that has rows whatever it is.
    """
    wanted = methods or [method for method in METHODS if method in family.methods]
    chosen = {method: family.method(method) for method in wanted}
    rows = [row for result in chosen.values() for row in _checkpoints(result)]
    rows += _labelled(_besides(family, trained), _checkpoints)
    if not rows:
        raise MissingData(f"an evaluated checkpoint of {family.model}")
    return _base_row(family) + rows


@rounded_to(DRAWN)
def alpha_sweep(family: Family) -> Rows:
    """One row per alpha and checkpoint of AH-GRPO (GRPO at 0), for the curves of a sweep."""
    rows = [row for result in family.alphas.values() for row in _checkpoints(result)]
    if not rows:
        raise MissingData(f"AH-GRPO or GRPO on {family.model}")
    return _base_row(family) + rows


@rounded_to(DRAWN)
def alpha_summary(family: Family) -> Rows:
    """One row per alpha of AH-GRPO with peak and final Pass@1 and their intervals (Figure 4)."""
    rows = []
    for alpha, result in family.sweep.items():
        for name, (correct, total) in (("peak", result.peak), ("final", result.final)):
            rows.append({"alpha": alpha, "which": name, **_rate(result, correct, total)})
    return _base_row(family) + rows


@rounded_to(DRAWN)
def reward(family: Family, trained: Run | None = None) -> Rows:
    """One row per method and logged step: mean reward, its standard deviation over rollouts, the training variance."""
    return _rewards(family, family.methods.values(), _besides(family, trained))


def methods_with_steps(rows: Rows) -> int:
    """How many methods of ``reward``'s rows have a log of steps."""
    return len({row["method"] for row in rows if row["step"] is not None})


@rounded_to(DRAWN)
def alpha_rewards(family: Family) -> Rows:
    """``reward``'s rows for each alpha of AH-GRPO (GRPO at 0)."""
    return _rewards(family, family.alphas.values())


@rounded_to(DRAWN)
def entropy_and_weight(family: Family) -> Rows:
    """One row per logged step of SA-AH-GRPO: mean normalised entropy, mean weight, mean weight on negative rollouts."""
    result = family.method("sa-ah-grpo")
    keys = ("sa_ah/entropy", "sa_ah/weight", "sa_ah/weight_negative", "sa_ah/negative_fraction")
    rows = [{"step": row["step"], **{key.split("/")[1]: row.get(key) for key in keys}} for row in result.train]
    rows = [row for row in rows if row["entropy"] is not None]
    if not rows:
        raise MissingData(f"the training log of SA-AH-GRPO on {family.model}")
    return rows


@rounded_to(DRAWN)
def running(values: Sequence[float], window: int) -> tuple[np.ndarray, slice]:
    """(means, slice of the middles) of a centred running mean; shorter lists are averaged whole windows at most."""
    window = max(1, min(window, len(values)))
    means = np.convolve(values, np.ones(window) / window, mode="valid")
    start = (window - 1) // 2
    return means, slice(start, start + len(means))


def _rewards(family, results, besides=()):
    rows = [row for result in results for row in _steps(result)] + _labelled(besides, _steps)
    if not any(row["step"] for row in rows):
        raise MissingData(f"step by step rewards of {family.model}")
    return rows


def _steps(result):
    head = {"method": result.config.method, "alpha": result.config.alpha, "train_variance": variance(result)}
    spread = dict(zip(*result.curve("reward_std"), strict=True))
    steps, means = result.curve("reward")
    points = [
        {**head, "step": int(step), "reward": float(mean), "reward_std": spread.get(step)}
        for step, mean in zip(steps, means, strict=True)
    ]
    # A run of which only the variance is known still has its line in the legend.
    return points or [{**head, "step": None, "reward": None, "reward_std": None}]


def _labelled(results, rows_of):
    """Rows of runs that are none of the family's methods, under their labels."""
    return [{**row, "method": result.config.label} for result in results for row in rows_of(result)]


def _besides(family, trained):
    """[] where a run is one of the family's methods already, or none."""
    known = {result.config for result in family.methods.values()}
    return [trained] if trained is not None and trained.config not in known else []


def _checkpoints(result):
    head = {"method": result.config.method, "alpha": result.config.alpha}
    return [{**head, "step": step, **_rate(result, *counts)} for step, counts in result.pass_at_1.items()]


def _rate(result, correct, total):
    name, interval = ("Wald", wald_interval) if result.source == "paper" else ("Wilson", wilson_interval)
    low, high = interval(correct, total)
    return {"pass_at_1": correct / total, "low": low, "high": high, "interval": name, "problems": total}


def _base_row(family):
    if family.base is None:
        return []
    return [{"method": "zero-shot", "alpha": 0.0, "step": 0, "pass_at_1": family.base, "problems": family.problems}]
