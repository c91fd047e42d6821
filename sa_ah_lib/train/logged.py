"""Sampled rollouts of a run's log as batches: what a rule would have said of rollouts that were trained before."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from sa_ah_lib.config import RunConfig
from sa_ah_lib.rules import RolloutBatch
from sa_ah_lib.train import publish
from sa_ah_lib.train.runlog import below, configuration, read_jsonl
from sa_ah_lib.train.shipped import WARM_STARTS, shipped_path


@dataclass(frozen=True)
class Group:
    """One logged group of a run: its rows of ``completions.jsonl``, and the batch that a rule is given of them.

    Logs hold texts and no log-probabilities: the batch's ``completion_ids`` are numbers of texts, alike where texts
    are, and its ``log_probs`` are None.
    """

    config: RunConfig
    step: int
    rows: list[dict[str, Any]]
    batch: RolloutBatch

    @property
    def weights(self) -> torch.Tensor:
        """(B, T) float32: the weights of training, as they were logged; 0 on padding."""
        return padded([row["weights"] for row in self.rows])


def groups(rows: Iterable[dict[str, Any]], config: RunConfig, log_vocabulary: float = 1.0) -> Iterator[Group]:
    """Rows of one run's ``completions.jsonl``, group by group; ``log_vocabulary``: log V in nats, where it is read."""
    named: dict[tuple, list] = {}
    for row in rows:
        named.setdefault((row["step"], row["prompt"]), []).append(row)
    for (step, _), members in named.items():
        texts = sorted({text for row in members for text in row["tokens"]})
        numbers = {text: number for number, text in enumerate(texts, 1)}
        batch = RolloutBatch(
            entropy=padded([row["entropy"] for row in members]),
            mask=padded([[1] * len(row["tokens"]) for row in members]).long(),
            advantages=torch.tensor([row["advantage"] for row in members]),
            groups=torch.zeros(len(members), dtype=torch.long),
            log_vocabulary=log_vocabulary,
            rewards=torch.tensor([float(row["reward"]) for row in members]),
            completion_ids=padded([[numbers[text] for text in row["tokens"]] for row in members]).long(),
            # Weights are made before their step is counted.
            progress=(step - 1) / max(1, config.steps),
            seed=step,
        )
        yield Group(config, step, members, batch)


def of_micro_models(logs: str | Path, scale: str = "") -> Iterator[Group]:
    """The logged groups of every micro model's run below ``logs``, those in archives included, run after run.

    Runs of other models are left out: the size of their vocabulary is not in the logs. So are runs of a user's own rule
    whose file is not loaded, and that is said.

    Args:
        scale: the runs of this one alone; empty takes every micro scale.
    """
    places = (Path(logs), *map(publish.unpacked, below(logs, f"*{publish.ENDING}")))
    for path in (path for place in places for path in below(place, "completions.jsonl")):
        config = configuration(path.parent)
        if config and config.model in WARM_STARTS and scale in ("", config.scale):
            model = shipped_path(config.model, config.warm_start) / "config.json"
            vocabulary = json.loads(model.read_text(encoding="utf-8"))["vocab_size"]
            yield from groups(read_jsonl(path), config, math.log(vocabulary))


def padded(rows: Iterable[list]) -> torch.Tensor:
    """(B, T) float32 of lists of numbers, 0 behind their ends."""
    return pad_sequence([torch.tensor(row, dtype=torch.float32) for row in rows], batch_first=True)
