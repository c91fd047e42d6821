"""What is shown of a run that is under way: the same facts in a notebook, in a terminal, and in a watched kernel."""

import io
import re
import sys
from types import SimpleNamespace

import pytest

from sa_ah_lib.config import preset
from sa_ah_lib.train import progress
from sa_ah_lib.train.progress import MARK, Progress


def under_way(**changes):
    """Three of twelve steps, evaluated before the first."""
    shown = Progress(preset("micro-s", "grpo", steps=12, **changes), shown=False)
    shown.evaluated(0, 217, 500)
    shown.begin(0)
    for step in (1, 2, 3):
        shown.stepped(step)
        shown.stepped(step, reward=2.0 + step / 100)
    return shown


def test_a_run_is_called_by_its_method_not_by_its_id():
    """micro-s-grpo-a0-seed123-150steps-42fc0a99 says nothing to who looks up from other work."""
    assert under_way().text.startswith("GRPO, step 3 of 12: reward 2.03, Pass@1 0.434 at step 0")
    assert progress.label(preset("micro-s", "sa-ah-grpo", seed=7)) == "SA-AH-GRPO (seed 7)"
    assert progress.label(preset("micro-s", "ah-grpo", alpha=0.25, seed=1)) == "AH-GRPO (α = 0.25, seed 1)"


def test_the_time_left_is_that_of_the_steps_to_come(monkeypatch):
    """Steps that an earlier session made took none of this one's time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress(preset("micro-s", "grpo", steps=150), shown=False)
    shown.begin(30, [1.0] * 30)
    assert shown.left == ""
    now[0] += 20
    shown.stepped(40, 2.0)
    assert shown.left == "03:40 left"
    shown.stepped(150, 2.0)
    assert shown.left == ""


def test_an_evaluation_says_how_far_it_is():
    shown = under_way()
    shown.evaluating(250, 500)
    assert "evaluating, 250 of 500 problems" in shown.text
    shown.evaluated(3, 300, 500)
    assert "evaluating" not in shown.text and "Pass@1 0.600 at step 3" in shown.text


def test_an_evaluation_without_training_has_no_steps():
    shown = Progress(preset("micro-s", "zero-shot"), shown=False)
    shown.evaluated(0, 1, 2)
    assert shown.text == "Base (zero-shot): Pass@1 0.500 at step 0"


def test_a_terminal_shows_a_bar_and_a_line_per_evaluation(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    shown = Progress(preset("micro-s", "grpo", steps=4))
    shown.evaluated(0, 1, 4)
    shown.begin(0)
    for step in (1, 2, 3, 4):
        shown.stepped(step, 1.5)
    shown.evaluated(4, 3, 4)
    shown.close()
    lines = re.split(r"[\r\n]+", stream.getvalue())
    assert [line for line in lines if "Pass@1" in line] == ["GRPO, step 0: Pass@1 0.250", "GRPO, step 4: Pass@1 0.750"]
    assert any(re.match(r"GRPO, step 4 of 4 .*reward 1.50", line) for line in lines)


@pytest.fixture
def outputs(monkeypatch):
    """What a kernel would be sent: [(data, metadata, is an update)]."""
    IPython = pytest.importorskip("IPython.display")
    sent = []

    def display(data, raw, display_id, metadata):
        assert raw and display_id
        sent.append((data, metadata, False))
        return SimpleNamespace(update=lambda data, raw, metadata: sent.append((data, metadata, True)))

    monkeypatch.setattr(IPython, "display", display)
    monkeypatch.setattr(progress, "_in_notebook", lambda: True)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN", 0)
    return sent


def test_a_notebook_has_one_output_that_is_updated(outputs):
    """A bar of its own for each evaluation stays in the executed file, stuck at 0%."""
    shown = Progress(preset("micro-s", "grpo", steps=2))
    shown.evaluated(0, 1, 4)
    shown.begin(0)
    for step, reward in ((1, 1.5), (2, 2.5)):
        shown.stepped(step, reward)
    shown.evaluated(2, 3, 4)
    shown.close()
    assert [update for _, _, update in outputs].count(False) == 1 and outputs[0][2] is False
    assert all(metadata == MARK for _, metadata, _ in outputs)
    last = outputs[-1][0]
    assert last["text/plain"] == "GRPO, step 2 of 2: reward 2.50, Pass@1 0.750 at step 2"
    assert "<progress value='2' max='2'>" in last["text/html"] and last["text/html"].count("<polyline") == 2
    assert "mean reward 1.5 to 2.5" in last["text/html"] and "Pass@1 0.25 to 0.75" in last["text/html"]


def test_curves_go_on_after_a_resumed_run(outputs):
    shown = Progress(preset("micro-s", "grpo", steps=4))
    shown.begin(2, [1.0, 3.0])
    shown.stepped(3, 2.0)
    (points,) = re.findall(r"<polyline points='([^']*)'", outputs[-1][0]["text/html"])
    assert [float(x) for x in re.findall(r"([\d.]+),", points)] == [67.0, 130.0, 193.0]


def test_nothing_is_shown_where_it_is_not_wanted(capsys):
    under_way().close()
    assert capsys.readouterr() == ("", "")
