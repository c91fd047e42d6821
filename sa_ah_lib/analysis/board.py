"""The board: every token-weight rule against GRPO on one scale, paired by warm start and seed. Needs no torch.

A row is an ``Entry``: the scale's GRPO preset with a few fields changed, at the length of the scale's published
comparison. Rules that were not run, and those that lost, are rows like the others.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sa_ah_lib import rulebook
from sa_ah_lib.analysis import comparison, designs
from sa_ah_lib.analysis.compared import Compared, against_reference
from sa_ah_lib.analysis.comparison import Arm
from sa_ah_lib.analysis.seeds import Comparison, interquartile_mean
from sa_ah_lib.config import CONTROLS, METHOD_LABELS, METHODS, RunConfig, preset
from sa_ah_lib.train.shipped import WARM_STARTS

SCALES = ("micro-legs", "micro-sum")
"""The scales whose boards are published; a rule of one's own is entered on the first, whose GRPO runs are there."""

SEEDS = (1, 2)
"""The seeds of every row, on each warm start."""

MEASURES = ("pass_at_1", "auc", "steps_to", "pass_at_16")
"""Columns of the board, keys of ``seeds.METRICS``; the first is the one that the evidence is of."""

BESIDE = ("auc", "pass_at_16")
"""Measures whose verdicts stand beside the evidence."""

GRPO = "GRPO"

SHIPPED = tuple(rulebook.RECORDS.values())
"""The records of the library, without what a user's rule file adds later."""

LEFT_OUT = {
    "hicra": "its strategic n-grams must be given, and nobody has named any for these tasks",
    "gtpo_conflict": "its source adds a term where A = 0, which no factor of A can, and has no KL term",
}
"""{rule: why it has no row}: rules of the registry that a token weight, or its defaults, do not carry exactly."""

SAME_TRAINING = {"seed": 0, "warm_start": 0, "eval_every": 1, "save_every": 1, "eval_batch_size": 1}
"""Fields in which the runs of one row may differ, with the value that stands for all."""


@dataclass(frozen=True)
class Entry:
    """One row of the board.

    Args:
        label: its name. rule: in ``rulebook.RECORDS``. method: in ``METHODS``.
        learning_rate: in units of the scale's own. changes: further fields of ``RunConfig``.
    """

    label: str
    rule: str = "cumulative"
    method: str = "grpo"
    learning_rate: float = 1.0
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where the rule is from: an arXiv id, or "this project"; GRPO's is Eq. 2's."""
        if self.method in CONTROLS:
            return "this project"
        return "2402.03300" if self.is_line else rulebook.get(self.rule).source

    @property
    def is_line(self) -> bool:
        """Whether it is GRPO, at whatever step size: what a rule must beat."""
        return self.method == "grpo" and self.rule == "cumulative"

    @property
    def is_step_of_grpo(self) -> bool:
        """Whether it is plain GRPO but for its learning rate."""
        return self.is_line and not self.changes

    def config(self, scale: str, steps: int = 0, **changes: Any) -> RunConfig:
        """The run of this row; ``steps`` 0 is the length of the scale's published comparison."""
        own = preset(scale, self.method)
        length = designs.design(scale, steps=steps).steps or METHODS["grpo"]["steps"]
        fields = {"learning_rate": own.learning_rate * self.learning_rate, "rule": self.rule, **self.changes}
        return own.replace(steps=length, **{**fields, **changes})

    def at(self, learning_rate: float) -> "Entry":
        """The same row at another learning rate, in units of the scale's own; its label says so.

        Raises:
            ValueError: the learning rate is not above 0.
        """
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"ENTER_STEP must be above 0, in units of the scale's learning rate. Got {learning_rate}.")
        if learning_rate == self.learning_rate:
            return self
        return replace(self, label=f"{self.label}, {learning_rate:g} × step", learning_rate=learning_rate)


def pairs(scale: str) -> list[tuple[int, int]]:
    """(warm start, seed) of every row's runs: one seed on every warm start first, then the next."""
    return [(start, seed) for seed in SEEDS for start in range(WARM_STARTS.get(scale, 1))]


