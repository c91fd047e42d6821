"""The diagnostics of a training step: sums over tokens, rollouts and groups, and the logged metrics made of them."""

from collections.abc import Mapping
from typing import Any

import torch

from sa_ah_lib.upstream.metrics import METRICS
from sa_ah_lib.weighting import discounted_rollouts, horizon_weights, silenced


class StepSums:
    """What a step's micro-batches add up to; false while there is none.

    Args:
        alpha, scope, reward_threshold: as in ``micro_batch_sums``.
    """

    def __init__(self, alpha: float, scope: str, reward_threshold: float):
        self._settings = alpha, scope, reward_threshold
        self.sums: dict[str, torch.Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self.sums)

    def add(self, rollouts: Mapping[str, torch.Tensor]) -> None:
        """Add one micro-batch, as ``micro_batch_sums`` takes it."""
        new = micro_batch_sums(rollouts, *self._settings)
        self.sums = {name: value + self.sums[name] for name, value in new.items()} if self.sums else new

    def take(self, accelerator: Any) -> dict[str, float | None]:
        """``from_sums`` of all micro-batches and processes, {} where there were none; nothing is left."""
        if not self.sums:
            return {}
        # One tensor, so that several processes talk once.
        values = accelerator.reduce(torch.stack(list(self.sums.values())), reduction="sum")
        sums, self.sums = dict(zip(self.sums, values.tolist(), strict=True)), {}
        return from_sums(sums, self._settings[0])


@torch.no_grad()
def micro_batch_sums(
    rollouts: Mapping[str, torch.Tensor], alpha: float, scope: str, reward_threshold: float
) -> dict[str, torch.Tensor]:
    """What one micro-batch adds to the sums of a step.

    Args:
        rollouts: ``mask``, normalised ``entropy`` and ``weights`` (B, T); ``advantages``, ``rewards`` (NaN where no
            function scored) and ``groups`` (B,).
        alpha, scope: of Eq. 5, for the weight that it would give and for the tokens it would discount.
        reward_threshold: points; groups whose standard deviation is below it count as silenced.

    Returns:
        {name: float64 scalar}, of everything that a ratio of ``metrics.METRICS`` or a variance is made of.
    """
    mask = rollouts["mask"].float()  # (B, T)
    negative = rollouts["advantages"] < 0  # (B,)
    known, rewards = ~rollouts["rewards"].isnan(), rollouts["rewards"]
    groups = rollouts["groups"][known].unique()
    # Where no rollout was scored, one group without a spread stands for all.
    by_group = [rewards[known & (rollouts["groups"] == g)] for g in groups] or [torch.zeros_like(rewards[:1])]
    spread = torch.stack([r.std() if len(r) > 1 else torch.zeros_like(r[0]) for r in by_group])  # (groups,)
    means = torch.stack([r.mean() for r in by_group]).double()  # (groups,)
    weighted, negative_mask = rollouts["weights"] * mask, mask * negative[:, None]  # (B, T)
    in_scope = mask * discounted_rollouts(rollouts["advantages"], scope)[:, None]  # (B, T)
    sums = {
        "tokens": mask.sum(),
        "entropy": (rollouts["entropy"] * mask).sum(),
        "weight": weighted.sum(),
        "negative_tokens": negative_mask.sum(),
        "negative_weight": (weighted * negative_mask).sum(),
        "discounted_tokens": in_scope.sum(),
        "discounted_weight": (weighted * in_scope).sum(),
        "target_weight": (horizon_weights(rollouts["entropy"], rollouts["mask"], alpha) * in_scope).sum(),
        "rollouts": torch.tensor(len(negative)),
        "negative_rollouts": negative.sum(),
        "groups": torch.tensor(len(by_group)),
        "silenced_groups": silenced(spread, reward_threshold).sum(),
        "group_std": spread.sum(),
        "group_variance": spread.square().sum(),
        "group_mean": means.sum(),
        "group_mean_squared": means.square().sum(),
    }
    return {name: value.to(mask.device, torch.float64) for name, value in sums.items()}


def from_sums(sums: Mapping[str, float], alpha: float) -> dict[str, float | None]:
    """Table 6's columns from the sums of a step.

    Args:
        sums: {name: value} as in ``micro_batch_sums``, added up over micro-batches and processes.

    Returns:
        {key: value} of ``metrics.METRICS``: every ratio, the variance between groups and the effective horizon.
    """
    found: dict[str, float | None] = {
        key: sums[metric.ratio[0]] / sums[metric.ratio[1]] if sums[metric.ratio[1]] else 0.0
        for key, metric in METRICS.items()
        if metric.ratio
    }
    groups, entropy = sums["groups"], found["sa_ah/entropy"]
    scatter = sums["group_mean_squared"] - sums["group_mean"] ** 2 / groups
    found["sa_ah/reward_between_variance"] = max(0.0, scatter) / (groups - 1) if groups > 1 else None
    found["sa_ah/effective_horizon"] = 1 / (alpha * entropy) if alpha > 0 and entropy else None
    return found
