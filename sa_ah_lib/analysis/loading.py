"""Run directories and foreign logs into results; whatever is wrong becomes a message, not a crash. Needs no torch."""

import csv
import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sa_ah_lib import rulebook
from sa_ah_lib.analysis.results import Family, families, peers
from sa_ah_lib.analysis.table import Html, html_table
from sa_ah_lib.config import RunConfig, preset
from sa_ah_lib.train import publish
from sa_ah_lib.train.run import Run, rows_by_step
from sa_ah_lib.train.runlog import ENTERED, below, read_json, read_run
from sa_ah_lib.train.scales import resolve_scale


@dataclass(frozen=True)
class Found:
    """What ``load`` read: results, and a message for everything that was left out or mended."""

    results: list[Run]
    messages: list[str]

    @property
    def families(self) -> list[Family]:
        return families(self.results)

    def peers(self, config: RunConfig) -> Family:
        """See ``results.peers``."""
        return peers(self.results, config)

    def of_seed(self, seed: int) -> "Found":
        """The same without the runs of other seeds; a message counts them."""
        kept = [r for r in self.results if r.config.seed == seed or not r.config.steps]
        others = sorted({r.config.seed for r in self.results if r not in kept})
        note = [f"left out: runs of other seeds than {seed} ({', '.join(map(str, others))})"] if others else []
        return Found(kept, [*self.messages, *note])

    def of_scale(self, scale: str) -> "Found":
        """The same without the runs of other scales; "all" keeps every scale, "auto" is that of ``resolve_scale``."""
        if scale == "all":
            return self
        scale = resolve_scale(scale)
        kept = [r for r in self.results if r.config.scale == scale]
        note = [] if kept else [f"no run of scale {scale} was found; SCALE = 'all' shows every scale that was"]
        return Found(kept, [*self.messages, *note])

    @property
    def notes(self) -> Html:
        """The messages as a table; empty where there are none."""
        return Html("".join(html_table(["note"], [[message] for message in self.messages])) if self.messages else "")

    def _repr_html_(self):
        rows = [[f.name, f.caption, ", ".join(r.config.run_id for r in f.results)] for f in self.families]
        return html_table(["family", "what it is", "runs"], rows) + self.notes


def load(*directories: str | Path, foreign: Iterable[Mapping[str, Any]] = ()) -> Found:
    """Every finished run below ``directories``, those in archives of ``train.publish`` included, and foreign logs.

    Args:
        foreign: dicts with ``path`` (a TRL ``trainer_state.json``, or a CSV with a column ``step`` and any of
            ``reward``, ``pass_at_1`` and the keys of ``train.jsonl``), ``scale``, ``method``, and any field of
            ``RunConfig`` that differs from that preset.

    Returns:
        ``Found``; an unreadable run is left out with a message that names the file and line.
    """
    results, messages, own = [], [], 0
    for directory in map(Path, directories):
        runs = _run_directories(directory, messages)
        if not runs:
            messages.append(f"{directory}: expected run directories. Found none; run a notebook first, or set RUNS.")
        for run_directory in runs:
            if _is_of_own_rule(run_directory):
                own += 1
                continue
            results += _guarded(lambda d: _from_run_directory(d, messages), run_directory, messages)
    for entry in foreign:
        results += _guarded(lambda e: [_from_foreign(dict(e), messages)], entry, messages)
    if own:
        messages.append(f"{own} run{'s' if own > 1 else ''} below {ENTERED}/ of rule files of your own: not shown here")
    return Found(_each_once(results, messages), messages)


def _is_of_own_rule(directory):
    """Whether a run is of a rule file that is not loaded, so that its configuration cannot be read."""
    if ENTERED not in directory.parts:
        return False
    try:
        return read_json(directory / "config.json").get("rule", "cumulative") not in rulebook.RECORDS
    except (ValueError, AttributeError):  # a broken file: its reading says so
        return False


def family(runs: Iterable[Run]) -> Family:
    """Runs of one family, as a ``results.Family``."""
    return Family(tuple(runs))


def _each_once(results, messages):
    """Of runs of one configuration on the same problems the one that was read last; the others become a message."""
    kept = {}
    for run in results:
        key = (run.config, run.origin.get("data_sha256"))
        known = kept.get(key, run)
        if known is not run and (known.directory is None or known.directory != run.directory):
            used, other = (one.directory or one.environment.get("started") for one in (run, known))
            messages.append(f"{run.config.run_id} was found twice: {used} is used, {other} left out")
        kept[key] = run
    return list(kept.values())


