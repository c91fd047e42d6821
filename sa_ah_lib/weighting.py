"""Token weights of AH-GRPO and SA-AH-GRPO (Eq. 3 to 9), as pure functions of tensors.

Shapes: B rollouts, T completion tokens, V vocabulary entries, D hidden units. A *mask* is 1 on completion
tokens and 0 on padding; an *entropy* is the normalised one of Eq. 3, in [0, 1], unless its name says nats.
Every function here runs without gradients: a weight is a constant of the loss.
"""

import math
from collections.abc import Collection
from typing import Any

import torch

# As in rulebook, which this file does not import: torch is all that it needs.
SCOPES = ("none", "all", "negative", "positive")
DENOMINATORS = ("group", "batch", "sequence", "tokens")


@torch.no_grad()
def normalized_entropy(logits: torch.Tensor, top_k: int | None = 500) -> torch.Tensor:
    """Shannon entropy of a categorical distribution over log V (Eq. 3; Algorithm 1, line 8).

    Args:
        logits: (..., V), any float type, already divided by the sampling temperature.
        top_k: number of largest probabilities that are summed, taken from the softmax over all V and not
            renormalised (the paper's K, 500). ``None``, or any K >= V, sums them all and is exact.

    Returns:
        (...,) float32 in [0, 1].

    Raises:
        ValueError: V < 2, K < 1, or NaN among the logits.
    """
    if logits.dim() < 1 or logits.shape[-1] < 2:
        raise ValueError(f"logits must have shape (..., V) with V >= 2. Got {tuple(logits.shape)}.")
    vocabulary = logits.shape[-1]
    log_probs = torch.log_softmax(logits.float(), dim=-1)  # (..., V)
    if torch.isnan(log_probs).any():
        raise ValueError("logits must be numbers that softmax can take. Got NaN; check the model's forward pass.")
    if (k := check_top_k(top_k)) is not None and k < vocabulary:
        log_probs = log_probs.topk(k, dim=-1, sorted=False).values  # (..., K)
    # xlogy-like guard: p = 0 gives log p = -inf, and its term of the sum is 0.
    terms = torch.where(log_probs == -math.inf, 0.0, log_probs.exp() * log_probs)
    return (-terms.sum(-1) / math.log(vocabulary)).clamp(0.0, 1.0)  # (...,)


@torch.no_grad()
def horizon_weights(entropy: torch.Tensor, mask: torch.Tensor, alpha: float) -> torch.Tensor:
    """Cumulative horizon weight w_t = exp(-alpha * sum_{s<=t} H_s m_s), inclusive of t (Eq. 4 and 5).

    Args:
        entropy: (B, T) in [0, 1], any float type; what stands under padding is ignored.
        mask: (B, T) of 0 and 1.
        alpha: finite. 0 gives ones; a negative one amplifies (Section 5.2).

    Returns:
        (B, T) float32: at most 1 for alpha >= 0 (and above 0, unless float32 underflows), at least 1 for
        alpha < 0, and 1 on padding.

    Raises:
        ValueError: other shapes, NaN or infinite entropy on a token, alpha not finite, or weights that
            overflow float32 (alpha too negative for completions this long).
    """
    _check_pair("entropy", entropy, mask)
    if not math.isfinite(alpha):
        raise ValueError(f"alpha must be a finite number. Got {alpha}.")
    tokens = mask.bool()
    spent = torch.where(tokens, entropy.float(), 0.0).cumsum(dim=1)  # (B, T)
    if not torch.isfinite(spent).all():
        raise ValueError("entropy must be finite on every completion token. Got NaN or infinity.")
    weights = torch.where(tokens, torch.exp(-alpha * spent), 1.0)  # (B, T)
    if not torch.isfinite(weights).all():
        raise ValueError(
            f"alpha = {alpha} overflows float32 on completions of {mask.shape[1]} tokens; use a larger one."
        )
    return weights


@torch.no_grad()
def discounted_rollouts(advantages: torch.Tensor, scope: str) -> torch.Tensor:
    """Which rollouts a scope discounts, (B,) bool.

    Args:
        advantages: (B,) group-normalised.
        scope: "none" (GRPO), "all" (AH-GRPO, Eq. 6), "negative" (SA-AH-GRPO, Eq. 7) or "positive", its mirror. An
            advantage of exactly 0 belongs to neither sign.

    Raises:
        ValueError: an unknown scope, or NaN among the advantages.
    """
    check_name("scope", scope, SCOPES)
    if torch.isnan(advantages).any():
        raise ValueError("advantages must be numbers. Got NaN; check what the reward functions return.")
    if scope in ("negative", "positive"):
        return advantages < 0 if scope == "negative" else advantages > 0
    return torch.full_like(advantages, scope == "all", dtype=torch.bool)


