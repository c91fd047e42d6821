"""The paper's rule and its controls: does the entropy of SA-AH-GRPO matter, or its position, or only less weight?

A control gives every discounted rollout's token the weight exp(-c D_t), where D_t is what it counts instead of the
cumulative entropy of Eq. 5, and c is the one number at which the mean weight over the discounted tokens of each group
is the mean that Eq. 5 gives the same tokens at the same alpha. So each group's denominator (Eq. 9) is SA-AH-GRPO's own,
and nothing depends on how groups are split into micro-batches or processes, but for the shuffle's draw.

    rule            D_t                               what it takes away
    "cumulative"    sum of H_s, s <= t (Eq. 5)        nothing: the paper's rule itself, c = alpha, nothing solved
    "position"      t                                 entropy; only position is left
    "shuffled"      the same sum, entropies dealt     where in the rollout the entropy was
                    out anew within the rollout
    "scalar"        1                                 every difference between a group's tokens
    "local"         H_t                               accumulation
    "inverse"       max H - H_t                       the direction: uncertain tokens weigh most
    "top_entropy"   hard 0/1 mask                     grading; the most uncertain tokens alone are kept

Rollouts out of scope weigh 1. At alpha = 0 the mean to match is 1, so that every rule is GRPO exactly.
"""

import math
from collections.abc import Callable

import torch

from sa_ah_lib.rules.batch import RolloutBatch
from sa_ah_lib.rules.registry import rule
from sa_ah_lib.weighting import discounted_rollouts, rollout_weights

HALVINGS, LOG_STRENGTH = 60, math.log(1e9)
TOLERANCE = 1e-6
"""How far a control's mean weight may be from the one it matches, wherever a c in [1e-9, 1e9] / max D matches it."""

Weigh = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(entropy (R, T) float64 and 0 on padding, tokens (R, T) bool, mean to match) -> weights (R, T)."""


@rule("cumulative")
def cumulative(batch: RolloutBatch, alpha: float, scope: str) -> torch.Tensor:
    """exp(-alpha * cumulative entropy) on the rollouts of a scope (Eq. 5 to 9)."""
    return rollout_weights(batch.entropy, batch.mask, batch.advantages, alpha, scope)


@rule("position")
def position(batch: RolloutBatch, alpha: float, scope: str) -> torch.Tensor:
    """D_t = t, counted from 1 along the completion tokens."""
    return match_groups(batch, alpha, scope, exponential(lambda entropy, tokens: tokens.double().cumsum(1)))


@rule("shuffled")
def shuffled_entropy(batch: RolloutBatch, alpha: float, scope: str) -> torch.Tensor:
    """D_t = cumulative entropy, after each rollout's entropies were dealt out anew; drawn from the batch's seed."""
    generator = torch.Generator().manual_seed(batch.seed)
    deal = exponential(lambda entropy, tokens: shuffled(entropy, tokens, generator).cumsum(1))
    return match_groups(batch, alpha, scope, deal)


@rule("scalar")
def scalar(batch: RolloutBatch, alpha: float, scope: str) -> torch.Tensor:
    """D_t = 1: one weight for all discounted tokens of a group."""
    return match_groups(batch, alpha, scope, exponential(lambda entropy, tokens: torch.ones_like(entropy)))


@rule("local")
def local(batch: RolloutBatch, alpha: float, scope: str) -> torch.Tensor:
    """D_t = H_t, not accumulated.

    Most tokens are nearly certain, so a low mean takes a large c: few uncertain tokens then weigh next to nothing, and
    the rule is close to a mask of them. Where more tokens have no entropy at all than the mean allows, the nearest mean
    is taken.
    """
    return match_groups(batch, alpha, scope, exponential(lambda entropy, tokens: entropy))


@rule("inverse")
def inverse(batch: RolloutBatch, alpha: float, scope: str) -> torch.Tensor:
    """D_t = max H - H_t over the group's discounted tokens: uncertain tokens weigh most.

    GTPO (arXiv 2508.04349) does that in successful rollouts; in failed ones it punishes confident tokens more, as
    SA-AH-GRPO does.
    """
    return match_groups(batch, alpha, scope, exponential(lambda entropy, tokens: entropy[tokens].max() - entropy))


@rule("top_entropy")
def top_entropy_matched(batch: RolloutBatch, alpha: float, scope: str) -> torch.Tensor:
    """1 on the most uncertain of a group's discounted tokens, else 0; as many as the mean weight asks for."""
    return match_groups(batch, alpha, scope, top_entropy)


