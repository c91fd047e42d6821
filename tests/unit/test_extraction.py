"""Strict and flexible extraction: what each reads from a text, and the table of both."""

import pytest

pytest.importorskip("scipy")
from made_runs import made_run

from sa_ah_lib.analysis import extraction, loading
from sa_ah_lib.analysis.results import MissingData
from sa_ah_lib.analysis.stats import wilson_interval
from sa_ah_lib.rewards import extract_answer


@pytest.mark.parametrize(
    ("text", "strict", "flexible", "evaluated"),
    [
        ("<SOLUTION>12</SOLUTION>", 12, 12, 12),
        ("3 + 4 = 7", None, 7, 7),
        ("<SOLUTION>12", None, 12, 12),
        ("<SOLUTION>12</SOLUTION> not 15", 12, 15, 12),
        ("</SOLUTION>5 <SOLUTION>6", None, 6, 6),
        ("<SOLUTION>7</SOLUTION><SOLUTION>8</SOLUTION>", 7, 8, 7),
        ("7 <SOLUTION>none</SOLUTION>", None, 7, None),
        ("4<SOLUTION>5</SOLUTION>", 5, 5, 5),
        ("no number", None, None, None),
        ("<SOLUTION>1,234.5</SOLUTION>", 1234.5, 1234.5, 1234.5),
    ],
)
def test_what_each_reads(text, strict, flexible, evaluated):
    """A tag that is not closed read as strict, or two numbers on both sides of a tag run together."""
    assert (extraction.strict(text), extraction.flexible(text)) == (strict, flexible)
    assert extract_answer(text) == evaluated


def answering(texts, method="grpo", gold=7.0):
    """A run whose last evaluation has these texts, all of them with the answer 7."""
    run = made_run(method, steps=150)
    rows = [row for row in run.eval if row["step"] == 0]
    late = [{"step": 150, "problem": k, "correct": True, "gold": gold, "completion": t} for k, t in enumerate(texts)]
    run.eval[:] = rows[: len(texts)] + late[::-1]
    return run


def test_the_table_counts_both_on_the_same_answers():
    texts = ["<SOLUTION>7</SOLUTION>"] * 5 + ["7"] * 3 + ["<SOLUTION>7</SOLUTION> 8"] + ["8"] * 11
    table = extraction.extraction(loading.family([answering(texts)]))
    ((method, step, strict, flexible, gap),) = table.rows
    bounds = ["[{:.3f}, {:.3f}]".format(*wilson_interval(n, 20)) for n in (6, 8)]
    assert (method, step, strict, flexible) == ("GRPO", "150", f"0.300 {bounds[0]}", f"0.400 {bounds[1]}")
    assert gap.startswith("+0.100 [-0.") and table.name == "table-s4"


def test_logs_without_texts_have_no_such_table():
    """Zeros for runs whose completions were never kept."""
    with pytest.raises(MissingData, match="texts of evaluated completions"):
        extraction.extraction(loading.family([made_run(steps=150)]))
