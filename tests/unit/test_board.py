"""The board of rules: which runs make a row, what is said against what, and that nothing is left out in silence."""

from dataclasses import replace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_runs import made_of

from sa_ah_lib import rulebook
from sa_ah_lib.analysis import board, board_table, compared, own_setting, seeds
from sa_ah_lib.analysis.seeds import outcome
from sa_ah_lib.report import board_pages as pages
from sa_ah_lib.report.style import STYLE, WIDTHS

COUNTS = [300, 310, 290, 330, 305, 295, 320, 315]
PAIRS = [(start, seed) for seed in (1, 2, 3, 4) for start in (0, 1)]


def entry(label):
    return next(known for known in board.entries() if known.label == label)


def runs_of(label, counts, pairs=PAIRS, scale="micro-sum", **changes):
    """Runs of one row, with these final counts of 500."""
    made = []
    for (start, seed), correct in zip(pairs, counts, strict=False):
        config = entry(label).config(scale, warm_start=start, seed=seed, **changes)
        made.append(made_of(config, correct))
    return made


def plus(points, counts=COUNTS):
    return [count + 5 * p for count, p in zip(counts, points, strict=True)]


@pytest.fixture(scope="module")
def runs():
    """GRPO at two step sizes, the larger the better one; a rule between the two; one that loses."""
    found = runs_of("GRPO", COUNTS) + runs_of("GRPO, 2 × step", plus([8, 9, 8, 7, 8, 9, 8, 7]))
    found += runs_of("GTPO (entropy)", plus([4, 3, 4, 5, 4, 3, 4, 5]))
    return found + runs_of("First token only", plus([-9, -8, -9, -10, -9, -8, -9, -10]))


@pytest.fixture(scope="module")
def rows(runs):
    return board.rows(runs, "micro-sum")


def test_every_rule_of_the_registry_has_a_row_or_a_reason():
    """A rule that is neither shown nor named is the one whose result was bad."""
    shown = {known.rule for known in board.entries()}
    assert shown | board.LEFT_OUT.keys() == rulebook.RECORDS.keys() and not shown & board.LEFT_OUT.keys()
    assert len({known.label for known in board.entries()}) == len(board.entries())


@pytest.mark.parametrize("scale", board.SCALES)
def test_every_row_is_a_run_that_can_be_made(scale):
    """Other fields than the named ones would compare settings; two rows of one configuration are one run."""
    configs = [known.config(scale) for known in board.entries()]
    assert len({config.run_id for config in configs}) == len(configs)
    grpo = configs[0]
    for known, config in zip(board.entries(), configs, strict=True):
        free = {"method", "scope", "alpha", "rule", "rule_parameters", "denominator", "learning_rate"}
        same = {k: v for k, v in config.to_dict().items() if k not in free}
        assert same == {k: v for k, v in grpo.to_dict().items() if k not in free}
        assert config.learning_rate == known.learning_rate * grpo.learning_rate
        assert known.is_line or config.denominator == rulebook.get(config.rule).denominator


def test_pairs_take_every_warm_start_first(monkeypatch):
    """The first few pairs of an entry should not all be of one warm start."""
    monkeypatch.setitem(board.WARM_STARTS, "micro-sum", 3)
    assert board.pairs("micro-sum") == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]


def test_a_run_is_counted_in_its_own_row_alone(runs):
    """GRPO's preset is also that of every published rule: taken for GRPO, they would be the line to beat."""
    sizes = {known.label: len(board.arm(known, runs, "micro-sum").runs) for known in board.entries()}
    assert {label for label, size in sizes.items() if size} == {
        "GRPO", "GRPO, 2 × step", "GTPO (entropy)", "First token only",
    }  # fmt: skip
    assert set(board.arm(entry("GRPO"), runs, "micro-sum").runs) == {("micro-sum", *pair) for pair in PAIRS}


def test_other_evaluations_are_the_same_training_and_another_length_is_not(runs):
    other = runs_of("GRPO", [1], [(0, 9)], eval_every=7) + runs_of("GRPO", [1], [(0, 8)], steps=5)
    found = board.arm(entry("GRPO"), runs + other, "micro-sum").runs
    assert ("micro-sum", 0, 9) in found and ("micro-sum", 0, 8) not in found
    assert board.arm(entry("GRPO"), other, "micro-sum", steps=5).runs.keys() == {("micro-sum", 0, 8)}


