"""Frozen rollouts: groups sampled once from a model, scored and normalised as in training."""

from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import trange

from sa_ah_lib.config import RunConfig
from sa_ah_lib.rewards import total_reward
from sa_ah_lib.rules import RolloutBatch
from sa_ah_lib.train.data import Problem
from sa_ah_lib.train.evaluation import generating, rollouts
from sa_ah_lib.train.prompts import encode_prompts
from sa_ah_lib.weighting import normalized_entropy, silenced

PROMPTS_AT_ONCE = 16
STD_FLOOR = 1e-4
"""What TRL adds to a group's standard deviation before it divides by it."""
NOUGHT = 1e-6
"""Float32 may leave the advantage of a reward at its group's mean so far from 0; it is no success and no failure."""


@dataclass(frozen=True)
class Group:
    """G rollouts of one prompt.

    Args:
        ids: (G, P + T) tokens of prompt and completion, padding behind the completions' ends.
        prompt: P, tokens of the prompt, which is the same in every row.
        batch: what a rule is given; (G, T), group number 0, with log-probabilities.
        texts: G completions.
    """

    ids: torch.Tensor
    prompt: int
    batch: RolloutBatch
    texts: tuple[str, ...]


def sample(
    model: Any, tokenizer: Any, problems: list[Problem], config: RunConfig, seed: int, progress: bool = True
) -> list[Group]:
    """One group per problem, sampled as training samples; the model and the global random state are left as they were.

    Args:
        config: num_generations, temperature, max_completion_tokens, entropy_top_k, reward_threshold are read.
        seed: of the rollouts.
    """
    encoded, groups = encode_prompts(problems, tokenizer, config), []
    with generating(model), torch.random.fork_rng(devices=_devices(model)):
        torch.manual_seed(seed)
        for start in trange(0, len(problems), PROMPTS_AT_ONCE, disable=not progress, leave=False, desc="rollouts"):
            here = slice(start, start + PROMPTS_AT_ONCE)
            drawn = rollouts(model, tokenizer, encoded[here], config, config.num_generations)
            for problem, prompt, rows in zip(problems[here], encoded[here], drawn, strict=True):
                groups.append(_group(model, tokenizer, problem, prompt, rows, config))
    return groups


def advantages(rewards: torch.Tensor, threshold: float) -> torch.Tensor:
    """(G,) rewards of one group normalised as in training, but 0 below ``NOUGHT``; all 0 where it is silenced.

    Args:
        threshold: a group whose rewards spread less is silenced.
    """
    spread = rewards.std()
    if silenced(spread, threshold):
        return torch.zeros_like(rewards)
    found = (rewards - rewards.mean()) / (spread + STD_FLOOR)
    return found.where(found.abs() > NOUGHT, 0.0)


def log_probs(model: Any, ids: torch.Tensor, prompt: int, temperature: float) -> torch.Tensor:
    """(G, T) log-probability of each completion token, in nats; differentiable in the model."""
    return _scores(model, ids, prompt, temperature).gather(2, ids[:, prompt:, None])[..., 0]


def _scores(model, ids, prompt, temperature):
    # Rows are padded behind their ends only, which causal attention never looks at, so no mask is needed.
    hidden = model.get_decoder()(input_ids=ids).last_hidden_state[:, prompt - 1 : -1]  # (G, T, D)
    return (model.get_output_embeddings()(hidden).float() / temperature).log_softmax(-1)  # (G, T, V)


def _group(model, tokenizer, problem, prompt, completions, config):
    width = max(map(len, completions))
    padded = [row + [tokenizer.pad_token_id] * (width - len(row)) for row in completions]
    ids = torch.tensor([prompt + row for row in padded], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in completions], device=model.device)
    texts = tuple(tokenizer.decode(row, skip_special_tokens=True) for row in completions)
    rewards = torch.tensor([total_reward(text, problem.answer) for text in texts])
    with torch.no_grad():
        scores = _scores(model, ids, len(prompt), config.temperature)
    vocabulary, real = scores.shape[-1], mask.bool()
    nats = normalized_entropy(scores, None) * torch.log(torch.tensor(float(vocabulary)))
    batch = RolloutBatch(
        entropy=torch.where(real, normalized_entropy(scores, config.entropy_top_k), 0.0),
        mask=mask,
        advantages=advantages(rewards, config.reward_threshold).to(model.device),
        groups=torch.zeros(len(rewards), dtype=torch.long, device=model.device),
        log_vocabulary=float(torch.log(torch.tensor(float(vocabulary)))),
        entropy_nats=torch.where(real, nats, 0.0),
        rewards=rewards.to(model.device),
        completion_ids=torch.where(real, ids[:, len(prompt) :], 0),
        log_probs=torch.where(real, scores.gather(2, ids[:, len(prompt) :, None])[..., 0], 0.0),
    )
    return Group(ids, len(prompt), batch, texts)


def _devices(model):
    return [] if model.device.type == "cpu" else [model.device]
