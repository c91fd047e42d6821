"""Logged groups that a rule file is checked on."""

import math
from dataclasses import replace
from pathlib import Path

from sa_ah_lib.train.logged import Group, of_micro_models


def groups(logs: str | Path, most: int | None = None) -> list[Group]:
    """Logged groups of the micro models' runs below ``logs``, spread over the runs; at most ``most``.

    Logs have no log-probabilities, and a token of entropy H has, on average, -H: that stands for them.

    Raises:
        ValueError: no run with logged rollouts.
    """
    found = list(of_micro_models(logs))
    if not found:
        raise ValueError(f"expected runs of micro models with a completions.jsonl. Got none below {logs}; set LOGS.")
    chosen = found[:: math.ceil(len(found) / most) if most else 1]
    return [replace(group, batch=replace(group.batch, log_probs=-group.batch.entropy_nats)) for group in chosen]