def exponential(count: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Weigh:
    """Weights exp(-c D) with ``count(entropy, tokens)`` giving D, (R, T) float64, and c ``matched`` to a mean."""

    def weigh(entropy, tokens, target):
        return matched(count(entropy, tokens), tokens, target)

    return weigh


def match_groups(batch: RolloutBatch, alpha: float, scope: str, weigh: Weigh) -> torch.Tensor:
    """``weigh`` each group's discounted rollouts by themselves, with the mean weight that Eq. 5 gives them.

    Args:
        alpha: strength of the rule to match, >= 0.
        weigh: what gives a group's discounted rollouts their weights.

    Returns:
        (B, T) float32 in [0, 1]; rows out of scope, and padding, are 1.
    """
    weights = rollout_weights(batch.entropy, batch.mask, batch.advantages, alpha, scope)  # (B, T)
    discounted = discounted_rollouts(batch.advantages, scope)
    for group in batch.groups.unique():
        rows = (discounted & (batch.groups == group)).nonzero().flatten()  # (R,)
        tokens = batch.tokens[rows]
        if tokens.any():
            entropy = torch.where(tokens, batch.entropy[rows].double(), 0.0)
            weights[rows] = weigh(entropy, tokens, weights[rows].double()[tokens].mean()).float()
    return weights


@torch.no_grad()
def matched(exponent: torch.Tensor, mask: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """exp(-c D) with the c >= 0 that gives it the mean ``target`` over the tokens of ``mask``, by bisection in log c.

    Args:
        exponent: (R, T) float64, >= 0 on tokens; mask: (R, T); target: float64 scalar in (0, 1].

    Returns:
        (R, T) float64, 1 on padding. The mean is within ``TOLERANCE`` of ``target``, or as near as c allows; c = 0,
        so exactly 1, where the target is 1.
    """
    tokens = mask.bool()
    largest = exponent[tokens].max().clamp(min=torch.finfo(exponent.dtype).tiny)
    exponent = exponent / largest
    counted = exponent[tokens]  # (n,)
    low, high = target.new_tensor(-LOG_STRENGTH), target.new_tensor(LOG_STRENGTH)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_light = torch.exp(-middle.exp() * counted).mean() < target
        low, high = torch.where(too_light, low, middle), torch.where(too_light, middle, high)
    strength = torch.where(target < 1, low.exp(), 0.0)
    return torch.where(tokens, torch.exp(-strength * exponent), 1.0)


@torch.no_grad()
def top_entropy(entropy: torch.Tensor, mask: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """1 on the ``share`` of tokens with the largest entropies, 0 on the others, 1 on padding; (R, T).

    TRL's ``top_entropy_quantile``, with the quantile that keeps round(share * n) of a group's n discounted tokens: the
    mean is matched to 1 / (2 n). Of equal entropies the earlier are kept. TRL takes one quantile over all processes.
    """
    tokens = mask.bool()
    rank = entropy[tokens].argsort(descending=True, stable=True).argsort()  # (n,)
    kept = torch.ones_like(entropy)
    kept[tokens] = (rank < (share * len(rank)).round()).to(entropy.dtype)
    return kept


@torch.no_grad()
def shuffled(entropy: torch.Tensor, mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each rollout's entropies in random order on its own tokens; (R, T), 0 on padding.

    The draw belongs to a token's number in its rollout, not to its column: padding before it does not change it. The
    width of the batch does, from the second rollout on.
    """
    tokens = mask.bool()
    draws = torch.rand(tokens.shape, generator=generator).to(entropy.device)
    keys = draws.gather(1, (tokens.cumsum(1) - 1).clamp(min=0)).masked_fill(~tokens, math.inf)
    places = (~tokens).long().argsort(dim=1, stable=True)  # tokens first, in order
    found = torch.where(tokens, entropy, 0.0).gather(1, keys.argsort(dim=1))
    return torch.zeros_like(entropy).scatter(1, places, found)
