"""Supervised training of a micro model: from a recipe and (question, answer) pairs to a directory with weights."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import random
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa_ah_lib.micro.tokenizer import CONTEXT, END, prompt_text

ROWS = 32


@dataclass(frozen=True)
class Training:
    """A model's sizes and its supervised training; sizes in units, counts in items, ``lr`` as AdamW's."""

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
    threads: int = 1


@contextmanager
def repeatable(seed: int, threads: int) -> Generator[None]:
    """Inside, torch draws from ``seed`` and computes on so many threads; both are as they were afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def new_model(recipe: Training, tokenizer: Any) -> Any:
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
    recipe: Training, model: Any, tokenizer: Any, pairs: list[tuple[str, str]], rng: random.Random, progress: bool
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


def save(path: Path, model: Any, tokenizer: Any) -> None:
    """Write a model as bfloat16 that loads as float32, and leave it as it is shipped: rounded, computed in float32."""
    import torch

    model.to(torch.bfloat16).save_pretrained(path)
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**settings, "dtype": "float32"}, indent=2) + "\n")
    tokenizer.save_pretrained(path)
    model.to(torch.float32)


def save_facts(path: Path, model: Any, pairs: list[tuple[str, str]], facts: dict[str, Any]) -> None:
    """Write ``recipe.json``: ``facts``, and what can be told of the model, its corpus and this day."""
    import torch

    known = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "corpus_sha256": corpus_sha256(pairs),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }
    (path / "recipe.json").write_text(json.dumps({**facts, **known}, indent=2) + "\n")


def corpus_sha256(pairs: list[tuple[str, str]]) -> str:
    """Hex digest of a corpus: sha256 over its pairs as JSON lines."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update((json.dumps(pair) + "\n").encode())
    return digest.hexdigest()
