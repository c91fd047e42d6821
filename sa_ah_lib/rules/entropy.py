"""Rules that mask or grade tokens by their entropy."""

import math

import torch

from sa_ah_lib.rules.batch import RolloutBatch
from sa_ah_lib.rules.registry import rule

LEAST = 1e-8
"""Normalised entropies and means below this count as this, where a rule divides by them."""


@rule("forking_tokens")
def forking_tokens(batch: RolloutBatch, keep: float) -> torch.Tensor:
    """1 on the ceil(keep * n) most uncertain of the micro-batch's n tokens; of equal ones the earlier."""
    entropy = batch.entropy[batch.tokens]  # (n,)
    kept = torch.zeros_like(entropy)
    # Rounded first: 0.2 * 15 is a little above 3 in floating point.
    kept[entropy.argsort(descending=True, stable=True)[: math.ceil(round(keep * len(entropy), 6))]] = 1
    return batch.spread(kept)


@rule("forking_tokens_trl")
def forking_tokens_trl(batch: RolloutBatch, keep: float) -> torch.Tensor:
    """1 where the entropy is at least the interpolated 1 - keep quantile over all processes' tokens."""
    # In nats, as TRL: a token at the threshold must not fall on its other side by rounding.
    pooled = batch.gather(batch.entropy_nats[batch.tokens])
    threshold = torch.quantile(pooled, 1 - keep) if len(pooled) else 0.0
    return (batch.entropy_nats >= threshold).float()


@rule("four_quadrants")
def four_quadrants(batch: RolloutBatch, successes: str, failures: str, share: float) -> torch.Tensor:
    """1 on the part of the successes' tokens, and of the failures', that is named; 1 where A = 0."""
    entropy, ordered = batch.entropy, batch.entropy[batch.tokens].sort().values  # (n,)
    # The next larger of two neighbours; rounded first, because 0.8 * 10 is a little above 8 in some precisions.
    high, low = (ordered[math.ceil(round(q * (len(ordered) - 1), 6))] for q in (1 - share, share))
    parts = {
        "all": entropy >= 0, "none": entropy < 0, "high": entropy >= high, "low": entropy <= low,
        "not_high": entropy < high, "not_low": entropy > low,
    }  # fmt: skip
    signs = batch.advantages[:, None]
    return torch.where(signs > 0, parts[successes], torch.where(signs < 0, parts[failures], True)).float()


@rule("entropy_advantage")
def entropy_advantage(batch: RolloutBatch, strength: float, cap: float) -> torch.Tensor:
    """1 + min(strength * H, |A| / cap) / A (H in nats): where the policy is unsure successes gain and failures lose."""
    advantage = batch.advantages[:, None].float()
    bonus = torch.minimum(strength * batch.entropy_nats, advantage.abs() / cap)
    return torch.where(advantage == 0, 1.0, 1 + bonus / advantage)


@rule("gtpo")
def gtpo(batch: RolloutBatch, base: float, bonus: float) -> torch.Tensor:
    """Successes are rewarded where they were unsure beside each other, failures punished where they were sure."""
    weights = torch.ones_like(batch.entropy)
    for group in batch.groups.unique():
        for sign in (1, -1):
            rows = (batch.groups == group) & (batch.advantages * sign > 0)
            alive = batch.mask[rows].float()  # (R, T)
            score = batch.entropy[rows].double().clamp(min=LEAST) ** sign * alive
            share = score / score.sum(0).clamp(min=torch.finfo(score.dtype).tiny)
            weights[rows] = (base + bonus * alive.sum(0) * share).float()
    return weights


@rule("edge")
def edge(batch: RolloutBatch) -> torch.Tensor:
    """The group's mean of mean entropies over the rollout's own: one factor a rollout."""
    lengths, weights = batch.lengths, torch.ones_like(batch.entropy)
    means = ((batch.entropy * batch.mask).sum(1) / lengths.clamp(min=1)).clamp(min=LEAST)  # (B,)
    for group in batch.groups.unique():
        rows = (batch.groups == group) & (lengths > 0)
        weights[rows] = (means[rows].mean() / means[rows])[:, None].expand(-1, weights.shape[1])
    return weights


@rule("prefix_discount")
def prefix_discount(batch: RolloutBatch, gain: float) -> torch.Tensor:
    """1 + gain times the share of the rollout's entropy that is still to come, the token's own included."""
    spent = (batch.entropy * batch.mask).double().cumsum(1)
    before = (spent - batch.entropy) / spent[:, -1:].clamp(min=LEAST)
    return 1 + gain * (1 - before.clamp(0, 1))
