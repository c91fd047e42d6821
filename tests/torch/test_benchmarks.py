"""The benchmark scripts themselves, at a size that a CPU does in seconds: what they measure, never how fast it is."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ROWS, COMPLETION = 16, 8

pytestmark = pytest.mark.slow


def run(script, directory, *arguments):
    """What the script printed, and its JSON."""
    if importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UNSLOTH", "ACCELERATE"))}
    command = [sys.executable, str(BENCHMARKS / script), "--json", str(directory / "out.json"), *arguments]
    done = subprocess.run(command, cwd=directory, env=clean, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout, json.loads((directory / "out.json").read_text())


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    return run(
        "bench_step.py", tmp_path_factory.mktemp("step"), "--device", "cpu", "--scale", "tiny", "--steps", "2",
        "--generations", "1", "--warm-up", "0", "--prompt-tokens", "32", "--completion-tokens", str(COMPLETION),
        "--eval-problems", "40",
    )  # fmt: skip


def test_every_variant_runs_on_its_own_trainer(step):
    """A row of the table that measured another trainer than it names."""
    _, result = step
    assert result["setting"]["base_trainers"] == {"unsloth": "UnslothGRPOTrainer", "trl": "GRPOTrainer"}
    assert [(row["backend"], row["variant"]) for row in result["variants"]] == [
        ("unsloth", "GRPO"), ("unsloth", "SA-AH, exact"), ("unsloth", "SA-AH, K=500"),
        ("trl", "GRPO"), ("trl", "SA-AH, exact"), ("trl", "SA-AH, K=500"), ("trl", "SA-AH, full logits"),
    ]  # fmt: skip


def test_every_step_has_all_its_tokens_and_all_its_stages(step):
    """A completion that ends early makes a step cheap; a stage that nobody timed is free."""
    _, result = step
    for name, samples in result["samples"].items():
        assert samples["tokens"] == ROWS * COMPLETION, name
        counts = {stage: len(times) for stage, times in samples["seconds"].items()}
        assert counts == {"generation": 1, "reference": 1, "loss": 2, "optimiser": 2}, name
        assert all(took > 0 for times in samples["seconds"].values() for took in times), name
        assert all(samples["bytes"][stage] > 0 for stage in ("generation", "loss", "optimiser")), name


def test_the_variants_compute_the_losses_they_stand_for(step):
    """The naive loss must be SA-AH's own, or its memory compares with nothing; plain GRPO's loss is about 0."""
    _, result = step
    last = {name: samples["losses"][-1] for name, samples in result["samples"].items()}
    for backend in ("unsloth", "trl"):
        assert abs(last[f"{backend} GRPO"]) < 0.01
        assert abs(last[f"{backend} SA-AH, exact"]) > 0.05
    # The same rollouts; between the two the shared model moved by an optimizer step or two.
    assert last["trl SA-AH, full logits"] == pytest.approx(last["trl SA-AH, exact"], abs=0.01)


def test_exact_weights_hold_no_more_memory_than_plain_grpo_and_full_logits_do(step):
    """Counted by operation and so exact: the design's claim that the exact entropy is free."""
    _, result = step
    held = {name: samples["bytes"]["loss"] for name, samples in result["samples"].items()}
    for backend in ("unsloth", "trl"):
        assert held[f"{backend} SA-AH, exact"] <= 1.01 * held[f"{backend} GRPO"]
    assert held["trl SA-AH, full logits"] > 1.05 * held["trl SA-AH, exact"]


def test_what_an_inner_stage_took_is_not_the_outer_one_s(monkeypatch):
    """Entered twice, and left by an error: the stages still add up to the time."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from clock import Clock

    moments = iter([0.0, 1.0, 3.0, 7.0, 8.0, 10.0, 12.0, 20.0])
    clock = Clock(lambda: next(moments))
    with clock.stage("outer"):
        with clock.stage("inner"):
            pass
    with pytest.raises(RuntimeError), clock.stage("outer"):
        with clock.stage("inner"):
            raise RuntimeError
    assert clock.spent == {"outer": (7.0 - 2.0) + (12.0 - 2.0), "inner": 2.0 + 2.0} and clock.open == []


def small_device(backend, chosen, model_dir, pipe):
    """A backend whose device has no room for all logits at once."""
    pipe.send("GRPOTrainer")
    while (request := pipe.recv()) is not None:
        cost = {"seconds": {"loss": 1.0}, "bytes": {"loss": 2}, "tokens": 3, "loss": 0.0}
        pipe.send(None if request[0] == "SA-AH, full logits" else cost)


def test_a_variant_that_does_not_fit_takes_no_other_with_it(monkeypatch):
    """Minutes of a card lost to the one variant that is there to be too large."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_step

    monkeypatch.setattr(bench_step, "worker", small_device)
    chosen = bench_step.arguments(["--backends", "trl", "--steps", "2", "--eval-problems", "0"])
    found, _, _ = bench_step.measure(chosen, "")
    assert found["trl", "SA-AH, full logits"] is None
    assert [values["seconds"]["loss"] for values in found.values() if values] == [[1.0, 1.0]] * 3


def test_the_report_states_goals_and_an_evaluation(step):
    text, result = step
    assert "Goals, not asserted" in text and text.count("| --- |") >= 2
    for found in result["evaluation"].values():
        assert found["problems"] == 40 and found["tokens_per_second"] > 0 and 0 <= found["padding_share"] < 0.5


def test_the_loss_benchmark_still_runs(tmp_path):
    """The older benchmark shares its helpers with the new one."""
    text, result = run(
        "bench_trainer.py", tmp_path, "--vocab", "640", "--hidden", "64", "--layers", "1", "--steps", "1",
        "--prompt-tokens", "8", "--completion-tokens", "8",
    )  # fmt: skip
    assert list(result["variants"]) == ["GRPO (hook off)", "SA-AH, exact", "SA-AH, K=500"]
    assert not result["setting"]["top_k_is_exact"]
    assert all(row["peak_mib"] > 0 and row["median_seconds"] > 0 for row in result["variants"].values())
    assert "| SA-AH, exact |" in text


def test_the_stages_of_a_real_run_are_its_steps(tmp_path):
    """A stage that is counted twice, or by nobody."""
    _, result = run("bench_run.py", tmp_path, "--scale", "micro-sum", "--method", "grpo", "--steps", "1")
    assert len(result["steps"]) == 1 and result["setting"]["rollouts"] == 64
    for step in result["steps"]:
        stages = [took for stage, took in step.items() if stage != "step"]
        assert len(stages) == 5 and min(stages) > 0 and sum(stages) == pytest.approx(step["step"])
    assert result["evaluation"]["seconds"] > 0
