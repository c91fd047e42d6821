"""What a mixture of short questions is learnt from: Pass@1 by kind of question, before and after. Needs no torch."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sa_ah_lib.analysis.table import DASH

KINDS = {
    "State the final answer": "sums",
    "Solve the following multiplication": "products",
    "Find the Greatest Common Divisor": "common divisors",
    "How many times does the letter": "letter counts",
}
"""{how a question of reasoning-gym begins: its kind}, of the mixtures "simple" and "arithmetic"."""
HEADER = ["problems", "arm", "kind", "n", "one answer", "before", "after, mean", "after, seeds", "above"]


def kind(question: str) -> str | None:
    """The kind of a question, or None where it is none of ``KINDS``."""
    return next((name for opening, name in KINDS.items() if question.startswith(opening)), None)


def rows(arms: Mapping[str, Iterable[Any]]) -> list[list[Any]]:
    """One row of ``HEADER`` for each data set, arm and kind; none where questions are of no kind.

    "one answer" is the share of problems that the likeliest gold answer is right for; "above" counts the seeds that
    end above their start.

    Args:
        arms: {label: runs}, runs with ``config`` and ``eval``, rows with ``step``, ``question``, ``gold``, ``correct``.
    """
    found = []
    for label, runs in arms.items():
        for dataset in sorted({run.config.dataset for run in runs}):
            members = [run for run in runs if run.config.dataset == dataset]
            found += [[dataset, label, *row] for row in _of_arm(members)]
    return sorted(found, key=lambda row: [row[0], list(KINDS.values()).index(row[2])])


def _of_arm(runs):
    for name in KINDS.values():
        ends = [[_rows(run, name, step) for step in (0, run.last)] for run in runs]
        asked = ends[0][0]
        if not asked:
            continue
        before, after = (np.array([_share(end[side]) for end in ends]) for side in (0, 1))
        golds = Counter(row["gold"] for row in asked)
        yield [
            name, len(asked), f"{max(golds.values()) / len(asked):.2f}", f"{before[0]:.3f}", f"{after.mean():.3f}",
            f"{after.min():.3f} to {after.max():.3f}" if len(runs) > 1 else DASH,
            f"{(after > before).sum()} of {len(runs)}",
        ]  # fmt: skip


def _rows(run, name, step):
    return [row for row in run.eval if row["step"] == step and kind(row["question"]) == name]


def _share(rows):
    return sum(row["correct"] for row in rows) / len(rows)
