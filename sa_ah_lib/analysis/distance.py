"""How far each rule moved the policy, and what GRPO has at that distance. Needs no torch.

A rule that divides by its weights, or weighs failures less, may just take other steps. So each of its runs is held
against GRPO at the same distance from the start: between the GRPO runs of its warm start and seed at several learning
rates, and the model before training.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np

from sa_ah_lib.analysis import board, comparison
from sa_ah_lib.analysis.compared import evidence
from sa_ah_lib.analysis.comparison import Arm
from sa_ah_lib.analysis.rounding import ESTIMATED, rounded
from sa_ah_lib.analysis.seeds import Comparison, compare_all, scores
from sa_ah_lib.analysis.table import DASH, Table
from sa_ah_lib.train.run import Run

LAST = 10
"""Logged steps, from the last, whose KL is averaged."""
METRIC = "pass_at_1"
NOTES = (
    f"KL: from the model before training, nats per token, TRL's estimate on the rollouts of the last {LAST} steps.",
    "GRPO as far: what GRPO would have gained, had it moved as far from the model before training. Distance is the "
    "root of the KL. Straight lines join that model and GRPO's runs of the same warm start and seed at the learning "
    "rates shown. GRPO's real curve may lie above a line where its gains flatten; that flatters the rules. A GRPO run "
    "that ends below the model before training is no point, because the line would fall towards it; it may still fall "
    "between two learning rates. A run that moved further than every point is held against the furthest. Where a run "
    "stands between points is taken as known: intervals are over warm starts, seeds and problems alone.",
    "These comparisons are exploratory: docs/preregistration.md does not name them.",
)


@dataclass(frozen=True)
class Moved:
    """One row of the board, on the pairs that GRPO was run on at every learning rate.

    Args:
        kl: mean of its runs' KL from the reference, nats per token, see ``distance``.
        gain: of Pass@1 over the model before training, a mean in [-1, 1].
        at_equal: against GRPO at the same distance; None for GRPO itself.
        beyond: how many runs moved further than each point of their pair's line; they are held against the furthest.
    """

    arm: Arm
    kl: float
    gain: float
    at_equal: Comparison | None
    beyond: int


def distance(run: Run) -> float:
    """Square root of the mean logged KL from the reference over the last ``LAST`` steps; NaN where none was logged.

    The KL is a quadratic form of a small change of the policy, so that its root grows like the change itself.
    """
    values = run.curve("kl")[1][-LAST:]
    return math.sqrt(max(0.0, float(values.mean()))) if len(values) else math.nan


def grpo_as_far(arm: Arm, line: Sequence[Arm]) -> Arm:
    """What GRPO has as far from the start as each run of ``arm``: its answers, interpolated in ``distance``.

    Args:
        line: GRPO at several learning rates, each with all of ``arm``'s keys, KL and answers before training logged.
            Runs that are not ``gained`` are left out.

    Returns:
        An arm whose runs have answers in [0, 1] at the last step, and no other step.
    """
    made = {key: _between(line[0].runs[key], _points(line, key), distance(run)) for key, run in arm.runs.items()}
    return Arm("GRPO, as far", line[0].config, made)


def gained(run: Run) -> bool:
    """Whether a run ends at or above the model before training, so that the line may go through it."""
    return bool(np.mean(run.answers[run.last]) >= np.mean(run.answers[0]))


def moved(results: Iterable[Run], scale: str) -> list[Moved]:
    """GRPO at its learning rates on the pairs that they share, then the rules; [] where those are less than two.

    Runs without a logged KL, or without answers before training, are left out. Holm's p is corrected for all rules.
    """
    results = list(results)
    ran = [(entry, _usable(board.arm(entry, results, scale))) for entry in board.entries()]
    line = comparison.on_shared_pairs([arm for entry, arm in ran if entry.is_step_of_grpo])
    if len(line) < 2:
        return []
    keys = line[0].runs.keys()
    rules = [arm.on(keys) for entry, arm in ran if not entry.is_line and keys & arm.runs.keys()]
    at_equal = compare_all([(arm, grpo_as_far(arm, line)) for arm in rules], METRIC)
    found = {one.first: one for one in at_equal}
    return [_moved(arm, found.get(arm.label), line) for arm in (*line, *rules)]


def table(found: Sequence[Moved], scale: str) -> Table:
    """One row per arm of ``moved``, which is not empty: KL, gain, and the comparison with GRPO at that distance."""
    header = ["rule", "runs", "KL", "gain over the start", "gain over GRPO as far [95%]", "p", "Holm p", "verdict"]
    lines = [[*_measured(one), *evidence(one.at_equal), _beyond(one)] for one in found]
    title = f"How far each rule moved, and GRPO as far, {comparison.caption([one.arm for one in found])}"
    return Table(f"distance-{scale}", title, [*header, "moved further"], lines, NOTES)


def _measured(one):
    return [one.arm.label, str(len(one.arm.runs)), f"{one.kl:.4f}", f"{100 * one.gain:+.1f} points"]


def _beyond(one):
    return DASH if one.at_equal is None else f"{one.beyond} of {len(one.arm.runs)}"


def _usable(arm):
    runs = {key: run for key, run in arm.runs.items() if math.isfinite(distance(run)) and 0 in run.answers}
    return Arm(arm.label, arm.config, runs)


def _points(line, key):
    """GRPO's runs of one pair that the line goes through."""
    return [arm.runs[key] for arm in line if gained(arm.runs[key])]


def _between(first, runs, place):
    """GRPO's run ``first`` with the answers that GRPO has at one distance, between the points ``runs``."""
    known = [
        (0.0, first.answers[0]),
        *sorted(((distance(run), run.answers[run.last]) for run in runs), key=itemgetter(0)),
    ]
    places = [far for far, _ in known]
    shares = np.array([np.interp(place, places, one) for one in np.eye(len(known))])  # (points,)
    answers = shares @ np.array([row for _, row in known], dtype=float)  # (problems,)
    counts = (float(answers.sum()), len(answers))
    return replace(first, pass_at_1={first.last: counts}, answers={first.last: answers})


def _moved(arm, at_equal, line):
    kl = np.mean([distance(run) ** 2 for run in arm.runs.values()])
    starts = [run.evaluations[0][0] / run.evaluations[0][1] for run in arm.runs.values()]
    gain = float(np.mean(list(scores(arm, METRIC).values()))) - float(np.mean(starts))
    furthest = {key: max(map(distance, _points(line, key)), default=0.0) for key in arm.runs}
    beyond = sum(distance(run) > furthest[key] for key, run in arm.runs.items())
    return Moved(arm, rounded(kl, ESTIMATED), rounded(gain, ESTIMATED), at_equal, beyond)
