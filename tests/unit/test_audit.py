"""The audit: key lines recomputed here, and every verdict moved by the number it rests on."""

import html
import math
import re

import pytest
from families import result

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


def why(start, printed=""):
    (found,) = [c for c in audit.checks() if c.where.startswith(start) and printed in c.printed]
    return found.why


def test_80_rollouts_fit_as_well_as_40():
    """Every average of 40 is one of 80, five steps of Table 1's 16: only likelihood speaks for 40."""
    means = [row[1] for rows in DIAGNOSTICS.values() for row in rows]
    assert all(min(m % 0.00125, -m % 0.00125) < 0.00051 for m in means)
    assert line("Tables 6 and 7, mean")[2] == "partly"
    assert "0.6, so all 14 would by chance with 0.0008" in why("Tables 6 and 7, mean") and 0.6**14 < 0.00085


def test_what_one_group_cannot_say():
    """w̄ = 1 of one group of 4 was read as the whole step's."""
    assert "may have been discounted" in why("Table 6, w̄ = 1.000")


def test_the_base_s_half_width_is_that_of_the_raw_one():
    assert half(0.846) == "± 0.032" and "raw 0.846" in why("Table 2, 3B zero-shot")
    assert "raw" not in why("Table 2, 3B ah-grpo")


def test_a_positive_alpha_is_not_above_the_negative_one_at_every_step():
    found = line("Section 5.2 and Conclusion")
    assert found[2] == "partly" and found[1].endswith("not above it: 0.648 (α = 0.25) against 0.650 at step 120")


def test_the_3b_model_knew_the_format():
    """6.815 of 7.5 at step 5 leaves no room for a gain by format."""
    assert "1.5B, whose mean reward is 2.98 of 7.5" in why("Section 4.1", "zero-shot")
    assert "on 3B, at 6.815, little" in why("Section 4.1", "zero-shot")


def test_the_horizon_recomputed():
    """DESIGN's 69 tokens and 0.03 at alpha 0.5, H 0.0291, length 243."""
    assert line("Table 6, step 5")[1] == "e-fold horizon 69 tokens, weight at the last token 0.03"


# --- what a review found missing -------------------------------------------------------------------------------------


def test_the_paper_is_right_about_its_weights():
    """In its favour: in all 11 rows w̄₋ is Eq. 5's at the mean entropy and length, within a factor of 2.6."""
    ratios = []
    for row in (row for rows in DIAGNOSTICS.values() for row in rows if row[7]):
        steps = [math.exp(-0.5 * row[4] * t) for t in range(1, row[8] + 1)]
        ratios.append(row[6] / (sum(steps) / len(steps)))
    assert len(ratios) == 11 and max(*ratios, *(1 / r for r in ratios)) < 2.6
    seen = line("Tables 6 and 7, w̄₋ and Eq. 5")
    assert seen[2] == "yes" and f"{min(ratios):.2f} to {max(ratios):.2f} times" in seen[1] and "in 11 rows" in seen[1]


def test_a_lowered_baseline_is_not_conservative():
    assert line("Table 2 and Section 4.1")[2] == "no" and "hard to beat" in why("Table 2 and Section 4.1")


def test_two_of_five_moves_are_down():
    rates = CHECKPOINTS[SMALL, "sa-ah-grpo", 0.5]
    down = sum(b < a for a, b in zip(rates, rates[1:], strict=False))
    assert down == 2 and "2 of 5 moves are down (to steps 60, 150)" in line("Figure 3")[1]
    assert line("Figure 3")[2] == "partly"


def test_a_spread_that_no_wrong_answer_allows():
    """One wrong answer of 40 costs 2.5 of 7.5: the std would be 0.39."""
    one_wrong = [5.0] + [7.5] * 39
    mean = sum(one_wrong) / 40
    assert (sum((r - mean) ** 2 for r in one_wrong) / 40) ** 0.5 == pytest.approx(0.39, abs=0.005)
    assert (
        "costs at least 2.5" in line("Table 7, step 180")[1]
        and "0.39 or more, beside 0.255" in line("Table 7, step 180")[1]
    )
    assert line("Table 7, step 180")[2] == "no" and f"{0.686**40:.0e}" in why("Table 7, step 180")


def test_most_of_the_reward_was_format():
    assert "+4.22; Pass@1 rises by 0.038" in line("Table 7, reward")[1]


def test_learning_is_counted_as_variance():
    """A line from 5.5 to 7.2 has a twelfth of its squared rise."""
    line_of = [5.505 + (7.205 - 5.505) * t / 90 for t in range(91)]
    mean = sum(line_of) / 91
    assert sum((v - mean) ** 2 for v in line_of) / 91 == pytest.approx(0.24, abs=0.01)
    assert "variance of 0.24" in line("Table 2, Train Var", "0.1718")[1]


def test_fifteen_and_eighteen_numbers():
    assert "of 15 and 18 numbers: 3.6× is [1.3, 10]" in line("Abstract, 3.6×")[1]


