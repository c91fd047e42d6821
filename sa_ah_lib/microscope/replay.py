"""Which tokens a rule would train: every rule replayed on rollouts that are there, without a model.

``python -m sa_ah_lib.microscope.replay figures/logs --scale micro-s --alpha 4`` reads ``completions.jsonl`` of runs.
"""

import argparse
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sa_ah_lib import rules
from sa_ah_lib.config import RunConfig, preset
from sa_ah_lib.microscope import study
from sa_ah_lib.rules import RULES, RolloutBatch
from sa_ah_lib.train import logged

BINS = 10
SIGNS = {"all rollouts": 0, "successes": 1, "failures": -1}


def replayable(batches: list[RolloutBatch], base: RunConfig, alpha: float) -> dict[str, RunConfig]:
    """{label: configuration} of the paper's methods, the controls at ``alpha`` and every published rule that can act.

    Left out are rules that need what these rollouts do not have, or parameters that have no default.
    """
    found = study.arms(base, alpha)
    for name, rule in RULES.items():
        known = all(getattr(batch, field) is not None for batch in batches for field in rule.record.inputs)
        if known and not rule.record.takes_scope and () not in rule.record.defaults.values():
            found[rule.record.label] = base.replace(rule=name)
    return found


def weights_of(batches: Iterable[RolloutBatch], config: RunConfig) -> np.ndarray:
    """(n,) the rule's weights of all tokens of rollouts with an advantage, group after group."""
    rule, given = rules.find(config.rule), parameters(config)
    return np.concatenate([counted(batch, rule(batch, **given)) for batch in batches])


def parameters(config: RunConfig) -> dict[str, Any]:
    """What a run's rule is called with, beside its batch."""
    return rules.find(config.rule).called_with(config.alpha, config.scope, dict(config.rule_parameters))


def counted(batch: RolloutBatch, values: torch.Tensor) -> np.ndarray:
    """(n,) of (B, T) ``values``: those of tokens in rollouts with an advantage."""
    return values[batch.tokens & (batch.advantages != 0)[:, None]].cpu().numpy()


def replay(batches: list[RolloutBatch], arms: Mapping[str, RunConfig]) -> list[dict[str, Any]]:
    """What each rule does to the tokens, one dict per number.

    Returns:
        Dicts of ``rule``, ``sign`` (a key of ``SIGNS``), ``by`` ("all", "position", "entropy" or "overlap"),
        ``bin`` (the tenth of tokens by position or entropy from 1 on; of an overlap the other rule), and of its tokens
        ``trained`` (share with a weight that is not 0), ``below_1`` (share with a weight below 1), ``weight`` (mean);
        or ``overlap``: the sum of the smaller over the sum of the larger weights of two rules that are scaled to one
        mean, in [0, 1]: 1 where both train alike. Rules with negative weights have no overlap.
    """
    signs = _joined(batches, lambda b: b.advantages.sign()[:, None].expand(b.mask.shape))
    places = {
        "position": _tenths(_joined(batches, lambda b: b.positions)),
        "entropy": _tenths(_joined(batches, lambda b: b.entropy)),
    }
    found = {label: weights_of(batches, config) for label, config in arms.items()}
    rows = []
    for label, weights in found.items():
        for sign, number in SIGNS.items():
            here = (signs == number) | (number == 0)
            rows.append({"rule": label, "sign": sign, "by": "all", "bin": "", **_summary(weights[here])})
            for by, tenth in places.items():
                for k in range(1, BINS + 1):
                    part = weights[here & (tenth == k)]
                    rows.append({"rule": label, "sign": sign, "by": by, "bin": k, **_summary(part)})
    return rows + [
        {"rule": one, "sign": "all rollouts", "by": "overlap", "bin": other, "overlap": overlap(first, second)}
        for one, first in found.items()
        for other, second in found.items()
        if min(first.min(), second.min()) >= 0
    ]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Sum of the smaller over sum of the larger of two lists of weights scaled to mean 1; NaN where one is all 0."""
    if not first.any() or not second.any():
        return math.nan
    first, second = first / first.mean(), second / second.mean()
    return round(float(np.minimum(first, second).sum() / np.maximum(first, second).sum()), study.DIGITS)


def _joined(batches, take):
    return np.concatenate([counted(batch, take(batch)) for batch in batches])


def _tenths(values):
    """1 to ``BINS``: tenths by rank; equal values share the tenth of the first of them."""
    ranks = np.searchsorted(np.sort(values), values)
    return 1 + ranks * BINS // len(values)


def _summary(weights):
    if not len(weights):
        return {"tokens": 0, "trained": None, "below_1": None, "weight": None}
    shares = {"trained": (weights != 0).mean(), "below_1": (weights < 1).mean(), "weight": weights.mean()}
    return {"tokens": len(weights), **{name: round(float(value), study.DIGITS) for name, value in shares.items()}}


def main(arguments: list[str] | None = None) -> None:
    """Replay every rule on logged rollouts; writes one JSON file."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.microscope.replay", description=main.__doc__)
    parser.add_argument("logs", help="a directory of run directories")
    parser.add_argument("--scale", default="micro-s", help="whose runs (micro-s)")
    parser.add_argument("--alpha", type=float, default=0.5, help="strength of every rule that has one (0.5)")
    parser.add_argument("--out", default="runs/microscope", help="folder of the JSON file (runs/microscope)")
    options = parser.parse_args(arguments)
    batches = [group.batch for group in logged.of_micro_models(options.logs, options.scale)]
    if not batches:
        raise SystemExit(f"No completions.jsonl of a micro model of scale {options.scale!r} below {options.logs}.")
    rows = replay(batches, replayable(batches, preset(options.scale, "grpo"), options.alpha))
    settings = {"scale": options.scale, "alpha": options.alpha, "groups": len(batches)}
    settings |= {"rollouts": sum(len(batch.advantages) for batch in batches)}
    path = Path(options.out) / f"replay-{options.scale}-a{options.alpha:g}.json"
    print(study.save(path, settings, rows))


if __name__ == "__main__":
    main()
