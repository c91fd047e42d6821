"""Rules that know which token was sampled: its probability, or its id."""

from collections.abc import Sequence

import torch

from sa_ah_lib.rules.batch import RolloutBatch
from sa_ah_lib.rules.registry import rule


@rule("advantage_reweighting")
def advantage_reweighting(batch: RolloutBatch, share: float) -> torch.Tensor:
    """share * p + 1 - share: improbable tokens, whose gradients are large, weigh least."""
    return share * batch.log_probs.exp() + 1 - share


@rule("clip_cov")
def clip_cov(batch: RolloutBatch, ratio: float, low: float, high: float) -> torch.Tensor:
    """0 on a few random tokens whose covariance of log-probability and advantage is in (low, high)."""
    log_probs = batch.log_probs[batch.tokens].double()  # (n,)
    advantages = batch.advantages.double()[:, None].expand(batch.mask.shape)[batch.tokens]
    covariance = (log_probs - log_probs.mean()) * (advantages - advantages.mean())
    found = ((covariance > low) & (covariance < high)).nonzero().flatten()
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(batch.seed)).to(found.device)
    kept = torch.ones_like(log_probs)
    kept[found[order[: max(1, int(ratio * len(log_probs)))]]] = 0
    return batch.spread(kept)


@rule("tr_grpo")
def tr_grpo(
    batch: RolloutBatch, gain: float, temperature: float, offset: float, low: float, high: float
) -> torch.Tensor:
    """clip(gain * (sigmoid(p / temperature) - offset), low, high): probable tokens weigh most."""
    return (gain * (torch.sigmoid(batch.log_probs.exp() / temperature) - offset)).clamp(low, high)


@rule("gtpo_conflict")
def gtpo_conflict(batch: RolloutBatch, amplify: float, entropy_scale: float, entropy_limit: float) -> torch.Tensor:
    """Tokens that successes and failures share at one place are amplified in successes and dropped from failures."""
    weights = torch.ones_like(batch.entropy)
    for group in batch.groups.unique():
        rows = batch.groups == group
        signs, tokens = batch.advantages[rows, None].sign(), batch.tokens[rows]
        shared, from_end = conflicts(batch.completion_ids[rows], tokens, signs[:, 0])
        times = shared.int() + from_end.int()
        weight = torch.where(signs > 0, amplify**times, ((signs == 0) | (times == 0)).float())
        weights[rows] = weight / ((times > 0) & (signs != 0)).sum(1, keepdim=True).clamp(min=1)
    mean = (batch.entropy_nats * batch.mask).sum(1) / batch.lengths.clamp(min=1)  # (B,)
    shaped = torch.where(batch.advantages == 0, 1.0, 1 - entropy_scale * mean / batch.advantages)
    return weights * torch.where(mean > entropy_limit, 0.0, shaped)[:, None]


def conflicts(ids: torch.Tensor, tokens: torch.Tensor, signs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The runs, from the start and from the end, of tokens that a success and a failure have at the same place.

    Args:
        ids: (R, T) token ids, left-aligned; tokens: (R, T) bool; signs: (R,) of the advantages.

    Returns:
        Two (R, T) bool.
    """
    last = tokens.sum(1, keepdim=True) - 1
    turned = (last - torch.arange(ids.shape[1], device=ids.device)).clamp(min=0)  # its own inverse on tokens
    backward = _shared_run(ids.gather(1, turned), tokens, signs).gather(1, turned) & tokens
    return _shared_run(ids, tokens, signs), backward


def _shared_run(ids, tokens, signs):
    alike = (ids[:, None] == ids[None]) & tokens[:, None] & tokens[None]  # (R, R, T)
    both = [(alike & (signs == sign)[None, :, None]).any(1) for sign in (1, -1)]
    return (both[0] & both[1]).int().cumprod(1).bool()


@rule("hicra")
def hicra(batch: RolloutBatch, amplification: float, grams: Sequence[Sequence[int]]) -> torch.Tensor:
    """A + amplification * |A| on every token of a strategic n-gram, which is given as its token ids."""
    if not grams:
        raise ValueError("hicra needs grams: a list of strategic n-grams, each a list of token ids. Got none.")
    planning = torch.zeros_like(batch.tokens)
    for gram in grams:
        wanted = torch.tensor(gram, device=planning.device)
        if len(gram) <= planning.shape[1]:
            windows = batch.completion_ids.unfold(1, len(gram), 1)  # (B, T - n + 1, n)
            whole = (windows == wanted).all(2) & batch.tokens[:, len(gram) - 1 :]
            for offset in range(len(gram)):
                planning[:, offset : offset + whole.shape[1]] |= whole
    return torch.where(planning, 1 + amplification * batch.advantages.sign()[:, None], 1.0)
