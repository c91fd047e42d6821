"""Greedy Pass@1 (Section 4.4): one completion a problem, right when its extracted answer equals the gold one."""

from contextlib import contextmanager

import torch
from tqdm.auto import tqdm

from sa_ah_lib.rewards import answers_match, extract_answer, gold_answer, reward_parts
from sa_ah_lib.train.data import messages


def evaluate(model, tokenizer, problems, config, step=0, progress=True):
    """Greedy-decode every problem, in batches of like prompt length.

    Args:
        model: a causal LM, left in the mode (training or not) it came in.
        problems: a list of ``data.Problem``.
        config: a ``RunConfig``; max_completion_tokens, eval_batch_size and system_prompt are read.
        step: written into every row.

    Returns:
        One dict a problem, in the order of ``problems``: step, problem (index), question, gold, predicted (float
        or None), correct (bool), tokens (completion length), truncated (bool), reward (total), completion (text).
    """
    encoded = encode_prompts(problems, tokenizer, config)
    rows = [None] * len(problems)
    with (
        generating(model),
        tqdm(total=len(problems), desc=f"Pass@1 at step {step}", disable=not progress, leave=False) as bar,
    ):
        for batch in length_batches([len(tokens) for tokens in encoded], config.eval_batch_size):
            completions = greedy(model, tokenizer, [encoded[i] for i in batch], config.max_completion_tokens)
            for index, tokens in zip(batch, completions, strict=True):
                rows[index] = _row(problems[index], index, step, tokens, tokenizer, config.max_completion_tokens)
            bar.update(len(batch))
    return rows


def encode_prompts(problems, tokenizer, config):
    """Token ids of every problem's prompt as the policy sees it in training, unpadded, in order."""
    prompts = [
        tokenizer.apply_chat_template(
            messages(p.question, config.system_prompt), add_generation_prompt=True, tokenize=False
        )
        for p in problems
    ]
    return tokenizer(prompts, add_special_tokens=False)["input_ids"]


def length_batches(lengths, size):
    """Indices of ``lengths`` in batches of at most ``size``, like lengths together, so that little is padded."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + size] for start in range(0, len(order), size)]


def pass_at_1(rows):
    """(correct, problems) of evaluation rows."""
    return sum(row["correct"] for row in rows), len(rows)


def _row(problem, index, step, tokens, tokenizer, limit):
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
        "truncated": len(tokens) >= limit,
        "reward": round(sum(reward_parts(text, problem.answer).values()), 1),
        "completion": text,
    }


@torch.inference_mode()
def greedy(model, tokenizer, prompts, limit):
    """Greedy completions of token-id prompts, each up to and with its end token, at most ``limit`` tokens."""
    padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    output = model.generate(
        **padded, max_new_tokens=limit, do_sample=False, temperature=None, top_p=None, top_k=None,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    completions = output[:, padded["input_ids"].shape[1] :].tolist()
    return [_until(tokens, tokenizer.eos_token_id) for tokens in completions]


def _until(tokens, end):
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@contextmanager
def generating(model):
    """Evaluation mode inside, the former mode after; Unsloth's own switches where the model has them."""
    training = model.training
    getattr(model, "for_inference", model.eval)()
    try:
        yield
    finally:
        if training:
            getattr(model, "for_training", model.train)()
