"""The preregistered comparisons: which runs they need, that no early look is possible, and what they say."""

import re
from pathlib import Path

import pytest

pytest.importorskip("scipy")
from made_runs import made_of, made_run

from sa_ah_lib.analysis import designs, preregistered, seeds
from sa_ah_lib.config import preset
from sa_ah_lib.report import preregistered_pages

PAGE = (Path(__file__).parents[2] / "docs" / "preregistration.md").read_text()
CORRECT = {
    "GRPO": 300, "AH": 340, "SA": 301, "SA, position": 300, "SA, one scalar": 299, "GRPO, twice the step": 340,
    "GRPO, four times the step": 320, "AH, position": 340, "SA, twice the step": 341,
    "SA, top-entropy mask": 330, "mirror": 270,
}  # fmt: skip
NOISE = (0, 3, -3, 2, -1, 1, -2)


def runs_of(name):
    """All runs of a design, each with its arm's count of right answers and a little of its own."""
    design, made = preregistered.DESIGNS[name], []
    for place, arm in enumerate(design.arms):
        for number, config in enumerate(design.of(arm)):
            made.append(made_of(config, CORRECT[arm] + NOISE[(4 * number + place) % len(NOISE)]))
    return made


MICRO = ("micro-legs", "micro-sum")


@pytest.mark.parametrize(("scale", "steps"), [("micro-legs", 40), ("micro-sum", 60)])
def test_the_runs_are_those_of_the_page(scale, steps):
    configs = preregistered.configurations(scale)
    assert len(set(configs)) == 60
    assert {(c.warm_start, c.seed) for c in configs} == {(k, s) for k in range(5) for s in (1, 2)}
    own = preset(scale, "grpo", steps=steps)
    doubled = own.replace(learning_rate=2 * own.learning_rate)
    assert {c.replace(warm_start=0, seed=1) for c in configs if c.method == "grpo"} == {
        c.replace(seed=1) for c in (own, doubled)
    }
    assert {c.steps for c in configs} == {steps} and {c.alpha for c in configs if c.method != "grpo"} == {0.5}


def test_the_runs_of_the_pre_trained_model_are_those_of_the_page():
    configs = preregistered.configurations("smollm2")
    own = preset("smollm2", "grpo", dataset="simple", data_seed=123)
    assert (
        len(set(configs)) == 16 and {c.seed for c in configs} == {1, 2, 3, 4} and {c.warm_start for c in configs} == {0}
    )
    assert {(c.method, c.alpha) for c in configs} == {
        ("grpo", 0.0), ("ah-grpo", 0.5), ("sa-ah-grpo", 0.5), ("control-position", 0.5)
    }  # fmt: skip
    section = " ".join(re.search(r"## A pre-trained model\n(.*?)\n## ", PAGE, re.S)[1].split())
    for said in (
        f"{own.rollouts_per_step} rollouts a step of at most {own.max_completion_tokens} tokens",
        f"{own.train_examples} training and {own.eval_examples} evaluation problems, `data_seed` {own.data_seed}",
        f"{configs[0].steps} steps, evaluated at 0, {own.eval_every} and {configs[0].steps}; seeds 1 to 4, so 16 runs",
        "on `simple`", f"So {own.learning_rate:.0e}".replace("e-0", "e-") + " is the preset",
    ):  # fmt: skip
        assert said in section, said
    assert own.replace(seed=1, steps=20) in configs


def test_the_other_seeds_of_the_pre_trained_model_are_new_ones_of_the_same_runs():
    configs = preregistered.configurations("smollm2-seeds")
    assert len(set(configs)) == 16 and {c.seed for c in configs} == set(range(6, 14))
    before = {c.replace(seed=0) for c in preregistered.configurations("smollm2")}
    assert {c.replace(seed=0) for c in configs} < before
    section = " ".join(re.search(r"## A pre-trained model, more seeds\n(.*?)\n## ", PAGE, re.S)[1].split())
    assert "seeds 6 to 13, so 16 runs" in section and "7 degrees of freedom" in section
    for first, second, asked in preregistered.TAUGHT:
        assert f"`{first}` against `{second}`: {asked}" in section
    found = preregistered.compared(runs_of("smollm2-seeds"), "smollm2-seeds")["pass_at_1"]
    assert [seeds.outcome(one) for one in found] == ["better"] * 3 and {one.gain.count for one in found} == {8}


