"""Notebook 07 as a reader runs it: on accidents, twice, without torch; and the committed figures against their logs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import older_cpu
import pictures
import pytest
from families import PROBLEMS, protocol, write_run

from sa_ah_lib.analysis import loading
from sa_ah_lib.config import preset
from sa_ah_lib.paper import audit, printed
from sa_ah_lib.report import book, paper_tables, plots, style
from sa_ah_lib.train.runlog import set_aside

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "07_tables_and_figures.ipynb"
TRL = {
    "log_history": [{"step": 1, "reward": 2.0, "kl": 0.0}, {"step": 2, "reward": 3.0}, {"step": 2, "train_loss": 0.1}]
}
# Runs the notebook's own code cells in a plain Python without the training set; arguments are the parameters.
PLAIN = """
import json, os, sys
class Blocked:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("torch", "transformers", "trl", "peft", "unsloth", "datasets", "accelerate"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
notebook, given = json.load(open(sys.argv[1], encoding="utf-8")), json.loads(sys.argv[2])
for cell in notebook["cells"]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "code" and "google.colab" not in source:
        exec(source, globals())
        if "parameters" in cell["metadata"].get("tags", []):
            globals().update(given)
"""


def child(*arguments, variables=None):
    """What a Python in the notebooks' folder printed, with further environment ``variables``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", **(variables or {})}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=NOTEBOOK.parent, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def plain(variables=None, **parameters):
    """Execute notebook 07 without Jupyter and without torch, from the notebooks' folder as papermill does."""
    child("-c", PLAIN, str(NOTEBOOK), json.dumps(parameters), variables=variables)


def contents(directory, without=()):
    paths = (path for path in Path(directory).rglob("*") if path.is_file())
    found = {str(path.relative_to(directory)): path.read_bytes() for path in paths}
    return {name: data for name, data in sorted(found.items()) if Path(name).parts[0] not in without}


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def accidents(parent):
    """The protocol on a small scale, and every accident of the issue at once; foreign logs."""
    runs = {config.run_id: write_run(parent / "runs", config).directory for config in protocol(sweep=(0.1,))}
    grpo, ah, sa = (
        next(d for d in runs.values() if f"micro-s-{m}-a" in d.name) for m in ("grpo", "ah-grpo", "sa-ah-grpo")
    )
    # A half-written last line of answers, a NaN reward, unknown keys, a step logged twice after a resume.
    (grpo / "eval.jsonl").write_text((grpo / "eval.jsonl").read_text()[:-40])
    train = lines(ah / "train.jsonl")
    train[6] = re.sub(r'"reward": [\d.]+', '"reward": NaN, "novelty": 1', train[6])
    (ah / "train.jsonl").write_text("\n".join([*train[:40], train[39], *train[40:]]) + "\n")
    # Weights that the rule does not give: the schematic must refuse, and nothing else.
    samples = [json.loads(line) for line in lines(sa / "completions.jsonl")]
    changed = [json.dumps({**row, "weights": [0.5] * len(row["weights"])}) for row in samples]
    (sa / "completions.jsonl").write_text("\n".join(changed) + "\n")
    # A broken line inside, another version's config, an unfinished run, an empty directory, another seed and scale.
    broken = write_run(parent / "runs", preset("micro-s", "ah-grpo", alpha=0.25, eval_examples=PROBLEMS)).directory
    (broken / "train.jsonl").write_text('{"step": 1\n{"step": 2}\n')
    odd = write_run(parent / "runs", preset("micro-s", "ah-grpo", alpha=-0.25, eval_examples=PROBLEMS)).directory
    (odd / "config.json").write_text('{"flux": 1}')
    half = write_run(parent / "runs", protocol()[0].replace(learning_rate=1e-3), finish=False)
    set_aside(half.directory)
    (parent / "runs" / "empty").mkdir()
    write_run(parent / "runs", protocol()[0].replace(seed=7))
    (parent / "trainer_state.json").write_text(json.dumps(TRL))
    (parent / "plain.csv").write_text("step,reward,pass_at_1\n30,2.5,0.65\n60,high,0.66\n")
    return [
        {"path": str(parent / name), "scale": "qwen2.5-1.5b", "method": "grpo"}
        for name in ("trainer_state.json", "plain.csv")
    ]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """(directory, notebook's shown text) of one papermill execution on all accidents."""
    papermill = pytest.importorskip("papermill")
    parent = tmp_path_factory.mktemp("accidents")
    foreign = accidents(parent)
    parameters = {"RUNS": str(parent / "runs"), "OUT": str(parent / "first"), "FOREIGN": foreign}
    made = papermill.execute_notebook(
        NOTEBOOK, parent / "07.ipynb", parameters, cwd=NOTEBOOK.parent, progress_bar=False
    )
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "stream" and output["name"] == "stderr"]
    return parent, foreign, "".join(str(v) for o in outputs for v in o.get("data", {}).values())


