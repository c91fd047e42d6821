"""The card of a GPU without one: budgets, resuming, and what its verdicts and its card say."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from families import PROBLEMS, write_run
from processes import gone, until

from sa_ah_lib.config import preset
from sa_ah_lib.gpu_card import card, environment, measured, runner, verdicts
from sa_ah_lib.gpu_card.runner import DONE, FAILED, LATE, STOPPED, Stage


def stage(name, script, minutes=1.0, read=None, variables=()):
    """A stage of one Python command in its own folder."""
    return Stage(
        name, name.title(), minutes, lambda folder: [[[sys.executable, "-c", script]]], read or text, variables
    )


def text(folder):
    return {"text": (folder / "found").read_text()}


def states(directory, stages):
    return [runner.saved(directory, one).get("state") for one in stages]


def counting(name):
    return stage(name, "print(1, file=open('found', 'a'), end='')")


def test_a_second_call_goes_on_with_what_is_missing(tmp_path):
    """Minutes of a card spent twice on one thing."""
    stages = [counting("a"), counting("b")]
    runner.run(tmp_path, stages[:1], 60, 60)
    assert states(tmp_path, stages) == [DONE, None]
    runner.run(tmp_path, stages, 60, 60)
    assert states(tmp_path, stages) == [DONE, DONE]
    assert runner.saved(tmp_path, stages[0])["result"] == {"text": "1"}


def test_a_stage_that_fails_takes_no_other_with_it(tmp_path):
    """Its traceback is kept, and it is tried again after all that was never tried."""
    broken = stage("broken", "raise OSError('no such card')")
    stages = [broken, counting("b")]
    runner.run(tmp_path, stages, 60, 60)
    assert states(tmp_path, stages) == [FAILED, DONE]
    assert "OSError: no such card" in runner.saved(tmp_path, broken)["error"]
    stages.append(counting("c"))
    assert [one.name for one in runner.waiting(tmp_path, stages)] == ["c", "broken"]


def test_a_stage_out_of_time_ends_with_all_that_it_started_and_keeps_what_it_found(tmp_path):
    script = (
        "import subprocess, sys, time; open('found', 'w').write('half')\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('child', 'w').write(str(child.pid)); time.sleep(60)"
    )
    late = stage("late", script, minutes=4 / 60)
    runner.run(tmp_path, [late], 60, 60)
    found = runner.saved(tmp_path, late)
    assert found["state"] == LATE and found["result"] == {"text": "half"}
    child = int((tmp_path / "work" / "late" / "child").read_text())
    until(lambda: gone(child), seconds=30)


STOPPED_COMMAND = """
import signal, sys
from pathlib import Path
from sa_ah_lib.gpu_card import __main__ as command, stages
from sa_ah_lib.gpu_card.runner import Stage
script = "import os, time; os.symlink(str(os.getpid()), 'pid'); time.sleep(600)"
one = Stage("environment", "Machine", 5, lambda folder: [[[sys.executable, "-c", script]]], lambda folder: {})
stages.every = lambda *given: [one]
# A shell's background jobs, and all that they start, ignore it; a terminal's do not.
signal.signal(signal.SIGINT, signal.default_int_handler)
command.main(["--out", sys.argv[1]])
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_what_a_stopped_call_had_begun_ends_with_it_and_counts(signum, tmp_path):
    """It held the GPU on unseen, and its minutes were missing from the total of all calls."""
    command = subprocess.Popen([sys.executable, "-c", STOPPED_COMMAND, str(tmp_path)])
    begun = tmp_path / "work" / "environment" / "pid"
    until(begun.is_symlink, command)
    time.sleep(0.2)  # seconds are kept to a tenth
    command.send_signal(signum)
    assert command.wait(120) != 0
    until(lambda: gone(int(os.readlink(begun))), seconds=30)
    kept = json.loads((tmp_path / "environment.json").read_text())
    assert kept["state"] == STOPPED and kept["seconds"] > 0
    assert "| Machine | stopped |" in (tmp_path / "card" / "card.md").read_text().replace("  ", "")


def test_what_a_killed_call_had_begun_ends_with_it(tmp_path):
    """The next call measured beside it."""
    command = subprocess.Popen([sys.executable, "-c", STOPPED_COMMAND, str(tmp_path)])
    begun = tmp_path / "work" / "environment" / "pid"
    until(begun.is_symlink, command)
    command.kill()
    command.wait()
    until(lambda: gone(int(os.readlink(begun))), seconds=60)


def test_no_stage_is_begun_without_time_for_it(tmp_path):
    """Neither in this call, nor where earlier calls have spent the total."""
    one = counting("a")
    runner.run(tmp_path, [one], runner.LEAST - 1, 1000)
    assert states(tmp_path, [one]) == [None]
    (tmp_path / "b.json").write_text(json.dumps({"state": FAILED, "seconds": 990}))
    runner.run(tmp_path, [one], 1000, 1000)
    assert states(tmp_path, [one]) == [None]


def test_a_stage_without_its_data_says_so(tmp_path):
    """It costs no other stage its turn."""

    def commands(folder):
        raise FileNotFoundError("needs --gsm8k")

    stages = [Stage("data", "Data", 1, commands, text), counting("b")]
    runner.run(tmp_path, stages, 60, 60)
    assert states(tmp_path, stages) == [FAILED, DONE]
    assert "needs --gsm8k" in runner.saved(tmp_path, stages[0])["error"]


