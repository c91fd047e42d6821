"""The comparisons that ``docs/preregistration.md`` names, and no others. Needs no torch."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sa_ah_lib.analysis import board
from sa_ah_lib.analysis.compared import evidence
from sa_ah_lib.analysis.comparison import Arm, arms, before_training, caption
from sa_ah_lib.analysis.seeds import METRICS, Comparison, compare_all
from sa_ah_lib.analysis.table import Table
from sa_ah_lib.config import RunConfig

ENDPOINTS = ("pass_at_1", "auc")
_ROWS = {entry.label: entry for entry in board.entries()}
ARMS = {
    "GRPO": _ROWS["GRPO"],
    "AH": _ROWS["AH-GRPO"],
    "SA": _ROWS["SA-AH-GRPO"],
    "SA, position": _ROWS["Position decay, SA"],
    "SA, one scalar": _ROWS["One scalar, SA"],
    "GRPO, twice the step": _ROWS["GRPO, 2 × step"],
    "GRPO, four times the step": _ROWS["GRPO, 4 × step"],
    "AH, position": _ROWS["Position decay, AH"],
    "SA, twice the step": _ROWS["SA-AH-GRPO, 2 × step"],
    "SA, top-entropy mask": _ROWS["Top-entropy mask, SA"],
    "mirror": _ROWS["Mirror (successes)"],
}
"""{name on the page: its row of the board}."""
BEFORE = "before training"
"""No arm of its own: GRPO's runs with the answers of step 0 at every step."""
GRPO_BEFORE = ("GRPO", BEFORE, "what training adds")
SA_GRPO = ("SA", "GRPO", "the paper's claim")
AH_GRPO = ("AH", "GRPO", "the paper's other method")
SA_POSITION = ("SA", "SA, position", "what entropy adds to discounting later tokens of failures")
COMPARISONS = (
    SA_GRPO,
    AH_GRPO,
    ("SA", "AH", "what selecting failures adds"),
    SA_POSITION,
    ("SA", "SA, one scalar", "what any order of tokens adds to weighing failures less"),
    ("AH", "GRPO, twice the step", "what is left when the step is larger too"),
)
"""(first, second, what it asks) on the micro tasks."""
TAUGHT = (
    GRPO_BEFORE,
    ("AH", BEFORE, "what training by the paper's other method adds"),
    AH_GRPO,
)
"""On the pre-trained model, over seeds enough to decide."""
TAUGHT_FASTER = (
    ("GRPO, twice the step", BEFORE, "what training at twice the step adds"),
    ("GRPO, twice the step", "GRPO", "what the larger step adds"),
    COMPARISONS[-1],
)
"""On the pre-trained model, over the seeds of ``TAUGHT``."""
DECIDED_ANEW = (GRPO_BEFORE,)
"""On the pre-trained model and ``arithmetic``, whose answers are not mostly one number."""
SELECTED = (SA_GRPO, ("SA", BEFORE, "what training by the paper's method adds"))
"""The same for the paper's method, over the same seeds."""
STEP_SIZES = (
    ("SA, twice the step", "GRPO, twice the step", "the paper's claim at a larger step"),
    ("GRPO, four times the step", "GRPO, twice the step", "whether twice the step is still too small"),
    ("AH", "AH, position", "what entropy adds to discounting later tokens of all rollouts"),
)
"""The second question on the micro tasks, in the same form."""
SECOND_TASK = (
    ("SA, top-entropy mask", "GRPO", "whether the mask that was better on micro-legs is better here"),
    ("SA, top-entropy mask", "SA", "what the mask adds to the paper's rule"),
    ("mirror", "GRPO", "whether discounting successes, worse on micro-legs, is worse here"),
)
"""What was found on one micro task, asked on the other."""


@dataclass(frozen=True)
class Design:
    """What the page asks for: every arm once for each warm start and seed of one scale, and what is compared.

    ``changes`` are fields of ``RunConfig`` in which all arms differ from the scale's preset.
    """

    scale: str
    arms: tuple[str, ...]
    warm_starts: Sequence[int]
    seeds: Sequence[int]
    comparisons: tuple[tuple[str, str, str], ...]
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The scale, with the data set where it is not the scale's own."""
        return f"{self.scale}, {self.changes['dataset']}" if "dataset" in self.changes else self.scale

    @property
    def over(self) -> str:
        """What its intervals are over."""
        return "warm starts, seeds and problems" if len(self.warm_starts) > 1 else "seeds and problems"

    def of(self, arm: str) -> list[RunConfig]:
        """The runs of one arm, warm start by warm start."""
        pairs = itertools.product(self.warm_starts, self.seeds)
        return [ARMS[arm].config(self.scale, warm_start=start, seed=seed, **self.changes) for start, seed in pairs]


def _micro(scale, comparisons):
    """Two seeds on each of five warm starts, of every arm that is compared."""
    named = {arm for first, second, _ in comparisons for arm in (first, second)}
    return Design(scale, tuple(arm for arm in ARMS if arm in named), range(5), (1, 2), comparisons)


