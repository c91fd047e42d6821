"""Rules that know a rollout's sign, its length or a token's place, and no entropy."""

import torch

from sa_ah_lib.rules.batch import RolloutBatch
from sa_ah_lib.rules.registry import rule


@rule("first_token")
def first_token(batch: RolloutBatch) -> torch.Tensor:
    """1 on the first token of each rollout, 0 on the others."""
    return (batch.positions == 1).float()


@rule("w_reinforce")
def w_reinforce(batch: RolloutBatch, successes: float, failures: float) -> torch.Tensor:
    """One factor for all tokens of successes and one for those of failures."""
    signs = batch.advantages.sign()[:, None].expand(batch.mask.shape)
    return torch.where(signs > 0, successes, torch.where(signs < 0, failures, 1.0))


@rule("prefix_mask")
def prefix_mask(batch: RolloutBatch, start: float, end: float) -> torch.Tensor:
    """1 on the first floor(eta * L) tokens, eta growing from start to end over the training steps."""
    eta = start + (end - start) * batch.progress
    # A little more than eta: 0.35 * 20 is below 7 in floating point.
    kept = (eta * batch.lengths.double() + 1e-9).floor()
    return (batch.positions <= kept[:, None]).float()


@rule("lambda_grpo")
def lambda_grpo(batch: RolloutBatch, power: float, scale: float) -> torch.Tensor:
    """G softmax((1 + scale * z) ** power) over a group, z the standardised length: power > 0 favours long rollouts."""
    weights = torch.ones(batch.mask.shape, dtype=torch.float64, device=batch.mask.device)
    for group in batch.groups.unique():
        rows = batch.groups == group
        lengths = batch.lengths[rows].double()
        spread = lengths.std(correction=0)
        standard = (lengths - lengths.mean()) / torch.where(spread > 0, spread, 1.0)
        shares = ((1 + scale * standard).clamp(min=1e-6) ** power).softmax(0)
        weights[rows] = (len(lengths) * shares)[:, None].expand(-1, weights.shape[1])
    return weights
