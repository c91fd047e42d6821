"""From which checkpoint an unfinished run goes on, and its logs cut back to that step. Needs no torch.

A checkpoint is used only where the run that goes on from it gives the logs of one that was never interrupted: the
configuration, what ``DECIDING`` names, every file of the checkpoint and every log line up to its step must be there.
"""

import json
import re
import shutil
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from sa_ah_lib.config import RunConfig
from sa_ah_lib.train import reuse, runlog

DECIDING = ("python", "packages", "device", "data", "processes")
"""Keys of environment.json that must be as they were; others (git, threads, platform) are recorded, not compared."""

# trainer_state.json is written last, in place: without it, or with half of it, the checkpoint was never completed.
FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


def prepare(
    directory: str | Path, config: RunConfig, environment: dict[str, Any]
) -> tuple[Path | None, dict[str, Any]]:
    """Make an unfinished run directory ready to go on, or set it aside; prints which, and why.

    Args:
        directory: the run's directory; may be missing.
        config: its ``RunConfig``; environment: this process's, as ``runlog.environment`` gives it.

    Returns:
        (checkpoint, environment to record): the checkpoint's directory with the first session's environment and what
        is known of this one under ``resumed``, or (None, ``environment``) for a run from step 0.
    """
    directory = Path(directory)
    if not directory.exists():
        return None, environment
    checkpoint, reason = find(directory, config, environment)
    if checkpoint is None:
        print(f"unfinished, set aside as {runlog.set_aside(directory)}: {reason}")
        return None, environment
    step = step_of(checkpoint)
    for newer in _checkpoints(directory):
        # Else one of them, half overwritten in a later session, may pass for whole.
        if step_of(newer) > step:
            shutil.rmtree(newer)
    moved = runlog.cut_back(directory, step)
    print(f"unfinished, goes on after step {step}: {directory}" + (f" (cut back: {moved})" if moved else ""))
    first = json.loads((directory / "environment.json").read_text(encoding="utf-8"))
    session = {key: value for key, value in environment.items() if first.get(key) != value}
    first["resumed"] = [*first.get("resumed", []), {"step": step, "discarded": moved, **session}]
    return checkpoint, first


def find(directory: str | Path, config: RunConfig, environment: dict[str, Any]) -> tuple[Path | None, str]:
    """The newest checkpoint that the run can go on from, and why it is not a newer one.

    Returns:
        (Path or None, reason): the reason is "" for the newest checkpoint.
    """
    directory = Path(directory)
    changed = _changed(directory, config, environment)
    if changed:
        return None, changed
    reasons = []
    for checkpoint in _checkpoints(directory):
        step = step_of(checkpoint)
        reason = _incomplete(checkpoint, step, environment) or _gap(directory, config, step)
        if not reason:
            return checkpoint, "; ".join(reasons)
        reasons.append(f"{checkpoint.name}: {reason}")
    return None, "; ".join(reasons) or f"no checkpoint yet, one is written every {config.save_every} steps"


def _checkpoints(directory):
    """The checkpoints of a run, newest first."""
    return sorted((directory / "checkpoints").glob("checkpoint-*"), key=step_of, reverse=True)


def step_of(checkpoint: str | Path | None) -> int:
    """The step in a checkpoint directory's name; 0 for None, -1 for another name."""
    number = re.fullmatch(r"checkpoint-(\d+)", Path(checkpoint).name) if checkpoint else None
    return int(number[1]) if number else -1 if checkpoint else 0


def _changed(directory, config, environment):
    try:
        before = json.loads((directory / "environment.json").read_text(encoding="utf-8"))
        same_config = RunConfig.from_json(directory / "config.json") == config
    except (OSError, ValueError, TypeError) as error:
        return f"its configuration or environment cannot be read ({error})"
    if not same_config:
        return "its configuration differs"
    now = json.loads(json.dumps(environment))
    pairs = [pair for key in DECIDING for pair in _differences(key, before.get(key), now.get(key))]
    return "it ran with another " + ", ".join(pairs) if pairs else ""


def _differences(name, before, now):
    if name == "data":
        # Their hash decides: the same problems may have moved to another directory.
        before, now = before or {}, now or {}
        if before.get("sha256") != now.get("sha256"):
            yield f"data ({reuse.named(before)}; now {reuse.named(now)})"
    elif isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(f"{name} {key}", before.get(key), now.get(key))
    elif before != now:
        yield f"{name} ({before}, now {now})"


def _incomplete(checkpoint, step, environment):
    processes = environment.get("processes", 1)
    random_states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{i}.pth" for i in range(processes)]
    scaler = ["scaler.pt"] if environment.get("precision") == "float16" else []
    for name in (*FILES, *random_states, *scaler):
        path = checkpoint / name
        if not path.is_file() or not path.stat().st_size:
            return f"{name} is missing, it was being written"
        if _torn(path):
            return f"{name} is torn, its end was never written"
    try:
        found = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    except (ValueError, KeyError, TypeError):
        return "trainer_state.json is torn, it was being written"
    return "" if found == step else f"trainer_state.json is of step {found}"


def _torn(path):
    """Whether a file of weights or of torch ends too soon; a disk may lose the end of what it was told to keep."""
    if path.suffix == ".safetensors":
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            try:
                tensors = json.loads(file.read(size))
                ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
            except (ValueError, KeyError, TypeError):
                return True
        return path.stat().st_size != 8 + size + max(ends, default=0)
    # What torch saves is a zip archive, whose directory is at its end.
    return path.suffix in (".pt", ".pth") and not zipfile.is_zipfile(path)


def _gap(directory, config, step):
    """Why the logs do not hold every line up to ``step`` once, or "": a disk may keep a checkpoint and lose lines."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = {name: runlog.read_jsonl(directory / f"{name}.jsonl") for name in runlog.LOGS}
        steps = {name: [row["step"] for row in rows[name]] for name in runlog.LOGS}
    except (ValueError, KeyError) as error:
        return f"a log cannot be read ({error})"
    if [s for s in steps["train"] if s <= step] != list(range(1, step + 1)):
        return "train.jsonl does not hold every step up to it once"
    evaluated = {s for s in range(step + 1) if s % config.eval_every == 0 or s == config.steps}
    if {s: n for s, n in Counter(steps["eval"]).items() if s <= step} != dict.fromkeys(evaluated, config.eval_examples):
        return "eval.jsonl does not hold every evaluation up to it once"
    if not {1, *evaluated} - {0} <= set(steps["completions"]):
        return "completions.jsonl lacks a sample up to it"
    return ""