def _run_directories(directory, messages):
    """Every run directory below one, and in its archives, by name."""
    archives = below(directory, f"*{publish.ENDING}")
    opened = [place for path in archives for place in _guarded(lambda p: [publish.unpacked(p)], path, messages)]
    # Models have a config.json too, in checkpoints and exports; an environment.json is a run's alone.
    marks = [path for place in (directory, *opened) for path in below(place, "environment.json", "train.jsonl")]
    return sorted({path.parent for path in marks}, key=lambda path: (path.name, str(path)))


def _guarded(read, what, messages):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = read(what)
        except KeyError as error:
            found = []
            messages.append(f"left out {what}: expected the key {error}, which is missing")
        except (ValueError, TypeError, AttributeError, OSError) as error:
            found = []
            messages.append(f"left out {what}: {error}")
    messages += [str(warning.message) for warning in caught]
    return found


def _from_run_directory(directory, messages):
    run = read_run(directory)
    if not run.finished:
        messages.append(f"left out {directory}: the run is not finished (no finished.json)")
        return []
    for step, (_, answered) in run.evaluations.items():
        if answered != run.config.eval_examples:
            where, asked = f"{directory / 'eval.jsonl'}, step {step}", run.config.eval_examples
            messages.append(f"{where}: expected {asked} answers. Got {answered}; Pass@1 is of these.")
    rollouts = _rollouts(run.completions, directory / "completions.jsonl", messages)
    return [replace(run, completions=rollouts)]


def _rollouts(rows, path, messages):
    wanted = ("step", "prompt", "tokens", "entropy", "weights", "advantage")
    kept = []
    for line, row in enumerate(rows, 1):
        lacks = [key for key in wanted if row.get(key) is None]
        if lacks:
            messages.append(f"{path}, line {line}: expected a rollout. It lacks {', '.join(lacks)}; line left out.")
        else:
            kept.append(row)
    return kept


def _from_foreign(entry, messages):
    path = Path(entry.pop("path"))
    scale, method = entry.pop("scale"), entry.pop("method")
    rows = _read_csv(path) if path.suffix == ".csv" else _read_trainer_state(path)
    # TRL's history mixes training lines with evaluations and a summary: only lines with a reward are steps.
    steps = [row for row in rows if "reward" in row] if path.suffix != ".csv" else rows
    last = max((row["step"] for row in rows if isinstance(row.get("step"), int)), default=0)
    if not last:
        raise ValueError(f"{path}: expected lines with an integer step of at least 1. Found none.")
    config = preset(scale, method, **{"steps": last, **entry})
    scored = {row["step"]: row["pass_at_1"] for row in rows if row.get("pass_at_1") is not None}
    counts = {step: _count(rate, config.eval_examples, path, step, messages) for step, rate in sorted(scored.items())}
    base = counts.pop(0, None)
    with warnings.catch_warnings():
        if path.suffix == ".csv":  # one line may hold Pass@1 alone
            warnings.simplefilter("ignore")
        train = [row for row in rows_by_step(steps, path) if row["step"]]
    environment = {"data": {"source": config.dataset}, "device": "foreign log", "started": path.name}
    return Run("measured", config, counts, base[0] / base[1] if base else None, train, environment=environment)


def _count(rate, total, path, step, messages):
    if not 0 <= rate <= 1:
        raise ValueError(f"{path}, step {step}: expected pass_at_1 in [0, 1]. Got {rate}.")
    correct = round(rate * total)
    if abs(rate * total - correct) > 0.01:
        messages.append(f"{path}, step {step}: Pass@1 {rate} is no count over {total} problems; rounded to {correct}.")
    return correct, total


def _read_trainer_state(path):
    state = json.loads(path.read_text(encoding="utf-8"))
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        raise ValueError(f"{path}: expected TRL's trainer_state.json, an object with a list log_history. Got none.")
    return history


def _read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if "step" not in (reader.fieldnames or ()):
            raise ValueError(f"{path}: expected a CSV with a column step. Got the columns {reader.fieldnames}.")
        rows = []
        for row in reader:
            try:
                values = {key: float(value) for key, value in row.items() if value not in ("", None)}
                rows.append({**values, "step": int(row["step"])})
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: expected numbers. Got {row} ({error}).") from error
    return rows
