"""One question put to a trained model: its greedy answer, the reward's parts, and every token's entropy and weight."""

from typing import Any
from dataclasses import dataclass
from pathlib import Path

from sa_ah_lib.train import models  # first: it imports unsloth, which patches what follows

import torch

from sa_ah_lib.rewards import answers_match, extract_answer, gold_answer, reward_parts
from sa_ah_lib.train.data import Problem
from sa_ah_lib.train.evaluation import generate, generating
from sa_ah_lib.train.prompts import encode_prompts
from sa_ah_lib.upstream.decoding import end_tokens
from sa_ah_lib.weighting import horizon_weights, normalized_entropy


@dataclass(frozen=True)
class Answer:
    """What a model says to a question.

    ``tokens``, ``entropy`` (in [0, 1], Eq. 3) and ``weights`` (Eq. 5 at the run's alpha: what each token would weigh
    where the method discounts the rollout) are lists of one length. ``parts``: {reward part: value}, without
    "correct" where ``gold`` is None. ``predicted``: the number read from the completion, or None.
    ``truncated``: it was stopped at the token limit. ``trained``: by the run's adapter, not by the untouched model.
    """

    question: str
    completion: str
    tokens: list
    entropy: list
    weights: list
    parts: dict
    predicted: float | None
    gold: float | None
    truncated: bool
    trained: bool

    @property
    def correct(self) -> bool:
        """Whether the number is the gold one; False without one of them."""
        return self.gold is not None and answers_match(self.predicted, self.gold)


def ask(run: Any, question: str = "", answer: str = "") -> Answer:
    """Load the run's trained model and let it answer one question, greedily, as in evaluation.

    Args:
        run: a finished ``run.Run``; one without an adapter (zero-shot, published logs) asks the untouched model.
        question: any text; "" is the first evaluation problem, with its own answer.
        answer: the right number, as a number or text; "" where it is not known.

    Raises:
        ValueError: an answer without a number or without a question, or nothing to ask.
    """
    check(question, answer)
    if not question:
        if not run.eval:
            raise ValueError("QUESTION must be a text where a run has no evaluated problems. Got ''.")
        question, answer = run.eval[0]["question"], run.eval[0]["gold"]
    gold = None if answer in ("", None) else gold_answer(answer)
    # One question needs no engine, and the one of a training before it may still hold the card.
    config, adapter = run.config.replace(fast_inference=False), Path(run.directory) / "adapter"
    models.choose_threads(config)
    loaded = models.load(config, adapter if adapter.is_dir() else None)
    (prompt,) = encode_prompts([Problem(question, "")], loaded.tokenizer, config)
    with generating(loaded.model):
        tokens, entropy = _answered(loaded, prompt, config)
    text = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
    parts = reward_parts(text, 0 if gold is None else gold)
    return Answer(
        question=question,
        completion=text,
        tokens=[loaded.tokenizer.decode([token]) for token in tokens],
        entropy=entropy.tolist(),
        weights=horizon_weights(entropy[None], torch.ones_like(entropy)[None], config.alpha)[0].tolist(),
        parts={name: value for name, value in parts.items() if gold is not None or name != "correct"},
        predicted=extract_answer(text),
        gold=gold,
        truncated=tokens[-1] not in end_tokens(loaded.model, loaded.tokenizer),
        trained=adapter.is_dir(),
    )


def check(question: str = "", answer: str | float = "") -> None:
    """Refuse an answer that says nothing, before an hour of training.

    Raises:
        ValueError: an answer without a number, or without a question.
    """
    if answer in ("", None):
        return
    if not question:
        raise ValueError(f"ANSWER needs the QUESTION that it answers. Got {answer!r} alone.")
    try:
        gold_answer(answer)
    except ValueError:
        raise ValueError(f"ANSWER must hold one finite number, such as 5. Got {answer!r}.") from None


@torch.inference_mode()
def _answered(loaded, prompt, config):
    """(token ids, normalised entropy of each) of one greedy completion; the entropy is the policy's when it samples."""
    made = generate(
        loaded.model, loaded.tokenizer, [prompt], config.max_completion_tokens,
        do_sample=False, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    tokens = made.sequences[0, len(prompt) :].tolist()
    logits = torch.cat(made.logits).float() / config.temperature  # (tokens, V)
    return tokens, normalized_entropy(logits, config.entropy_top_k).cpu()