def test_a_rule_is_paired_with_grpo_and_with_the_best_of_its_step_sizes(rows):
    """A gain that GRPO has at twice the step is no gain of the rule."""
    row = next(row for row in rows if row.entry.label == "GTPO (entropy)")
    found = row.against["pass_at_1"]
    assert found.second == "GRPO" and found.gain.value == pytest.approx(0.04) and found.gain.count == 8
    assert row.line.second == "GRPO, 2 × step" and row.line.gain.value == pytest.approx(-0.04)
    table = board_table.table(rows, "micro-sum")
    assert any("The line to beat is GRPO, 2 × step" in note for note in table.notes)


def test_a_line_that_lacks_pairs_is_not_the_line_to_beat(runs):
    """One lucky run of GRPO at four times the step beats all."""
    lucky = runs_of("GRPO, 4 × step", [499], PAIRS[:1])
    rows = board.rows(runs + lucky, "micro-sum")
    assert {row.line.second for row in rows if row.line} == {"GRPO, 2 × step"}


def test_p_is_corrected_for_every_row_that_was_run(rows, runs):
    found = [row.against["pass_at_1"] for row in rows if row.against]
    assert len(found) == 3 and all(c.adjusted_p == pytest.approx(3 * c.p_value) for c in found)
    alone = board.rows(runs, "micro-sum", chosen=[entry("GRPO"), entry("GTPO (entropy)")])
    assert alone[1].against["pass_at_1"].adjusted_p == alone[1].against["pass_at_1"].p_value


def test_the_board_says_when_more_rows_can_no_longer_pass(rows):
    """With ten pairs and 29 comparisons every verdict but "equivalent" would be "undecided", and none would say why."""
    (told,) = (note for note in board_table.table(rows, "micro-sum").notes if note.startswith("No p of"))
    compared = sum(bool(row.against) for row in rows)
    # Eight pairs have 256 patterns of signs, and both tails count: 0.05 * 128 is 6.4.
    assert told == (
        "No p of 8 pairs is below 0.00781, so that Holm's correction leaves room for 6 comparisons; these are "
        f"{compared}."
    )
    assert not [note for note in board_table.table(board.rows([], "micro-sum"), "micro-sum").notes if "No p of" in note]


def test_a_loss_and_a_rule_that_was_not_run_are_rows(rows):
    table = board_table.table(rows, "micro-sum")
    assert len(table.rows) == len(board.entries())
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert cells["First token only"]["gain in Pass@1 [95%]"].startswith("-9.0 points")
    assert cells["First token only"]["n"] == "8" and cells["EDGE"]["gain in Pass@1 [95%]"] == "not run"
    assert cells["GRPO"]["Pass@1"] == f"{seeds.interquartile_mean(rows[0].arm, 'pass_at_1').value:.3f}"
    assert any(note.startswith("4 of ") for note in table.notes)
    # From 0.2 to 0.6 in a straight line, and on: the level is 0.6 there.
    assert float(cells["GRPO"]["area"]) == pytest.approx((0.2 + np.mean(COUNTS) / 500) / 2, abs=0.01)
    assert 1 < float(cells["GRPO"]["steps"]) <= 60 and cells["GRPO"]["Pass@16"] == "—"
    row = next(row for row in rows if row.entry.label == "First token only")
    assert cells["First token only"]["verdict, area"] == seeds.outcome(row.against["auc"])
    assert all(rulebook.get(name).label in table.notes[-1] for name in board.LEFT_OUT)


def test_the_board_decides_as_every_other_comparison_over_seeds(rows, runs):
    """One vocabulary: the words, numbers and intervals of the tables over seeds, of the same runs."""
    arms = [row.arm for row in rows if row.arm.runs]
    others = compared.Compared.of(arms, arms[0], ["pass_at_1", "auc"])
    table = board_table.table(rows, "micro-sum")
    for row in rows:
        cells = dict(zip(table.header, table.rows[rows.index(row)], strict=True))
        if row.against:
            gain, *decided = compared.evidence(others.of_arm(row.entry.label)["pass_at_1"])
            assert [cells[name] for name in ("gain in Pass@1 [95%]", "p", "Holm p", "verdict")] == [gain, *decided]
            assert row.against["auc"] == others.of_arm(row.entry.label)["auc"]
            assert all(cells[name].split(",")[0] in seeds.VERDICTS for name in ("verdict", "verdict, area"))
            assert cells["verdict, Pass@16"] == "—", "no run here has samples"
            assert cells["verdict, line"] == compared.evidence(row.line)[-1]
    assert {row.entry.label for row in rows if row.against} == {arm.label for arm in arms[1:]}


