"""The comparisons that ``docs/preregistration.md`` names, and no others. Needs no torch."""

from collections.abc import Iterable
from typing import Any

from sa_ah_lib.analysis.board import Entry
from sa_ah_lib.analysis.compared import evidence
from sa_ah_lib.analysis.comparison import Arm, arms, caption
from sa_ah_lib.analysis.seeds import METRICS, Comparison, compare_all
from sa_ah_lib.analysis.table import Table
from sa_ah_lib.config import RunConfig

SCALES = ("micro-legs", "micro-sum")
WARM_STARTS, SEEDS = range(5), (1, 2)
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
COMPARISONS = (
    ("SA", "GRPO", "the paper's claim"),
    ("AH", "GRPO", "the paper's other method"),
    ("SA", "AH", "what selecting failures adds"),
    ("SA", "SA, position", "what entropy adds to discounting later tokens of failures"),
    ("SA", "SA, one scalar", "what any order of tokens adds to weighing failures less"),
    ("AH", "GRPO, twice the step", "what is left when the step is larger too"),
)


def configurations(scale: str) -> list[RunConfig]:
    """Every run that the page asks for of one scale, warm start by warm start, seed by seed.

    Raises:
        ValueError: the page names no such scale.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {SCALES}, which were preregistered. Got {scale!r}.")
    return [
        arm.config(scale, warm_start=start, seed=seed)
        for start in WARM_STARTS
        for seed in SEEDS
        for arm in ARMS.values()
    ]


def missing(runs: Iterable[Any], scale: str) -> list[RunConfig]:
    """The configurations of ``scale`` that none of ``runs`` has."""
    done = {run.config for run in runs}
    return [config for config in configurations(scale) if config not in done]


def compared(
    runs: Iterable[Any], scale: str, endpoints: Iterable[str] = ENDPOINTS
) -> dict[str, list[Comparison]] | None:
    """{endpoint: the six comparisons of one scale}, or None as long as a run is missing.

    A look at some of the runs would decide when to stop.
    """
    runs = list(runs)
    if missing(runs, scale):
        return None
    found = {name: _arm(name, scale, runs) for name in ARMS}
    pairs = [(found[first], found[second]) for first, second, _ in COMPARISONS]
    return {endpoint: compare_all(pairs, endpoint) for endpoint in endpoints}


def table(runs: Iterable[Any], scale: str, endpoint: str) -> Table:
    """The six comparisons of one scale at one endpoint, a key of ``ENDPOINTS``, each with its verdict."""
    runs = list(runs)
    name, label = f"preregistered-{scale}-{endpoint.replace('_', '-')}", METRICS[endpoint].label
    title = f"Preregistered comparisons: {label}"
    header = ["comparison", "what it asks", "gain [95%]", "p", "Holm p", "verdict"]
    found = compared(runs, scale, (endpoint,))
    if found is None:
        rows = [[f"{first} against {second}", asked, *evidence(None)] for first, second, asked in COMPARISONS]
        left, whole = len(missing(runs, scale)), len(configurations(scale))
        note = f"Nothing is compared yet: {left} of {whole} runs are missing."
        return Table(name, f"{title}, measured: {scale}, no comparison yet", header, rows, (note,))
    rows = [
        [f"{one.first} against {one.second}", asked, *evidence(one)]
        for one, (_, _, asked) in zip(found[endpoint], COMPARISONS, strict=True)
    ]
    return Table(name, f"{title}, {caption([_arm(arm, scale, runs) for arm in ARMS])}", header, rows)


def _arm(name, scale, runs):
    """The arm of that name on the page, with its ten runs."""
    own = {ARMS[name].config(scale, warm_start=start, seed=seed) for start in WARM_STARTS for seed in SEEDS}
    (arm,) = arms([run for run in runs if run.config in own])
    return Arm(name, arm.config, arm.runs)
