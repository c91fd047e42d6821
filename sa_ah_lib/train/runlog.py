"""The files of a run: append-only JSON lines that survive a crash, and their reader. Needs no torch.

``runs/<run_id>/`` holds ``config.json``, ``environment.json``, ``train.jsonl`` (one line per step), ``eval.jsonl``
(one line per problem and checkpoint), ``completions.jsonl`` (sampled rollouts, token by token), ``adapter/``,
``checkpoints/``, and ``finished.json`` once the run is complete; ``samples.jsonl`` is ``train.sampled``'s. Lines that a
resumed run wrote again are in ``<log>.discarded-<k>.jsonl``.
"""

import fnmatch
import gzip
import json
import math
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sa_ah_lib.config import RunConfig
from sa_ah_lib.train.run import Run, assemble

LOGS = ("train", "eval", "completions")
PACKAGES = ("unsloth", "unsloth_zoo", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "reasoning-gym")
ON_A_CARD = ("bitsandbytes", "triton", "xformers", "flash-attn", "vllm")
"""What decides numbers there and is not used on a CPU."""

ENTERED = "enter"
"""Folder below a directory of runs that holds those of rule files of one's own."""


class RunLog:
    """Writes one run's files, one flushed line at a time, so that a crash loses no finished line.

    Args:
        directory: made if missing; must be writable.
        config: the run's ``RunConfig``.
        environment: JSON-ready dict, as ``environment()`` gives it.
    """

    def __init__(self, directory, config, environment):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.directory / "config.json", config.to_dict())
        write_json(self.directory / "environment.json", environment)
        self._open()

    def _open(self):
        paths = {name: self.directory / f"{name}.jsonl" for name in LOGS}
        self._files = {name: open(path, "a", buffering=1, encoding="utf-8") for name, path in paths.items()}

    def write(self, log: str, row: Mapping[str, Any]) -> None:
        """Append ``row`` to "train", "eval" or "completions"; NaN and infinities become null."""
        self._files[log].write(json.dumps(_finite(row), ensure_ascii=False) + "\n")

    def sync(self) -> None:
        """Put every line on the disk, before a checkpoint that counts on them."""
        for file in self._files.values():
            os.fsync(file.fileno())
        # Mounted drives (Colab's) send a file off when it is closed.
        self.close()
        self._open()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Mark the run complete; ``is_finished`` looks for this file, written last."""
        # Else a machine that loses power keeps the mark, which is synced, and not the last lines.
        self.sync()
        self.close()
        write_json(self.directory / "finished.json", _finite(summary))

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def read_run(directory: str | Path) -> Run:
    """Read a run directory; a torn last line is dropped with a warning, any other bad line is an error.

    Raises:
        FileNotFoundError: no config.json there. ValueError: a broken line, naming file and line number.
    """
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"expected a run directory with config.json. Got {directory}, which has none.")
    config, logs = _read_config(directory / "config.json"), (*LOGS, "samples")
    return assemble(
        directory, config, read_environment(directory), is_finished(directory),
        **{name: read_jsonl(directory / f"{name}.jsonl") for name in logs},
    )  # fmt: skip


def configuration(directory: str | Path) -> RunConfig | None:
    """The configuration of a run, or None where this library cannot read it, which is said."""
    try:
        return RunConfig.from_json(Path(directory) / "config.json")
    except ValueError as error:
        print(f"left out {directory}: {error}", file=sys.stderr)
        return None


def below(directory: str | Path, *patterns: str) -> list[Path]:
    """The files below a directory whose names fit one of some patterns such as "*.tar.xz", in order of their paths.

    Other processes may write there: a checkpoint that vanishes while the folders are read is passed over.
    """
    files = ((place, name) for place, _, names in os.walk(directory) for name in names)
    return sorted(Path(place) / name for place, name in files if any(fnmatch.fnmatch(name, one) for one in patterns))


def read_environment(directory: str | Path) -> dict[str, Any]:
    """environment.json of a run directory as a dict, {} where there is none."""
    return read_json(Path(directory) / "environment.json")


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Rows of one JSON-lines file, plain or .gz; [] where neither exists; see ``read_run`` for torn lines."""
    path, packed = Path(path), Path(f"{path}.gz")
    if not path.is_file() and not packed.is_file():
        return []
    content = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    lines = content.decode("utf-8", errors="replace").split("\n")
    torn = lines.pop()
    if torn:
        warnings.warn(f"{path}, line {len(lines) + 1}: torn last line dropped ({torn[:60]!r}).", stacklevel=2)
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no object")
            rows.append(row)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: expected a JSON object. Got {line[:60]!r} ({error}).") from error
    return rows


def is_finished(directory: str | Path) -> bool:
    """Whether a run came to its end: ``finished.json``, written last, is there."""
    return (Path(directory) / "finished.json").is_file()


def read_summary(directory: str | Path) -> dict[str, Any]:
    """What ``RunLog.finish`` wrote of a finished run (seconds, peak_memory in bytes, pass_at_1), else {}."""
    return read_json(Path(directory) / "finished.json")


def set_aside(directory: str | Path) -> Path:
    """Rename an unfinished run's directory to ``<name>.interrupted-<k>``, so that no logged line is lost."""
    directory, k = Path(directory), 1
    while (target := directory.with_name(f"{directory.name}.interrupted-{k}")).exists():
        k += 1
    return directory.rename(target)


def cut_back(directory: str | Path, step: int) -> dict[str, int]:
    """Move every log line after ``step`` to ``<log>.discarded-<k>.jsonl``, a torn last line too; no line is destroyed.

    Returns:
        {log: lines moved}, without the logs that were not cut.
    """
    directory, k = Path(directory), 1
    while any((directory / f"{name}.discarded-{k}.jsonl").exists() for name in LOGS):
        k += 1
    moved = {}
    for name in LOGS:
        path = directory / f"{name}.jsonl"
        lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
        torn = [lines.pop()]
        late = [json.loads(line)["step"] > step for line in lines]
        kept = [line for line, cut in zip(lines, late, strict=True) if not cut]
        cut = [line for line, cut in zip(lines, late, strict=True) if cut] + [line for line in torn if line]
        if cut:
            # In this order: killed in between, a line is there twice, not gone.
            replace_file(directory / f"{name}.discarded-{k}.jsonl", b"".join(line + b"\n" for line in cut))
            replace_file(path, b"".join(line + b"\n" for line in kept))
            moved[name] = len(cut)
    return moved


def environment(device: str = "cpu", **more: Any) -> dict[str, Any]:
    """Versions, platform and git commit of this process; ``more`` is added as it is."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": device,
        "packages": {name: _version(name) for name in PACKAGES + (() if device == "cpu" else ON_A_CARD)},
        "git": _git_commit(),
        **more,
    }


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit():
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def read_json(path: Path) -> Any:
    """What a JSON file holds, {} where there is none; ValueError where it is broken."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _read_config(path):
    try:
        return RunConfig.from_json(path)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def write_json(path: str | Path, values: Any) -> None:
    """Write ``values`` as a JSON file, whole or not at all."""
    replace_file(Path(path), (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file or none: a process killed on the way leaves the old one."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
