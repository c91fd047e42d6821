"""What every rule must keep to, held on replayed and made-up rollouts before anything is trained."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sa_ah_lib.enter.limit import within
from sa_ah_lib.enter.rule_file import RuleFileError, said
from sa_ah_lib.microscope import replay
from sa_ah_lib.rules import RolloutBatch, Rule
from sa_ah_lib.weighting import group_normalized

ON_REQUEST = ("rewards", "completion_ids", "log_probs")
"""Fields of the batch that a rule has only where its record names them."""
SMALLEST = 1e-6
"""A factor of the policy term that differs from GRPO's by less is GRPO's."""

LONGEST = 60.0
"""Seconds that a rule may take for one small batch: a step of training has several larger ones."""


@dataclass(frozen=True)
class Checked:
    """What the checks found on replayed rollouts.

    ``groups``: how many; ``least``, ``mean``, ``largest``: of the weights of their tokens; ``changed``: the share of
    tokens with an advantage whose factor of the policy term is not GRPO's; ``beside``: whether a group's weights
    depend on the other groups of its micro-batch, None for a rule that draws.
    """

    groups: int
    least: float
    mean: float
    largest: float
    changed: float
    beside: bool | None

    def __str__(self):
        told = (
            f"weights {self.least:.3g} to {self.largest:.3g}, mean {self.mean:.3g}, on {self.groups} logged groups; "
            f"the gradient of {100 * self.changed:.0f} % of their tokens is not GRPO's"
        )
        return f"{told}; a group's weights depend on the groups in its micro-batch" if self.beside else told


def check(rule: Rule, batches: Sequence[RolloutBatch]) -> Checked:
    """Hold a rule to what every rule must keep to, on batches that are replayed and on made-up edges.

    Its weights are a (B, T) tensor, finite, without a gradient, not negative unless its record says ``signed``; the
    same for the same batch, whatever padding stands behind it. The batch is left as it was, and some gradient is not
    GRPO's.

    Raises:
        RuleFileError: one of these does not hold; says which, and on what.
    """
    weights = []
    for number, batch in enumerate(map(lambda b: _given(rule, b), [*batches, *_edges()])):
        where = f"replayed group {number + 1}" if number < len(batches) else _EDGES[number - len(batches)]
        weights.append(_checked_weights(rule, batch, where))
    changed = np.concatenate([_changed(rule, b, w) for b, w in zip(batches, weights, strict=False)])
    beside = _depends_on_others(rule, batches, weights)
    if not changed.any():
        raise RuleFileError(
            f"rule {rule.record.name!r} must change some gradient. On {len(batches)} replayed groups it is GRPO with "
            f"denominator {rule.record.denominator!r}: a factor that all tokens of a group share cancels in 'group'."
        )
    counted = torch.cat([w[b.tokens] for b, w in zip(batches, weights, strict=False)])
    least, mean, largest = (float(f(counted)) for f in (torch.min, torch.mean, torch.max))
    return Checked(len(batches), least, mean, largest, float(changed.mean()), beside)


def _given(rule, batch):
    """A copy of the batch without what the record does not ask for, as in training."""
    copies = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return replace(batch, **{**copies, **{name: None for name in ON_REQUEST if name not in rule.record.inputs}})


def _checked_weights(rule, batch, where):
    before = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    state, kind = torch.get_rng_state(), torch.get_default_dtype()
    weights = _call(rule, batch, where)
    if not torch.equal(torch.get_rng_state(), state) or torch.get_default_dtype() != kind:
        torch.set_rng_state(state)
        torch.set_default_dtype(kind)
        raise RuleFileError(
            f"rule {rule.record.name!r} must leave torch's random state and default dtype as they are: rollouts are "
            f"sampled by them. It changed one on {where}; draw from torch.Generator().manual_seed(batch.seed)."
        )
    changed = [name for name, value in before.items() if not torch.equal(getattr(batch, name), value)]
    name, tokens = rule.record.name, batch.tokens
    if changed:
        raise RuleFileError(f"rule {name!r} must leave the batch as it is. It wrote into {', '.join(changed)}; clone.")
    if not torch.equal(weights, _call(rule, batch, where)):
        raise RuleFileError(
            f"rule {name!r} must give equal weights for an equal batch. On {where} a second call gave others; draw "
            "from torch.Generator().manual_seed(batch.seed)."
        )
    padded = _call(rule, _padded(batch), where)[:, : tokens.shape[1]]
    # What is drawn may depend on the shape.
    if "seed" not in rule.record.inputs and not torch.allclose(padded[tokens], weights[tokens], rtol=1e-4, atol=1e-5):
        raise RuleFileError(
            f"weights of rule {name!r} must not depend on padding. On {where} two more columns of padding changed "
            "them; multiply by batch.mask before sums and means."
        )
    return weights


def _call(rule, batch, where):
    try:
        with within(LONGEST):
            return rule(batch)
    except (Exception, SystemExit) as error:
        raise RuleFileError(
            f"rule {rule.record.name!r} failed on {where}: {said(error, inspect.getsourcefile(rule.weigh))}"
        ) from error


def _padded(batch):
    width = batch.mask.shape[1] + 2
    given = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return replace(batch, **{name: _wider(value, width) for name, value in given.items()})


def _depends_on_others(rule, batches, weights):
    """Whether some group's weights are others when the group before it stands in the same batch."""
    if "seed" in rule.record.inputs:
        return None
    found = False
    for number in range(1, len(batches)):
        first, second = batches[number - 1 : number + 1]
        together = _call(
            rule, _joined(_given(rule, first), _given(rule, second)), f"replayed groups {number} and {number + 1}"
        )
        own = together[len(first.mask) :, : second.mask.shape[1]][second.tokens]
        found |= not torch.allclose(own, weights[number][second.tokens], rtol=1e-4, atol=1e-5)
    return found


