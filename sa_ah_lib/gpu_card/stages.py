"""The stages of a card, the most valuable first: real ones on a GPU, and the same small ones on a CPU."""

import importlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from sa_ah_lib.gpu_card import measured, verdicts
from sa_ah_lib.gpu_card.runner import Commands, Stage, Variables

ROOT = Path(__file__).resolve().parents[2]
PLACES = {
    # Unsloth compiles its losses first.
    "cuda unsloth bfloat16": 6, "cuda unsloth float16": 6, "cuda trl bfloat16": 3, "cuda trl float16": 3,
}  # fmt: skip
"""{"device backend type": the most minutes of one call}."""
# The stages run in folders of their own; nothing may ask the network.
VARIABLES: Variables = (
    ("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))),
    ("HF_HUB_OFFLINE", "1"), ("UNSLOTH_DISABLE_STATISTICS", "1"),
)  # fmt: skip
_RULES = ("four_quadrants, tokens", "tr_grpo, tokens", "position, group")
REHEARSED = {
    # Enough of each kind to see that it runs; the interpreter takes seconds a case.
    "cpu unsloth float32": ["mini-batches, flat, top-K, all, batch, beta 0.04, fresh", "training"]
    + [f"packed, peaked, exact, rule {rule}, beta 0.04, fresh" for rule in _RULES],
    "cpu unsloth bfloat16": ["packed, peaked, top-K, negative, group, beta 0.04, fresh"],
    "interpreter unsloth float16": ["packed, peaked, top-K, negative, group, beta 0.04, fresh"],
    "cpu trl float32": ["padded, peaked, top-K, negative, group, beta 0.04, fresh", "training"],
}
"""{"device backend type": the cases of a rehearsal}."""


def every(rehearse: bool, gsm8k: Path | None = None) -> list[Stage]:
    """All stages, in their order. Needs tests/ and notebooks/ beside the library.

    Args:
        rehearse: small, on a CPU. gsm8k: a directory with GSM8K's own files; without it nothing runs on GSM8K.

    Raises:
        FileNotFoundError: the library was installed without them.
    """
    if not (ROOT / "tests" / "gpu" / "equalities.py").is_file():
        raise FileNotFoundError(f"gpu-card must run in a checkout of the project or in its pack. Got {ROOT}.")
    machine = Stage("environment", "Machine", 2, _look, _machine, VARIABLES)
    if rehearse:
        return [
            machine, *(_equalities(place, True) for place in REHEARSED),
            measured.times(ROOT, "tiny", 8, 30, VARIABLES, small=True),
            measured.runs(ROOT, "micro", "Three methods on micro-s", 30, VARIABLES, small=True),
            measured.evaluation(ROOT, "tiny", 30, VARIABLES, small=True),
        ]  # fmt: skip
    times, runs = partial(measured.times, ROOT, variables=VARIABLES), partial(measured.runs, ROOT, variables=VARIABLES)
    return [
        machine, *(_equalities(place, False) for place in PLACES),
        times("qwen2.5-1.5b", 200, minutes=6), times("qwen2.5-1.5b", 512, minutes=8),
        runs("mixture", "Three methods, SmolLM2 on the mixture", minutes=9),
        times("qwen2.5-3b", 200, minutes=7), times("qwen2.5-3b", 512, minutes=9),
        runs("gsm8k", "Three methods, SmolLM2 on GSM8K", minutes=9, data=str(gsm8k or "")),
        measured.evaluation(ROOT, "qwen2.5-1.5b", 5, VARIABLES),
    ]  # fmt: skip


def _look(folder: Path) -> Commands:
    return [[[sys.executable, "-m", "sa_ah_lib.gpu_card.environment", str(folder / "found.json")]]]


def _script(path: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "tests" / path), *map(str, arguments)]


def _machine(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


# --- equalities -------------------------------------------------------------------------------------------------------


def _equalities(place: str, rehearse: bool) -> Stage:
    device, backend, dtype = place.split()
    wanted = REHEARSED[place] if rehearse else _all_cases(backend)
    size, rows = ("small", 4) if rehearse else ("full", 8)
    return Stage(
        f"equalities-{backend}-{dtype}" + ("-interpreted" if device == "interpreter" else ""),
        f"Losses and gradients, {'Unsloth' if backend == 'unsloth' else 'stock TRL'}, {dtype}",
        30 if rehearse else PLACES[place], partial(_compare, place=place, wanted=wanted, size=size),
        partial(_compared, place=place, wanted=wanted, rows=rows), VARIABLES,
    )  # fmt: skip


def _all_cases(backend: str) -> list[str]:
    sys.path.insert(0, str(ROOT / "tests" / "gpu"))
    cases = importlib.import_module("cases")
    return [*(f"{layout}, {name}" for layout, name in cases.every(backend)), "training"]


def _report(folder: Path, place: str) -> Path:
    return folder.parent / "cases" / f"report-{place.replace(' ', '-')}.jsonl"


def _compare(folder: Path, place: str, wanted: list[str], size: str) -> Commands:
    """The models and references once for all places, then the cases that the report lacks."""
    machine = folder.parent / "environment" / "found.json"
    if place.startswith("cuda") and place.endswith("bfloat16") and machine.is_file():
        if not _machine(machine.parent)["bfloat16"]:
            raise RuntimeError("this card has no bfloat16")
    shared = folder.parent / "cases"
    shared.mkdir(exist_ok=True)
    report = verdicts.read(_report(folder, place))
    missing = [name for name in wanted if name not in report["cases"] and name not in report]
    prepare = [] if (shared / "cases.pt").is_file() else [[_script("gpu/cases.py", shared, size)]]
    return prepare + ([[_script("gpu/equalities.py", shared, *place.split(), *missing)]] if missing else [])


def _compared(folder: Path, place: str, wanted: list[str], rows: int) -> dict[str, Any]:
    report = verdicts.read(_report(folder, place))
    cases = report["cases"]
    if "trainer" not in report:
        raise RuntimeError(f"no case was compared; {folder / 'log.txt'} says why")
    trained = report.get("training")
    wrong = verdicts.losses(report) + verdicts.layouts(report, rows) + (verdicts.training(report) if trained else [])
    return {
        "place": place, "trainer": report["trainer"],
        "wanted": sum(name != "training" for name in wanted), "compared": len(cases),
        "limit": verdicts.TOLERANCE[report["device"], report["dtype"]],
        "errors": {name: case["error"] for name, case in cases.items()}, "wrong": wrong,
        "tap": verdicts.worst(c["tap_difference"] for c in cases.values()),
        "packing": sorted({str(c["packing_trusted"]) for n, c in cases.items() if n.startswith("packed")}),
        "steps": trained and {"kl at step 1": trained["first"].get("kl"), "evaluated": len(trained["evaluated"])},
        "seconds of cases": sum(case["seconds"] for case in cases.values()),
    }  # fmt: skip
