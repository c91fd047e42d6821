"""Warm starts: a new Qwen2 model taught to answer as one stochastic writer does, and written to a directory."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sa_ah_lib.micro.tasks import WRITERS
from sa_ah_lib.micro.tokenizer import build_tokenizer
from sa_ah_lib.micro.training import Training, new_model, repeatable, save, save_facts, train
from sa_ah_lib.micro.writer import Habits
from sa_ah_lib.rewards import answers_match, extract_answer, gold_answer
from sa_ah_lib.train.data import TASKS, Problem, held_out_items, split_seed, task_problems
from sa_ah_lib.train.shipped import WEIGHTS, directory_name

DESIGN, DESIGN_SEED, DESIGN_DATA_SEED = -1, 77, 7900
"""The warm start that the designs were chosen on, with problems of its own: the same code, never published."""


@dataclass(frozen=True)
class Recipe(Training):
    """Everything that decides the warm starts of one task."""

    seeds: tuple[int, ...] = ()  # one per published warm start
    habits: dict[str, Any] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    "micro-sum": Recipe("micro-sum", steps=2400, habits={"weak": 0.36}, seeds=(4100, 4101, 4102, 4103, 4104)),
    "micro-legs": Recipe("micro-legs", habits={"weak": 0.15}, seeds=(4103, 4104, 4107, 4108, 4109, 4110)),
}
"""The seeds are the first from 4100 on whose writers are neither too good nor too bad, see ``likeliest_pass_at_1``."""

LIKELIEST = (0.4, 0.6)
"""What the likeliest answers of a published warm start's writer score: known before any model is trained."""


def own_seed(recipe: Recipe, warm_start: int) -> int:
    """Seed of one warm start's weights, writer, styles and order of the corpus."""
    return DESIGN_SEED if warm_start == DESIGN else recipe.seeds[warm_start]


def likeliest_pass_at_1(recipe: Recipe, seed: int, items: list[dict]) -> float:
    """Share of ``items`` that a writer gets right, in [0, 1], who at each decision does what he does most often.

    It is what a model that has learnt the writer perfectly scores greedily.
    """
    habits, likeliest = Habits(seed, **recipe.habits), _Likeliest()
    texts = [WRITERS[recipe.scale](item, habits, likeliest) for item in items]
    right = [answers_match(extract_answer(t), gold_answer(i["answer"])) for t, i in zip(texts, items, strict=True)]
    return sum(right) / len(right)


class _Likeliest(random.Random):
    """Takes every choice that is likelier than not, and the first of equal ones."""

    def random(self) -> float:
        return 0.5

    def choice(self, seq: Any) -> Any:
        return seq[0]


def problem_seed(warm_start: int) -> int:
    """What sets the problems of one warm start apart, see ``data.split_seed``."""
    return split_seed(DESIGN_DATA_SEED) if warm_start == DESIGN else split_seed(warm_start=warm_start)


def held_out(recipe: Recipe, warm_start: int) -> tuple[list[dict], list[dict]]:
    """(500 evaluation, 800 RL training) reasoning-gym items of one warm start, as its runs have them."""
    task, settings = TASKS[recipe.scale]
    return held_out_items(task, 500, 800, problem_seed(warm_start), **settings)


def corpus(recipe: Recipe, warm_start: int) -> list[tuple[str, str]]:
    """One warm start's (question, assistant text) pairs; no question is in either of its held-out splits."""
    task, settings = TASKS[recipe.scale]
    taken = {item["question"] for split in held_out(recipe, warm_start) for item in split}
    seed = own_seed(recipe, warm_start)
    rng, habits = random.Random(seed), Habits(seed, **recipe.habits)
    items = task_problems(task, "warm", recipe.corpus, taken, problem_seed(warm_start), **settings)
    return [(item["question"], WRITERS[recipe.scale](item, habits, rng)) for item in items]


def build(
    scale: str, warm_start: int, out_dir: str | Path = WEIGHTS, progress: bool = True, **changes: Any
) -> dict[str, Any]:
    """Makes one warm start from nothing, measures it, and writes it to ``out_dir / "<scale>-<warm start>"``.

    Args:
        scale: a key of ``RECIPES``.
        warm_start: 0, 1, ... of the published ones, or ``DESIGN``.
        progress: show progress bars.
        changes: fields of the recipe.

    Returns:
        What ``measured.json`` beside the weights holds, see ``measure.measure``.

    The same arguments give the same bytes on the same machine and torch version: threads are fixed.
    Weights are stored as bfloat16 and load as float32. Raises ValueError for an unknown scale.
    """
    from sa_ah_lib.micro.measure import measure

    if scale not in RECIPES:
        raise ValueError(f"scale must be one of {', '.join(RECIPES)}. Got {scale!r}.")
    recipe = replace(RECIPES[scale], **changes)
    tokenizer, pairs = build_tokenizer(), corpus(recipe, warm_start)
    path = Path(out_dir) / (f"{scale}-design" if warm_start == DESIGN else directory_name(scale, warm_start))
    seed = own_seed(recipe, warm_start)
    facts = {**asdict(recipe), "warm_start": warm_start, "seed": seed}
    del facts["seeds"]
    with repeatable(seed, recipe.threads):
        model = new_model(recipe, tokenizer)
        train(recipe, model, tokenizer, pairs, random.Random(seed), progress)
        save(path, model, tokenizer)
        problems = [Problem(item["question"], item["answer"]) for item in held_out(recipe, warm_start)[0]]
        measured = measure(model, tokenizer, problems, progress=progress)
    save_facts(path, model, pairs, facts)
    (path / "measured.json").write_text(json.dumps(measured, indent=2) + "\n")
    return measured
