"""Reads the reports of tests/gpu/equalities.py and says what in them is wrong. Needs no torch."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TOLERANCE = {
    ("cpu", "float32"): 2e-5, ("cpu", "bfloat16"): 0.12, ("interpreter", "float32"): 2e-5,
    ("interpreter", "float16"): 0.02, ("cuda", "bfloat16"): 0.12, ("cuda", "float16"): 0.03,
}  # fmt: skip
"""Relative, of the loss and of any parameter's gradient, by device and type; what a CPU measured is a sixth or less."""
APART = 5
"""How many times farther away plain GRPO must be than what was found, where there are weights."""
TAP = 0.1
"""The most that the tap's entropies may differ from the loss's own, of their mean."""
TABLE_6 = {"reward", "kl", "sa_ah/entropy", "sa_ah/weight", "sa_ah/weight_negative", "grad_norm", "step_time"}
Report = dict[str, Any]
"""What ``read`` gives."""


def read(path: str | Path) -> Report:
    """One report: "trainer", "device", "dtype", "cases" and "raised" by name, and "training" where it was done.

    A case that was compared again counts as it went last. A line that a killed process left half written is dropped. A
    file that is not there is a report without cases.
    """
    report: Report = {"cases": {}, "raised": {}}
    for line in Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "case" not in row:
            report |= row
            continue
        kept, other = ("raised", "cases") if "raised" in row else ("cases", "raised")
        report[kept][row["case"]] = row
        report[other].pop(row["case"], None)
    return report


def worst(values: Iterable[float | None]) -> float | None:
    """The largest, or NaN where one is; None where there is none, those that are None aside."""
    return max((value for value in values if value is not None), key=lambda v: (math.isnan(v), v), default=None)


def losses(report: Report) -> list[str]:
    """Cases whose loss or gradients are not the rule's, or would be plain GRPO's too; a sentence each.

    A case that raised is one of them, with the last line of what it raised.
    """
    limit = TOLERANCE[report["device"], report["dtype"]]
    found = [f"{name}: {row['raised'].strip().splitlines()[-1]}" for name, row in report["raised"].items()]
    for name, case in report["cases"].items():
        error = case["error"]
        if not error < limit:
            found.append(f"{name}: off by {error:.2g}, the limit is {limit:g}")
        elif ", none, " not in name and not case["unweighted"] > APART * error:
            found.append(f"{name}: off by {error:.2g}, plain GRPO by {case['unweighted']:.2g}: cannot be told apart")
    return found


def layouts(report: Report, rollouts: int) -> list[str]:
    """Cases whose tap read another layout than they name, or entropies far from the loss's own; a sentence each.

    Args:
        rollouts: B, the rows of the micro-batch.
    """
    rows = {"packed": {1}, "padded": {rollouts}, "mini-batches": {rollouts // 2}, "dropout": {rollouts}}
    found = []
    for name, case in report["cases"].items():
        layout = name.split(", ")[0]
        if case["states"] and {shape[0] for shape in case["states"]} != rows[layout]:
            found.append(f"{name}: the hidden states had the shapes {case['states']}")
        if ", top-K, " in name and not case["states"]:
            found.append(f"{name}: the top-K entropy saw no hidden states")
        if layout == "packed" and case["packing_trusted"] is not True:
            found.append(f"{name}: Unsloth does not trust its packed rows ({case['packing_trusted']})")
        if case["tap_difference"] is not None and not case["tap_difference"] < TAP:
            found.append(f"{name}: the tap's entropies differ by {case['tap_difference']:.2g} of their mean")
    return found


def training(report: Report) -> list[str]:
    """What did not hold of the real steps: generation, scoring, optimizer, evaluation, adapter; a sentence each."""
    run = report["training"]
    logged, trained = run["logged"], set(run["trainable"])
    held = {
        "every adapter matrix moves": bool(trained) and set(run["moved"]) == trained,
        "only the adapter is trained": all("lora_" in name for name in trained),
        "Table 6 is logged": logged.keys() >= TABLE_6,
        "the mean entropy is between 0 and 1": 0 < logged.get("sa_ah/entropy", 0) < 1,
        "the mean weight is between 0 and 1": 0 < logged.get("sa_ah/weight", 0) <= 1,
        "every step is evaluated, and trained on after": len(run["evaluated"]) >= 2
        and all(seen == [2, True] for seen in run["evaluated"]),
        "the adapter is loaded as it was saved": run["loaded_apart"] == 0.0 and run["logits_apart"] < 1e-3,
    }
    return [f"it must hold that {claim}" for claim, holds in held.items() if not holds]