_SIMPLE = {"dataset": "simple", "data_seed": 123}
MORE_SEEDS = Design("smollm2", ("GRPO", "AH"), (0,), range(6, 14), TAUGHT, _SIMPLE)
FASTER = replace(MORE_SEEDS, arms=("GRPO", "AH", "GRPO, twice the step"), comparisons=TAUGHT_FASTER)
ARITHMETIC = Design(
    "smollm2", ("GRPO",), (0,), range(14, 22), DECIDED_ANEW, {"dataset": "arithmetic", "data_seed": 2026}
)
PRE_TRAINED = Design(
    "smollm2",
    ("GRPO", "AH", "SA", "SA, position"),
    (0,),
    (1, 2, 3, 4),
    (GRPO_BEFORE, SA_GRPO, AH_GRPO, SA_POSITION),
    _SIMPLE,
)
DESIGNS = {
    "micro-legs": _micro("micro-legs", COMPARISONS),
    "micro-sum": _micro("micro-sum", COMPARISONS),
    "smollm2": PRE_TRAINED,
    "smollm2-seeds": MORE_SEEDS,
    "smollm2-steps": FASTER,
    "smollm2-arithmetic": ARITHMETIC,
    "smollm2-arithmetic-sa": replace(ARITHMETIC, arms=("GRPO", "SA"), comparisons=SELECTED),
    "micro-legs-steps": _micro("micro-legs", STEP_SIZES),
    "micro-sum-steps": _micro("micro-sum", STEP_SIZES),
    "micro-sum-mask": _micro("micro-sum", SECOND_TASK),
}
"""{name: what is compared together}; Holm's correction is for the comparisons of one design and endpoint."""
TASKS = tuple(dict.fromkeys(design.task for design in DESIGNS.values()))


def configurations(name: str) -> list[RunConfig]:
    """Every run that the page asks for of one design, arm by arm.

    Raises:
        ValueError: the page names no such design.
    """
    if name not in DESIGNS:
        raise ValueError(f"a design must be one of {tuple(DESIGNS)}, which were preregistered. Got {name!r}.")
    return [config for arm in DESIGNS[name].arms for config in DESIGNS[name].of(arm)]


def missing(runs: Iterable[Any], name: str) -> list[RunConfig]:
    """The configurations of one design that none of ``runs`` has."""
    done = {run.config for run in runs}
    return [config for config in configurations(name) if config not in done]


def compared(
    runs: Iterable[Any], name: str, endpoints: Iterable[str] = ENDPOINTS
) -> dict[str, list[Comparison]] | None:
    """{endpoint: the comparisons of one design}, or None as long as a run is missing.

    A look at some of the runs would decide when to stop.
    """
    runs = list(runs)
    if missing(runs, name):
        return None
    design = DESIGNS[name]
    found = {arm: _arm(arm, design, runs) for pair in design.comparisons for arm in pair[:2]}
    pairs = [(found[first], found[second]) for first, second, _ in design.comparisons]
    return {endpoint: compare_all(pairs, endpoint) for endpoint in endpoints}


def measured(runs: Iterable[Any], name: str) -> str:
    """What the runs of one design were measured on, as its captions say it; none of them may be missing."""
    runs, design = list(runs), DESIGNS[name]
    return caption([_arm(arm, design, runs) for arm in design.arms])


def table(runs: Iterable[Any], name: str, endpoint: str) -> Table:
    """The comparisons of one design at one endpoint, a key of ``ENDPOINTS``, each with its verdict."""
    runs, design = list(runs), DESIGNS[name]
    file, label = f"preregistered-{name}-{endpoint.replace('_', '-')}", METRICS[endpoint].label
    title = f"Preregistered comparisons: {label}"
    header = ["comparison", "what it asks", "gain [95%]", "p", "Holm p", "verdict"]
    found = compared(runs, name, (endpoint,))
    if found is None:
        rows = [[f"{first} against {second}", asked, *evidence(None)] for first, second, asked in design.comparisons]
        left, whole = len(missing(runs, name)), len(configurations(name))
        note = f"Nothing is compared yet: {left} of {whole} runs are missing."
        return Table(file, f"{title}, measured: {design.task}, no comparison yet", header, rows, (note,))
    rows = [
        [f"{one.first} against {one.second}", asked, *evidence(one)]
        for one, (_, _, asked) in zip(found[endpoint], design.comparisons, strict=True)
    ]
    return Table(file, f"{title}, {measured(runs, name)}", header, rows)


def _arm(name, design, runs):
    """The arm of that name on the page, with all its runs."""
    if name == BEFORE:
        return before_training(_arm("GRPO", design, runs), BEFORE)
    own = set(design.of(name))
    (arm,) = arms([run for run in runs if run.config in own])
    return Arm(name, arm.config, arm.runs)
