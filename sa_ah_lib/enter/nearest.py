"""Which rules of the library a rule comes nearest to, on replayed rollouts: is it something new?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sa_ah_lib import rules
from sa_ah_lib.analysis import board
from sa_ah_lib.microscope import replay
from sa_ah_lib.rules import RolloutBatch, Rule
from sa_ah_lib.weighting import group_normalized


@dataclass(frozen=True)
class Near:
    """A row of the board, and its ``overlap`` with the rule, in [0, 1]: 1 where both train the same tokens alike."""

    label: str
    overlap: float

    def __str__(self):
        return f"{self.label} {self.overlap:.2f}"


def nearest(rule: Rule, batches: Sequence[RolloutBatch], most: int = 3) -> list[Near]:
    """The ``most`` rows of the board that are most like a rule, the nearest first.

    What is compared is what multiplies each token's policy term, divided as each rule's loss is and scaled to one mean
    over all tokens with an advantage (``microscope.replay.overlap``). So a larger step of the same rule is the same.

    Args:
        batches: replayed groups. Their log-probabilities are made up: rules that read them are left out.

    Returns:
        Empty for a rule that reads log-probabilities or has a negative weight.
    """
    own = [replace(batch, log_probs=None) for batch in batches]
    if "log_probs" in rule.record.inputs:
        return []
    mine = _factors(rule, own, rule.record.denominator, {})
    found = [
        Near(label, replay.overlap(mine, other)) for label, other in _rows(own) if min(mine.min(), other.min()) >= 0
    ]
    return sorted(found, key=lambda near: -near.overlap)[:most]


def _rows(batches):
    """(label, factors) of every row of the board at the scale's own step that these batches can be weighed by."""
    for entry in board.entries():
        config = entry.config(board.SCALES[0])
        rule = rules.find(config.rule)
        known = all(getattr(batch, name) is not None for batch in batches for name in rule.record.inputs)
        if known and entry.learning_rate == 1:
            yield entry.label, _factors(rule, batches, config.denominator, replay.parameters(config))


def _factors(rule, batches, denominator, parameters):
    """(n,) what multiplies the policy term of every token of rollouts with an advantage."""
    whole = ((b, group_normalized(rule(b, **parameters), b.mask, b.groups, denominator)) for b in batches)
    return np.concatenate([replay.counted(batch, factors) for batch, factors in whole])
