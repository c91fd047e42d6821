"""The two first micro models, kept because the published comparisons were run on them: their recipes and builds.

``micro-s`` (about 1M parameters) and ``micro-l`` (about 3M) are Qwen2 models small enough for two CPU
cores. They are warm-started on reasoning-gym problems answered in a mixture of styles: short problems are
mostly worked out, long ones mostly answered at once, with slips. So reinforcement learning has something
real to find: that working out pays on long problems too.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sa_ah_lib.micro.byte_tokenizer import build_tokenizer
from sa_ah_lib.micro.training import Training, new_model, repeatable, save, save_facts, train
from sa_ah_lib.rewards import TAGS
from sa_ah_lib.train.data import TASKS, Problem, held_out_items, task_problems


@dataclass(frozen=True)
class MicroRecipe(Training):
    """Everything that decides one micro model."""

    batch: int = 64
    lr: float = 2e-3
    corpus: int = 100_000
    seed: int = 3407
    task: str = TASKS["micro"][0]
    task_kwargs: dict[str, Any] = field(default_factory=lambda: dict(TASKS["micro"][1]))
    # Shares on the shortest and on the longest problems, linear in the number of terms between.
    worked: tuple[float, float] = (0.7, 0.15)  # of worked answers among all
    slips: tuple[float, float] = (0.0, 0.8)  # of direct answers that forget the last term
    tagged: float = 0.75  # of answers with tags, worked or direct, at any length


RECIPES: dict[str, MicroRecipe] = {
    "micro-s": MicroRecipe("micro-s", steps=900),
    "micro-l": MicroRecipe("micro-l", hidden=256, heads=8, inter=640, steps=600, lr=1.5e-3, worked=(0.85, 0.3)),
}


def worked_steps(expression: str) -> list[str]:
    """Running-total lines of a chain of sums: ``"12 + 7 - 5"`` gives ``["12+7=19", "19-5=14"]``."""
    parts = expression.split(" ")
    total, lines = int(parts[0]), []
    for sign, number in zip(parts[1::2], parts[2::2], strict=True):
        after = total + int(number) if sign == "+" else total - int(number)
        lines.append(f"{total}{sign}{number}={after}")
        total = after
    return lines


def write_answer(expression: str, gold: str, style: str) -> str:
    """The assistant's text for one problem in one style: ``full``, ``steps``, ``tagged`` or ``bare``."""
    if style == "bare":
        return gold
    if style == "tagged":
        return f"{TAGS[2]}{gold}{TAGS[3]}"
    working = "\n".join(worked_steps(expression))
    if style == "steps":
        return working
    return f"{TAGS[0]}{working}{TAGS[1]}{TAGS[2]}{gold}{TAGS[3]}"


def draw_answer(recipe: MicroRecipe, expression: str, gold: str, rng: random.Random) -> str:
    """The text that the warm start teaches for one problem: worked and right, or direct and at times a slip."""
    low, high = recipe.task_kwargs["min_terms"], recipe.task_kwargs["max_terms"]
    length = (expression.count(" ") // 2 + 1 - low) / max(1, high - low)  # 0 shortest .. 1 longest
    worked, slips = (rng.random() < a + (b - a) * length for a, b in (recipe.worked, recipe.slips))
    tags = rng.random() < recipe.tagged
    if worked:
        return write_answer(expression, gold, "full" if tags else "steps")
    # Answering at once loses track of long chains; without this a well trained model would not need to work out.
    said = worked_steps(expression)[-2].partition("=")[2] if slips else gold
    return write_answer(expression, said, "tagged" if tags else "bare")


def held_out(recipe: MicroRecipe) -> tuple[list[dict], list[dict]]:
    """(500 evaluation, 800 RL training) reasoning-gym items: the splits of every micro run at the paper's seed."""
    return held_out_items(recipe.task, 500, 800, **recipe.task_kwargs)


def corpus(recipe: MicroRecipe) -> list[tuple[str, str]]:
    """The warm start's (question, assistant text) pairs; no question is in either held-out split."""
    taken = {item["question"] for split in held_out(recipe) for item in split}
    rng = random.Random(recipe.seed)
    pairs = []
    for item in task_problems(recipe.task, "warm", recipe.corpus, taken, **recipe.task_kwargs):
        pairs.append((item["question"], draw_answer(recipe, item["metadata"]["expression"], item["answer"], rng)))
    return pairs


def zero_shot(model: Any, tokenizer: Any, scale: str) -> float:
    """Greedy Pass@1 in [0, 1] on the 500 held-out problems, as every notebook measures it."""
    from sa_ah_lib.config import preset
    from sa_ah_lib.train.evaluation import evaluate, pass_at_1

    problems = [Problem(item["question"], item["answer"]) for item in held_out(RECIPES[scale])[0]]
    right, total = pass_at_1(evaluate(model, tokenizer, problems, preset(scale, "zero-shot")))
    return right / total


def build(
    scale: str, out_dir: str | Path, *, seed: int | None = None, steps: int | None = None, progress: bool = True
) -> Path:
    """Makes one micro model from nothing and writes it to ``out_dir / scale``, which is returned.

    Args:
        scale: a key of ``RECIPES``.
        seed: of the weights, the styles and the order; None keeps the recipe's.
        steps: optimizer steps; None keeps the recipe's (0 writes an untrained model).
        progress: show a progress bar.

    The same arguments give the same bytes on the same machine and torch version: threads are fixed.
    Weights are stored as bfloat16 and load as float32. Raises ValueError for an unknown scale.
    """
    if scale not in RECIPES:
        raise ValueError(f"scale must be one of {', '.join(RECIPES)}. Got {scale!r}.")
    recipe = replace(RECIPES[scale], **{k: v for k, v in (("seed", seed), ("steps", steps)) if v is not None})
    tokenizer, pairs, path = build_tokenizer(), corpus(recipe), Path(out_dir) / scale
    with repeatable(recipe.seed, recipe.threads):
        model = new_model(recipe, tokenizer)
        train(recipe, model, tokenizer, pairs, random.Random(recipe.seed), progress)
    save(path, model, tokenizer)
    measured = {"zero_shot_pass_at_1": zero_shot(model, tokenizer, scale), "zero_shot_examples": 500}
    save_facts(path, model, pairs, {**asdict(recipe), **measured})
    return path
