"""Logged rollouts as batches: what a rule would have said of rollouts that were trained before."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from sa_ah_lib.rules import RolloutBatch
from sa_ah_lib.train.runlog import read_jsonl
from sa_ah_lib.train.shipped import WARM_STARTS, shipped_path


@dataclass(frozen=True)
class Replayed:
    """One logged group: where it is from, its batch, and each rollout's tokens as text."""

    run_id: str
    step: int
    batch: RolloutBatch
    tokens: list[list[str]]


def groups(logs: str | Path, most: int | None = None) -> list[Replayed]:
    """Logged groups of the micro models' runs below ``logs``, spread over the runs; at most ``most``.

    Raises:
        ValueError: no run with logged rollouts.
    """
    found = [group for path in sorted(Path(logs).rglob("completions.jsonl")) for group in _groups_of(path)]
    if not found:
        raise ValueError(f"expected runs of micro models with a completions.jsonl. Got none below {logs}; set LOGS.")
    stride = math.ceil(len(found) / most) if most else 1
    return found[::stride]


def _groups_of(path) -> Iterator[Replayed]:
    config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    if config["model"] not in WARM_STARTS:  # the size of another model's vocabulary is not in its logs
        return
    model = shipped_path(config["model"], config.get("warm_start", 0)) / "config.json"
    vocabulary = json.loads(model.read_text(encoding="utf-8"))["vocab_size"]
    named: dict[tuple, list] = {}
    for row in read_jsonl(path):
        named.setdefault((row["step"], row["prompt"]), []).append(row)
    for (step, _), rows in named.items():
        yield Replayed(path.parent.name, step, _batch(rows, vocabulary), [row["tokens"] for row in rows])


def _batch(rows, vocabulary):
    width = max(len(row["tokens"]) for row in rows)
    texts = sorted({text for row in rows for text in row["tokens"]})

    def table(values):
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in values])

    entropy = table([row["entropy"] for row in rows]).float()
    return RolloutBatch(
        entropy=entropy,
        mask=table([[1] * len(row["tokens"]) for row in rows]),
        advantages=torch.tensor([row["advantage"] for row in rows]),
        groups=torch.zeros(len(rows), dtype=torch.long),
        log_vocabulary=math.log(vocabulary),
        # Logs hold texts, not ids, and no log-probabilities: a token of entropy H has, on average, -H.
        completion_ids=table([[1 + texts.index(text) for text in row["tokens"]] for row in rows]),
        log_probs=-entropy * math.log(vocabulary),
        rewards=torch.tensor([row["reward"] for row in rows]),
    )
