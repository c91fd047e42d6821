"""Prompts as token ids, the same in training and evaluation, and none longer than ``max_prompt_tokens``."""

from dataclasses import replace
from typing import Any

from sa_ah_lib.config import RunConfig
from sa_ah_lib.train import distributed
from sa_ah_lib.train.data import Problem, Splits, messages

TEMPLATE = {"date_string": "26 Jul 2024"}
"""What chat templates are given: Llama's would write today's date, and a run over midnight would change its prompts."""


def encode_prompts(problems: list[Problem], tokenizer: Any, config: RunConfig) -> list[list[int]]:
    """Token ids of every problem's prompt as the policy sees it in training, unpadded, in order."""
    prompts = [
        tokenizer.apply_chat_template(
            messages(p.question, config.system_prompt), add_generation_prompt=True, tokenize=False, **TEMPLATE
        )
        for p in problems
    ]
    return tokenizer(prompts, add_special_tokens=False)["input_ids"]


def fitting(splits: Splits, tokenizer: Any, config: RunConfig) -> Splits:
    """``splits`` without the training problems whose prompt is longer than ``max_prompt_tokens``; prints how many.

    TRL does not shorten prompts. Evaluation problems are never left out: Pass@1 would be of another N.

    Raises:
        ValueError: an evaluation prompt is too long, a prompt holds the padding token, or too few training prompts are
            left for one step.
    """
    limit = config.max_prompt_tokens
    encoded = [
        encode_prompts(problems, tokenizer, config) if problems else []
        for problems in (splits.evaluation, splits.train)
    ]
    if any(tokenizer.pad_token_id in ids for prompts in encoded for ids in prompts):
        raise ValueError(
            "no prompt may hold the padding token, which the loss leaves out. Got some with "
            f"{tokenizer.pad_token!r}; give the tokenizer a pad_token that no text has."
        )
    tested, trained = ([len(ids) for ids in prompts] for prompts in encoded)
    remedy = f"Raise max_prompt_tokens (now {limit}) to at least {max(tested + trained)}."
    if max(tested, default=0) > limit:
        raise ValueError(
            f"every evaluation prompt must fit max_prompt_tokens, or Pass@1 would be of fewer problems. Got "
            f"{sum(length > limit for length in tested)} of {len(tested)} that do not. {remedy}"
        )
    kept = [problem for problem, length in zip(splits.train, trained, strict=True) if length <= limit]
    left_out = len(splits.train) - len(kept)
    if config.steps and len(kept) < config.prompts_per_step:
        raise ValueError(
            f"at least {config.prompts_per_step} training prompts, one step's, must fit max_prompt_tokens. "
            f"Got {len(kept)} of {len(trained)}. {remedy}"
        )
    if left_out and distributed.is_main():
        print(f"left out {left_out} of {len(trained)} training problems: prompts above {limit} tokens. {remedy}")
    return replace(splits, train=kept)
