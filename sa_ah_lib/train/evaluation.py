"""Greedy Pass@1 (Section 4.4): one completion per problem, right when its extracted answer equals the gold one.

``rollouts`` are sampled, as in training: for Pass@k, and for studies of a policy that stands still.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sa_ah_lib.config import RunConfig
from sa_ah_lib.rewards import answers_match, extract_answer, gold_answer, total_reward
from sa_ah_lib.train.data import Problem
from sa_ah_lib.train.prompts import encode_prompts
from sa_ah_lib.upstream.decoding import PLAIN_SAMPLING, end_tokens, own_rules_off


def evaluate(
    model: Any, tokenizer: Any, problems: list[Problem], config: RunConfig, step: int = 0, progress: Any = None
) -> list[dict[str, Any]]:
    """Greedy-decode every problem, in batches of like prompt length.

    Args:
        model: a causal LM, left in the mode (training or not) it came in.
        problems: a list of ``data.Problem``.
        config: a ``RunConfig``; max_completion_tokens, eval_batch_size and system_prompt are read.
        step: written into every row.
        progress: called with (problems done, problems) before the first batch and after each; None for nobody.

    Returns:
        One dict per problem, in the order of ``problems``: step, problem (index), question, gold, predicted (float
        or None), correct (bool), tokens (completion length), truncated (bool: stopped by the limit before an end
        token), decoding ("greedy"), reward (total), completion (text).
    """
    encoded = encode_prompts(problems, tokenizer, config)
    rows: list[Any] = [None] * len(problems)
    ends, done = end_tokens(model, tokenizer), 0
    with generating(model):
        if progress:
            progress(0, len(problems))
        for batch in length_batches([len(tokens) for tokens in encoded], config.eval_batch_size):
            completions = greedy(model, tokenizer, [encoded[i] for i in batch], config.max_completion_tokens)
            for index, tokens in zip(batch, completions, strict=True):
                truncated = len(tokens) >= config.max_completion_tokens and tokens[-1] not in ends
                rows[index] = _row(problems[index], index, step, tokens, tokenizer, truncated)
            done += len(batch)
            if progress:
                progress(done, len(problems))
    return rows


def length_batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices of ``lengths`` in batches of at most ``size``, like lengths together, so that little is padded."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + size] for start in range(0, len(order), size)]


def pass_at_1(rows: list[Any]) -> tuple[int, int]:
    """(correct, problems) of evaluation rows."""
    return sum(row["correct"] for row in rows), len(rows)


def _row(problem, index, step, tokens, tokenizer, truncated):
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    gold, predicted = gold_answer(problem.answer), extract_answer(text)
    return {
        "step": step,
        "problem": index,
        "question": problem.question,
        "gold": gold,
        "predicted": predicted,
        "correct": answers_match(predicted, gold),
        "tokens": len(tokens),
        "truncated": truncated,
        "decoding": "greedy",
        "reward": total_reward(text, problem.answer),
        "completion": text,
    }


def greedy(model: Any, tokenizer: Any, prompts: list[list[int]], limit: int) -> list[list[int]]:
    """Greedy completions of token-id prompts: every token is the likeliest, whatever the model's own file asks for.

    Returns:
        A list of ids for each prompt, up to and with the first of its ``end_tokens``, 1 to ``limit`` of them.
    """
    return _completions(model, tokenizer, prompts, limit, do_sample=False)


def rollouts(
    model: Any, tokenizer: Any, prompts: list[list[int]], config: RunConfig, count: int
) -> list[list[list[int]]]:
    """Completions of token-id prompts, drawn as in training: the run's temperature, no token ruled out or favoured.

    Args:
        config: a ``RunConfig``; temperature and max_completion_tokens are read. count: completions per prompt.

    Returns:
        ``count`` lists of ids for each prompt, each up to and with its end token. Torch's global generator draws them.
    """
    rules = {**PLAIN_SAMPLING, "do_sample": True, "temperature": config.temperature, "num_return_sequences": count}
    drawn = _completions(model, tokenizer, prompts, config.max_completion_tokens, **rules)
    return [drawn[start : start + count] for start in range(0, len(drawn), count)]


def generate(model: Any, tokenizer: Any, prompts: list[list[int]], limit: int, **rules: Any) -> Any:
    """What the model's own ``generate`` gives of token-id prompts, padded on the left, under ``rules`` alone."""
    padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    fixed = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": end_tokens(model, tokenizer)}
    with own_rules_off(model):
        return model.generate(**padded, max_new_tokens=limit, **fixed, **rules)


@torch.inference_mode()
def _completions(model, tokenizer, prompts, limit, **rules):
    output, ends = generate(model, tokenizer, prompts, limit, **rules), end_tokens(model, tokenizer)
    made = output[:, max(map(len, prompts)) :].tolist()
    return [next((row[: t + 1] for t, token in enumerate(row) if token in ends), row) for row in made]


@contextmanager
def generating(model: Any) -> Generator[None]:
    """Evaluation mode inside, the former mode after; Unsloth's own switches where the model has them."""
    training = model.training
    getattr(model, "for_inference", model.eval)()
    try:
        yield
    finally:
        if training:
            getattr(model, "for_training", model.train)()
