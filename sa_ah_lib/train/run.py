"""A run as it is read back, from its logs or from printed numbers: one class for notebooks, tables and figures.

Needs no torch.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sa_ah_lib.config import RunConfig

Row = dict[str, Any]
"""One line of a log."""


class MissingData(Exception):
    """A table or figure asked for what its source does not have; the message says what."""


@dataclass(frozen=True)
class Run:
    """One run: its configuration, Pass@1 counts, logged rows, and per-problem answers where they are known.

    Attributes:
        source: "paper" or "measured".
        pass_at_1: {step: (correct, problems)} of the trained checkpoints, ascending.
        base: zero-shot Pass@1, or None.
        train: one dict per logged step, with the keys of ``train.jsonl``; steps ascending, each once.
        answers: {step: (N,) booleans in problem order}, step 0 included; empty where only totals are known.
        completions: sampled rollouts, rows of ``completions.jsonl``.
        printed: the paper's run-level numbers, not recomputed: "variance" and "kl", and the texts of Table 2's cells
            "base", "final" and "peak".
        environment: ``environment.json``, or what is known of data, device and date in its form.
        directory: the run directory; None for printed numbers and foreign logs, of which nothing is opened.
        eval: rows of ``eval.jsonl``. samples: rows of ``samples.jsonl``.
        finished: whether the run came to its end.
    """

    source: str
    config: RunConfig
    pass_at_1: dict[int, tuple[int, int]]
    base: float | None = None
    train: list[Row] = field(default_factory=list, repr=False)
    answers: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    completions: list[Row] = field(default_factory=list, repr=False)
    printed: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict, repr=False)
    directory: Path = None  # ty: ignore[invalid-assignment]
    eval: list[Row] = field(default_factory=list, repr=False)
    samples: list[Row] = field(default_factory=list, repr=False)
    finished: bool = True

    def curve(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) of one logged key as arrays, without the steps that lack it."""
        rows = [row for row in self.train if row.get(key) is not None]
        return np.array([row["step"] for row in rows], dtype=int), np.array([row[key] for row in rows], dtype=float)

    @property
    def evaluations(self) -> dict[int, tuple[int, int]]:
        """``pass_at_1`` with step 0, where its answers are known."""
        right = self.answers.get(0)
        return self.pass_at_1 if right is None else {0: (int(right.sum()), len(right)), **self.pass_at_1}

    @property
    def last(self) -> int:
        """The last evaluated step."""
        self._need_checkpoints()
        return max(self.pass_at_1)

    @property
    def final(self) -> tuple[int, int]:
        """(correct, problems) at the last checkpoint."""
        return self.pass_at_1[self.last]

    @property
    def best(self) -> int:
        """The step of the best checkpoint, the first of equals."""
        self._need_checkpoints()
        return max(self.pass_at_1, key=lambda step: self.pass_at_1[step][0] / self.pass_at_1[step][1])

    @property
    def peak(self) -> tuple[int, int]:
        """(correct, problems) at the best checkpoint."""
        return self.pass_at_1[self.best]

    @property
    def problems(self) -> str:
        """Where its problems are from; of a mixture also its name, as two have one source."""
        source = self.environment.get("data", {}).get("source", self.config.dataset)
        return f"{source} ({self.config.dataset})" if source.endswith(" composite") else source

    @property
    def origin(self) -> dict[str, Any]:
        """What a caption says beside the model: data and their hash, device, day of the start, parameters."""
        if not self.environment:
            return {}
        data, started = self.environment.get("data", {}), str(self.environment.get("started", "unknown date"))
        return {
            "data": self.problems,
            "data_sha256": data.get("sha256"),
            "device": self.environment.get("device", "unknown device"),
            "date": started[:10] if started[10:11] == "T" else started,
            "parameters": self.environment.get("parameters"),
        }

    def _need_checkpoints(self):
        if not self.pass_at_1:
            raise MissingData(f"no evaluated checkpoint of {self.config.method} (alpha {self.config.alpha:g})")


def assemble(directory: Path, config: RunConfig, environment: Mapping[str, Any], finished: bool, /, **logs: Any) -> Run:
    """A ``Run`` of the rows of its logs; later lines of a step win over earlier ones, each with a warning.

    Args:
        logs: lists of rows as they stand in the files: train, eval, completions, samples.
    """
    answers = _answers(logs["eval"], directory / "eval.jsonl")
    counts = {step: (int(right.sum()), len(right)) for step, right in answers.items()}
    base = counts.pop(0, None)
    return Run(
        "measured", config, counts, base[0] / base[1] if base else None,
        rows_by_step(logs["train"], directory / "train.jsonl"), answers, logs["completions"],
        environment=dict(environment), directory=directory, eval=logs["eval"], samples=logs["samples"],
        finished=finished,
    )  # fmt: skip


def rows_by_step(rows: Iterable[Row], path: str | Path) -> list[Row]:
    """Rows of a training log with every step once, ascending; ``path`` names the file in warnings."""
    kept, not_finite = {}, []
    for line, row in enumerate(rows, 1):
        if not isinstance(row.get("step"), int):
            _warn(f"{path}, line {line}: expected an integer step. Got {row.get('step')!r}; line left out.")
            continue
        if row["step"] in kept:
            _warn(f"{path}, line {line}: step {row['step']} again; this later line is used.")
        values = {k: v for k, v in row.items() if not isinstance(v, float) or math.isfinite(v)}
        if "reward" in row and values.get("reward") is None:
            not_finite.append(line)
        kept[row["step"]] = values
    if not_finite:
        _warn(f"{path}, line {_listed(not_finite)}: no finite reward; left out of the reward curve.")
    return [kept[step] for step in sorted(kept)]


def _answers(rows, path):
    kept = {}
    for line, row in enumerate(rows, 1):
        got = {key: row.get(key) for key in ("step", "problem", "correct")}
        if None in got.values() or not isinstance(got["step"], int):
            _warn(f"{path}, line {line}: expected step, problem and correct. Got {got}; line left out.")
            continue
        answers = kept.setdefault(row["step"], {})
        if row["problem"] in answers:
            where = f"{path}, line {line}: step {row['step']}, problem {row['problem']}"
            _warn(f"{where} again; this later line is used.")
        answers[row["problem"]] = bool(row["correct"])
    return {step: np.array([kept[step][p] for p in sorted(kept[step])], dtype=bool) for step in sorted(kept)}


def _warn(text):
    warnings.warn(text, stacklevel=2)


def _listed(lines: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, lines[:most])) + (f" and {len(lines) - most} more" if len(lines) > most else "")