def test_a_larger_step_of_the_pre_trained_model_is_over_the_same_seeds():
    configs = preregistered.configurations("smollm2-steps")
    own = preset("smollm2", "grpo").learning_rate
    new = [c for c in configs if c not in preregistered.configurations("smollm2-seeds")]
    assert len(configs) == 24 and {c.seed for c in new} == set(range(6, 14)) and len(new) == 8
    assert {c.method for c in new} == {"grpo"} and {c.learning_rate for c in new} == {2 * own} == {1e-3}
    section = " ".join(re.search(r"## A pre-trained model, a larger step\n(.*?)\n## ", PAGE, re.S)[1].split())
    assert "`learning_rate` 1e-3" in section and "seeds 6 to 13, so 8 runs" in section
    for first, second, asked in preregistered.TAUGHT_FASTER:
        assert f"`{first}` against `{second}`: {asked}" in section
    found = preregistered.compared(runs_of("smollm2-steps"), "smollm2-steps")["pass_at_1"]
    assert [seeds.outcome(one) for one in found][:2] == ["better", "better"] and found[2].gain.count == 8


def test_arithmetic_is_asked_on_new_problems_and_seeds():
    """Its kinds were chosen by a look at runs on other problems and seeds."""
    configs = preregistered.configurations("smollm2-arithmetic")
    both = preregistered.configurations("smollm2-arithmetic-sa")
    assert len(configs) == 8 and len(set(both)) == 16 and set(configs) < set(both)
    assert {c.seed for c in both} == set(range(14, 22)) and {(c.dataset, c.data_seed) for c in both} == {
        ("arithmetic", 2026)
    }
    known = [c for name in ("smollm2", "smollm2-seeds", "smollm2-steps") for c in preregistered.configurations(name)]
    assert not {c.seed for c in both} & {c.seed for c in known} and {c.data_seed for c in known} == {123}
    same = {c.replace(seed=1) for c in both}
    assert same == {preset("smollm2", "grpo", seed=1, steps=20), preset("smollm2", "sa-ah-grpo", seed=1, steps=20)}
    section = " ".join(re.search(r"## A pre-trained model, without.*?\n(.*?)\n## ", PAGE, re.S)[1].split())
    assert "`data_seed` 2026" in section and "over seeds 14 to 21" in section and "7 degrees of freedom" in section
    for first, second, asked in (*preregistered.DECIDED_ANEW, *preregistered.SELECTED):
        assert f"`{first}` against `{second}`: {asked}" in section
    (found,) = preregistered.compared(runs_of("smollm2-arithmetic"), "smollm2-arithmetic")["pass_at_1"]
    assert found.gain.count == 8 and found.p_value == found.adjusted_p


def test_training_is_compared_with_the_same_runs_before_it():
    """Their first evaluations have 100 right of 500, their last about 300, and between them the curve is a line."""
    found = preregistered.compared(runs_of("smollm2"), "smollm2")
    final, area = (comparisons[0] for comparisons in found.values())
    assert (final.first, final.second) == ("GRPO", preregistered.BEFORE)
    assert final.gain.value == pytest.approx(0.4, abs=0.02) and area.gain.value == pytest.approx(0.2, abs=0.01)
    assert final.gain.count == 4 and final.gain.low > 0.3
    # Four pairs have 16 sign patterns: no test of them can be below 0.05.
    assert {row[5] for row in preregistered.table(runs_of("smollm2"), "smollm2", "auc").rows} == {"undecided"}


def test_the_page_names_the_same_comparisons_arms_and_rates():
    section = re.search(r"## Comparisons\n(.*?)\n## ", PAGE, re.S)[1]
    for first, second, asked in preregistered.COMPARISONS:
        assert asked in " ".join(section.split()), (first, second)
    assert section.count("\n1. ") + len(re.findall(r"\n[2-9]\. ", section)) == len(preregistered.COMPARISONS)
    for name in preregistered.ARMS:
        assert f"| {name} |" in PAGE or f"`{name}` (" in PAGE
    rates = re.search(r"learning rate ([\d.e-]+) on\s+`micro-sum` and\s+([\d.e-]+) on `micro-legs`", PAGE)
    assert [float(rate) for rate in rates.groups()] == [
        preset(scale, "grpo").learning_rate for scale in ("micro-sum", "micro-legs")
    ]
    steps = re.search(r"(\d+) optimizer steps on `micro-legs` and (\d+) on `micro-sum`", PAGE)
    assert [int(n) for n in steps.groups()] == [designs.PUBLISHED[s].steps for s in ("micro-legs", "micro-sum")]


def test_nothing_is_compared_before_all_runs_are_there():
    """Whoever looks at some of the runs can decide when to stop."""
    made = runs_of("micro-legs")
    assert preregistered.compared(made[:-1], "micro-legs") is None
    early = preregistered.table(made[:-1], "micro-legs", "auc")
    assert "1 of 60 runs are missing" in early.notes[0]
    assert all(set(row[2:]) == {"—"} for row in early.rows)
    assert preregistered.missing(made[:-1], "micro-legs") == [made[-1].config]


