"""The loss that the trainers are held to, written apart from the library: in float64, one token at a time."""

import math

import torch


def reference_loss(
    log_probs: torch.Tensor,
    old_log_probs: torch.Tensor,
    ref_log_probs: torch.Tensor,
    entropy: torch.Tensor,
    mask: torch.Tensor,
    advantages: torch.Tensor,
    groups: torch.Tensor,
    *,
    alpha: float,
    scope: str,
    denominator: str = "group",
    epsilon: float = 0.2,
    beta: float = 0.04,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Eq. 2, 6 and 9 written out in float64, one token at a time: what the trainers are tested against.

    The policy term follows ``denominator``; the KL term is the k3 estimator averaged over the micro-batch's
    tokens, as in TRL. Slow on purpose and differentiable in ``log_probs``.

    Args:
        log_probs, old_log_probs, ref_log_probs, entropy, mask: (B, T); advantages, groups: (B,).
        weights: (B, T) of any other rule, in place of those of ``alpha`` and ``scope``.

    Returns:
        A float64 scalar.
    """
    rollouts = range(mask.shape[0])
    tokens = [[t for t in range(mask.shape[1]) if mask[i, t]] for i in rollouts]
    weight = [{} for _ in rollouts]
    for i in rollouts:
        spent = 0.0
        for t in tokens[i]:
            spent += float(entropy[i, t])
            sign = {"negative": -1, "positive": 1}.get(scope)
            applies = scope == "all" or (sign is not None and float(advantages[i]) * sign > 0)
            weight[i][t] = math.exp(-alpha * spent) if applies else 1.0
            if weights is not None:
                weight[i][t] = float(weights[i, t])

    def surrogate(i, t):
        advantage = advantages[i].double()
        ratio = torch.exp(log_probs[i, t].double() - old_log_probs[i, t].double())
        return torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)

    def weighted_mean(rows, normaliser):
        terms = [weight[i][t] * surrogate(i, t) for i in rows for t in tokens[i]]
        return sum(terms) / normaliser if terms else torch.zeros((), dtype=torch.float64)

    if denominator == "sequence":
        parts = [weighted_mean([i], max(1, len(tokens[i]))) for i in rollouts]
    elif denominator == "tokens":
        parts = [weighted_mean(rollouts, max(1, sum(len(row) for row in tokens)))]
    else:
        labels = [int(g) if denominator == "group" else 0 for g in groups]
        sets = [[i for i in rollouts if labels[i] == label] for label in sorted(set(labels))]
        parts = [weighted_mean(rows, sum(w for i in rows for w in weight[i].values()) or 1.0) for rows in sets]
    policy = sum(parts) / len(parts)

    gaps = [ref_log_probs[i, t].double() - log_probs[i, t].double() for i in rollouts for t in tokens[i]]
    divergence = sum(torch.exp(gap) - gap - 1 for gap in gaps) / max(1, len(gaps))
    return -policy + beta * divergence
