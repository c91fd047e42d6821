"""The audit: key lines recomputed here, and every verdict moved by the number it rests on."""

import math
import re

import pytest
from families import protocol, result, write_run

from sa_ah_lib.analysis import loading
from sa_ah_lib.paper import audit, printed
from sa_ah_lib.paper.printed import CHECKPOINTS, DIAGNOSTICS, LARGE, RAW_BASE, SMALL, SUMMARY


def line(start, printed=""):
    """(printed, recomputed, agrees) of the one check at ``start`` whose printed statement holds ``printed``."""
    (found,) = [c for c in audit.checks() if c.where.startswith(start) and printed in c.printed]
    return found.printed, found.recomputed, found.agrees


def half(p):
    return f"± {1.96 * math.sqrt(p * (1 - p) / 500):.3f}"


def test_every_line_is_whole():
    """A blank cell, or a verdict outside the four words, is a line nobody computed."""
    checks = audit.checks()
    assert len(checks) > 25 and {c.agrees for c in checks} == {"yes", "no", "partly", "note"}
    for check in checks:
        assert all((check.where, check.printed, check.recomputed, check.why)) and "nan" not in check.recomputed


def test_half_widths_recomputed():
    """0.831 has 0.033 and 0.848 has 0.031; the other twelve agree."""
    assert half(0.831) == "± 0.033" and half(0.848) == "± 0.031"
    assert line("Table 2, 3B zero-shot") == ("0.831 ± 0.032", "± 0.033", "no")
    assert line("Table 2, 3B ah-grpo") == ("0.848 ± 0.032", "± 0.031", "no")
    assert line("Table 2", "± of 14")[1:] == ("12 of 14 agree with 1.96 sqrt(p(1-p)/500)", "partly")
    assert line("Section 7", "±0.031")[1] == f"{half(0.862)} to {half(0.637)}".replace("± ", "±")


def test_ratios_and_gains_recomputed():
    """0.0885 / 0.0246, 0.0630 / 0.0246; 0.686 less the lowered and the raw base."""
    assert [round(x / 0.0246, 2) for x in (0.0885, 0.0630)] == [3.60, 2.56]
    assert line("Abstract", "3.6×")[1:] == ("3.60×", "yes") and line("Abstract", "2.6×")[1:] == ("2.56×", "yes")
    assert line("Abstract", "+4.9")[1:] == ("+4.9; over the raw base +3.4", "partly")


def test_the_sweep_recomputed():
    assert line("Section 5.2 and Figure 4")[1:] == ("peaks of α = 0.10, 0.25, 0.50: 0.670, 0.676, 0.676", "no")
    assert line("Conclusion")[2] == "no" and "0.640, 0.654, 0.650; GRPO (α = 0) 0.660" in line("Conclusion")[1]
    assert line("Table 5 and Section 7")[1:] == ("5 checkpoints are printed, to step 150", "no")


def test_what_equation_1_forbids():
    """Advantages of one group sum to 0, so a whole group cannot be below its mean."""
    assert (
        line("Section 5.3", "f₋ fluctuates")[2] == "no"
        and "largest printed 0.75" in line("Section 5.3", "f₋ fluctuates")[1]
    )
    assert line("Section 5.3", "f₋ = 0")[1:] == ("beside f₋ = 0, Table 6 prints std 0.602, 0.115, 0.163", "no")


def test_units_recomputed():
    """f in quarters is one group of 4; mean rewards in 0.0025 are 40 rollouts, not 16."""
    means = [row[1] for rows in DIAGNOSTICS.values() for row in rows]
    fits = {n: sum(min(m % (0.1 / n), -m % (0.1 / n)) < 0.00051 for m in means) for n in (16, 40)}
    assert (
        f"{fits[16]} of 14 means are averages of 16, {fits[40]} are averages of 40" in line("Tables 6 and 7, mean")[1]
    )
    assert "only 0, 0.25, 0.5, 0.75 occur" == line("Tables 6 and 7, f₋")[1]


def test_the_horizon_recomputed():
    """DESIGN's 69 tokens and 0.03 at alpha 0.5, H 0.0291, length 243."""
    assert line("Table 6, step 5")[1] == "e-fold horizon 69 tokens, weight at the last token 0.03"


