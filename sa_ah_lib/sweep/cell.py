"""One cell of a sweep: a notebook with parameters, executed once, under a lock. Needs no torch.

``RUNS/sweep/`` holds, for each cell, ``<id>.json`` (its state), ``<id>.partial.ipynb`` (the output while the notebook
runs, or where it failed), ``<id>.ipynb`` (renamed from it on success) and ``<id>.lock``.
"""

import json
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sa_ah_lib.sweep import kernels
from sa_ah_lib.train import runlog

LOCK_SECONDS = 2


@dataclass(frozen=True)
class Cell:
    """What to execute: an absolute notebook path, parameters without RUNS, and the absolute RUNS directory.

    ``id`` names its files: the notebook's stem and a hash of every parameter, the notebook's defaults included.
    """

    id: str
    notebook: str
    parameters: dict
    runs: str

    def words(self) -> str:
        """The parameters as one line of NAME=value."""
        return " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.parameters.items())

    def path(self, suffix: str) -> Path:
        """This cell's file ``RUNS/sweep/<id><suffix>``."""
        return Path(self.runs) / "sweep" / f"{self.id}{suffix}"

    def record(self) -> dict:
        """The state last written: {} before the first start, else state, started, pid, host, runs and failures."""
        path = self.path(".json")
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def failures(self, since: str = "") -> list[dict]:
        """Failed attempts that began at or after ``since``: started, error, cell, its first line (source), output."""
        return [failure for failure in self.record().get("failures", []) if failure["started"] >= since]

    def is_finished(self) -> bool:
        """Whether the notebook came to its end and every run directory it named still has its finished.json."""
        record = self.record()
        ended = record.get("state") == "finished" and self.path(".ipynb").is_file()
        return ended and not self._unfinished(record["runs"])

    def is_locked(self) -> bool:
        """Whether a process executes this cell, which was started before, now."""
        try:
            with FileLock(self.path(".lock"), timeout=0):
                return False
        except Timeout:
            return True

    def execute(self) -> str:
        """Run the notebook by papermill; "finished", "skipped" (it was finished) or "busy" (another process has it).

        Raises:
            RuntimeError: the notebook failed; ``failures`` tells more.
        """
        try:
            lock = FileLock(self.path(".lock")).acquire(timeout=LOCK_SECONDS)
        except Timeout:
            return "busy"
        with lock:
            if self.is_finished():
                return "skipped"
            if self.record().get("state") == "running":
                self.fail("the process was killed")
            self._write(state="running", started=now(), pid=os.getpid(), host=socket.gethostname())
            try:
                self._write(state="finished", runs=self._papermill())
            except Exception as error:
                said = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
                self.fail(said)
                # The original need not survive pickling on its way to the sweep.
                raise RuntimeError(said) from None
        return "finished"

    def fail(self, error: str) -> None:
        """Write down that the attempt that began last came to nothing."""
        partial = self.path(".partial.ipynb")
        failure = {"started": self.record().get("started", now()), "error": error, "output": str(partial)}
        self._write(state="failed", failures=[*self.failures(), {**failure, **_last_started(partial)}])

    def _papermill(self):
        """Names of the run directories that the executed notebook shows: those it made or read, each finished."""
        import papermill

        partial, parameters = self.path(".partial.ipynb"), {**self.parameters, "RUNS": self.runs}
        options = {"cwd": Path(self.notebook).parent, "progress_bar": False, "start_timeout": 300}
        with kernels.own_sockets() as config:
            executed = papermill.execute_notebook(self.notebook, partial, parameters, config=config, **options)
        outputs = json.dumps([cell.get("outputs", []) for cell in executed["cells"]])
        names = {path.parent.name for path in Path(self.runs).glob("*/config.json")}
        shown = sorted(name for name in names if name in outputs and ".interrupted-" not in name)
        if unfinished := self._unfinished(shown):
            raise RuntimeError(f"the notebook came to its end, but these runs have no finished.json: {unfinished}")
        os.replace(partial, self.path(".ipynb"))
        return shown

    def _unfinished(self, names):
        return [name for name in names if not runlog.is_finished(Path(self.runs) / name)]

    def _write(self, **values):
        known = {"notebook": Path(self.notebook).stem, "parameters": self.parameters, "runs": []}
        runlog.write_json(self.path(".json"), {**known, **self.record(), **values})


def now() -> str:
    """The time in UTC, ISO 8601, to the microsecond: as text it sorts by time."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _last_started(partial):
    """{cell, source} of the last cell that papermill started, as its output notebook says, if it can be read."""
    try:
        cells = json.loads(partial.read_text(encoding="utf-8"))["cells"] if partial.is_file() else []
    except (ValueError, KeyError):
        # Papermill was killed, or the disk was full, while it wrote.
        return {"cell": "unknown", "source": ""}
    started = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    last = started[-1] if started else {"id": "before the first", "source": ""}
    return {"cell": last.get("id"), "source": "".join(last["source"]).strip().split("\n")[0]}
