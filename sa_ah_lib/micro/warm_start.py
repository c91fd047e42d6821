"""Warm starts: a new Qwen2 model taught to answer as one stochastic writer does, and written to a directory."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import random
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sa_ah_lib.micro.tasks import WRITERS
from sa_ah_lib.micro.tokenizer import CONTEXT, END, build_tokenizer, prompt_text
from sa_ah_lib.micro.writer import Habits
from sa_ah_lib.rewards import answers_match, extract_answer, gold_answer
from sa_ah_lib.train.data import TASKS, Problem, held_out_items, split_seed, task_problems
from sa_ah_lib.train.shipped import WEIGHTS, directory_name

DESIGN, DESIGN_SEED, DESIGN_DATA_SEED = -1, 77, 7900
"""The warm start that the designs were chosen on, with problems of its own: the same code, never published."""
ROWS = 32


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the warm starts of one task; sizes in units, counts in items, ``lr`` as AdamW's."""

    scale: str
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    inter: int = 384
    steps: int = 2000
    batch: int = 16  # small ones learn more for the same computing time
    lr: float = 1.5e-3
    warmup: int = 100
    weight_decay: float = 0.01
    corpus: int = 40_000
    seeds: tuple[int, ...] = ()  # one per published warm start
    threads: int = 1
    habits: dict[str, Any] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    "micro-sum": Recipe("micro-sum", steps=2400, habits={"weak": 0.36}, seeds=(4100, 4101, 4102, 4103, 4104)),
    "micro-legs": Recipe("micro-legs", habits={"weak": 0.15}, seeds=(4103, 4104, 4107, 4108, 4109)),
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


def corpus_sha256(pairs: list[tuple[str, str]]) -> str:
    """Hex digest of a corpus: sha256 over its pairs as JSON lines."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update((json.dumps(pair) + "\n").encode())
    return digest.hexdigest()


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
    import torch

    from sa_ah_lib.micro.measure import measure

    if scale not in RECIPES:
        raise ValueError(f"scale must be one of {', '.join(RECIPES)}. Got {scale!r}.")
    recipe = replace(RECIPES[scale], **changes)
    tokenizer, pairs = build_tokenizer(), corpus(recipe, warm_start)
    seed, threads = own_seed(recipe, warm_start), torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = new_model(recipe, tokenizer)
            train(recipe, model, tokenizer, pairs, random.Random(seed), progress)
            name = f"{scale}-design" if warm_start == DESIGN else directory_name(scale, warm_start)
            path = Path(out_dir) / name
            _save(recipe, warm_start, model, tokenizer, pairs, path)
            # What is measured is what is shipped: rounded to bfloat16, computed in float32.
            problems = [Problem(item["question"], item["answer"]) for item in held_out(recipe, warm_start)[0]]
            measured = measure(model.to(torch.float32), tokenizer, problems, progress=progress)
    finally:
        torch.set_num_threads(threads)
    (path / "measured.json").write_text(json.dumps(measured, indent=2) + "\n")
    return measured


def new_model(recipe: Any, tokenizer: Any) -> Any:
    """An untrained float32 Qwen2 model of the recipe's sizes."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=-(-len(tokenizer) // 8) * 8,
            hidden_size=recipe.hidden,
            intermediate_size=recipe.inter,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            dtype="float32",
        )
    )


def train(
    recipe: Any, model: Any, tokenizer: Any, pairs: list[tuple[str, str]], rng: random.Random, progress: bool
) -> None:
    """Supervised training of ``model`` in place, on the answers' tokens alone; warm-up, then cosine decay."""
    import torch
    from tqdm.auto import trange

    prompts = tokenizer([prompt_text(tokenizer, question) for question, _ in pairs])["input_ids"]
    answers = tokenizer([answer + END for _, answer in pairs])["input_ids"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
    order: list[int] = []
    # The fused attention's backward pass takes most of a step on a CPU at heads this small.
    fused = model.config._attn_implementation
    model.set_attn_implementation("eager")
    model.train()
    for step in trange(recipe.steps, disable=not progress, desc=recipe.scale, unit="step"):
        if len(order) < recipe.batch:
            order = rng.sample(range(len(pairs)), len(pairs))
        # Rows of like length go together, at most ROWS at a time.
        rows = sorted((order.pop() for _ in range(recipe.batch)), key=lambda i: len(prompts[i]) + len(answers[i]))
        targets = sum(len(answers[i]) for i in rows)
        for part in (rows[first : first + ROWS] for first in range(0, len(rows), ROWS)):
            (_answer_loss(model, [prompts[i] for i in part], [answers[i] for i in part]) / targets).backward()
        decay = 0.02 + 0.49 * (1 + math.cos(math.pi * step / recipe.steps))
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * min(1.0, (step + 1) / recipe.warmup) * decay
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    model.set_attn_implementation(fused)


def _answer_loss(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> Any:
    """Summed cross-entropy (nats) of the answers' tokens; the padding on the right needs no mask under causality."""
    import torch

    length = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    wanted = torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        wanted[row, len(prompt) : end] = True
    # bfloat16 products are what makes a warm start of minutes on CPUs that have them.
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(ids).last_hidden_state[:, :-1][wanted[:, 1:]]
        logits = model.lm_head(hidden).float()
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:][wanted[:, 1:]], reduction="sum")


def _save(
    recipe: Recipe, warm_start: int, model: Any, tokenizer: Any, pairs: list[tuple[str, str]], path: Path
) -> None:
    import torch

    model.to(torch.bfloat16).save_pretrained(path)
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**settings, "dtype": "float32"}, indent=2) + "\n")
    tokenizer.save_pretrained(path)
    facts = {
        **{name: value for name, value in asdict(recipe).items() if name != "seeds"},
        "warm_start": warm_start,
        "seed": own_seed(recipe, warm_start),
        "parameters": sum(p.numel() for p in model.parameters()),
        "corpus_sha256": corpus_sha256(pairs),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }
    (path / "recipe.json").write_text(json.dumps(facts, indent=2) + "\n")
