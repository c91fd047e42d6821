"""The board as text: measures, evidence against GRPO and against the line to beat, and notes. Needs no torch."""

import math

from sa_ah_lib import rulebook
from sa_ah_lib.analysis import comparison
from sa_ah_lib.analysis.board import BESIDE, LEFT_OUT, MEASURES, Row
from sa_ah_lib.analysis.compared import enough, evidence
from sa_ah_lib.analysis.measures import HALF, LEVELS
from sa_ah_lib.analysis.seeds import LEVEL, METRICS, interquartile_mean
from sa_ah_lib.analysis.sign_flip import sign_flip_p
from sa_ah_lib.analysis.table import DASH, Table

NOT_RUN = "not run"


def table(found: list[Row], scale: str) -> Table:
    """The board as text, one row per rule: measures, evidence against GRPO, and against the line to beat."""
    arms = [row.arm for row in found if row.arm.runs]
    header = ["rule", "source", "divided by", *(METRICS[metric].short for metric in MEASURES)]
    header += ["gain in Pass@1 [95%]", "n", "p", "Holm p", "verdict"]
    header += [f"verdict, {METRICS[metric].short}" for metric in BESIDE]
    header += ["gain over the line [95%]", "verdict, line"]
    lines = [[*_names(row), *_measured(row), *_evidence(row)] for row in found]
    told = comparison.caption(arms) if arms else f"measured: {scale}, no run of it was found"
    return Table(f"board-{scale}", f"Token-weight rules against GRPO, {told}", header, lines, _notes(found, scale))


def _names(row):
    return [row.entry.label, row.entry.source, row.arm.config.denominator]


def _measured(row):
    if not row.arm.runs:
        return [NOT_RUN] * len(MEASURES)
    values = [interquartile_mean(row.arm, metric).value if enough(row.arm, metric) else math.nan for metric in MEASURES]
    return [DASH if math.isnan(value) else f"{value:.{3 if value <= 1 else 1}f}" for value in values]


def _evidence(row):
    found = row.against.get(MEASURES[0])
    if not row.arm.runs:
        return [NOT_RUN] + [DASH] * 8
    if found is None:
        return [DASH, str(len(row.arm.runs)), *[DASH] * 7]
    gain, *decided = evidence(found)
    beside = [evidence(_beside(row, metric))[-1] for metric in BESIDE]
    over_line, *_, line = evidence(row.line)
    return [gain, str(found.gain.count), *decided, *beside, over_line, line]


def _beside(row, metric):
    """The comparison with GRPO in another measure, or None where no pair has it."""
    found = row.against.get(metric)
    return found if found and found.gain.count else None


def _notes(found, scale):
    best = next((row.line.second for row in found if row.line), None)
    ran, share = sum(bool(row.arm.runs) for row in found), LEVELS.get(scale, HALF)
    left = [f"{rulebook.get(name).label}: {reason}" for name, reason in LEFT_OUT.items()]
    left.append("One scalar, AH: a group's weights are divided by their sum, so it is GRPO")
    notes = [
        f"Interquartile means. {'; '.join(f'{METRICS[name].short}: {METRICS[name].label}' for name in MEASURES)}. The "
        f"level is {'half' if share == HALF else f'{share:.0%}'} of the way from Pass@1 before training to 1; a run "
        "that ends below it counts as its last step.",
        "Exploratory: comparisons that were settled before their runs have tables of their own, in "
        "figures/preregistered, over the pairs and with the correction that docs/preregistration.md names.",
        f"{ran} of {len(found)} rows were run. A row's n is its pairs with GRPO: one warm start and one seed."
        f"{_sampled(found)}",
    ]
    notes += _room([row.against[MEASURES[0]].gain.count for row in found if row.against.get(MEASURES[0])])
    if best:
        notes.append(
            f"The line to beat is {best}: of GRPO at its learning rates, on the pairs that all share, the one with the "
            "highest Pass@1. A rule was not run at that learning rate unless its row says so; figures/distance "
            "compares rules with GRPO as far."
        )
    if mixed := comparison.mixed_devices([row.arm for row in found]):
        notes.append(mixed)
    return (*notes, f"Without a row: {'; '.join(left)}.")


def _sampled(found):
    """How many pairs and problems Pass@16 is over: not every run was sampled, nor every problem."""
    rows = [row for row in found if _beside(row, "pass_at_16")]
    counts = {row.against["pass_at_16"].gain.count for row in rows}
    problems = {len(run.samples) for row in rows for run in row.arm.runs.values()} - {0}
    if not rows:
        return ""
    many, first = (" to ".join(map(str, dict.fromkeys((min(n), max(n))))) for n in (counts, problems))
    return f" Pass@16 is over the pairs that were sampled, {many} in a row, and the first {first} evaluation problems."


def _room(counts):
    """How many comparisons Holm's correction leaves room for: a long board needs more pairs."""
    if min(counts, default=0) < 2:
        return []
    smallest = sign_flip_p([1.0] * max(counts))
    return [
        f"No p of {max(counts)} pairs is below {smallest:.3g}, so that Holm's correction leaves room for "
        f"{math.floor(LEVEL / smallest)} comparisons; these are {len(counts)}."
    ]
