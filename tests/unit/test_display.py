"""What the notebooks show: every text escaped, every number the log's own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sa_ah_lib.analysis.table import html_table
from sa_ah_lib.config import preset
from sa_ah_lib.report import display
from sa_ah_lib.rewards import reward_parts
from sa_ah_lib.train.runlog import RunLog, read_run

ROOT = Path(__file__).parents[2]
CONFIG = preset("micro-s", "sa-ah-grpo")
GOOD = "<start_working_out>1 + 1 = 2</start_working_out><SOLUTION>2</SOLUTION>"
EVIL = "<script>alert('x')</script> & more"


def evaluated(step, problem, correct, **changes):
    return {"step": step, "problem": problem, "question": f"question {problem}", "gold": 2.0, "correct": correct,
            "reward": 7.5, "completion": GOOD, **changes}  # fmt: skip


def rollout(advantage, tokens=("a", "b"), entropy=(0.1, 0.4), weights=(0.9, 0.3), **changes):
    return {"step": 30, "advantage": advantage, "reward": 2.5, "tokens": list(tokens), "entropy": list(entropy),
            "weights": list(weights), **changes}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """A run of the given rows, written through RunLog."""

    def make(config=CONFIG, **rows):
        log = RunLog(tmp_path / config.run_id, config, {})
        for name, lines in rows.items():
            for row in lines:
                log.write(name, row)
        log.finish({})
        return read_run(log.directory)

    return make


def cells(page, tag="td"):
    """The texts of a table's cells, row by row, empty rows left out."""
    rows = [re.findall(f"<{tag}>(.*?)</{tag}>", row) for row in re.findall("<tr>(.*?)</tr>", page)]
    return [row for row in rows if row]


def test_a_table_escapes_headers_and_cells():
    """A path or an answer with markup must be shown, never run."""
    page = html_table(["<b>head</b>"], [[EVIL, None], [1.5, "a<b"]])
    assert "<script>" not in page and "<b>" not in page
    assert cells(page, "th") == [["&lt;b&gt;head&lt;/b&gt;"]]
    assert cells(page)[1] == ["1.5", "a&lt;b"] and cells(page)[0][1] == "None"
    assert page._repr_html_() == page


def test_an_empty_table_keeps_its_header():
    """No rows yet is a state to be shown, not an error."""
    assert cells(html_table(["a", "b"], []), "th") == [["a", "b"]]


def test_pass_at_1_by_run_and_checkpoint(write):
    """The table that is quoted: counts, rate and both intervals must be those of the log."""
    first = write(eval=[evaluated(0, i, i < 1) for i in range(4)] + [evaluated(30, i, i < 3) for i in range(4)])
    second = write(preset("micro-s", "zero-shot"), eval=[evaluated(0, i, False) for i in range(4)])
    page = display.pass_at_1_table(first, second)
    name = "SA-AH-GRPO, α = 0.5"
    # 95% intervals by hand: 0.25 -+ 1.96 sqrt(0.25 * 0.75 / 4), cut at 0; Wilson of 1 of 4 is [0.046, 0.699].
    assert cells(page)[0] == [name, "0", "1/4", "0.250", "[0.000, 0.674]", "[0.046, 0.699]"]
    assert cells(page)[1] == [name, "30", "3/4", "0.750", "[0.326, 1.000]", "[0.301, 0.954]"]
    assert cells(page)[2][:4] == ["Base (zero-shot), α = 0", "0", "0/4", "0.000"]
    assert len(cells(page, "th")[0]) == len(cells(page)[0])


def test_diagnostics_at_the_evaluated_steps(write):
    """Table 6's columns beside the wrong step, or a null shown as 0, would be believed."""
    full = {"reward": 2.5, "reward_std": 0.5, "kl": 0.0012345, "sa_ah/entropy": 0.03, "sa_ah/weight": 0.6,
            "sa_ah/weight_negative": 0.4, "sa_ah/negative_fraction": 0.25, "completions/mean_length": 40.0,
            "grad_norm": 0.1}  # fmt: skip
    train = [{"step": step, **full, "sa_ah/effective_horizon": 66.6 if step == 2 else None} for step in (1, 2, 3)]
    run = write(train=train, eval=[evaluated(step, 0, True) for step in (0, 2)])
    page = display.diagnostics_table(run)
    values = ["2.5", "0.5", "0.001234", "0.03", "0.6", "0.4", "0.25", "40", "0.1"]
    assert cells(page) == [["1", *values, "—"], ["2", *values, "66.6"]]
    assert cells(page, "th")[0][:4] == ["step", "mean reward", "± std", "KL"] and len(cells(page, "th")[0]) == 11


def test_diagnostics_of_a_run_without_training(write):
    """The zero-shot run has no training rows; its notebook must not fail on that."""
    assert cells(display.diagnostics_table(write(eval=[evaluated(0, 0, True)]))) == []


def test_samples_are_escaped_and_from_the_last_checkpoint(write):
    """Questions and completions are anybody's text; an early checkpoint's would misrepresent the run."""
    last = [evaluated(30, 0, False, question=EVIL, completion=f"{EVIL} <SOLUTION>5</SOLUTION>", gold=1234567.0)]
    run = write(eval=[evaluated(0, 0, True, question="early"), *last])
    page = display.samples(run)
    assert "<script>" not in page and "<SOLUTION>" not in page and "early" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; more" in page and "&lt;SOLUTION&gt;5" in page
    # In full: 1.23457e+06 is not the gold answer.
    assert "wrong, gold 1234567;" in page