def test_each_comparison_is_of_its_own_arms():
    table = preregistered.table(runs_of("micro-legs"), "micro-legs", "pass_at_1")
    verdicts = {row[0]: (row[2], row[5]) for row in table.rows}
    assert verdicts["AH against GRPO"][1] == "better" and verdicts["AH against GRPO"][0].startswith("+8.")
    assert verdicts["SA against AH"][1] == "worse"
    assert verdicts["SA against GRPO"][1] == verdicts["AH against GRPO, twice the step"][1] == "equivalent"
    assert "measured: micro-legs" in table.caption


def test_the_second_question_has_its_own_arms_and_its_own_correction():
    configs = preregistered.configurations("micro-legs-steps")
    own = preset("micro-legs", "grpo").learning_rate
    doubled = {c.learning_rate / own for c in configs if c.method == "sa-ah-grpo"}
    assert len(set(configs)) == 50 and doubled == {2.0}
    assert [c for c in configs if c.rule == "position"] == [c for c in configs if c.method == "ah-grpo"][10:]
    found = preregistered.compared(runs_of("micro-legs-steps"), "micro-legs-steps")["pass_at_1"]
    assert [seeds.outcome(one) for one in found] == ["equivalent", "worse", "equivalent"]
    assert min(c.adjusted_p for c in found) == pytest.approx(3 * min(c.p_value for c in found))
    for first, second, asked in preregistered.STEP_SIZES:
        assert f"`{first}` against `{second}`: {asked}" in PAGE


def test_the_findings_of_one_task_are_asked_on_the_other():
    configs = preregistered.configurations("micro-sum-mask")
    own = preset("micro-sum", "grpo")
    assert len(set(configs)) == 40 and {c.steps for c in configs} == {60}
    assert {c.learning_rate for c in configs} == {own.learning_rate}
    new = [c for c in configs if c not in preregistered.configurations("micro-sum")]
    section = " ".join(re.search(r"## The mask and the mirror on the other task\n(.*?)\n## ", PAGE, re.S)[1].split())
    assert len(new) == 20 and "before any of these 20 runs" in section
    assert {c.method for c in new} == {"control-top-entropy", "control-mirror"} and {c.alpha for c in new} == {0.5}
    found = preregistered.compared(runs_of("micro-sum-mask"), "micro-sum-mask")["pass_at_1"]
    assert [seeds.outcome(one) for one in found] == ["better", "better", "worse"]
    for first, second, asked in preregistered.SECOND_TASK:
        assert f"`{first}` against `{second}`: {asked}" in section


def test_holm_s_correction_is_for_the_six_comparisons_of_an_endpoint():
    found = preregistered.compared(runs_of("micro-legs"), "micro-legs")
    for comparisons in found.values():
        assert len(comparisons) == 6
        assert min(c.adjusted_p for c in comparisons) == pytest.approx(6 * min(c.p_value for c in comparisons))


def test_other_runs_change_nothing():
    """Exploratory runs, and runs of another length or rate, are no part of it."""
    made = runs_of("micro-legs")
    others = [
        made_run("grpo", 3, 10, scale="micro-legs", steps=40),
        made_run("grpo", 1, 10, scale="micro-legs", steps=60),
        made_run("ah-grpo", 1, 10, scale="micro-legs", steps=40, rule="position"),
    ]
    both = (made, made + others)
    assert len({repr(preregistered.table(runs, "micro-legs", "auc")) for runs in both}) == 1


def test_the_picture_has_a_row_a_comparison_and_a_mark_an_endpoint(tmp_path):
    found = preregistered.compared(runs_of("micro-legs"), "micro-legs")
    ax = preregistered_pages.plot(found)
    rows = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
    assert rows == [f"{first} against {second}" for first, second, _ in preregistered.COMPARISONS]
    marks = [line for line in ax.lines if line.get_marker() in ("o", "s") and len(line.get_xdata())]
    assert [round(float(mark.get_xdata()[0]), 3) for mark in marks] == [
        round(100 * one.gain.value, 3) for endpoint in found.values() for one in endpoint
    ]
    paths = preregistered_pages.save(runs_of("micro-legs"), tmp_path)
    assert {path.stem for path in paths if path.suffix == ".png"} == {"preregistered-micro-legs"}
    assert {path.stem for path in paths if path.suffix == ".md"} == {
        f"preregistered-{name}-{end}" for name in preregistered.DESIGNS for end in ("pass-at-1", "auc")
    }


def test_a_scale_that_was_not_preregistered_is_refused():
    with pytest.raises(ValueError, match="design must be one of .*micro-legs.* Got 'micro-s'"):
        preregistered.configurations("micro-s")