def replaced(table, key, index, value):
    row = list(table[key])
    row[index] = value
    return table, key, tuple(row)


def diagnostics(scale, step, column, value):
    rows = [list(row) for row in DIAGNOSTICS[scale]]
    next(row for row in rows if row[0] == step)[column] = value
    return DIAGNOSTICS, scale, [tuple(row) for row in rows]


FLIPS = [
    ("Abstract", "3.6×", replaced(SUMMARY, (LARGE, "sa-ah-grpo"), 4, "0.05"), "no"),
    ("Abstract", "+4.9", replaced(SUMMARY, (SMALL, "sa-ah-grpo"), 0, "0.700"), "no"),
    ("Abstract", "+4.9", (RAW_BASE, SMALL, 0.637), "yes"),
    ("Abstract and Conclusion", "matches", replaced(SUMMARY, (LARGE, "sa-ah-grpo"), 2, "0.900"), "no"),
    ("Table 2 from", "", replaced(CHECKPOINTS, (LARGE, "grpo", 0.0), 0, 0.900), "no"),
    ("Section 7", "±0.031", replaced(SUMMARY, (LARGE, "ah-grpo"), 2, "0.858"), "yes"),
    ("Table 5, rows", "", replaced(CHECKPOINTS, (SMALL, "grpo", 0.0), 1, 0.700), "no"),
    ("Table 5 and Section 7", "", (CHECKPOINTS, (SMALL, "ah-grpo", 0.25), (0.676, 0.654)), "yes"),
    ("Section 4.1, 3B", "", (printed.BASE, LARGE, 0.832), "yes"),
    ("Table 2, 3B SA", "", (RAW_BASE, LARGE, 0.830), "yes"),
    ("Section 5.1", "within 0.844", replaced(SUMMARY, (LARGE, "grpo"), 0, "0.700"), "no"),
    ("Section 5.1", "well above", (printed.BASE, LARGE, 0.6), "yes"),
    ("Section 5.1", "below 0.010", replaced(SUMMARY, (LARGE, "grpo"), 5, "0.02"), "no"),
    ("Section 5.1", "slightly higher", replaced(SUMMARY, (LARGE, "sa-ah-grpo"), 5, "0.00530"), "yes"),
    ("Section 5.1", "slightly higher", replaced(SUMMARY, (LARGE, "sa-ah-grpo"), 5, "0.004"), "no"),
    ("Section 5.2 and Figure 4", "", replaced(CHECKPOINTS, (SMALL, "ah-grpo", 0.1), 0, 0.700), "yes"),
    ("Section 5.2", "slightly lower peak", replaced(CHECKPOINTS, (SMALL, "ah-grpo", 0.1), 0, 0.700), "yes"),
    ("Section 5.2 and Conclusion", "", replaced(CHECKPOINTS, (SMALL, "ah-grpo", -0.25), 4, 0.700), "no"),
    ("Section 5.2", "degrades", replaced(CHECKPOINTS, (SMALL, "ah-grpo", -0.25), 3, 0.600), "yes"),
    ("Conclusion", "", replaced(CHECKPOINTS, (SMALL, "grpo", 0.0), 4, 0.600), "yes"),
    ("Section 5.3", "reward 6.82", diagnostics(LARGE, 180, 8, 172), "no"),
    ("Section 5.3", "std below", diagnostics(LARGE, 120, 2, 0.2), "yes"),
    ("Section 5.3", "f₋ fluctuates", diagnostics(LARGE, 180, 7, 1.0), "yes"),
    ("Section 5.3", "stays above", diagnostics(LARGE, 5, 5, 0.4), "no"),
    ("Sections 5.3 and 6", "", diagnostics(LARGE, 180, 6, 0.1), "no"),
    ("Tables 6 and 7, f₋", "", diagnostics(LARGE, 180, 7, 0.4), "yes"),
]  # fmt: skip


@pytest.mark.parametrize("start,printed,change,verdict", FLIPS)
def test_a_changed_number_moves_its_verdict(monkeypatch, start, printed, change, verdict):
    """A verdict that stays when its number changes was written down, not computed."""
    before = line(start, printed)
    monkeypatch.setitem(*change)
    after = line(start, printed)
    assert after[2] == verdict != before[2] and after[1] != before[1]


