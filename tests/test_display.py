"""What notebooks show: escaped, complete, and silent about nothing."""

import pytest

from sa_ah_lib import display
from sa_ah_lib.config import preset
from sa_ah_lib.runlog import Run

EVIL = "<script>alert('1 < 2')</script>"


def evaluated(step, problem, correct, completion="<SOLUTION>3</SOLUTION>", question="1 + 2 ="):
    return {
        "step": step, "problem": problem, "question": question, "gold": 3.0, "predicted": 3.0 if correct else 4.0,
        "correct": correct, "tokens": 5, "truncated": False, "reward": 5.6, "completion": completion,
    }  # fmt: skip


def rollout(advantage, tokens=("1", "+", "2"), step=1):
    values = [0.1 * (i + 1) for i in range(len(tokens))]
    return {
        "step": step, "prompt": "q", "tokens": list(tokens), "entropy": values, "weights": [1 - v for v in values],
        "advantage": advantage, "reward": 2.0, "completion": "".join(tokens),
    }  # fmt: skip


def trained(step, **more):
    return {"step": step, "reward": 4.25, "kl": 0.0125, "sa_ah/entropy": 0.03, "sa_ah/weight": 0.8, **more}


@pytest.fixture
def make(tmp_path):
    def run(train=(), evaluation=(), completions=(), method="sa-ah-grpo"):
        return Run(tmp_path, preset("micro-s", method), {}, list(train), list(evaluation), list(completions), True)

    return run


def test_text_of_a_model_cannot_become_markup(make):
    """A completion that holds a script would run in the reader's browser."""
    row = evaluated(0, 0, False, completion=EVIL, question=EVIL)
    run = make(evaluation=[row], completions=[rollout(1.0, [EVIL]), rollout(-1.0, [EVIL])])
    for shown in (display.samples(run), display.heat_map(run), display.table([EVIL], [[EVIL]])):
        assert "<script" not in shown._repr_html_() and "&lt;script&gt;" in shown


def test_pass_at_1_has_counts_and_both_intervals(make):
    rows = [evaluated(0, i, i < 1) for i in range(4)] + [evaluated(30, i, i < 3) for i in range(4)]
    shown = display.pass_at_1_table(make(evaluation=rows))
    for cell in ("<td>1/4</td>", "<td>0.250</td>", "<td>30</td>", "<td>3/4</td>", "[0.301, 0.954]"):
        assert cell in shown


def test_diagnostics_are_those_of_evaluated_steps_and_the_first(make):
    """Values of another step beside a checkpoint would be read as that checkpoint's."""
    rows = [evaluated(0, 0, True), evaluated(30, 0, True)]
    shown = display.diagnostics_table(make([trained(1), trained(29), trained(30, kl=0.5)], rows))
    assert "<td>1</td>" in shown and "<td>30</td>" in shown and "<td>29</td>" not in shown
    assert "<td>0.5</td>" in shown
    assert "—" in shown  # a metric that was not logged is not invented


def test_samples_are_of_the_last_checkpoint(make):
    rows = [
        evaluated(0, 0, False, "early text"),
        *(evaluated(30, i, True, f"late text {i} <SOLUTION>3</SOLUTION>") for i in range(5)),
    ]
    shown = display.samples(make(evaluation=rows), count=2)
    assert "early" not in shown and shown.count("late text") == 2
    assert "correct 4" in shown and "present 1" in shown


def test_the_heat_map_colours_each_token_by_its_own_value(make):
    shown = display.heat_map(make(completions=[rollout(2.0), rollout(-1.0)]))
    assert shown.count("<span") == 12
    assert "title='0.1000'" in shown and "title='0.7000'" in shown
    assert "positive rollout" in shown and "negative rollout" in shown


def test_a_run_without_a_negative_rollout_says_so(make):
    shown = display.heat_map(make(completions=[rollout(2.0)]))
    assert "No rollout of negative advantage" in shown


def test_the_last_sampled_rollouts_are_shown(make):
    shown = display.heat_map(make(completions=[rollout(1.0, step=1), rollout(1.0, step=30), rollout(-1.0, step=30)]))
    assert "step 30" in shown and "step 1," not in shown


def test_files_are_listed_without_checkpoints(make):
    run = make()
    (run.directory / "checkpoints").mkdir()
    for name in ("train.jsonl", "checkpoints/big.bin"):
        (run.directory / name).write_bytes(b"x" * 1500)
    shown = display.files(run)
    assert "train.jsonl</td><td>1.5</td>" in shown and "big.bin" not in shown
