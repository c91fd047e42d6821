"""What the notebooks show: every text escaped, every number the log's own."""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from sa_ah_lib.analysis.table import html_table
from sa_ah_lib.config import preset
from sa_ah_lib.report import display
from sa_ah_lib.rewards import reward_parts
from sa_ah_lib.train import run as module
from sa_ah_lib.train.runlog import RunLog, read_run
from sa_ah_lib.upstream.metrics import METRICS

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
    rows = [re.findall(f"<{tag}[^>]*>(.*?)</{tag}>", row) for row in re.findall("<tr>(.*?)</tr>", page)]
    return [row for row in rows if row]


def test_a_table_escapes_headers_and_cells():
    """A path or an answer with markup must be shown, never run."""
    page = html_table(["<b>head</b>", "b"], [[EVIL, None], [1.5, "a<b"]])
    assert "<script>" not in page and "<b>" not in page
    assert cells(page, "th") == [["&lt;b&gt;head&lt;/b&gt;", "b"]]
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
    values = ["2.500", "0.500", "0.00123", "0.0300", "0.600", "0.400", "0.25", "40", "0.1"]
    assert cells(page) == [["1", *values, "—"], ["2", *values, "67"]]
    assert cells(page, "th")[0][:4] == ["step", "r̄", "± std", "KL"] and len(cells(page, "th")[0]) == 11
    assert all(
        f"{METRICS[key].column}: {METRICS[key].meaning}" in unescape(page) for key in (*full, "sa_ah/effective_horizon")
    )


def test_diagnostics_of_a_run_without_training(write):
    """The zero-shot run has no training rows; its notebook must not fail on that."""
    assert cells(display.diagnostics_table(write(eval=[evaluated(0, 0, True)]))) == []


def test_prose_stands_left_and_numbers_right():
    """Notebook pages align every cell right; a column of sentences is then a ragged left edge."""
    page = html_table(["name", "value", "gain"], [["a sentence", 1.5, "[−0.1, 2]"], ["—", 2, "3 of them"]])
    styled = re.findall(r"<(?:th|td)([^>]*)>", page)
    assert styled == [" style='text-align:left'", "", " style='text-align:left'"] * 3
    assert "text-align:left" in html_table(["what to do"], [[""], ["—"]])


def test_a_configuration_shows_first_what_differs_from_the_paper():
    """33 rows, of which a reader wants eight."""
    config = preset("micro-s", "grpo", model="<script>x</script>", dataset="<b>")
    page = display.configuration(config)
    first, folded = page.split("<details>")
    assert "<script>" not in page and "<b>" not in page and "&lt;b&gt;" in first
    named, *changed = cells(first)
    assert named == ["micro-s", "&lt;script&gt;x&lt;/script&gt;", "grpo", "0.0", "123", "150"]
    assert ["learning_rate", "0.0002", "5e-06"] in changed and len(changed) == len(config.differences())
    assert ["beta", "0.04"] in cells(folded) and len(cells(folded)) == len(config.to_dict())


def test_a_configuration_of_the_paper_says_so():
    assert "Nothing differs" in display.configuration(preset("qwen2.5-3b", "ah-grpo"))


def test_answers_are_escaped_and_before_stands_beside_after(write):
    """Questions and completions are anybody's text; a checkpoint in between would misrepresent the run."""
    last = evaluated(60, 0, False, question=EVIL, completion=f"{EVIL} <SOLUTION>5</SOLUTION>", gold=1234567.0)
    first = evaluated(0, 0, True, question=EVIL, completion="before <SOLUTION>1</SOLUTION>", gold=1234567.0)
    page = display.before_and_after(write(eval=[first, evaluated(30, 0, True, completion="between"), last]))
    assert "<script>" not in page and "<SOLUTION>" not in page and "between" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; more" in page and "&lt;SOLUTION&gt;5" in page
    assert page.index("step 0: correct") < page.index("before &lt;SOLUTION") < page.index("step 60: wrong")
    # In full: 1.23457e+06 is not the gold answer.
    assert "wrong, gold 1234567<" in page