@pytest.mark.parametrize("message", [
    r"eval\.jsonl, line \d+: torn last line dropped", r"train\.jsonl, line 7: no finite reward",
    r"train\.jsonl, line 41: step 40 again; this later line is used",
    r"left out .*train\.jsonl, line 1: expected a JSON object", r"config\.json: .*Got unknown .*flux",
    r"interrupted-1: the run is not finished", r"left out: runs of other seeds than 123 \(7\)",
    r"plain\.csv, line 3: expected numbers",
    r"figure-a5, micro-s: not made: expected the logged weights of step \d+", r"table-5|alphas, micro-s: not made",
])  # fmt: skip
def test_every_accident_is_told_in_the_notebook(executed, message):
    """A reader who is not told takes what is shown for all there is."""
    assert re.search(message, executed[2])


def test_the_rest_of_the_notebook_is_made(executed):
    """One bad log must cost its own artefact alone."""
    parent, _, shown = executed
    made = {name.rsplit(".", 1)[0] for name in contents(parent / "first") if name.endswith((".md", ".png"))}
    ours = {f"micro-s/{n}" for n in ("table-4", "table-7", "table-s1", "table-s2", "table-s3", "figure-3", "figure-4",
                                     "table-5", "figure-a1", "figure-a2", "figure-a3", "figure-a4")}  # fmt: skip
    large, small = "paper-qwen2.5-3b", "paper-qwen2.5-1.5b"
    theirs = {
        f"{large}/{n}" for n in ("table-3", "table-6", "figure-1", "figure-2", "figure-a1", "figure-a3", "figure-a4")
    }
    theirs |= {
        f"{small}/{n}"
        for n in (
            "table-4",
            "table-5",
            "table-7",
            "figure-3",
            "figure-4",
            "figure-a1",
            "figure-a2",
            "figure-a3",
            "figure-a4",
        )
    }
    shared = {"audit", "README", *(f"{source}/table-{n}" for source in ("paper", "measured") for n in (1, 2))}
    assert ours | theirs | shared <= made and "micro-s/figure-a5" not in made
    # The TRL log came in as a family of its own, with rewards and without Pass@1.
    assert "qwen2.5-1.5b/figure-a3" in made and "qwen2.5-1.5b/figure-a1" not in made
    assert "trainer_state.json" in shown and shown.count("data:image/png;base64,") == sum(
        name.endswith(".png") for name in contents(parent / "first")
    )


def test_sources_are_never_mixed(executed):
    """A measured number below the paper's name, or the other way round, is the worst accident of all."""
    for name, data in contents(executed[0] / "first").items():
        if name.endswith(".md") and name not in ("audit.md", "README.md"):
            source = "paper" if name.startswith("paper") else "measured"
            assert f". {source}: ".encode() in data.splitlines()[0], name


def test_a_second_run_without_torch_gives_the_same_bytes(executed):
    """Another process, no Jupyter, no torch: a difference would be noise in every later commit of figures/."""
    parent, foreign, _ = executed
    plain(RUNS=str(parent / "runs"), OUT=str(parent / "second"), FOREIGN=foreign)
    first, second = contents(parent / "first"), contents(parent / "second")
    assert len(first) > 100 and first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.parametrize("cpu", ["this CPU", pytest.param("an older CPU", marks=older_cpu.needed)])
def test_the_committed_figures_are_those_of_the_published_logs(tmp_path, cpu):
    """figures/ and figures/logs drift apart as soon as nobody draws them again; `make figures` mends it.

    Data, tables and the index are equal byte for byte on every CPU. Pictures may differ by less than an eye sees: the
    last digit of a logarithm decides which way a pixel is rounded.
    """
    variables = older_cpu.variables() if cpu == "an older CPU" else {}
    logs, committed = ROOT / "figures" / "logs", ROOT / "figures"
    plain(variables, RUNS=str(logs), OUT=str(tmp_path))
    (tmp_path / "logs").mkdir()
    child("-m", "sa_ah_lib.report", str(logs), "--out", str(tmp_path), variables=variables)
    published, drawn = contents(committed, without=("logs",)), contents(tmp_path)
    assert sorted(published) == sorted(drawn), "run `make figures`, and remove what it no longer makes"
    shown = {name for name in drawn if name.endswith((".png", ".svg", ".pdf"))}
    assert [name for name in drawn if name not in shown and drawn[name] != published[name]] == [], "run `make figures`"
    pinned = re.search(r"matplotlib==([\d.]+)", (ROOT / "requirements-tested.txt").read_text())[1]
    if pinned == plots.plt.matplotlib.__version__:
        apart = [pictures.difference(committed / name, tmp_path / name) for name in sorted(shown)]
        assert [text for text in apart if text] == [], "run `make figures`"


