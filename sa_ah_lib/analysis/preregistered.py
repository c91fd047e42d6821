"""The comparisons that ``docs/preregistration.md`` names, and no others. Needs no torch."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sa_ah_lib.analysis.board import Entry
from sa_ah_lib.analysis.compared import evidence
from sa_ah_lib.analysis.comparison import Arm, arms, caption
from sa_ah_lib.analysis.seeds import METRICS, Comparison, compare_all
from sa_ah_lib.analysis.table import Table
from sa_ah_lib.config import RunConfig

ENDPOINTS = ("pass_at_1", "auc")
ARMS = {
    "GRPO": Entry("GRPO"),
    "AH": Entry("AH", method="ah-grpo"),
    "SA": Entry("SA", method="sa-ah-grpo"),
    "SA, position": Entry("SA, position", "position", "control-position"),
    "SA, one scalar": Entry("SA, one scalar", "scalar", "control-scalar"),
    "GRPO, twice the step": Entry("GRPO, twice the step", learning_rate=2.0),
}
"""{name on the page: its row of the board}."""
BEFORE = "before training"
"""No arm of its own: GRPO's runs with the answers of step 0 at every step."""
COMPARISONS = (
    ("SA", "GRPO", "the paper's claim"),
    ("AH", "GRPO", "the paper's other method"),
    ("SA", "AH", "what selecting failures adds"),
    ("SA", "SA, position", "what entropy adds to discounting later tokens of failures"),
    ("SA", "SA, one scalar", "what any order of tokens adds to weighing failures less"),
    ("AH", "GRPO, twice the step", "what is left when the step is larger too"),
)
"""(first, second, what it asks) on the micro tasks."""


@dataclass(frozen=True)
class Design:
    """What the page asks for of one scale: every arm once for each warm start and seed, and what is compared."""

    arms: tuple[str, ...]
    warm_starts: Sequence[int]
    seeds: Sequence[int]
    comparisons: tuple[tuple[str, str, str], ...]

    @property
    def over(self) -> str:
        """What its intervals are over."""
        return "warm starts, seeds and problems" if len(self.warm_starts) > 1 else "seeds and problems"

    def of(self, arm: str, scale: str) -> list[RunConfig]:
        """The runs of one arm, warm start by warm start."""
        pairs = itertools.product(self.warm_starts, self.seeds)
        return [ARMS[arm].config(scale, warm_start=start, seed=seed) for start, seed in pairs]


MICRO = Design(tuple(ARMS), range(5), (1, 2), COMPARISONS)
PRE_TRAINED = Design(
    ("GRPO", "AH", "SA", "SA, position"),
    (0,),
    (1, 2, 3, 4),
    (("GRPO", BEFORE, "what training adds"), COMPARISONS[0], COMPARISONS[1], COMPARISONS[3]),
)
DESIGNS = {"micro-legs": MICRO, "micro-sum": MICRO, "smollm2": PRE_TRAINED}
SCALES = tuple(DESIGNS)


def configurations(scale: str) -> list[RunConfig]:
    """Every run that the page asks for of one scale, arm by arm.

    Raises:
        ValueError: the page names no such scale.
    """
    if scale not in DESIGNS:
        raise ValueError(f"scale must be one of {SCALES}, which were preregistered. Got {scale!r}.")
    return [config for arm in DESIGNS[scale].arms for config in DESIGNS[scale].of(arm, scale)]


def missing(runs: Iterable[Any], scale: str) -> list[RunConfig]:
    """The configurations of ``scale`` that none of ``runs`` has."""
    done = {run.config for run in runs}
    return [config for config in configurations(scale) if config not in done]


def compared(
    runs: Iterable[Any], scale: str, endpoints: Iterable[str] = ENDPOINTS
) -> dict[str, list[Comparison]] | None:
    """{endpoint: the comparisons of one scale}, or None as long as a run is missing.

    A look at some of the runs would decide when to stop.
    """
    runs = list(runs)
    if missing(runs, scale):
        return None
    found = {name: _arm(name, scale, runs) for name in (*DESIGNS[scale].arms, BEFORE)}
    pairs = [(found[first], found[second]) for first, second, _ in DESIGNS[scale].comparisons]
    return {endpoint: compare_all(pairs, endpoint) for endpoint in endpoints}


def table(runs: Iterable[Any], scale: str, endpoint: str) -> Table:
    """The comparisons of one scale at one endpoint, a key of ``ENDPOINTS``, each with its verdict."""
    runs, design = list(runs), DESIGNS[scale]
    name, label = f"preregistered-{scale}-{endpoint.replace('_', '-')}", METRICS[endpoint].label
    title = f"Preregistered comparisons: {label}"
    header = ["comparison", "what it asks", "gain [95%]", "p", "Holm p", "verdict"]
    found = compared(runs, scale, (endpoint,))
    if found is None:
        rows = [[f"{first} against {second}", asked, *evidence(None)] for first, second, asked in design.comparisons]
        left, whole = len(missing(runs, scale)), len(configurations(scale))
        note = f"Nothing is compared yet: {left} of {whole} runs are missing."
        return Table(name, f"{title}, measured: {scale}, no comparison yet", header, rows, (note,))
    rows = [
        [f"{one.first} against {one.second}", asked, *evidence(one)]
        for one, (_, _, asked) in zip(found[endpoint], design.comparisons, strict=True)
    ]
    return Table(name, f"{title}, {caption([_arm(arm, scale, runs) for arm in design.arms])}", header, rows)


def _arm(name, scale, runs):
    """The arm of that name on the page, with all its runs."""
    if name == BEFORE:
        grpo = _arm("GRPO", scale, runs)
        return Arm(BEFORE, grpo.config, {key: _untrained(run) for key, run in grpo.runs.items()})
    own = set(DESIGNS[scale].of(name, scale))
    (arm,) = arms([run for run in runs if run.config in own])
    return Arm(name, arm.config, arm.runs)


def _untrained(run):
    """A run with the answers of step 0 at every evaluated step."""
    start = run.evaluations[0]
    answers = {step: run.answers[0] for step in run.answers}
    return replace(run, pass_at_1={step: start for step in run.pass_at_1}, answers=answers)