def test_repeated_rows_are_found_not_remembered(monkeypatch):
    """With four numbers of their own, the 1.5B rows are no repetition; with one still repeated, they are."""
    assert line("Table 2, Train Var and")[1:] == ("the 1.5B rows print the same for: grpo, ah-grpo", "no")
    monkeypatch.setitem(*replaced(SUMMARY, (SMALL, "grpo"), 4, "0.2"))
    assert line("Table 2, Train Var and")[1:] == ("the 1.5B rows print the same for: ah-grpo", "no")
    monkeypatch.setitem(*replaced(SUMMARY, (SMALL, "ah-grpo"), 4, "0.2"))
    assert line("Table 2, Train Var and")[2] == "yes"


def test_a_corrected_half_width_leaves_the_list(monkeypatch):
    for method, index, value in (("zero-shot", 1, "0.033"), ("ah-grpo", 1, "0.031")):
        monkeypatch.setitem(*replaced(SUMMARY, (LARGE, method), index, value))
    assert line("Table 2", "± of 14")[1:] == ("14 of 14 agree with 1.96 sqrt(p(1-p)/500)", "yes")
    assert not [c for c in audit.checks() if c.where == "Table 2, 3B zero-shot"]


def test_contributions_hold_where_both_halves_do(monkeypatch):
    assert line("Section 1, contributions")[2] == "no"
    monkeypatch.setitem(*replaced(SUMMARY, (LARGE, "sa-ah-grpo"), 0, "0.900"))
    monkeypatch.setitem(*replaced(SUMMARY, (SMALL, "sa-ah-grpo"), 4, "0.01"))
    assert line("Section 1, contributions")[2] == "yes"


# --- the page --------------------------------------------------------------------------------------------------------


def rows_of(page, number):
    """The data rows of the page's table ``number``, cells stripped."""
    table = re.findall(r"(?:^\|.*\n)+", page, re.M)[number]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()[2:]]


def test_the_page_holds_every_check_and_claim(tmp_path):
    page = audit.save(tmp_path / "deep").read_text(encoding="utf-8")
    assert len(rows_of(page, 0)) == len(audit.checks()) and len(rows_of(page, 1)) == len(audit.claims())
    assert all(len(row) == len(audit.CHECK_HEADER) for row in rows_of(page, 0))
    verdicts = [row[3] for row in rows_of(page, 0)]
    counts = ", ".join(f"{word} {verdicts.count(word)}" for word in ("yes", "partly", "no", "note"))
    assert f"{len(verdicts)} checks: {counts}." in page and "no measured runs were given" in page


def test_measured_runs_are_judged_beside_the_paper(tmp_path):
    """The fullest family of each size stands for it; a stray run must not take its place."""
    for config in [*protocol(), protocol()[0].replace(seed=7)]:
        write_run(tmp_path / "runs", config)
    measured = loading.load(tmp_path / "runs").families
    page = audit.save(tmp_path, measured).read_text(encoding="utf-8")
    assert "Our runs: measured: micro-s (1.05M parameters) on made up, seed 123" in page and "seed 7" not in page
    claim = next(row for row in rows_of(page, 1) if row[0].startswith("SA-AH-GRPO improves"))
    assert "such runs" not in claim[5] and claim[4] in ("supported", "not supported", "undecidable")
    large = next(row for row in rows_of(page, 1) if row[0].startswith("Completions become shorter"))
    assert large[4:] == ["undecidable", "for want of such runs"]


def test_the_page_is_escaped(tmp_path, monkeypatch):
    """A bar or a line break in a cell would shift its row."""
    check = audit.checks()[0].__class__("a|b", "c\nd", "<e>", "yes", "f")
    monkeypatch.setattr(audit, "checks", lambda: [check])
    page = audit.save(tmp_path).read_text(encoding="utf-8")
    assert rows_of(page, 0) == [["a\\|b", "c d", "<e>", "yes", "f"]] and "<e>" not in audit.html()


def test_a_claim_s_family_is_large_or_small():
    """The micro models stand in the place of the paper's two, one each."""
    small, large = (
        audit._fullest([loading.Family((result("grpo", [0.5], scale=s),)) for s in ("micro-s", "micro-l")], big)
        for big in (False, True)
    )
    assert (small.scale, large.scale) == ("micro-s", "micro-l")
