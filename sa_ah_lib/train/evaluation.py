"""Greedy Pass@1 (Section 4.4): one completion per problem, right when its extracted answer equals the gold one.

``sample`` draws several completions of each, for Pass@k.
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


@torch.inference_mode()
def greedy(model: Any, tokenizer: Any, prompts: list[list[int]], limit: int) -> list[list[int]]:
    """Greedy completions of token-id prompts: every token is the likeliest, whatever the model's own file asks for.

    Returns:
        A list of ids for each prompt, up to and with the first of its ``end_tokens``, 1 to ``limit`` of them.
    """
    output, ends = decode_greedily(model, tokenizer, prompts, limit), end_tokens(model, tokenizer)
    return [_until(tokens, ends) for tokens in output[:, max(map(len, prompts)) :].tolist()]


def decode_greedily(model: Any, tokenizer: Any, prompts: list[list[int]], limit: int, **outputs: Any) -> Any:
    """What ``generate`` returns of token-id prompts, padded on the left; ``outputs`` asks it for more than tokens."""
    padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    fixed = {"do_sample": False, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": end_tokens(model, tokenizer)}
    with own_rules_off(model):
        return model.generate(**padded, max_new_tokens=limit, **fixed, **outputs)


@torch.inference_mode()
def sample(loaded: Any, prompts: list[list[int]], config: RunConfig, count: int, seed: int) -> list[list[str]]:
    """Completions of token-id prompts, drawn as rollouts are: the run's temperature, no token ruled out or favoured.

    Args:
        loaded: a ``models.Loaded``, in the mode in which it generates (see ``generating``).
        config: a ``RunConfig``; temperature and max_completion_tokens are read.
        count: completions per prompt. seed: of the draws; torch's own random state is left as it was.

    Returns:
        ``count`` texts for each prompt, in the order of ``prompts``.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    ends = end_tokens(model, tokenizer)
    padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    rules = {**PLAIN_SAMPLING, "do_sample": True, "temperature": config.temperature, "num_return_sequences": count}
    fixed = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": ends}
    with own_rules_off(model), torch.random.fork_rng():
        torch.manual_seed(seed)
        made = model.generate(**padded, max_new_tokens=config.max_completion_tokens, **rules, **fixed)
    completions = [_until(tokens, ends) for tokens in made[:, max(map(len, prompts)) :].tolist()]
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    return [texts[start : start + count] for start in range(0, len(texts), count)]


def _until(tokens, ends):
    return next((tokens[: place + 1] for place, token in enumerate(tokens) if token in ends), tokens)


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