def line() -> list[Entry]:
    """GRPO's own rows: the preset, at larger steps, and divided as most published rules are."""
    own = Entry(GRPO)
    return [own, own.at(2.0), own.at(4.0), Entry("GRPO, by tokens", changes={"denominator": "tokens"})]


def entries() -> list[Entry]:
    """Every row in the board's order: GRPO's, the paper's two, the controls, then the published rules."""
    own = [Entry(METHOD_LABELS[method], method=method) for method in ("ah-grpo", "sa-ah-grpo")]
    own += [
        own[-1].at(2.0),
        Entry("Position decay, AH", "position", "ah-grpo"),
        Entry("Shuffled entropy, AH", "shuffled", "ah-grpo"),
    ]
    own += [
        Entry(_control_label(method), str(CONTROLS[method].get("rule", "cumulative")), method) for method in CONTROLS
    ]
    rules = [entry_of(record) for record in SHIPPED if not record.takes_scope and record.name not in LEFT_OUT]
    return [*line(), *own, *rules]


def _control_label(method):
    return METHOD_LABELS[method] + ("" if method == "control-mirror" else ", SA")


def entry_of(record: rulebook.Record) -> Entry:
    """The row of a rule that has a record, divided as its source divides."""
    if record.takes_scope:
        strength = {name: record.defaults[name] for name in ("alpha", "scope")}
        return Entry(record.label, record.name, "sa-ah-grpo", changes={"denominator": record.denominator, **strength})
    return Entry(record.label, record.name, changes={"denominator": record.denominator})


def arm(entry: Entry, runs: Iterable[Any], scale: str, steps: int = 0) -> Arm:
    """The runs of one row, {(scale, warm start, seed): run}; empty where there are none."""
    wanted = entry.config(scale, steps, **SAME_TRAINING)
    members = [run for run in runs if run.config.scale == scale and run.config.replace(**SAME_TRAINING) == wanted]
    return Arm(entry.label, wanted, {(scale, run.config.warm_start, run.config.seed): run for run in members})


def missing(chosen: Iterable[Entry], runs: Iterable[Any], scale: str, steps: int = 0, count: int | None = None) -> list:
    """The configurations of ``chosen`` rows, on the first ``count`` of ``pairs``, that no finished run has."""
    runs, wanted = list(runs), pairs(scale)[:count]
    there = [(entry, {key[1:] for key in arm(entry, runs, scale, steps).runs}) for entry in chosen]
    return [
        entry.config(scale, steps, warm_start=start, seed=seed)
        for entry, known in there
        for start, seed in wanted
        if (start, seed) not in known
    ]


@dataclass(frozen=True)
class Row:
    """One row with what was measured: its arm, and its paired comparisons with GRPO, {metric: Comparison}.

    ``line`` compares it with the best GRPO arm of any step size: the line to beat.
    """

    entry: Entry
    arm: Arm
    against: Mapping[str, Comparison]
    line: Comparison | None


def rows(runs: Iterable[Any], scale: str, steps: int = 0, chosen: Iterable[Entry] | None = None) -> list[Row]:
    """The rows of one scale, all of ``entries`` where none are chosen.

    Holm's p is corrected for all of them at once, one metric at a time.
    """
    runs = list(runs)
    pairs = [(entry, arm(entry, runs, scale, steps)) for entry in (entries() if chosen is None else chosen)]
    ran = [(entry, made) for entry, made in pairs if made.runs]
    by_label = {made.label: made for _, made in ran}
    grpo = by_label.get(GRPO)
    told = Compared.of([made for _, made in ran] if grpo else [], grpo or GRPO, MEASURES)
    line = comparison.on_shared_pairs([made for entry, made in ran if entry.is_step_of_grpo]) if grpo else []
    best = max(line, key=lambda made: interquartile_mean(made, MEASURES[0]).value, default=None)
    rules = [made for entry, made in ran if not entry.is_line]
    beaten = against_reference(rules, MEASURES[0], by_label[best.label]) if best else {}
    return [Row(entry, made, told.of_arm(made.label), beaten.get(made.label)) for entry, made in pairs]