def test_what_the_method_s_text_leaves_open():
    assert line("Sections 3.2, 3.3")[2] == "partly" and "0.74, 0.74, 0.73, 0.73" in line("Sections 3.2, 3.3")[1]
    assert "renormalised" in line("Eq. 3")[1] and "ratio is 1 everywhere" in line("Eq. 2, 6 and 9")[1]


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
    ("Section 5.2", "degrades", replaced(CHECKPOINTS, (SMALL, "ah-grpo", -0.25), 3, 0.700), "partly"),
    ("Conclusion", "", replaced(CHECKPOINTS, (SMALL, "grpo", 0.0), 4, 0.600), "yes"),
    ("Section 5.3", "reward 6.82", diagnostics(LARGE, 180, 8, 172), "no"),
    ("Section 5.3", "std below", diagnostics(LARGE, 120, 2, 0.2), "yes"),
    ("Section 5.3", "f₋ fluctuates", diagnostics(LARGE, 180, 7, 1.0), "yes"),
    ("Section 5.3", "stays above", diagnostics(LARGE, 5, 5, 0.4), "no"),
    ("Sections 5.3 and 6", "", diagnostics(LARGE, 180, 6, 0.1), "no"),
    ("Tables 6 and 7, f₋", "", diagnostics(LARGE, 180, 7, 0.4), "yes"),
    ("Tables 6 and 7, w̄₋", "", diagnostics(LARGE, 180, 6, 0.1), "no"),
    ("Table 7, step 180", "", diagnostics(SMALL, 180, 2, 0.9), "yes"),
    ("Figure 3", "", (CHECKPOINTS, (SMALL, "sa-ah-grpo", 0.5), (0.6, 0.61, 0.62, 0.63, 0.64, 0.65)), "yes"),
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


def sections_of(page, title):
    """[(heading, {label: text})] of one part of the page."""
    part = page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.split(r"^### ", part, flags=re.M)[1:]
    return [(b.splitlines()[0], dict(re.findall(r"^- \*\*(.*?):\*\* (.*)$", b, re.M))) for b in blocks]


def test_the_page_holds_every_check_and_claim(tmp_path):
    """A phone shows a section at a time: rows of five long cells were read by nobody."""
    page = audit.save(tmp_path / "deep").read_text(encoding="utf-8")
    checks, claims = sections_of(page, audit.NUMBERS), sections_of(page, audit.CLAIMS)
    assert [heading for heading, _ in checks] == [f"{c.where}: {c.printed}" for c in audit.checks()]
    assert [heading for heading, _ in claims] == [c.text for c in audit.claims()]
    assert all(list(texts) == ["Agrees", "From the paper's own numbers", "Why it matters"] for _, texts in checks)
    assert all(list(texts) == ["Where", "By the paper's numbers", "By our runs"] for _, texts in claims)
    verdicts = [texts["Agrees"] for _, texts in checks]
    counts = ", ".join(f"{word} {verdicts.count(word)}" for word in ("yes", "partly", "no", "note"))
    assert f"{len(verdicts)} checks: {counts}." in page and "no measured runs were given" in page
    for _, texts in [*checks, *claims]:
        assert all(text.strip(". ") for text in texts.values())


def test_the_verdicts_stand_together_first(tmp_path):
    page = audit.save(tmp_path).read_text(encoding="utf-8")
    head, rest = page.split(f"## {audit.NUMBERS}")
    for (heading, texts), claim in zip(sections_of(page, audit.CLAIMS), audit.claims(), strict=True):
        cells = (re.escape(heading), claim.by_paper.word, claim.by_measured.word)
        assert re.search(rf"^\| {' +[|] '.join(cells)} +[|]$", head, re.M)
        assert texts["By our runs"].startswith(claim.by_measured.word) and "|" not in heading
    assert "|" not in rest


def test_a_notebook_shows_what_the_page_says():
    shown = audit.html()
    for heading, texts in [*audit.check_sections(), *audit.claim_sections(audit.claims())]:
        assert f"<h4>{html.escape(heading)}</h4>" in shown
        assert all(f"<li><b>{label}:</b> {html.escape(text)}</li>" in shown for label, text in texts.items())


def test_measured_runs_are_judged_over_seeds(tmp_path):
    """A single run per method, however whole, decides no claim; two verdicts on one comparison are one too many."""
    measured = [result(m, [0.4, rate + 0.001 * (s % 3)], total=1000, base=0.3, seed=s, steps=60)
                for m, rate in (("grpo", 0.5), ("ah-grpo", 0.5), ("sa-ah-grpo", 0.7)) for s in range(8)]  # fmt: skip
    page = audit.save(tmp_path, measured).read_text(encoding="utf-8")
    assert "Our runs: micro-s-60steps-a0.5, measured: micro-s" in page and "seeds 0, 1, 2, 3, 4, 5, 6, 7" in page
    claims = dict(sections_of(page, audit.CLAIMS))
    assert claims["SA-AH-GRPO improves on zero-shot"]["By our runs"].startswith("better. micro-s-60steps-a0.5: better")
    assert claims["Positive α ends higher than α = −0.25"]["By our runs"].startswith("not run. ")
    alone = audit.save(tmp_path / "one", measured[::8]).read_text(encoding="utf-8")
    assert all(texts["By our runs"].startswith("not run. ") for _, texts in sections_of(alone, audit.CLAIMS))


def test_the_page_is_escaped(tmp_path, monkeypatch):
    """A line break in a heading would end it, and a tag would vanish."""
    check = audit.checks()[0].__class__("a|b", "c\nd", "<e>", "yes", "f")
    monkeypatch.setattr(audit, "checks", lambda: [check])
    page = audit.save(tmp_path).read_text(encoding="utf-8")
    ((heading, texts),) = sections_of(page, audit.NUMBERS)
    assert heading == "a|b: c d" and list(texts.values()) == ["yes", "&lt;e>", "f"] and "<e>" not in audit.html()
