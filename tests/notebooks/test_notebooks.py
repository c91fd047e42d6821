"""Every notebook, executed top to bottom by papermill in smoke form on the embedded scale."""

from pathlib import Path

import pytest

pytest.importorskip("unsloth")
papermill = pytest.importorskip("papermill")

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SMOKE = {"steps": 2, "eval_examples": 8, "train_examples": 16, "prompts_per_step": 2, "eval_every": 2}
ZERO_SHOT = {name: SMOKE[name] for name in ("eval_examples", "train_examples")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One RUNS directory for all, so that later notebooks find what earlier ones finished."""
    return tmp_path_factory.mktemp("runs")


def execute(name, runs, **parameters):
    output = runs / f"{name}-out.ipynb"
    return papermill.execute_notebook(
        NOTEBOOKS / f"{name}.ipynb", output, {"RUNS": str(runs), **parameters}, cwd=NOTEBOOKS, progress_bar=False
    )


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
    assert "the seam's hook" in text and "FAIL" not in text


@pytest.mark.slow
def test_01_evaluates_the_untouched_model(runs):
    text = shown(execute("01_zero_shot", runs, SCALE="micro-s", OVERRIDES=ZERO_SHOT))
    assert "Base (zero-shot)" in text and "/8" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["02_grpo", "03_ah_grpo", "04_sa_ah_grpo"])
def test_a_method_notebook_trains_and_shows_its_run(runs, name):
    text = shown(execute(name, runs, SCALE="micro-s", OVERRIDES=SMOKE))
    for expected in ("mean w, negative", "adapter_model.safetensors", "reward", "entropy <code"):
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
    for expected in ("Shuffled entropy", "<td>compared</td><td>4</td>", "without runs of SA-AH-GRPO"):
        assert expected in text
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3


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
