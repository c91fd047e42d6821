"""Every rule of the registry as a case: the parameters it is compared at, and its weights on float64 entropies.

The weights come from the registry's own functions, which tests/torch/test_rules.py and test_controls.py hold to plain
loops; what a device may change is what they are given, and what the loss makes of them.
"""

import math

import torch

from sa_ah_lib import rulebook, rules
from sa_ah_lib.trainer import GROUP_KEY, REWARD_KEY

SHARES = [share / 40 for share in range(4, 24)]
GRIDS = {
    "forking_tokens": [{"keep": share} for share in SHARES],
    "forking_tokens_trl": [{"keep": share} for share in SHARES],
    "four_quadrants": [{"failures": "not_high", "share": share} for share in SHARES],
    "clip_cov": [{"ratio": ratio, "low": low, "high": 99.0} for ratio in (0.2, 0.4) for low in (0.3, 0.6, 1.0, 2.0)],
    "entropy_advantage": [{"strength": 2.0, "cap": 1.0}], "gtpo": [{"bonus": 2.0}], "hicra": [{"amplification": 1.0}],
    "prefix_discount": [{"gain": 5.0}], "prefix_mask": [{"start": 0.4, "end": 0.5}], "lambda_grpo": [{"power": -4.0}],
    "advantage_reweighting": [{"share": 0.9}], "tr_grpo": [{"temperature": 0.5, "low": 0.2}],
    "gtpo_conflict": [{"entropy_limit": 9.0}], "top_entropy": [{"alpha": alpha / 2} for alpha in range(4, 40)],
}  # fmt: skip
"""Strong parameters of a rule; of one that cuts, those to choose a cut from that no token is near."""
ENTROPY_NOISE, LOG_PROB_NOISE, DRAWS, STEADY = 0.06, 0.05, 6, 0.3
"""What a device's rounding may do, relative and in nats, and how far it may then move a weight."""


def steady(name, batch, entropy, log_probs, log_vocabulary, alpha):
    """A rule's trainer arguments and its (B, T) float64 weights, at parameters that rounding does not decide.

    Raises:
        ValueError: at all of ``GRIDS`` a weight moves by more than ``STEADY`` under the noise.
    """
    record = rulebook.get(name)
    grams = {"grams": ((9,), (10, 11))} if name == "hicra" else {}  # such as walk() makes
    scoped = {"alpha": alpha, "scope": "negative"} if record.takes_scope else {}
    tried = []
    for parameters in GRIDS.get(name, [{}]):
        given = {**scoped, **grams, **parameters}
        weigh = lambda h, p, given=given: _weights(name, batch, h, p, log_vocabulary, given)  # noqa: E731
        tried.append((_moved(weigh, entropy, log_probs), given, weigh(entropy, log_probs)))
    moved, given, weights = min(tried, key=lambda found: found[0])
    if moved > STEADY:
        raise ValueError(f"a case of {name!r} must have no token near its cut. A weight moved by {moved:.2f}.")
    arguments = given if record.takes_scope else {"rule_parameters": given}
    return {"rule": name, "denominator": record.denominator, **arguments}, weights


def _weights(name, batch, entropy, log_probs, log_vocabulary, given):
    mask, entropy, log_probs = batch["completion_mask"], entropy.float(), log_probs.float()
    rollouts, order = rules.left_aligned(
        entropy, mask, batch["advantages"], groups=batch[GROUP_KEY], rewards=batch[REWARD_KEY],
        nats=entropy * log_vocabulary, sampled_ids=batch["completion_ids"], log_probs=log_probs,
        log_vocabulary=log_vocabulary,
    )  # fmt: skip
    found = rules.find(name)(rollouts, **given).double()
    return torch.ones_like(found).scatter(1, order, found)


def _moved(weigh, entropy, log_probs):
    generator, exact = torch.Generator().manual_seed(0), weigh(entropy, log_probs)
    draw = lambda: torch.randn(entropy.shape, generator=generator, dtype=entropy.dtype)  # noqa: E731
    shifted = [
        weigh((entropy * (1 + ENTROPY_NOISE * draw())).clamp(0, 1), (log_probs + LOG_PROB_NOISE * draw()).clamp(max=0))
        for _ in range(DRAWS)
    ]
    return max((other - exact).abs().max().item() for other in shifted) / max(1.0, exact.abs().max().item())


def walk(batch, seed=0):
    """``batch`` with completions that ``tiny.peaked_model`` finds likely: mostly the next token, at times another."""
    generator = torch.Generator().manual_seed(seed)
    ids = batch["completion_ids"]
    steps = torch.rand(ids.shape, generator=generator)
    # From 8 on, so that no row meets a special token; rollouts of a prompt begin alike.
    ids[:, 0] = 8 + batch[GROUP_KEY]
    for column in range(1, ids.shape[1]):
        follow = ids[:, column - 1] + torch.where(steps[:, column] < 0.7, 1, torch.where(steps[:, column] < 0.9, 2, 9))
        ids[:, column] = follow
    ids *= batch["completion_mask"]
    return batch


def log_vocabulary_of(policy):
    """log V of a policy's head, in nats."""
    return math.log(policy.get_output_embeddings().weight.shape[0])