def test_the_variables_of_a_stage_reach_its_commands(tmp_path):
    shows = stage("a", "import os; open('found', 'w').write(os.environ['SEEN'])", variables=(("SEEN", "yes"),))
    runner.run(tmp_path, [shows], 60, 60)
    assert runner.saved(tmp_path, shows)["result"] == {"text": "yes"} and "SEEN" not in os.environ


# --- verdicts ---------------------------------------------------------------------------------------------------------

NAME = "packed, peaked, top-K, negative, group, beta 0.04, fresh"
GOOD = {
    "case": NAME, "error": 0.01, "unweighted": 0.9, "tap_difference": 0.03, "states": [[1, 40]],
    "packing_trusted": True, "seconds": 1.0,
}  # fmt: skip


def report(path, **changes):
    rows = [{"trainer": "UnslothGRPOTrainer", "device": "cuda", "dtype": "bfloat16"}, {**GOOD, **changes}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"case": "half a li')
    return verdicts.read(path)


def test_a_report_that_holds_has_nothing_wrong(tmp_path):
    found = report(tmp_path / "report.jsonl")
    assert verdicts.losses(found) + verdicts.layouts(found, 8) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"error": 0.2}, "the limit is 0.12"),
        ({"error": float("nan")}, "off by nan"),
        ({"unweighted": 0.04}, "cannot be told apart"),
        ({"states": [[8, 20]]}, "hidden states had the shapes"),
        ({"states": []}, "saw no hidden states"),
        ({"packing_trusted": False}, "does not trust"),
        ({"tap_difference": 0.4}, "differ by 0.4"),
        ({"raised": "Traceback\nRuntimeError: CUDA error"}, "RuntimeError: CUDA error"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changes, said):
    """A card that prints numbers and no verdict."""
    found = report(tmp_path / "report.jsonl", **changes)
    wrong = verdicts.losses(found) + verdicts.layouts(found, 8)
    assert len(wrong) == 1 and wrong[0].startswith(NAME) and said in wrong[0]


def test_a_case_counts_as_it_went_last(tmp_path):
    """A case that raised in one call and held in the next."""
    path = tmp_path / "report.jsonl"
    report(path, raised="OutOfMemoryError")
    path.write_text(path.read_text().rsplit("\n", 1)[0] + "\n" + json.dumps(GOOD) + "\n")
    found = verdicts.read(path)
    assert verdicts.losses(found) == [] and list(found["cases"]) == [NAME]


# --- the card ---------------------------------------------------------------------------------------------------------


def test_the_card_names_the_card_and_what_was_not_run(tmp_path):
    """A card that passes for whole, or a rehearsal that passes for a card."""
    stages = [counting("environment"), counting("equalities-a"), counting("times-a")]
    for name, state, result in (
        ("environment", DONE, {"card": "NVIDIA Some", "python": "3.12.1 (main)", "versions": {"trl": "1.15.0"}}),
        ("equalities-a", LATE, {
            "place": "cuda unsloth bfloat16", "trainer": "UnslothGRPOTrainer", "wanted": 7, "compared": 2,
            "limit": 0.12, "errors": {"x": 0.01, "y": 0.5}, "wrong": ["y: off by 0.5, the limit is 0.12"],
            "tap": 0.02, "packing": ["True"], "steps": None,
        }),
    ):  # fmt: skip
        row = {"stage": name, "title": name, "state": state, "seconds": 1, "error": None, "result": result}
        (tmp_path / f"{name}.json").write_text(json.dumps(row))
    made = card.make(tmp_path, stages, rehearse=False)
    page = (tmp_path / "card" / "card.md").read_text()
    assert page.startswith("# NVIDIA Some, 20") and "Rehearsal" not in page
    assert made["not done"] == {"Equalities-A": LATE, "Times-A": "not run"} and "| Times-A" in page
    assert "| 2 of 7 " in page and card.wrong(made) == ["y: off by 0.5, the limit is 0.12"]
    assert json.loads((tmp_path / "card" / "card.json").read_text()) == made
    assert (tmp_path / "card" / "card.png").stat().st_size > 1000
    card.make(tmp_path, stages, rehearse=True)
    assert "none of its times" in (tmp_path / "card" / "card.md").read_text()


def test_an_error_that_is_no_number_is_the_worst():
    """Between numbers it was passed over, and the card showed the largest of the others."""
    assert str(verdicts.worst([0.1, float("nan"), 0.2, None])) == "nan"
    assert verdicts.worst([None, 0.1, 0.2]) == 0.2 and verdicts.worst([None]) is None


def test_what_a_broken_removal_left_hides_no_version(tmp_path, monkeypatch):
    """A folder without metadata ended the stage that names the card."""
    (tmp_path / "torchvision-0.1.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert environment._versions()["pytest"] == pytest.__version__


def test_a_run_on_the_card_shows_pass_at_1_before_training_too(tmp_path):
    """A gain cannot be read where the score before it is missing."""
    write_run(tmp_path / "runs", preset("micro-s", "grpo", steps=30, eval_examples=PROBLEMS))
    ((row,),) = measured._runs(tmp_path).values()
    assert list(row["pass_at_1"]) == ["0", "30"] and row["pass_at_1"]["0"][1] == PROBLEMS
