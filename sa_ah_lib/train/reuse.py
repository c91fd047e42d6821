"""Whether a finished run may stand for the one that is asked for: only where it saw the same problems. Needs no torch.

A run's id says how problems are drawn, not from which files. Their hash in ``environment.json`` says that.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sa_ah_lib.config import RunConfig
from sa_ah_lib.train import data, runlog
from sa_ah_lib.train.run import Run

ANSWERING = ("device", "packages", "model")
"""Keys of environment.json on which a greedy answer may hang: rounding differs from card to card."""
DRAWING = ("dataset", "data_seed", "warm_start", "train_examples", "eval_examples")
"""Fields that decide which problems a run sees, of those that there are."""


class OtherDataError(ValueError):
    """A finished run has the asked-for configuration, and other problems."""


def named(record: dict) -> str:
    """The ``data`` of an environment.json in words: their name and the first digits of their hash."""
    return f"{record.get('source', 'unnamed data')}, sha256 {str(record.get('sha256', 'unknown'))[:12]}"


def check_same_data(directory: str | Path, config: RunConfig, data_dir: str | Path | None = None) -> None:
    """Print that the finished run in ``directory`` stands for ``config``, once its problems are seen to be the same.

    Where today's problems cannot be loaded (offline, or the directory is gone), the run is used, and that is printed.

    Raises:
        OtherDataError: the run was made on other problems; names both and says what to do.
        ValueError: today's problems are malformed, or too few; see ``data.load``.
    """
    directory = Path(directory)
    record = runlog.read_environment(directory).get("data", {})
    try:
        today = data.load(config, data_dir).record
    except OSError as error:
        print(f"finished before, read from its logs: {directory}\n"
              f"Its problems ({named(record)}) could not be compared with today's: {error}")  # fmt: skip
        return
    if record.get("sha256") != today["sha256"]:
        raise OtherDataError(
            f"{directory.name} is finished, on other problems: {named(record)}; asked for are {named(today)}. Name its "
            f"own data in DATA to read it, or train on the new data under another RUNS, or delete {directory}."
        )
    print(f"finished before, read from its logs: {directory}")


def check_pairs(runs: Iterable[Run], data_dir: str | Path | None = None) -> None:
    """See that finished runs, which new ones are to be paired with, saw the problems that those will see.

    Raises:
        OtherDataError: one did not; names both and says what to do. ValueError, OSError: see ``data.load``.
    """
    drawn: dict[tuple, list[Run]] = {}
    for run in runs:
        drawn.setdefault(tuple(getattr(run.config, name) for name in DRAWING), []).append(run)
    for members in drawn.values():
        today = data.load(members[0].config, data_dir).record
        for run in members:
            record = run.environment.get("data", {})
            if record.get("sha256", today["sha256"]) != today["sha256"]:
                raise OtherDataError(
                    f"runs of a pair must be made on the same problems. {run.config.run_id} has {named(record)}; a new "
                    f"run would have {named(today)}. Name another directory in LOGS, and what is missing is trained "
                    "anew."
                )


def step_0(directory: str | Path, here: Mapping[str, Any]) -> list[dict] | None:
    """Evaluation rows of the finished zero-shot run in ``directory``, or None where they are not this run's step 0.

    Args:
        here: this run's environment.json, its ``data``, ``decoding`` and ``model`` included.
    """
    if not runlog.is_finished(directory):
        return None
    environment = runlog.read_environment(directory)
    record, problems = environment.get("data", {}), here["data"]
    other = [name for name in ANSWERING if environment.get(name) != here.get(name)]
    if record.get("sha256") != problems["sha256"]:
        reason = f"it has other problems ({named(record)}; here {named(problems)})"
    elif environment.get("decoding", {}).get("evaluation") != here["decoding"]["evaluation"]:
        reason = "its answers were decoded in another way, or it does not say how"
    elif other:
        reason = f"it had another {', '.join(other)}, or does not say which"
    else:
        return runlog.read_run(directory).eval
    print(f"step 0 is evaluated anew and not read from {directory}: {reason}")
    return None