def _joined(first, second):
    """Two batches of one group each as one batch."""
    width = max(first.mask.shape[1], second.mask.shape[1])
    both = {
        name: torch.cat([_wider(value, width), _wider(getattr(second, name), width)])
        for name, value in vars(first).items()
        if isinstance(value, torch.Tensor)
    }
    # Of the second, whose weights are looked at, is the progress of training.
    return replace(second, **both | {"groups": torch.cat([first.groups, first.groups.max() + 1 + second.groups])})


def _wider(values, width):
    """(B, T) values with padding up to ``width``; (B,) values as they are."""
    return torch.nn.functional.pad(values, (0, width - values.shape[1])) if values.dim() == 2 else values


def _changed(rule, batch, weights):
    """(tokens with an advantage,) bool: whether the policy term's factor is another than GRPO's."""
    factors = [
        group_normalized(w, batch.mask, batch.groups, rule.record.denominator)
        for w in (weights, torch.ones_like(weights))
    ]
    return np.abs(replay.counted(batch, factors[0] - factors[1])) > SMALLEST


_EDGES = ("a group of failures, one of a single token", "a group without a signal (A = 0)", "rollouts without entropy")


def _edges():
    """Made-up batches of two rollouts, in the order of ``_EDGES``."""
    entropy = torch.tensor([[0.2, 0.0, 0.0], [0.5, 0.01, 0.1]])
    batch = RolloutBatch(
        entropy=entropy, mask=torch.tensor([[1, 0, 0], [1, 1, 1]]), advantages=torch.tensor([-0.7, -0.2]),
        groups=torch.zeros(2, dtype=torch.long), log_vocabulary=5.0, rewards=torch.tensor([0.0, 0.5]),
        completion_ids=torch.tensor([[3, 0, 0], [3, 4, 5]]), log_probs=-5 * entropy,
    )  # fmt: skip
    still = torch.zeros_like(entropy)
    silent = replace(batch, entropy=still, entropy_nats=still, log_probs=still, advantages=torch.tensor([0.7, -0.7]))
    return [batch, replace(batch, advantages=torch.zeros(2)), silent]
