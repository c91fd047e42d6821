"""Rules against GRPO that divides as they do: what a weight adds, whatever its divisor does. Needs no torch.

Most published rules divide a batch's loss by its tokens. Against GRPO that divides by each group's, the board shows the
weight and the divisor at once.
"""

from collections.abc import Sequence

from sa_ah_lib.analysis import board, comparison
from sa_ah_lib.analysis.compared import evidence
from sa_ah_lib.analysis.seeds import METRICS, Comparison, compare_all
from sa_ah_lib.analysis.table import Table

MEASURES = ("pass_at_1", "auc")
"""Keys of ``seeds.METRICS``."""
NOTES = (
    "Both at the scale's own learning rate. Holm's p is corrected for the rows of this table, one measure at a time. A "
    "rule divided by its group's weights has plain GRPO as its own and stands on the board alone.",
    "Exploratory: docs/preregistration.md does not name these comparisons, and the table was added when 23 rows of the "
    "board of micro-legs were known.",
)


def compared(found: Sequence[board.Row]) -> dict[str, list[Comparison]]:
    """{metric: a comparison of each rule with GRPO of its divisor}; without rules that divide as plain GRPO does.

    Args:
        found: what ``board.rows`` gives.
    """
    ran = [row for row in found if row.arm.runs and row.entry.learning_rate == 1]
    lines = {row.arm.config.denominator: row.arm for row in ran if row.entry.is_line}
    plain = next((row.arm.config.denominator for row in ran if row.entry.label == board.GRPO), None)
    rules = [row.arm for row in ran if not row.entry.is_line]
    pairs = [(arm, lines[own]) for arm in rules if (own := arm.config.denominator) in lines and own != plain]
    return {metric: compare_all(pairs, metric) for metric in MEASURES} if pairs else {}


def table(found: Sequence[board.Row], scale: str) -> Table | None:
    """One row per rule, or None where no rule has a GRPO of its divisor."""
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
    return Table(
        f"board-{scale}-divisor", f"Rules against GRPO with their own divisor, {measured}", header, lines, NOTES
    )
