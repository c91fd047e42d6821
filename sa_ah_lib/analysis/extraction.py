"""Pass@1 by two ways to read an answer, side by side: strict and flexible. Needs no torch.

A model may gain by learning where to write its answer, or by finding it. Strict takes only a number inside a complete
``<SOLUTION>`` tag; flexible takes the last number of the text, wherever it stands, as lm-evaluation-harness's filter
flexible-extract does. Evaluation and reward lie between: inside the tag where one is opened, else the last number.
"""

from typing import Any

import numpy as np

from sa_ah_lib.analysis.results import Family, MissingData
from sa_ah_lib.analysis.stats import paired, wilson_interval
from sa_ah_lib.analysis.table import Table
from sa_ah_lib.config import METHOD_LABELS
from sa_ah_lib.rewards import SOLUTION_END, SOLUTION_START, answers_match, extract_answer, said


def strict(text: str) -> float | None:
    """The number inside the first ``<SOLUTION>`` tag if it is closed, as the rewards read it; else None."""
    _, opened, rest = said(text).partition(SOLUTION_START)
    return extract_answer(text) if opened and SOLUTION_END in rest else None


def flexible(text: str) -> float | None:
    """The last number of the text, inside tags or outside, or None."""
    # Without an opening tag the whole text is read; a line end keeps what stood before it apart.
    return extract_answer(text.replace(SOLUTION_START, "\n"))


def right_answers(run: Any) -> tuple[np.ndarray, np.ndarray]:
    """(problems,) booleans at the last evaluated step: whether the strict and the flexible answers are right.

    Args:
        run: what has ``eval``, rows with ``step``, ``problem``, ``gold`` and ``completion``.

    Raises:
        MissingData: no row has the text of its completion.
    """
    last = max((row["step"] for row in run.eval), default=None)
    rows = {row["problem"]: row for row in run.eval if row["step"] == last and "completion" in row}
    if not rows:
        raise MissingData("the texts of evaluated completions")
    texts = [(rows[number]["completion"], rows[number]["gold"]) for number in sorted(rows)]
    by_tag, anywhere = ([answers_match(read(text), gold) for text, gold in texts] for read in (strict, flexible))
    return np.array(by_tag), np.array(anywhere)


def extraction(family: Family) -> Table:
    """Our own: final Pass@1 of every method by strict and by flexible extraction, each with its interval.

    The difference is paired: the same answers, read in two ways.
    """
    rows = []
    for result in [*_untrained(family), *family.methods.values()]:
        try:
            found = right_answers(result)
        except MissingData:
            continue
        by_tag, anywhere = found
        gap = paired(anywhere, by_tag)
        cells = [_rate(right) for right in (by_tag, anywhere)]
        cells.append(f"{gap.estimate:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")
        rows.append([METHOD_LABELS[result.config.method], str(result.config.steps), *cells])
    if not rows:
        raise MissingData(f"the texts of evaluated completions of {family.model}")
    header = ["Method", "step", "strict Pass@1 [95%]", "flexible Pass@1 [95%]", "flexible − strict [95%]"]
    notes = (
        "Strict: the number inside a complete SOLUTION tag. Flexible: the last number of the text. Pass@1 elsewhere "
        "reads the tag where one is opened, and else the last number. Intervals: Wilson's; of the difference, that of "
        "Bonett and Price for paired shares.",
    )
    return Table("table-s4", f"Table S4: Strict and flexible extraction. {family.caption}", header, rows, notes)


def _untrained(family):
    return [result for result in family.results if not result.config.steps][:1]


def _rate(right):
    low, high = wilson_interval(int(right.sum()), len(right))
    return f"{right.mean():.3f} [{low:.3f}, {high:.3f}]"