def test_sampled_runs_have_a_verdict_of_pass_at_16_and_a_row_without_samples_none(runs):
    """GRPO solves half of what it is asked within 16 tries, the masked rule all of it."""
    right = {"GRPO": (0, 16), "First token only": (16, 16)}
    sampled = list(runs)
    for name, pair in right.items():
        lines = [{"problem": k, "problems": 2, "n": 16, "correct": c} for k, c in enumerate(pair)]
        own = [run.config for run in board.arm(entry(name), runs, "micro-sum").runs.values()]
        sampled = [replace(run, samples=lines) if run.config in own else run for run in sampled]
    table = board_table.table(board.rows(sampled, "micro-sum"), "micro-sum")
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert cells["GRPO"]["Pass@16"] == "0.500" and cells["First token only"]["Pass@16"] == "1.000"
    assert cells["First token only"]["verdict, Pass@16"] in seeds.VERDICTS
    assert any("Pass@16 is over the pairs that were sampled, 8 in a row" in note for note in table.notes)
    assert not [
        note for note in board_table.table(board.rows(runs, "micro-sum"), "micro-sum").notes if "were sampled" in note
    ]
    few = [run if run.config.seed == 1 and run.config.warm_start == 0 else replace(run, samples=[]) for run in sampled]
    few = [ours if ours.config.rule == "first_token" else theirs for ours, theirs in zip(few, sampled, strict=True)]
    table = board_table.table(board.rows(few, "micro-sum"), "micro-sum")
    # One sampled run of eight, beside rows that have all.
    (row,) = [dict(zip(table.header, row, strict=True)) for row in table.rows if row[0] == "First token only"]
    assert row["Pass@16"] == row["verdict, Pass@16"] == "—"
    assert cells["GTPO (entropy)"]["verdict, Pass@16"] == "—" and cells["GTPO (entropy)"]["verdict"] in seeds.VERDICTS


def test_rules_are_held_against_grpo_with_their_own_setting(runs, tmp_path):
    """A rule divided by tokens, against GRPO divided by groups: the weight and the divisor at once."""
    by_tokens = runs_of("GRPO, by tokens", plus([4, 3, 4, 4, 4, 3, 4, 5])) + runs_of("EDGE", plus([1] * 8))
    found = own_setting.compared(board.rows(runs + by_tokens, "micro-sum"))
    final = {one.first: one for one in found["pass_at_1"]}
    # The first token's is divided by groups: plain GRPO is its own.
    assert {label: one.second for label, one in final.items()} == dict.fromkeys(
        ["GTPO (entropy)", "EDGE"], "GRPO, by tokens"
    )
    assert final["GTPO (entropy)"].gain.value == pytest.approx(0.01 / 8)
    assert final["EDGE"].gain.value == pytest.approx(0.01 * (8 - 31) / 8)
    assert final["EDGE"].adjusted_p == pytest.approx(2 * final["EDGE"].p_value)
    names = {path.name for path in pages.save({"micro-sum": board.rows(runs + by_tokens, "micro-sum")}, tmp_path)}
    assert {f"board-micro-sum-own.{ending}" for ending in ("md", "csv", "tex")} <= names
    assert "GRPO, by tokens" in (tmp_path / "board-micro-sum-own.md").read_text(encoding="utf-8")


def test_a_rule_at_another_learning_rate_is_held_against_grpo_at_that_rate(runs):
    """On the board it stands against GRPO at one step: the weight and the rate at once."""
    faster = entry("First token only").at(2.0)
    made = [made_of(faster.config("micro-sum", warm_start=w, seed=s), 300) for w, s in PAIRS]
    rows = board.rows(runs + made, "micro-sum", chosen=[*board.line(), faster])
    (final,) = own_setting.compared(rows)["pass_at_1"]
    assert (final.first, final.second) == ("First token only, 2 × step", "GRPO, 2 × step")
    line = sum(plus([8, 9, 8, 7, 8, 9, 8, 7]))
    assert final.gain.value == pytest.approx((8 * 300 - line) / 8 / 500)


