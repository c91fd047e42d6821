"""Logged groups that a rule file is checked on."""

import math
from dataclasses import replace
from pathlib import Path

import torch

from sa_ah_lib.train.logged import Group, of_micro_models


def groups(logs: str | Path, most: int | None = None, scale: str = "") -> list[Group]:
    """Logged groups of the micro models' runs below ``logs``, spread over the runs; at most ``most``.

    Logs have no log-probabilities. A token of entropy H has, on average, -H; for it stands -H times a draw of mean 1,
    the same at every call, so that some tokens are surprising.

    Args:
        scale: whose rollouts, where there are any; other scales' where there are none, or where it is empty.

    Raises:
        ValueError: no run with logged rollouts.
    """
    found = list(of_micro_models(logs, scale)) or list(of_micro_models(logs))
    if not found:
        raise ValueError(f"expected runs of micro models with a completions.jsonl. Got none below {logs}; set LOGS.")
    chosen = found[:: math.ceil(len(found) / most) if most else 1]
    return [replace(group, batch=replace(group.batch, log_probs=_drawn(group.batch))) for group in chosen]


def _drawn(batch):
    surprise = torch.empty_like(batch.entropy_nats).exponential_(generator=torch.Generator().manual_seed(0))
    return -batch.entropy_nats * surprise
