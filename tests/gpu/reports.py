"""Runs ``cases.py`` and ``equalities.py`` in processes of their own and reads what they wrote, for the tests."""

import json
import subprocess
import sys
from pathlib import Path

from cases import clean_environment

HERE = Path(__file__).parent
TABLE_6 = {"reward", "kl", "sa_ah/entropy", "sa_ah/weight", "sa_ah/weight_negative", "grad_norm", "step_time"}


def prepared(directory, size):
    """``directory``, with the models and references of this size in it."""
    _run("cases.py", directory, size)
    return directory


def compared(directory, device, backend, dtype, chosen=()):
    """The report of one place: ``trainer``, ``device``, ``dtype``, ``cases`` by name, and ``training`` if it was asked.

    Args:
        chosen: names of cases, "LAYOUT, CASE", and "training"; all when empty.
    """
    _run("equalities.py", directory, device, backend, dtype, *chosen)
    lines = (directory / f"report-{device}-{backend}-{dtype}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    report = {"cases": {row["case"]: row for row in rows if "case" in row}}
    for row in rows:
        if "case" not in row:
            report |= row
    assert report["cases"].keys() == set(chosen) - {"training"} or not chosen, "a case was asked for and left out"
    return report


def check_losses(report, tolerance):
    """Every loss and gradient is the paper's, and would not be without the weights."""
    for name, case in report["cases"].items():
        assert case["error"] < tolerance, (name, case)
        # A tolerance that unweighted GRPO would pass too shows nothing.
        assert ", none, " in name or case["unweighted"] > 5 * tolerance, (name, case)


def check_layouts(report, rollouts):
    """The tap read the layout that each case names: a switch that is ignored would test one layout three times."""
    rows = {"packed": {1}, "padded": {rollouts}, "mini-batches": {rollouts // 2}}
    for name, case in report["cases"].items():
        if ", top-K, " in name:
            layout = name.split(", ")[0]
            assert {shape[0] for shape in case["states"]} == rows[layout], (name, case)
            assert layout != "packed" or case["packing_trusted"] is True, (name, case)


def check_training(report):
    """Generation, scoring, the optimizer, evaluation and the diagnostics on this device, not only the loss."""
    run = report["training"]
    assert run["moved"] == run["trainable"] and run["moved"] and all("lora_" in name for name in run["moved"])
    assert TABLE_6 <= run["logged"].keys()
    assert 0 < run["logged"]["sa_ah/entropy"] < 1 and 0 < run["logged"]["sa_ah/weight"] <= 1
    assert len(run["evaluated"]) >= 2 and all(seen == [2, True] for seen in run["evaluated"])
    assert run["loaded_apart"] == 0.0 and run["logits_apart"] < 1e-3, "the adapter was saved or loaded as another"


def _run(script, *arguments):
    done = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        env=clean_environment(), capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