def test_further_pairs_of_plain_grpo_do_not_lower_the_line(runs):
    """With two more runs of plain GRPO the line to beat was plain GRPO, which the better one beats."""
    more = runs_of("GRPO", [310, 320], [(2, 1), (2, 2)])
    (row,) = (row for row in board.rows(runs + more, "micro-sum") if row.entry.label == "GTPO (entropy)")
    assert row.line.second == "GRPO, 2 × step" and row.line.gain.count == 8
    # GRPO divided otherwise is no step size, however good it is.
    tokens = runs_of("GRPO, by tokens", plus([20] * 8))
    (row,) = (row for row in board.rows(runs + tokens, "micro-sum") if row.entry.label == "GTPO (entropy)")
    assert row.line.second == "GRPO, 2 × step"


def test_without_grpo_in_that_setting_there_is_no_such_table(runs):
    assert own_setting.compared(board.rows(runs, "micro-sum")) == {}
    assert own_setting.table(board.rows([], "micro-sum"), "micro-sum") is None
    # Neither GRPO by tokens at one step nor GRPO by groups at two is its own.
    faster = entry("EDGE").at(2.0)
    made = [made_of(faster.config("micro-sum", warm_start=w, seed=s), 300) for w, s in PAIRS]
    rows = board.rows(runs + made + runs_of("GRPO, by tokens", COUNTS), "micro-sum", chosen=[*board.line(), faster])
    assert own_setting.compared(rows) == {}


def test_a_board_without_any_run_says_so():
    rows = board.rows([], "micro-legs")
    assert {row[3] for row in board_table.table(rows, "micro-legs").rows} == {"not run"}
    assert "no run of it was found" in board_table.table(rows, "micro-legs").caption
    assert pages.picture({"micro-legs": rows}) is None


def test_the_picture_shows_the_numbers_of_the_table(rows):
    with plt.style.context(STYLE):
        ax = pages.plot({"micro-sum": rows, "micro-legs": board.rows([], "micro-legs")})
        names = [label.get_text() for label in ax.get_yticklabels()]
        marks = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_marker() == "o"]
        assert names == ["GRPO, 2 × step", "First token only", "GTPO (entropy)"]
        drawn = {names[round(line.get_ydata()[0])]: float(line.get_xdata()[0]) for line in marks}
        plt.close("all")
    assert drawn == {r.entry.label: pytest.approx(100 * r.against["pass_at_1"].gain.value) for r in rows if r.against}


def test_the_files_of_a_board(rows, tmp_path):
    paths = pages.save({"micro-sum": rows}, tmp_path)
    names = {path.name for path in paths}
    assert names == {f"board-micro-sum.{e}" for e in ("md", "csv", "tex")} | {
        f"board{e}" for e in (".png", ".svg", ".pdf", "-numbers.csv", "-pairs.csv")
    }
    assert all(path.stat().st_size > 500 for path in paths)
    numbers, pairs = (pd.read_csv(tmp_path / f"board-{kind}.csv") for kind in ("numbers", "pairs"))
    for row in rows:
        for metric, one in row.against.items():
            (told,) = numbers[(numbers["first"] == row.entry.label) & (numbers["metric"] == metric)].to_dict("records")
            assert (told["n"], told["verdict"]) == (one.gain.count, outcome(one))
            assert (told["gain"], told["holm_p"]) == pytest.approx(
                (one.gain.value, one.adjusted_p), rel=1e-4, nan_ok=True
            )
            of_it = pairs[(pairs["first"] == row.entry.label) & (pairs["metric"] == metric)]
            assert sorted(of_it["gain"]) == pytest.approx(sorted(one.gains.values()), rel=1e-4)
    width = plt.imread(tmp_path / "board.png").shape[1] / 300
    assert np.isclose(width, WIDTHS["single"], atol=0.02)


@pytest.mark.parametrize("scale,share", [("micro-legs", "half"), ("micro-s", "25%")])
def test_the_note_names_the_level_of_the_scale(scale, share):
    """A rule can be entered on any scale, and the level is not the same on each."""
    notes = board_table.table(board.rows([], scale), scale).notes
    assert f"The level is {share} of the way" in notes[0]
