"""How far a rule moved, and GRPO at that distance: by numbers worked by hand."""

from dataclasses import replace

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest
from made_runs import PROBLEMS, made_of

from sa_ah_lib.analysis import board, distance
from sa_ah_lib.report import distance_pages

ROWS = {entry.label: entry for entry in board.entries()}
PAIRS = [(start, seed) for seed in (1, 2) for start in range(5)]
START = 100
"""Right answers before training, of 500; see ``made_runs``."""


def runs_of(label, correct, kl, pairs=PAIRS):
    """One run a pair with so many right answers at its end, and one KL at every step."""
    made = []
    for start, seed in pairs:
        config = ROWS[label].config("micro-sum", warm_start=start, seed=seed)
        run = made_of(config, correct + start)
        made.append(replace(run, train=[{**row, "kl": kl} for row in run.train]))
    return made


GRPO = runs_of("GRPO", 200, 0.01) + runs_of("GRPO, 2 × step", 300, 0.04)


def moved(runs):
    return {one.arm.label: one for one in distance.moved(runs, "micro-sum")}


@pytest.mark.parametrize(
    ("kl", "expected"),
    # Distances: start 0, GRPO 0.1 and 0.2. Halfway to the first, at it, halfway between the two, beyond both.
    [(0.0025, (START + 200) / 2), (0.01, 200), (0.0225, 250), (0.09, 300)],
)
def test_grpo_as_far_is_on_the_line_through_its_runs(kl, expected):
    """A rule that only takes larger steps has GRPO's own Pass@1 at its distance."""
    found = moved(GRPO + runs_of("SA-AH-GRPO", 270, kl))["SA-AH-GRPO"]
    # Warm start k adds k right answers to every end, and none to the start.
    share = 0.5 if kl == 0.0025 else 1.0
    gains = [(270 + start - expected - share * start) / PROBLEMS for start, _ in PAIRS]
    assert found.at_equal.gain.value == pytest.approx(np.mean(gains), abs=1e-6)
    assert found.kl == pytest.approx(kl) and found.gain == pytest.approx((272 - START) / PROBLEMS)
    assert found.beyond == (10 if kl > 0.04 else 0)


def test_a_rule_that_takes_larger_steps_only_is_no_better_at_its_distance():
    runs = GRPO + runs_of("AH-GRPO", 250, 0.0225)
    (row,) = (row for row in board.rows(runs, "micro-sum") if row.entry.label == "AH-GRPO")
    assert row.against["pass_at_1"].gain.value == pytest.approx(0.1)
    assert moved(runs)["AH-GRPO"].at_equal.gain.value == pytest.approx(0, abs=1e-9)


def test_grpo_that_lost_what_it_had_is_no_point_of_the_line():
    """A line towards a run that collapsed falls below every GRPO that was run, and each rule would be better."""
    collapsed = runs_of("GRPO, 4 × step", 10, 0.25)
    runs = GRPO + runs_of("SA-AH-GRPO", 270, 0.09)
    with_it, without = moved(runs + collapsed), moved(runs)
    assert with_it["SA-AH-GRPO"].at_equal.gain == without["SA-AH-GRPO"].at_equal.gain
    assert with_it["SA-AH-GRPO"].beyond == 10 and with_it["GRPO, 4 × step"].gain < 0


def test_only_the_last_steps_count_and_a_run_without_a_kl_has_no_distance():
    run = GRPO[0]
    rising = replace(run, train=[{**row, "kl": 0.0 if row["step"] <= 50 else 0.04} for row in run.train])
    assert distance.distance(rising) == pytest.approx(0.2)
    bare = [replace(one, train=[{k: v for k, v in row.items() if k != "kl"} for row in one.train]) for one in GRPO]
    assert np.isnan(distance.distance(bare[0])) and moved(bare + runs_of("AH-GRPO", 250, 0.02)) == {}


def test_grpo_at_one_learning_rate_is_no_line():
    """A row of differences from one point would be the board's own."""
    assert moved(runs_of("GRPO", 200, 0.01) + runs_of("AH-GRPO", 250, 0.02)) == {}


def test_further_pairs_of_plain_grpo_do_not_cost_the_line():
    """Two more runs of GRPO at one rate, and the table of distances was empty."""
    more = runs_of("GRPO", 200, 0.01, [(5, 1), (5, 2)])
    found = moved(GRPO + more + runs_of("AH-GRPO", 250, 0.02, [*PAIRS, (5, 1), (5, 2)]))
    assert found["AH-GRPO"].at_equal.gain.count == 10 and len(found["GRPO"].arm.runs) == 10
    # A rate with less than half of the pairs is no point of the line.
    assert moved(runs_of("GRPO", 200, 0.01) + runs_of("GRPO, 2 × step", 300, 0.04, PAIRS[:4])) == {}


def test_pairs_that_grpo_was_not_run_on_are_left_out():
    few = GRPO + runs_of("AH-GRPO", 250, 0.02, [*PAIRS[:6], (0, 9)])
    assert moved(few)["AH-GRPO"].at_equal.gain.count == 6


def test_table_and_picture_have_every_arm(tmp_path):
    runs = GRPO + runs_of("SA-AH-GRPO", 270, 0.02)
    found = distance.moved(runs, "micro-sum")
    table = distance.table(found, "micro-sum")
    assert [row[0] for row in table.rows] == ["GRPO", "GRPO, 2 × step", "SA-AH-GRPO"]
    assert [row[-1] for row in table.rows] == ["—", "—", "0 of 10"] and "exploratory" in table.notes[-1]
    with_others = runs + runs_of("First token only", 150, 0.005) + runs_of("GRPO, by tokens", 200, 0.01)
    ax = distance_pages.plot({"micro-sum": distance.moved(with_others, "micro-sum")})
    # GRPO, however it divides, is what rules are held against; "by tokens" is no rule.
    assert [label.get_text() for label in ax.get_yticklabels()] == ["SA-AH-GRPO", "First token only"]
    (right,) = ax.child_axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["2.00", "0.50"]
    marks = {line.get_ydata()[0]: line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1}
    assert marks[0] == pytest.approx(100 * found[-1].at_equal.gain.value) and marks[1] < 0
    names = {path.name for path in distance_pages.save(runs, tmp_path)}
    assert names == {f"distance-micro-sum.{e}" for e in ("md", "csv", "tex")} | {
        f"distance{e}" for e in (".png", ".svg", ".pdf", "-numbers.csv", "-pairs.csv")
    }
    assert distance_pages.save(GRPO[:10], tmp_path / "none") == []
