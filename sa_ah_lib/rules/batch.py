"""What a rule is given: the rollouts of one micro-batch, whole groups, each row's tokens first."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


def same(values: torch.Tensor) -> torch.Tensor:
    """``values`` as they are: joining the values of all processes where there is one."""
    return values


@dataclass(frozen=True)
class RolloutBatch:
    """B rollouts of up to T tokens. Rows are left-aligned: row i's L_i tokens are its columns 0 to L_i - 1.

    Nothing here carries a gradient. What each field costs is in ``rulebook.INPUTS``.

    Args:
        entropy: (B, T) float32, Shannon entropy of the policy at each token over log V, in [0, 1]; 0 on padding.
            The exact one, or the top-K one of the run's ``entropy_top_k``.
        mask: (B, T) of 0 and 1: the tokens that the loss counts.
        advantages: (B,) group-normalised; exactly 0 in groups below the reward threshold.
        groups: (B,) integers; equal numbers mark rollouts of one prompt. Every group is whole.
        log_vocabulary: log V in nats.
        entropy_nats: (B, T) float32, the same entropies in nats; ``entropy`` times log V where it is not given.
        rewards: (B,) total rewards, or None where they are not known.
        completion_ids: (B, T) token ids, 0 on padding; None where the loss masks a part of the completion's tokens.
        log_probs: (B, T) float32, at most 0: log-probability in nats of each sampled token under the current policy, at
            the sampling temperature. None unless the rule's record asks for it.
        progress: share of the training steps that are done, in [0, 1].
        seed: of the step, for rules that draw; the global random state is neither read nor moved.
        gather: takes a (n,) tensor, returns the values of all processes in one.
    """

    entropy: torch.Tensor
    mask: torch.Tensor
    advantages: torch.Tensor
    groups: torch.Tensor
    log_vocabulary: float = 1.0
    # A rule that reads one of these is given it; None is for the others.
    entropy_nats: torch.Tensor = None  # ty: ignore[invalid-assignment]
    rewards: torch.Tensor | None = None
    completion_ids: torch.Tensor = None  # ty: ignore[invalid-assignment]
    log_probs: torch.Tensor = None  # ty: ignore[invalid-assignment]
    progress: float = 0.0
    seed: int = 0
    gather: Callable[[torch.Tensor], torch.Tensor] = same

    def __post_init__(self):
        if self.entropy_nats is None:
            object.__setattr__(self, "entropy_nats", self.entropy * self.log_vocabulary)

    @property
    def tokens(self) -> torch.Tensor:
        """``mask`` as (B, T) bool."""
        return self.mask.bool()

    @property
    def lengths(self) -> torch.Tensor:
        """(B,) float32: tokens of each rollout."""
        return self.mask.float().sum(1)

    @property
    def positions(self) -> torch.Tensor:
        """(B, T): a token's number in its rollout, counted from 1."""
        return self.mask.cumsum(1)

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """(B, T) float32 of values given one for each token, in the order of ``x[batch.tokens]``; 1 on padding."""
        weights = torch.ones(self.mask.shape, dtype=torch.float32, device=self.mask.device)
        weights[self.tokens] = values.float()
        return weights


def of_all_processes(accelerator: Any, values: torch.Tensor) -> torch.Tensor:
    """(n,) values of each process in, those of all in one tensor out: one collective call."""
    padded = accelerator.pad_across_processes(values, dim=0, pad_index=math.nan)
    joined = accelerator.gather(padded)
    return joined[~joined.isnan()]


def left_aligned(
    entropy: torch.Tensor,
    mask: torch.Tensor,
    advantages: torch.Tensor,
    *,
    groups: torch.Tensor,
    nats: torch.Tensor | None = None,
    sampled_ids: torch.Tensor | None = None,
    log_probs: torch.Tensor | None = None,
    **rest: Any,
) -> tuple[RolloutBatch, torch.Tensor]:
    """A batch from tensors in whatever columns a trainer has them.

    Args:
        entropy, mask: (B, T); the mask's tokens may stand in any columns. nats, sampled_ids, log_probs: (B, T) or None.
        rest: fields of ``RolloutBatch`` that have no columns.

    Returns:
        The batch, and (B, T) column numbers: the batch's column j is the mask's column ``order[:, j]``, so that
        ``scatter(1, order, weights)`` puts weights back into their places.
    """
    order = (~mask.bool()).long().argsort(dim=1, stable=True)
    given = {"entropy": entropy, "entropy_nats": nats, "completion_ids": sampled_ids, "log_probs": log_probs}
    moved: dict[str, Any] = {
        k: v if v is None else torch.where(mask.bool(), v, 0).gather(1, order) for k, v in given.items()
    }
    return RolloutBatch(**moved, mask=mask.gather(1, order), advantages=advantages, groups=groups, **rest), order


def sampled_ids(completion_ids: torch.Tensor, completion_mask: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
    """(B, T) token ids in the columns of the loss's mask, 0 elsewhere.

    Args:
        completion_ids, completion_mask: (B, C) as sampled; mask: (B, T), the loss's.

    Returns:
        None where the loss leaves out a part of the completions' tokens, so that columns cannot be told.
    """
    known, counted = completion_mask.bool(), mask.bool()
    if not torch.equal(known.sum(1), counted.sum(1)):
        return None
    # Unsloth shifts rows when it packs them, so tokens are matched by order, not by column.
    ids = torch.zeros(mask.shape, dtype=completion_ids.dtype, device=mask.device)
    ids[counted] = completion_ids[known]
    return ids
