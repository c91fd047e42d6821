"""What a warm start must be, in numbers: entropy spread out, many decisions, room to learn."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from sa_ah_lib.rewards import answers_match, extract_answer, gold_answer
from sa_ah_lib.train.data import Problem, messages

ROLLOUTS = 256
LIMITS = {
    "largest_position_share": (0.0, 0.15),
    "entropy_spent": (3.0, 10.0),
    "greedy_pass_at_1": (0.3, 0.6),
}
"""What every published warm start keeps to; see ``measure`` for the names."""

_CALCULATION = re.compile(r"(?<![\d*])(-?\d{1,4}(?: ?[-+*] ?\d{1,4}){1,2}) ?= ?(-?\d{1,5})(?!\d)")


def calculations(text: str) -> list[tuple[str, bool]]:
    """The left side of each calculation of ``text`` without spaces, in order, and whether it is true.

    "8+7-5 = 10" is one.
    """
    found = [(match[1].replace(" ", ""), int(match[2])) for match in _CALCULATION.finditer(text)]
    return [(left, _value(left) == right) for left, right in found]


def measure(
    model: Any, tokenizer: Any, problems: list[Problem], limit: int = 112, progress: bool = True
) -> dict[str, float]:
    """Measures a model as it is before reinforcement learning.

    Args:
        model: a causal LM in float32.
        problems: what is answered, greedily; the first ``ROLLOUTS`` are sampled too, once each at temperature 1.
        limit: completion tokens at most.

    Returns:
        ``greedy_pass_at_1`` and ``sampled_pass_at_1`` in [0, 1]; ``greedy_line_truth`` and ``sampled_line_truth``,
        the share of written calculations that are true; of the samples, ``entropy`` (mean normalised entropy of
        tokens, Eq. 3), ``tokens`` (mean completion length with the end token), ``entropy_spent`` (their product: the
        exponent of Eq. 5 at the last token for alpha 1), ``largest_position_share`` (of all entropy, at the token
        position that holds most), ``first_token_share`` (of all entropy), ``first_choice`` (share of the commonest
        first token), ``negative_weight`` (mean weight of Eq. 5 on wrong rollouts at alpha 0.5), ``truncated``.
    """
    import torch

    prompts = [
        tokenizer.apply_chat_template(messages(p.question, "none"), add_generation_prompt=True, tokenize=False)
        for p in problems
    ]
    golds = [gold_answer(p.answer) for p in problems]
    greedy = [text for batch in _answers(model, tokenizer, prompts, limit, False, progress) for text in batch["texts"]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sampled = list(_answers(model, tokenizer, prompts[:ROLLOUTS], limit, True, progress))
    right = [answers_match(extract_answer(text), gold) for text, gold in zip(greedy, golds, strict=True)]
    texts = [text for batch in sampled for text in batch["texts"]]
    sampled_right = [answers_match(extract_answer(text), gold) for text, gold in zip(texts, golds, strict=False)]
    wrong = ~torch.tensor(sampled_right)
    entropy, mask = (_stacked([batch[name] for batch in sampled], limit) for name in ("entropy", "mask"))  # (B, T)
    weights = torch.exp(-0.5 * entropy.cumsum(1)) * mask
    by_position = entropy.sum(0) / entropy.sum()  # (T,)
    firsts = Counter(token for batch in sampled for token in batch["first"])
    numbers = {
        "greedy_pass_at_1": sum(right) / len(right),
        "sampled_pass_at_1": sum(sampled_right) / len(texts),
        "greedy_line_truth": _mean(truth for text in greedy for _, truth in calculations(text)),
        "sampled_line_truth": _mean(truth for text in texts for _, truth in calculations(text)),
        "entropy": float(entropy.sum() / mask.sum()),
        "tokens": float(mask.sum() / len(texts)),
        "entropy_spent": float(entropy.sum() / len(texts)),
        "largest_position_share": float(by_position.max()),
        "first_token_share": float(by_position[0]),
        "first_choice": max(firsts.values()) / len(texts),
        "negative_weight": float(weights[wrong].sum() / mask[wrong].sum()),
        "truncated": float((mask.sum(1) == limit).float().mean()),
    }
    return {name: round(value, 4) for name, value in numbers.items()}


def in_words(numbers: dict[str, float]) -> str:
    """The numbers one per line, those with limits first."""
    names = [*LIMITS, *(name for name in numbers if name not in LIMITS)]
    limits = {name: f"  (wanted {low} to {high})" for name, (low, high) in LIMITS.items()}
    return "\n".join(f"  {name:<24}{numbers[name]:8.3f}{limits.get(name, '')}" for name in names)


def _answers(model, tokenizer, prompts, limit, sample, progress):
    """Completions in batches: dicts of texts, first tokens, and per token the normalised entropy and the mask."""
    import torch
    from tqdm.auto import trange

    choice = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {"do_sample": False}
    for start in trange(0, len(prompts), 128, disable=not progress, leave=False, desc="measuring"):
        batch = tokenizer(prompts[start : start + 128], padding=True, return_tensors="pt", add_special_tokens=False)
        ids, real = batch["input_ids"], batch["attention_mask"]
        with torch.inference_mode():
            whole = model.generate(input_ids=ids, attention_mask=real, max_new_tokens=limit, **choice)
            tokens = whole[:, ids.shape[1] :]  # (B, T)
            ended = (tokens == tokenizer.eos_token_id).cumsum(1)
            mask = ((ended == 0) | ((ended == 1) & (tokens == tokenizer.eos_token_id))).float()
            made = {"texts": tokenizer.batch_decode(_kept(tokens, mask), skip_special_tokens=True), "mask": mask}
            if sample:
                logits = model(whole, attention_mask=torch.cat([real, mask.to(real.dtype)], 1)).logits
                spread = logits[:, ids.shape[1] - 1 : -1].log_softmax(-1)
                made["entropy"] = -(spread.exp() * spread).sum(-1) / math.log(spread.shape[-1]) * mask
                made["first"] = tokens[:, 0].tolist()
        yield made


def _kept(tokens, mask):
    return [row[keep.bool()] for row, keep in zip(tokens, mask, strict=True)]


def _stacked(parts, width):
    import torch

    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])


def _mean(truths):
    truths = list(truths)
    return sum(truths) / len(truths) if truths else math.nan


def _value(calculation: str) -> int:
    """Sums and differences from left to right, or one product."""
    first, *rest = re.findall(r"^-?\d+|[-+*]\d+", calculation)
    value = int(first)
    for part in rest:
        value = value * int(part[1:]) if part[0] == "*" else value + int(part)
    return value
