"""Runs stages as processes of their own under a budget of time, and keeps what each found as soon as it is known."""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

DONE, FAILED, LATE, STOPPED = "done", "failed", "out of time", "stopped"
"""The states of a stage that was begun."""
LEAST = 15
"""Seconds: with less left no stage is begun."""
Variables = tuple[tuple[str, str], ...]
"""(name, value) of the environment."""
Commands = list[list[list[str]]]
"""Lists of commands: one list's run side by side, list after list."""


@dataclass(frozen=True)
class Stage:
    """One thing to measure.

    Args:
        name: of its file; title: on the card.
        minutes: the most that one call spends on it.
        commands: from its folder to what is to be run in it; it raises where it cannot be run.
        read: from its folder to {what: value}, fit for JSON, of whatever is there; it raises where that is not enough.
        variables: of the environment, beside the process's own.
    """

    name: str
    title: str
    minutes: float
    commands: Callable[[Path], Commands]
    read: Callable[[Path], dict[str, Any]]
    variables: Variables = ()


def saved(directory: str | Path, stage: Stage) -> dict[str, Any]:
    """What is known of a stage: its file in ``directory``, or {} where it was never begun.

    That is "stage", "title", "state", "seconds" and "calls" of all attempts together, "ended" in UTC, "error" as text
    or None, and "result", which ``Stage.read`` gave.
    """
    path = Path(directory) / f"{stage.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def waiting(directory: str | Path, stages: Iterable[Stage]) -> list[Stage]:
    """The stages that are not done: what was never tried first, then what was ended too early, then what failed."""
    order = {None: 0, LATE: 1, STOPPED: 1, FAILED: 2}
    states = [(saved(directory, stage).get("state"), stage) for stage in stages]
    return [stage for state, stage in sorted((s for s in states if s[0] != DONE), key=lambda s: order[s[0]])]


def run(directory: str | Path, stages: Iterable[Stage], seconds: float, total: float) -> None:
    """Go on with the stages of ``directory``, one after another, until the time is spent.

    A stage that fails is kept as failed, with its error, and the next one is begun.

    Args:
        directory: it exists; a stage's file is ``NAME.json`` in it, and its folder ``work/NAME``.
        seconds: the most for this call; total: the most for this and all earlier calls together.

    Raises:
        KeyboardInterrupt: the call was stopped. What the stage had started is ended, and its time is counted.
    """
    # All that lies there, whichever stages this call is about.
    spent = sum(json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in Path(directory).glob("*.json"))
    end = time.monotonic() + min(seconds, total - spent)
    for stage in waiting(directory, stages):
        if (left := end - time.monotonic()) < LEAST:
            break
        _attempt(Path(directory), stage, min(60 * stage.minutes, left))


def _attempt(directory: Path, stage: Stage, limit: float) -> None:
    folder, before = directory / "work" / stage.name, saved(directory, stage)
    folder.mkdir(parents=True, exist_ok=True)
    started, failure = time.monotonic(), None
    with (folder / "log.txt").open("a", encoding="utf-8") as log, _bar(stage.name, limit) as bar:

        def start(command):
            # A session of its own, so that what a command started ends with it.
            return subprocess.Popen(
                command, cwd=folder, env={**os.environ, **dict(stage.variables)}, stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

        def tick():
            bar.update(round(time.monotonic() - started) - bar.n)

        try:
            state = _all(stage.commands(folder), start, started + limit, tick)
        except KeyboardInterrupt:
            state = STOPPED
        except Exception:
            state = FAILED
            traceback.print_exc(file=log)
    try:
        result = stage.read(folder)
    except Exception:
        result, failure = {}, traceback.format_exc()
    if state == FAILED:
        failure = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")[-6000:]
    found = {
        "stage": stage.name, "title": stage.title, "state": FAILED if state == DONE and failure else state,
        "seconds": round(before.get("seconds", 0.0) + time.monotonic() - started, 1),
        "calls": before.get("calls", 0) + 1, "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "error": failure, "result": result,
    }  # fmt: skip
    partial = directory / f"{stage.name}.partial"
    partial.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    partial.rename(directory / f"{stage.name}.json")
    print(f"{stage.name}: {found['state']} after {found['seconds']:.0f} s", flush=True)
    if state == STOPPED:
        raise KeyboardInterrupt


def _all(commands: Commands, start: Callable[[list[str]], subprocess.Popen], end: float, tick: Callable) -> str:
    for together in commands:
        state = _side_by_side(together, start, end, tick)
        if state != DONE:
            return state
    return DONE


def _side_by_side(commands: list[list[str]], start: Callable, end: float, tick: Callable) -> str:
    started: list[subprocess.Popen] = []
    watchers: list[subprocess.Popen] = []
    try:
        for command in commands:
            started.append(start(command))
            watchers.append(_watcher(started[-1]))
        while any(process.poll() is None for process in started):
            if time.monotonic() > end:
                return LATE
            if any(process.poll() for process in started):
                return FAILED
            time.sleep(0.2)
            tick()
        return FAILED if any(process.returncode for process in started) else DONE
    finally:
        for process in (*watchers, *started):
            _end(process)


def _watcher(process: subprocess.Popen) -> subprocess.Popen:
    """A process that ends the session of another once this one is gone, even if it was killed: its pipe closes."""
    watch = f"import os; os.read(0, 1); os.killpg({process.pid}, {signal.SIGKILL:d})"
    command, quiet = [sys.executable, "-c", watch], subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)


def _end(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    if process.stdin:
        process.stdin.close()


def _bar(name: str, limit: float) -> tqdm:
    shape = "{desc} |{bar:30}| {n_fmt} of at most {total_fmt} s"
    return tqdm(total=round(limit), desc=name, leave=False, disable=None, bar_format=shape)