@torch.no_grad()
def rollout_weights(
    entropy: torch.Tensor, mask: torch.Tensor, advantages: torch.Tensor, alpha: float, scope: str
) -> torch.Tensor:
    """The weights of one method: GRPO ("none"), AH-GRPO ("all", Eq. 6) or SA-AH-GRPO ("negative", Eq. 8).

    Args:
        entropy, mask, alpha: as in ``horizon_weights``.
        advantages, scope: as in ``discounted_rollouts``.

    Returns:
        (B, T) float32; rows out of scope are 1 everywhere.
    """
    if advantages.shape != mask.shape[:1]:
        raise ValueError(f"advantages must have shape ({mask.shape[0]},). Got {tuple(advantages.shape)}.")
    discounted = discounted_rollouts(advantages, scope)
    return torch.where(discounted[:, None], horizon_weights(entropy, mask, alpha), 1.0)  # (B, T)


@torch.no_grad()
def group_normalized(
    weights: torch.Tensor, mask: torch.Tensor, groups: torch.Tensor, denominator: str = "group"
) -> torch.Tensor:
    """Fold the paper's denominator into the weights, for a loss that is sum(e * l * m) / sum(m).

    TRL's ``loss_type="bnpo"`` divides one token sum by the mask sum of the micro-batch. The returned e turns
    that into the named denominator, exactly:

    - "group": mean over groups of sum(w l m) / sum(w m) within each group (Eq. 6 and 9);
    - "batch": one such ratio over the whole micro-batch;
    - "sequence": mean over rollouts of sum_t(w l m) / |o_i| (Eq. 2; |o_i| counts tokens, not weights);
    - "tokens": sum(w l m) / sum(m) over the micro-batch, TRL's own: e = w m. A smaller mean weight is a smaller step.

    A group, batch or rollout without a single token contributes 0 and still counts in the mean, so that the
    value of "group" and "sequence" does not depend on how rollouts are split into micro-batches.

    Args:
        weights, mask: (B, T).
        groups: (B,) integers; equal numbers mark rollouts of one prompt.
        denominator: one of ``DENOMINATORS``.

    Returns:
        (B, T) float32, 0 on padding.

    Raises:
        ValueError: other shapes, an unknown denominator, or weights whose sum, which "group" and "batch" divide by, is
            below 0: the loss would change its sign.
    """
    _check_pair("weights", weights, mask)
    check_name("denominator", denominator, DENOMINATORS)
    if groups.shape != mask.shape[:1]:
        raise ValueError(f"groups must have shape ({mask.shape[0]},). Got {tuple(groups.shape)}.")
    mask = mask.float()
    weighted = weights.float() * mask  # (B, T)
    if denominator == "tokens":
        return weighted
    tokens = mask.sum()
    if denominator == "sequence":
        return weighted * tokens / (mask.shape[0] * mask.sum(1, keepdim=True).clamp(min=1.0))
    if denominator == "batch":
        return weighted * tokens / _positive(weighted.sum())
    _, index = groups.unique(return_inverse=True)  # (B,)
    count = int(index.max()) + 1
    totals = weighted.new_zeros(count).index_add_(0, index, weighted.sum(1))  # (groups,)
    return weighted * tokens / (count * _positive(totals)[index, None])


def check_name(what: str, name: str, names: Collection[str]) -> None:
    """Raise ValueError where ``name`` is none of ``names``; it lists them."""
    if name not in names:
        raise ValueError(f"{what} must be one of {names}. Got {name!r}.")


def spread(rewards: torch.Tensor) -> torch.Tensor:
    """(groups,) standard deviations of (groups, G) rewards, in points, without NaN; 0 with fewer than two rewards."""
    known = ~rewards.isnan()
    centred = torch.where(known, rewards - rewards.nanmean(1, keepdim=True), 0.0)
    return (centred.square().sum(1) / (known.sum(1) - 1).clamp(min=1)).sqrt()


def silenced(spread: torch.Tensor, threshold: float) -> torch.Tensor:
    """Where a group carries no signal: the standard deviation of its rewards is below the threshold (Table 1).

    Args:
        spread: any shape, points of reward, float32. threshold: at 0 only groups of equal rewards are silenced, whose
            advantages are rounding errors.

    Returns:
        Booleans of that shape. A spread that equals the threshold but for rounding is not below it.
    """
    # One rollout of four that differs by 0.3 has a spread of 0.15, and rounding would decide, by how high all stand.
    return spread < max(threshold - 1e-5, 1e-5)


def check_reward_threshold(threshold: float) -> None:
    """Raise ValueError where a reward threshold, in points, is negative or not finite."""
    if not 0 <= threshold < math.inf:
        raise ValueError(f"reward_threshold must be at least 0 and finite. Got {threshold}.")


def check_top_k(top_k: Any) -> int | None:
    """Return ``top_k`` if it is None or a whole number >= 1, else raise ValueError."""
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise ValueError(f"top_k must be a whole number of at least 1, or None for the exact entropy. Got {top_k!r}.")
    return top_k


def _check_pair(name, values, mask):
    if mask.dim() != 2 or values.shape != mask.shape:
        raise ValueError(
            f"{name} and mask must have one shape (B, T). Got {tuple(values.shape)} and {tuple(mask.shape)}."
        )


def _positive(total):
    if (total < 0).any():
        raise ValueError(
            "weights must not add up to less than 0 where the loss is divided by their sum. "
            f"Got {total.min().item():.4g}; use denominator 'tokens' or 'sequence' for signed weights."
        )
    return torch.where(total > 0, total, 1.0)
