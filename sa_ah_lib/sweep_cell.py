"""One cell of a sweep: a notebook with parameters, executed once under a lock, in a process of its own. Needs no torch.

``RUNS/sweep/`` holds, for each cell, ``<id>.json`` (its state), ``<id>.partial.ipynb`` (the output while the notebook
runs, or where it failed), ``<id>.ipynb`` (renamed from it on success), ``<id>.log`` and ``<id>.lock``.

``python -m sa_ah_lib.sweep_cell`` is the process that holds the lock and runs papermill. It is told its cell on
standard input, which stays open for as long as the sweep lives: a killed sweep takes its cells with it, at any signal.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sa_ah_lib.train import runlog

FINISHED, FAILED, STOPPED, BUSY, SKIPPED = 0, 1, 130, 75, 76
"""Exit codes of the cell's process; any other one is a crash of the process itself."""

ATTEMPTS = 2
"""A cell that fails is tried once more, for what a second try can mend: a full device, a lost file system."""

LOCK_SECONDS = 2
STOP_SECONDS = 20


@dataclass(frozen=True)
class Cell:
    """What to execute: an absolute notebook path, parameters without RUNS, and the absolute RUNS directory.

    ``id`` names its files: the notebook's stem and a hash of every parameter, the notebook's defaults included.
    """

    id: str
    notebook: str
    parameters: dict
    runs: str

    def path(self, suffix):
        """This cell's file ``RUNS/sweep/<id><suffix>``."""
        return Path(self.runs) / "sweep" / f"{self.id}{suffix}"

    def record(self):
        """The state last written: {} before the first start, else state, started, pid, host, runs and failure."""
        path = self.path(".json")
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def is_finished(self):
        """Whether the notebook came to its end and every run directory it named still has its finished.json."""
        record = self.record()
        return (
            record.get("state") == "finished"
            and self.path(".ipynb").is_file()
            and all(runlog.is_finished(Path(self.runs) / name) for name in record["runs"])
        )

    def is_locked(self):
        """Whether a process executes this cell now."""
        if not self.path(".lock").exists():
            return False
        try:
            with FileLock(self.path(".lock"), timeout=0):
                return False
        except Timeout:
            return True


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: "finished", "skipped", "failed", "busy" (another sweep has it) or "stopped".

    ``failures``: one dict an attempt that failed, with ``error``, ``cell`` (the notebook cell's id), ``source`` (its
    first line) and ``output`` (the notebook as far as it came).
    """

    state: str
    failures: tuple = ()


def run_cell(cell, environment=None, stop=None):
    """Execute one cell in a process of its own, a second time where it fails, and say how it ended.

    Args:
        environment: variables added to this process's own. stop: a ``threading.Event`` that ends the cell early.
    """
    stop, failures = stop or threading.Event(), []
    while len(failures) < ATTEMPTS:
        code, pid = _spawn(cell, environment or {}, stop)
        if stop.is_set() and code != FINISHED:
            return Outcome("stopped", tuple(failures))
        ends = {FINISHED: "finished", SKIPPED: "skipped", BUSY: "busy"}
        if code in ends:
            return Outcome(ends[code], tuple(failures))
        failures.append(_failure(cell, code, pid))
    return Outcome("failed", tuple(failures))


def named_runs(notebook, runs):
    """Run directories below ``runs`` whose names the executed notebook shows: those it made or read."""
    outputs = json.dumps([cell.get("outputs", []) for cell in notebook["cells"]])
    directories = [path.parent for path in Path(runs).glob("*/config.json") if ".interrupted-" not in path.parent.name]
    return sorted(directory.name for directory in directories if directory.name in outputs)


def _spawn(cell, environment, stop):
    """(exit code, process id) of the cell's process; negative codes are signals."""
    cell.path("").parent.mkdir(parents=True, exist_ok=True)
    with open(cell.path(".log"), "ab") as log:
        # Its own session: Ctrl-C reaches the sweep alone, which then ends its cells by closing their standard input.
        process = subprocess.Popen(
            [sys.executable, "-m", "sa_ah_lib.sweep_cell"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        process.stdin.write(json.dumps(asdict(cell)).encode() + b"\n")
        process.stdin.flush()
        while process.poll() is None and not stop.wait(0.2):
            pass
    except BrokenPipeError:
        pass
    finally:
        _close(process.stdin)
    return process.wait(), process.pid


def _close(pipe):
    try:
        pipe.close()
    except BrokenPipeError:
        pass


def _failure(cell, code, pid):
    record, partial = cell.record(), cell.path(".partial.ipynb")
    if record.get("state") == "failed" and record["pid"] == pid:
        return record["failure"]
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    error = f"the cell's process {how}; see {cell.path('.log')}"
    return {"error": error, **_failing_cell(partial), "output": str(partial)}


def _failing_cell(partial):
    """{cell, source} of the last cell that papermill started, as its output notebook says."""
    try:
        cells = json.loads(partial.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return {"cell": "before the first", "source": ""}
    started = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    if not started:
        return {"cell": "before the first", "source": ""}
    source = "".join(started[-1]["source"])
    return {"cell": started[-1].get("id", "without id"), "source": source.strip().split("\n")[0]}


# --- in the cell's own process ----------------------------------------------------------------------------------------


def _execute(cell):
    """Run the notebook unless it is finished, or another process has it; returns an exit code."""
    try:
        lock = FileLock(cell.path(".lock")).acquire(timeout=LOCK_SECONDS)
    except Timeout:
        return BUSY
    with lock:
        if cell.is_finished():
            return SKIPPED
        started = {"state": "running", "started": datetime.now(UTC).isoformat(timespec="microseconds")}
        _write_record(cell, **started)
        try:
            names = _execute_notebook(cell)
        except Exception as error:
            traceback.print_exc()
            partial = cell.path(".partial.ipynb")
            failure = {"error": _describe(error), **_failing_cell(partial), "output": str(partial)}
            _write_record(cell, **{**started, "state": "failed"}, failure=failure)
            return FAILED
        os.replace(cell.path(".partial.ipynb"), cell.path(".ipynb"))
        _write_record(cell, **{**started, "state": "finished"}, runs=names)
        return FINISHED


def _execute_notebook(cell):
    """Names of the run directories that the executed notebook shows, each finished."""
    import papermill

    executed = papermill.execute_notebook(
        cell.notebook,
        cell.path(".partial.ipynb"),
        {**cell.parameters, "RUNS": cell.runs},
        cwd=Path(cell.notebook).parent,
        progress_bar=False,
        start_timeout=300,
    )
    names = named_runs(executed, cell.runs)
    unfinished = [name for name in names if not runlog.is_finished(Path(cell.runs) / name)]
    if unfinished:
        raise RuntimeError(f"the notebook came to its end, but these runs have no finished.json: {unfinished}")
    return names


def _describe(error):
    name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", error)
    return f"{name}: {value}"


def _write_record(cell, **values):
    known = {"notebook": Path(cell.notebook).stem, "parameters": cell.parameters}
    values = {**known, "pid": os.getpid(), "host": socket.gethostname(), "runs": [], **values}
    runlog.write_json(cell.path(".json"), values)


def _end_with_the_sweep():
    """End this process, and with it the kernel, when standard input closes."""

    def watch():
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(STOPPED)

    def stop(*_):
        # A second signal would interrupt the shutdown of the kernel.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(STOPPED)

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=watch, daemon=True).start()


def main():
    cell = Cell(**json.loads(sys.stdin.readline()))
    _end_with_the_sweep()
    sys.exit(_execute(cell))


if __name__ == "__main__":
    main()
