"""Stages that measure: whole steps by tests/benchmarks/bench_step.py, real runs by the notebooks, an evaluation."""

import json
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sa_ah_lib.gpu_card.runner import Commands, Stage, Variables
from sa_ah_lib.train.run import Run
from sa_ah_lib.train.runlog import read_run

METHODS = ("02_grpo", "03_ah_grpo", "04_sa_ah_grpo")
"""The notebooks of the runs."""
STEPS = 60
"""Optimizer steps of a run."""
REAL_RUN = {"eval_every": STEPS, "eval_batch_size": 125, "gradient_accumulation_steps": 1}
"""What a run of the card changes from its scale: fewer, wider evaluations, and all rollouts of a step at once."""
SMALL_RUN = {
    "eval_every": 2, "eval_examples": 8, "train_examples": 32, "prompts_per_step": 2, "num_generations": 2,
    "max_completion_tokens": 16,
}  # fmt: skip
SMALL_STEP = ("--device", "cpu", "--scale", "tiny", "--steps", "1", "--warm-up", "0", "--prompt-tokens", "32",
              "--completion-tokens", "8")  # fmt: skip


def times(root: Path, scale: str, tokens: int, minutes: float, variables: Variables, small: bool = False) -> Stage:
    """Time and memory of whole steps of every variant, 200 prompt tokens and ``tokens`` completion tokens a rollout.

    Args:
        root: the checkout. scale: one of bench_step.py's. minutes: the most that one call spends on it.
        small: one step of a tiny model on a CPU, 32 prompt tokens and 8 completion tokens.
    """
    given = SMALL_STEP if small else (
        "--scale", scale, "--steps", "5", "--generations", "1", "--warm-up", "1", "--completion-tokens", str(tokens),
    )  # fmt: skip
    command = partial(_bench, arguments=(*given, "--generate-once", "--eval-problems", "0"), root=root)
    title = f"Steps of {scale}, {32 if small else 200} + {tokens} tokens"
    return Stage(f"times-{scale}-{tokens}", title, minutes, command, _times, variables)


def evaluation(root: Path, scale: str, minutes: float, variables: Variables, small: bool = False) -> Stage:
    """Greedy answers to 500 problems of GSM8K's lengths, by random weights that seldom end one.

    Args:
        root: the checkout. scale: one of bench_step.py's. minutes: the most that one call spends on it.
        small: 16 problems, by a tiny model on a CPU.
    """
    given = (*SMALL_STEP, "--eval-problems", "16") if small else (
        "--scale", scale, "--steps", "1", "--generations", "0", "--warm-up", "0", "--completion-tokens", "256",
        "--eval-problems", "500",
    )  # fmt: skip
    command = partial(_bench, arguments=(*given, "--generate-once", "--backends", "unsloth"), root=root)
    return Stage("evaluation", f"Evaluation at {scale}", minutes, command, _evaluation, variables)


def runs(
    root: Path,
    name: str,
    title: str,
    minutes: float,
    variables: Variables,
    data: str | None = None,
    small: bool = False,
) -> Stage:
    """Three methods by their notebooks, side by side.

    Args:
        root: the checkout. name: after "runs-", of the stage. title: on the card.
        minutes: the most that one call spends on it.
        data: a directory with GSM8K's own files, "" where it is needed and not there, or None for the scale's own.
        small: two steps of micro-s on a CPU, in place of 60 of SmolLM2.
    """
    command = partial(_notebooks, root=root, data=data, small=small)
    return Stage(f"runs-{name}", title, minutes, command, _runs, variables)


def _bench(folder: Path, arguments: Sequence[str], root: Path) -> Commands:
    script = str(root / "tests" / "benchmarks" / "bench_step.py")
    return [[[sys.executable, script, "--json", str(folder / "found.json"), *arguments]]]


def _times(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return {key: found[key] for key in ("variants", "out of memory", "goals", "setting")}


def _evaluation(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return {"evaluation": found["evaluation"]["unsloth"], "setting": found["setting"]}


def _notebooks(folder: Path, root: Path, data: str | None, small: bool) -> Commands:
    if data == "":
        raise FileNotFoundError("the runs on GSM8K need --gsm8k, a directory with its train.jsonl and test.jsonl")
    overrides = SMALL_RUN if small else REAL_RUN
    steps, scale = (2, "micro-s") if small else (STEPS, "smollm2")
    given = ["-p", "SCALE", scale, "-p", "STEPS", str(steps), "-p", "OVERRIDES", json.dumps(overrides),
             "-r", "RUNS", str(folder / "runs"), "-r", "DATA", str(data or "")]  # fmt: skip

    def execute(name):
        path = root / "notebooks" / f"{name}.ipynb"
        command = [sys.executable, "-m", "sa_ah_lib.report.run_notebooks", str(path)]
        return [*command, "--out", str(folder / "notebooks"), *given]

    # The three run side by side; which of them converts SmolLM2's weights is settled by a lock.
    return [[execute(name) for name in METHODS]]


def _runs(folder: Path) -> dict[str, Any]:
    found = [read_run(path.parent) for path in sorted((folder / "runs").glob("*/environment.json"))]
    rows = [_run(run) for run in found if run.config.steps]
    if not rows:
        raise RuntimeError(f"no run was begun; {folder / 'log.txt'} says why")
    return {"runs": rows}


def _run(run: Run) -> dict[str, Any]:
    first, scores = (run.train or [{}])[0], run.evaluations
    rewards = [row["reward"] for row in run.train if row.get("reward") is not None]
    times = [row["step_time"] for row in run.train[1:] if row.get("step_time")]
    return {
        "run": run.directory.name, "method": run.config.method, "dataset": run.config.dataset,
        "finished": run.finished, "steps": len(run.train), "step seconds": statistics.median(times) if times else None,
        "reward of the first 10 steps": _mean(rewards[:10]), "reward of the last 10": _mean(rewards[-10:]),
        "kl at step 1": first.get("kl"), "tap": first.get("sa_ah/tap_difference"),
        "pass_at_1": {str(step): [right, problems] for step, (right, problems) in sorted(scores.items())},
    }  # fmt: skip


def _mean(values: Sequence[float]) -> float | None:
    return round(statistics.mean(values), 3) if values else None
