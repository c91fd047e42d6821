"""Control rules: does the entropy of SA-AH-GRPO matter, or its position, or only less weight on failures?

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
    "top_entropy"   hard 0/1 mask                     grading; TRL's top-entropy tokens alone are kept

At alpha = 0 the mean to match is 1, so that every rule is GRPO exactly.
"""

import math

import torch

from sa_ah_lib.weighting import discounted_rollouts, rollout_weights

HALVINGS, LOG_STRENGTH = 60, math.log(1e9)
TOLERANCE = 1e-6
"""How far a control's mean weight may be from the one it matches, wherever a c in [1e-9, 1e9] / max D matches it."""


def cumulative(entropy, mask):
    """D_t = sum of H_s up to and with t (Eq. 5); (R, T)."""
    return entropy.cumsum(1)


def position(entropy, mask):
    """D_t = t, counted from 1 along the completion tokens; (R, T)."""
    return mask.cumsum(1)


def scalar(entropy, mask):
    """D_t = 1: one weight for all; (R, T)."""
    return torch.ones_like(entropy)


def local(entropy, mask):
    """D_t = H_t, not accumulated; (R, T).

    Most tokens are nearly certain, so a low mean takes a large c: few uncertain tokens then weigh next to nothing, and
    the rule is close to a mask of them. Where more tokens have no entropy at all than the mean allows, the nearest mean
    is taken.
    """
    return entropy


def inverse(entropy, mask):
    """D_t = max H - H_t over the group's discounted tokens; (R, T).

    Uncertain tokens weigh most, which is what GTPO (arXiv 2508.04349) does in successful rollouts; in failed ones GTPO
    punishes confident tokens more, as SA-AH-GRPO does.
    """
    return entropy[mask.bool()].max() - entropy


EXPONENTS = {
    "position": position, "shuffled": cumulative, "scalar": scalar, "local": local, "inverse": inverse,
}  # fmt: skip
RULES = ("cumulative", *EXPONENTS, "top_entropy")


@torch.no_grad()
def rule_weights(entropy, mask, advantages, groups, alpha, scope, rule="cumulative", seed=0):
    """The weights of a rule of ``RULES`` on the rollouts of a scope.

    Args:
        entropy, mask: (B, T), as in ``weighting.horizon_weights``; advantages, scope: (B,), one of ``SCOPES``.
        groups: (B,) integers; equal numbers mark rollouts of one prompt.
        alpha: strength of the rule to match, >= 0 for a control.
        seed: of the shuffle; the global random state is neither read nor moved, so that methods stay comparable.

    Returns:
        (B, T) float32 in [0, 1] for alpha >= 0; rows out of scope, and padding, are 1.
    """
    check_rule(rule, alpha)
    weights = rollout_weights(entropy, mask, advantages, alpha, scope)  # (B, T)
    if rule == "cumulative":
        return weights
    discounted = discounted_rollouts(advantages, scope)
    generator = torch.Generator().manual_seed(seed)
    for group in groups.unique():
        rows = (discounted & (groups == group)).nonzero().flatten()  # (R,)
        tokens = mask[rows].bool()
        if tokens.any():
            spent = torch.where(tokens, entropy[rows].double(), 0.0)  # (R, T)
            if rule == "shuffled":
                spent = shuffled(spent, tokens, generator)
            target = weights[rows].double()[tokens].mean()
            weights[rows] = _control(rule, spent, tokens, target).float()
    return weights


def _control(rule, entropy, tokens, target):
    if rule == "top_entropy":
        return top_entropy(entropy, tokens, target)
    return matched(EXPONENTS[rule](entropy, tokens.double()), tokens, target)


@torch.no_grad()
def matched(exponent, mask, target):
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
def top_entropy(entropy, mask, share):
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
def shuffled(entropy, mask, generator):
    """Each rollout's entropies in random order on its own tokens; (R, T), 0 on padding.

    The draw belongs to a token's number in its rollout, not to its column, so padding does not change it.
    """
    tokens = mask.bool()
    draws = torch.rand(tokens.shape, generator=generator).to(entropy.device)
    keys = draws.gather(1, (tokens.cumsum(1) - 1).clamp(min=0)).masked_fill(~tokens, math.inf)
    places = (~tokens).long().argsort(dim=1, stable=True)  # tokens first, in order
    found = torch.where(tokens, entropy, 0.0).gather(1, keys.argsort(dim=1))
    return torch.zeros_like(entropy).scatter(1, places, found)


def check_rule(rule, alpha):
    """Raise ValueError for a name that is no rule, or a control of a negative alpha."""
    if rule not in RULES:
        raise ValueError(f"rule must be one of {RULES}. Got {rule!r}.")
    if rule != "cumulative" and not alpha >= 0:
        raise ValueError(f"alpha must be at least 0 for the control rule {rule!r}, which only discounts. Got {alpha}.")
