"""Rules against GRPO that divides as they do, at their learning rate: what a weight adds by itself. Needs no torch.

Most published rules divide a batch's loss by its tokens. Against GRPO that divides by each group's, the board shows the
weight and the divisor at once; and of a rule at another learning rate, the weight and the rate.
"""

from collections.abc import Sequence

from sa_ah_lib.analysis import board, comparison
from sa_ah_lib.analysis.compared import evidence
from sa_ah_lib.analysis.seeds import METRICS, Comparison, compare_all
from sa_ah_lib.analysis.table import Table

MEASURES = ("pass_at_1", "auc")
"""Keys of ``seeds.METRICS``."""
NOTES = (
    "Holm's p is corrected for the rows of this table, one measure at a time. A rule at the scale's own learning rate "
    "that is divided by its group's weights has plain GRPO as its own and stands on the board alone.",
    "Exploratory. That of SA-AH-GRPO at twice the step was settled before; it has a table of its own, over the pairs "
    "and with the correction that docs/preregistration.md names. This one was added when 23 rows of the board of "
    "micro-legs were known.",
)


def compared(found: Sequence[board.Row]) -> dict[str, list[Comparison]]:
    """{metric: a comparison of each rule with GRPO in its setting}; without rules whose own is plain GRPO.

    Args:
        found: what ``board.rows`` gives.
    """
    ran = [row for row in found if row.arm.runs]
    lines = {_setting(row): row.arm for row in ran if row.entry.is_line}
    plain = next((_setting(row) for row in ran if row.entry.label == board.GRPO), None)
    rules = [row for row in ran if not row.entry.is_line]
    pairs = [(row.arm, lines[own]) for row in rules if (own := _setting(row)) in lines and own != plain]
    return {metric: compare_all(pairs, metric) for metric in MEASURES} if pairs else {}


def _setting(row):
    return row.arm.config.denominator, row.entry.learning_rate


def table(found: Sequence[board.Row], scale: str) -> Table | None:
    """One row per rule, or None where none has a GRPO of its setting beside the plain one."""
    told = compared(found)
    if not told:
        return None
    header = ["rule", "against", "n"]
    for metric in MEASURES:
        short = METRICS[metric].short
        header += [f"gain, {short} [95%]", f"p, {short}", f"Holm p, {short}", f"verdict, {short}"]
    lines = [
        [ones[0].first, ones[0].second, str(ones[0].gain.count), *(cell for one in ones for cell in evidence(one))]
        for ones in zip(*told.values(), strict=True)
    ]
    names = {one.first for one in told[MEASURES[0]]} | {one.second for one in told[MEASURES[0]]}
    measured = comparison.caption([row.arm for row in found if row.arm.label in names and row.arm.runs])
    return Table(f"board-{scale}-own", f"Rules against GRPO in their own setting, {measured}", header, lines, NOTES)
