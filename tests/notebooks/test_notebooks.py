"""Every notebook, executed top to bottom by papermill in smoke form on the embedded scale."""

import re
from pathlib import Path

import pytest

pytest.importorskip("unsloth")
papermill = pytest.importorskip("papermill")

from sa_ah_lib.sweep import kernels

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SMOKE = {"steps": 2, "eval_examples": 8, "train_examples": 16, "prompts_per_step": 2, "eval_every": 2}
ZERO_SHOT = {name: SMOKE[name] for name in ("eval_examples", "train_examples")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One RUNS directory for all, so that later notebooks find what earlier ones finished."""
    return tmp_path_factory.mktemp("runs")


# What a cell makes, by how its last statement begins.
PICTURE = re.compile(r"\w+ = ((seed_)?figures\.(diagnostics|overview|profiles|summary)|board_pages\.picture)\(")
PAGES = re.compile(r"pages\.figure\(")
TABLE = re.compile(r"(display\.(pass_at_1_table|diagnostics_table|cost|files|paths)|html_table)\(")


def execute(name, runs, **parameters):
    output = runs / f"{name}-out.ipynb"
    with kernels.own_sockets() as config:
        done = papermill.execute_notebook(
            NOTEBOOKS / f"{name}.ipynb", output, {"RUNS": str(runs), **parameters}, cwd=NOTEBOOKS, progress_bar=False,
            config=config,
        )  # fmt: skip
    assert_all_is_shown_once(done)
    return done


def assert_all_is_shown_once(notebook):
    """A picture that was made and not shown is missed by nobody who reads the cell's source alone."""
    for cell in notebook.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        last = cell.source.strip().splitlines()[-1]
        data = [output["data"] for output in cell.outputs if "data" in output]
        pages = ["".join(value["text/html"]) for value in data if "text/html" in value]
        assert sum("image/png" in value for value in data) == bool(PICTURE.match(last)), cell.source
        if PAGES.match(last):
            assert len(pages) == 1 and ("<img" in pages[0] or "not made" in pages[0]), cell.source
        if TABLE.match(last):
            assert len(pages) == 1 and pages[0].count("<table") == 1, cell.source


def shown(notebook):
    """Everything a notebook displayed, as one text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(
        "".join(output.get("text", "")) + "".join(str(value) for value in output.get("data", {}).values())
        for output in outputs
    )


@pytest.mark.slow
def test_00_passes_on_the_installed_set(runs):
    """A version that drifted would otherwise be met in the middle of a run."""
    text = shown(execute("00_environment_check", runs, SCALE="micro-s"))
    assert "the weights' hook in the loss" in text and "FAIL" not in text


@pytest.mark.slow
def test_01_evaluates_the_untouched_model(runs):
    text = shown(execute("01_zero_shot", runs, SCALE="micro-s", OVERRIDES=ZERO_SHOT))
    assert "Base (zero-shot)" in text and "/8" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["02_grpo", "03_ah_grpo", "04_sa_ah_grpo"])
def test_a_method_notebook_trains_and_shows_its_run(runs, name):
    text = shown(execute(name, runs, SCALE="micro-s", OVERRIDES=SMOKE))
    wanted = ["w̄₋", "adapter_model.safetensors", "differs from the paper", "became right", "entropy, "]
    for expected in [*wanted, "the trained model answers", "peak memory of the process", "step 2 of 2: reward"]:
        assert expected in text


@pytest.mark.slow
def test_05_reuses_what_02_and_03_finished(runs):
    text = shown(execute("05_alpha_ablation", runs, SCALE="micro-s", OVERRIDES=SMOKE, ALPHAS=[0.0, 0.5]))
    assert text.count("finished before") == 2


@pytest.mark.slow
def test_06_compares_methods_over_seeds(runs):
    """Two methods and two seeds from parameters alone; what 02 finished is reused."""
    parameters = {"METHODS_TO_RUN": ["grpo", "control-shuffled"], "MORE_SEEDS": [1], "NEW_RUNS": 9, "LOGS": str(runs)}
    done = execute("06_beyond_the_paper", runs, SCALE="micro-s", OVERRIDES=SMOKE, **parameters)
    text = shown(done)
    for expected in ("Shuffled entropy", "compared</td><td>4</td>", "without runs of SA-AH-GRPO"):
        assert expected in text


@pytest.mark.slow
def test_06_shows_the_published_comparison_by_default(runs):
    """2 of 80 runs were found, and one more was trained for ten minutes to compare them with."""
    text = shown(execute("06_beyond_the_paper", runs))
    assert "missing</td><td>0</td>" in text and "trained now</td><td>0</td>" in text
    assert "over 8 paired seeds" in text and "Beside its controls" in text


@pytest.mark.slow
def test_08_shows_a_board_and_a_rule_of_ones_own(runs, tmp_path):
    """Nothing is trained by default; a rule that fails in its cell is the reader's first five minutes."""
    text = shown(execute("08_board", runs, SCALE="micro-s", OUT=str(tmp_path)))
    assert "trained now" in text and "Sure failures count less" in text and "not run" in text
    assert "over the line" in text and "weights 0.2 to 1" in text
    assert "Inverse entropy, SA" in text.split(">overlap<", 1)[1]
    assert {"board-micro-s.md", "board.png"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.slow
def test_other_scale_and_seed_run_from_parameters_alone(runs):
    """The README's `papermill -p SCALE ... -p SEED 1` line, at a scale that needs no GPU."""
    text = shown(execute("04_sa_ah_grpo", runs, SCALE="micro-l", SEED=1, OVERRIDES=SMOKE))
    assert "micro-l-sa-ah-grpo-a0.5-seed1-2steps" in text


@pytest.mark.slow
def test_07_shows_what_the_others_trained(runs, tmp_path):
    """`make demo` ends here: the trainer's own keys must be those that tables and figures read."""
    text = shown(execute("07_tables_and_figures", runs, SCALE="micro-s", OUT=str(tmp_path)))
    made = {path.name for path in (tmp_path / "micro-s").iterdir()}
    assert {"table-4.md", "table-7.md", "table-s1.md", "figure-a1.png", "figure-a3.png", "figure-a4.png"} <= made
    assert "SA-AH-GRPO" in text and (tmp_path / "audit.md").is_file()