@older_cpu.needed
def test_an_older_cpu_is_what_the_child_process_sees():
    """With a misspelt variable the test above would draw on this CPU twice."""
    kernels = "import numpy; print(numpy.show_config(mode='dicts')['SIMD Extensions'].get('found', []))"
    assert child("-c", kernels, variables=older_cpu.variables()).strip() == "[]"
    kernels = "import math; print([math.exp(k / 997) for k in range(20_000)])"
    digits = [child("-c", kernels, variables=given) for given in ({}, older_cpu.variables())]
    if "fma" in Path("/proc/cpuinfo").read_text().split():
        assert digits[0] != digits[1]


def test_pictures_that_differ_are_told_apart(tmp_path):
    """A tolerance that lets a changed number through would compare nothing."""
    rows = [{"method": "grpo", "alpha": 0.0, "step": step, "pass_at_1": 0.5 + step / 1000, "low": 0.45, "high": 0.75,
             "interval": "Wilson", "problems": 500} for step in range(0, 180, 30)]  # fmt: skip
    for name, change in (("one", 0.0), ("same", 1e-9), ("moved", 0.004)):
        rows[-1]["pass_at_1"] += change
        ax = plots.plt.subplots(figsize=(3.3, 2.6), layout="constrained")[1]
        style.save_pictures(plots.plot_pass_at_1(rows, ax).figure, tmp_path, name)
    for ending in ("png", "svg"):
        one, same, moved = (tmp_path / f"{name}.{ending}" for name in ("one", "same", "moved"))
        assert pictures.difference(one, one) == pictures.difference(one, same) == ""
        assert str(moved.name) in pictures.difference(one, moved)


# --- the book --------------------------------------------------------------------------------------------------------


def test_a_width_that_no_journal_has_is_refused(tmp_path):
    with pytest.raises(ValueError, match="width must be one of .*double.*single.*Got 'triple'"):
        book.Book(tmp_path, "triple")


def test_a_missing_artefact_is_said_and_listed(tmp_path):
    """A gap without a word looks like a figure that was forgotten."""
    pages = book.Book(tmp_path)
    shown = pages.figure("figure-4", [printed.family(printed.LARGE)])
    shown += pages.table(paper_tables.summary, [], together=True)
    assert "figure-4, paper-qwen2.5-3b: not made, for want of an alpha sweep" in shown
    assert "summary" in shown and "runs: none were found" in shown and len(pages.missing) == 2 and pages.paths == []


def test_what_is_shown_is_what_was_written(tmp_path):
    """Tables per family or together, in the folder of their source; images carry their caption as alternative text."""
    large, small = printed.family(printed.LARGE), printed.family(printed.SMALL)
    pages = book.Book(tmp_path, "double")
    shown = pages.table(paper_tables.checkpoints, [large, small])
    shown += pages.table(paper_tables.summary, [large, small], together=True)
    shown += pages.figure("figure-2", [large])
    names = [str(path.relative_to(tmp_path)) for path in pages.paths]
    assert names[:10:3] == ["paper-qwen2.5-3b/table-3.md", "paper-qwen2.5-1.5b/table-4.md", "paper/table-2.md",
                            "paper-qwen2.5-3b/figure-2.png"]  # fmt: skip
    assert all(path.is_file() for path in pages.paths) and shown.count("<table>") == 3
    assert f"alt='figure-2: {large.caption}'" in shown and "width:6.9in" in shown
    assert plots.plt.imread(tmp_path / names[-4]).shape[1] == 2070


def test_a_figure_of_one_size_is_not_made_for_the_other(tmp_path):
    """Figure 1 of the small model would be a figure that the paper does not have."""
    pages = book.Book(tmp_path)
    assert "<img" not in pages.figure("figure-1", [printed.family(printed.SMALL)])
    assert pages.paths == pages.missing == []


def test_the_audit_is_shown_and_written(tmp_path):
    pages = book.Book(tmp_path)
    shown = pages.audit(loading.load(tmp_path / "none").results)
    assert pages.paths == [tmp_path / "audit.md"] and shown.count("<table>") == 1
    assert shown.count("<h4>") == len(audit.checks()) + len(audit.claims())


def test_make_figures_runs_this_notebook_on_the_published_logs():
    """The README's one command for the figures; a renamed parameter would be passed to nothing."""
    done = subprocess.run(["make", "-n", "figures"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    command = done.stdout.replace("\\\n", " ")
    assert "notebooks/07_tables_and_figures.ipynb" in command and f'-r RUNS "{ROOT / "figures" / "logs"}"' in command
    assert not re.search(r"pip install .*(train|gpu)", command)
    declared = re.findall(r"^([A-Z]+) = ", "".join(json.loads(NOTEBOOK.read_text())["cells"][2]["source"]), re.M)
    assert set(re.findall(r" -[pr] ([A-Z]+) ", command)) <= set(declared)