def test_the_same_problems_are_shown_and_all_are_counted(write):
    """Three problems chosen for their outcome would be an advertisement."""
    right = {0: (0, 1, 2), 9: (1, 2, 3, 4, 5)}
    rows = [evaluated(step, i, i in right[step]) for step in (9, 0) for i in range(8)]
    page = display.before_and_after(write(eval=rows), count=2)
    counted = "3 became right, 1 became wrong, 2 stayed right, 2 stayed wrong"
    assert f"Of 8 problems, from step 0 to step 9: {counted}" in page
    assert [k for k in range(8) if f"question {k}" in page] == [0, 1]
    parts = reward_parts(GOOD, 2.0)
    assert page.count("reward 7.5: " + ", ".join(f"{name} {v:g}" for name, v in parts.items())) == 4


def test_without_training_there_is_no_after(write):
    page = display.before_and_after(write(eval=[evaluated(0, i, True) for i in range(5)]))
    assert "became" not in page and page.count("step 0: correct") == 3


def test_what_a_run_took(write):
    """Times and memory that nobody can find are planned from guesses."""
    run = write(train=[{"step": s, "step_time": t} for s, t in ((1, 30.0), (2, 2.0), (3, 1.0))])
    log = RunLog(run.directory, CONFIG, {"device": "cpu", "threads": 1})
    log.finish({"seconds": 125.3, "peak_memory": 3 * 2**30})
    assert cells(display.cost(read_run(run.directory))) == [
        ["whole run, evaluations included", "125 s"], ["median training step", "2 s"],
        ["peak memory of the process", "3 GiB"], ["device", "cpu"], ["CPU threads", "1"],
    ]  # fmt: skip


def test_what_old_logs_lack_is_said(write):
    assert [row[1] for row in cells(display.cost(write()))] == ["not logged"] * 5


def test_answers_count_pass_at_1_once(write, monkeypatch):
    """Once a row of eval.jsonl, a published run of 3,000 rows took 10 s."""
    counted, count = [], module._answers
    monkeypatch.setattr(module, "_answers", lambda *given: counted.append(1) or count(*given))
    run = write(eval=[evaluated(step, i, True) for step in (0, 30) for i in range(20)])
    display.before_and_after(run)
    display.diagnostics_table(run)
    display.pass_at_1_table(run)
    assert len(counted) == 1


SPAN = re.compile(r"<span title='([\d.]+)' style='[^']*rgba\(([\d,.]+)\)'><code[^>]*>(.*?)</code><br><small>([\d.]+)<")


def test_the_heat_map_shows_tokens_and_values(write):
    """A colour on the wrong token, or entropy where the weight belongs, would be read as a finding."""
    rows = [rollout(1.5, tokens=["old"], entropy=[0.0], weights=[1.0]), rollout(-0.5, tokens=["x<y", "\n"]),
            rollout(0.75, tokens=["up", " &"], entropy=[0.2, 0.05], weights=[1.0, 1.0])]  # fmt: skip
    page = display.heat_map(write(completions=rows))
    entropy, weight = "213,94,0", "0,114,178"
    assert SPAN.findall(page) == [
        ("0.2000", f"{entropy},0.70", "up", ".2"), ("0.0500", f"{entropy},0.00", " &amp;", ".05"),
        ("1.0000", f"{weight},0.00", "up", "1"), ("1.0000", f"{weight},0.00", " &amp;", "1"),
        ("0.1000", f"{entropy},0.00", "x&lt;y", ".1"), ("0.4000", f"{entropy},0.70", "⏎", ".4"),
        ("0.9000", f"{weight},0.70", "x&lt;y", ".9"), ("0.3000", f"{weight},0.00", "⏎", ".3"),
    ]  # fmt: skip
    assert "weight, 1 everywhere" in page and "weight, .3 to .9" in page and "old" not in page


def test_colours_span_the_values_that_are_there(write):
    """At alpha 0.5 all weights lie near 1: shaded from 0, they were one blue."""
    row = rollout(-1.0, tokens=["a", "b", "c"], entropy=[0.1] * 3, weights=[0.99, 0.985, 0.98])
    page = display.heat_map(write(completions=[row]))
    shades = [float(colour.rsplit(",", 1)[1]) for _, colour, *_ in SPAN.findall(page)[3:]]
    assert shades == [0.7, 0.35, 0.0]


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
    assert [found[:2] for found in SPAN.findall(page)[:2]] == [("0.0000", "213,94,0,0.00")] * 2


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