def test_samples_show_the_reward_s_parts(write):
    """A total without its parts does not tell a right answer from a tidy one."""
    page = display.samples(write(eval=[evaluated(0, i, True) for i in range(5)]), count=2)
    parts = reward_parts(GOOD, 2.0)
    assert page.count("<hr>") == 2 and "question 2" not in page
    assert page.count("correct; reward 7.5: " + ", ".join(f"{name} {v:g}" for name, v in parts.items())) == 2


def test_the_heat_map_shows_tokens_and_values(write):
    """A colour on the wrong token, or entropy where the weight belongs, would be read as a finding."""
    rows = [rollout(1.5, tokens=["old"], entropy=[0.0], weights=[1.0]), rollout(-0.5, tokens=["x<y", "2"]),
            rollout(0.75, tokens=["up", " &"], entropy=[0.2, 0.05], weights=[1.0, 1.0])]  # fmt: skip
    page = display.heat_map(write(completions=rows))
    assert "<b>positive rollout</b>, step 30, advantage 0.75, reward 2.5" in page
    assert "<b>negative rollout</b>, step 30, advantage -0.50, reward 2.5" in page
    assert "old" not in page and "x<y" not in page
    spans = re.findall(r"<span title='(.*?)' style='background:rgba\((.*?)\)'>(.*?)</span>", page)
    entropy, weight = "213,94,0", "0,114,178"
    assert spans == [
        ("0.2000", f"{entropy},0.75", "up"), ("0.0500", f"{entropy},0.19", " &amp;"),
        ("1.0000", f"{weight},0.75", "up"), ("1.0000", f"{weight},0.75", " &amp;"),
        ("0.1000", f"{entropy},0.19", "x&lt;y"), ("0.4000", f"{entropy},0.75", "2"),
        ("0.9000", f"{weight},0.75", "x&lt;y"), ("0.3000", f"{weight},0.25", "2"),
    ]  # fmt: skip


@pytest.mark.parametrize("rows,missing", [([rollout(1.0)], ["negative"]), ([rollout(-1.0)], ["positive"]),
                                          ([rollout(0.0)], ["positive", "negative"]),
                                          ([], ["positive", "negative"])])  # fmt: skip
def test_a_missing_kind_of_rollout_is_said(write, rows, missing):
    """A short run may sample no failure (or only ties); the notebook goes on and says so."""
    page = display.heat_map(write(completions=rows))
    assert re.findall(r"No rollout of (\w+) advantage was sampled", page) == missing
    assert page.count("rollout</b>") == 2 - len(missing)


def test_a_rollout_without_entropy_is_drawn(write):
    """All zeros must not divide by zero."""
    page = display.heat_map(write(completions=[rollout(1.0, entropy=(0.0, 0.0))]))
    assert page.count("title='0.0000' style='background:rgba(213,94,0,0.00)'") == 2


def test_tokens_and_values_must_pair(write):
    """One token without a value means that all after it carry their neighbour's."""
    with pytest.raises(ValueError, match="zip"):
        display.heat_map(write(completions=[rollout(1.0, weights=(1.0,))]))


def test_files_are_listed_with_sizes_but_for_checkpoints(write):
    """Optimizer states of every checkpoint would bury the adapter."""
    run = write(train=[{"step": 1}])
    for name in ("adapter/weights.safetensors", "checkpoints/checkpoint-15/optimizer.pt"):
        (run.directory / name).parent.mkdir(parents=True)
        (run.directory / name).write_bytes(b"0" * 1500)
    listed = dict(cells(display.files(run)))
    assert listed[f"{CONFIG.run_id}/adapter/weights.safetensors"] == "1.5"
    assert f"{CONFIG.run_id}/train.jsonl" in listed and not any("checkpoint" in name for name in listed)


def test_files_of_runs_below_a_folder_named_checkpoints(tmp_path):
    """RUNS may be any folder; its own name must not hide the run's files."""
    log = RunLog(tmp_path / "checkpoints" / CONFIG.run_id, CONFIG, {})
    log.finish({})
    assert f"{CONFIG.run_id}/config.json" in dict(cells(display.files(read_run(log.directory))))


def test_written_files_are_listed_by_folder():
    """A hundred paths in full would hide what was made where."""
    page = display.paths(["out/a/table-1.md", Path("out/a/table-1.csv"), "out/b/<x>.png"])
    assert cells(page) == [["out/a", "table-1.md, table-1.csv"], ["out/b", "&lt;x&gt;.png"]]
    assert cells(display.paths([])) == []


def test_html_is_quiet_in_a_terminal():
    """A page of markup printed by papermill would bury the log."""
    page = html_table(["a"], [[1]])
    assert isinstance(page, str) and repr(page) == f"<HTML of {len(page)} characters>"


def test_display_needs_no_torch():
    """A reader's laptop shows published runs without the training set."""
    script = (
        "import sys; from sa_ah_lib.report import display; display.paths([])\n"
        "print([name for name in ('torch', 'trl', 'unsloth', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
