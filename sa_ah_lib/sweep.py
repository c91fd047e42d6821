"""Runs a grid of notebook parameters, cell by cell: skipped where finished, resumed where interrupted.

``python -m sa_ah_lib.sweep GRID.yaml`` reads a file as ``sweep_grid`` describes it, and keeps its state, the executed
notebooks and their logs in ``RUNS/sweep/``. Needs no torch: each cell runs in a process of its own (``sweep_cell``), so
that no crash of one reaches another.
"""

import argparse
import signal
import sys
from concurrent.futures import FIRST_COMPLETED, wait
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sa_ah_lib.sweep_backends import LocalPool, RayCluster, slurm_script
from sa_ah_lib.sweep_cell import Outcome
from sa_ah_lib.sweep_grid import expand, read_grid, words


def sweep(cells, backend, console):
    """Run every cell that is not finished, under a live table of all; returns {cell id: ``Outcome``}.

    Args:
        cells: as ``expand`` gives them. backend: a ``LocalPool`` or ``RayCluster``; closed at the end.
        console: a ``rich`` one; where it is no terminal, a line a cell is printed instead of the live table.
    """
    began = _now()
    outcomes = {cell.id: Outcome("skipped") for cell in cells if cell.is_finished()}

    def made():
        states = [_state(cell, outcomes.get(cell.id), began) for cell in cells]
        return table(cells, states, f"Sweep, {backend.name}")

    try:
        pending = {backend.submit(cell): cell for cell in cells if cell.id not in outcomes}
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while pending:
                done, _ = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
                for future in done:
                    cell = pending.pop(future)
                    outcomes[cell.id] = _outcome(future)
                    if outcomes[cell.id].state == "busy":
                        pending[backend.submit(cell)] = cell
                    elif not console.is_terminal:
                        state = _state(cell, outcomes[cell.id], began)
                        print(f"{state}: {cell.id} {words(cell.parameters)}", flush=True)
                if console.is_terminal:
                    live.update(made(), refresh=True)
    finally:
        backend.close()
    console.print(made())
    return outcomes


def table(cells, states, title):
    """A ``rich`` table, one row a cell, under ``title`` and a count of the states.

    Args:
        states: a text a cell; what comes before its first comma is counted.
    """
    names = [state.split(",")[0] for state in states]
    counts = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
    made = Table("cell", "parameters", "state", title=f"{title}: {counts}")
    for cell, state in zip(cells, states, strict=True):
        made.add_row(cell.id, words(cell.parameters), state, style="red" if state.startswith("failed") else None)
    return made


def report(cells, outcomes):
    """What failed, as text: for each attempt the error, the notebook's cell, and the output notebook."""
    lines = []
    for cell in cells:
        for attempt, failure in enumerate(outcomes[cell.id].failures, 1):
            lines += [
                f"{cell.id} ({words(cell.parameters)}), attempt {attempt}: {failure['error']}",
                f"  in cell {failure['cell']}: {failure['source']}",
                f"  output so far: {failure['output']}",
            ]
    return "\n".join(lines)


def plan(cell):
    """What a sweep would do with a cell, in words."""
    if cell.is_finished():
        return "finished, to be skipped"
    if cell.is_locked():
        return "running elsewhere, to be waited for"
    before = {"running": ", interrupted", "failed": ", failed before", "finished": ", its output or run was deleted"}
    return "to run" + before.get(cell.record().get("state"), "")


def _outcome(future):
    try:
        return future.result()
    except Exception as error:
        lost = {"error": f"{type(error).__name__}: {error}", "cell": "unknown", "source": "", "output": "unknown"}
        return Outcome("failed", (lost,))


def _state(cell, outcome, began):
    record = cell.record()
    running = record.get("state") == "running" and f"running, since {record['started'][11:19]} UTC"
    if outcome is None:
        return running if running and record["started"] >= began else "waiting"
    if outcome.state == "busy":
        return f"{running or 'waiting'}, in another sweep"
    return outcome.state + (f", failed attempts: {len(outcome.failures)}" if outcome.failures else "")


def _now():
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _stop(*_):
    raise KeyboardInterrupt


def _chosen(cells, ids):
    if unknown := sorted(set(ids or ()) - {cell.id for cell in cells}):
        raise ValueError(f"--only must name cells of the grid (--dry-run lists them). Got {unknown}.")
    return [cell for cell in cells if not ids or cell.id in ids]


def _write_slurm_script(cells, grid, options, runs):
    waiting = [cell for cell in cells if not cell.is_finished()]
    if not waiting:
        return "every cell is finished, nothing to submit"
    script = Path(runs).resolve() / "sweep" / "array.sh"
    text = slurm_script(waiting, grid, options)
    script.write_text(text, encoding="utf-8")
    return f"{len(waiting)} cells, not submitted yet: sbatch {script}"


def main(arguments=None):
    """The command line; its exit code is 0 where every cell is finished, else 1, 2 for bad input, 130 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.sweep", description=__doc__.split("\n")[0])
    parser.add_argument("grid", help="YAML file with notebook, fixed and grid")
    parser.add_argument("--runs", default="runs", help="the notebooks' RUNS; state and outputs go to RUNS/sweep")
    parser.add_argument("--workers", type=int, help="cells at a time (default: one a GPU, else one for four cores)")
    parser.add_argument("--threads", type=int, help="cores for a cell (default: cores // workers; on Ray 1)")
    parser.add_argument("--only", action="append", metavar="CELL", help="run this cell alone; may be repeated")
    parser.add_argument("--dry-run", action="store_true", help="list the cells and what would be done")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--ray", metavar="ADDRESS", help="run on this Ray cluster; 'auto' is this machine's")
    where.add_argument("--slurm", action="store_true", help="write a Slurm array script; submits nothing")
    given, console = parser.parse_args(arguments), Console()
    try:
        grid = read_grid(given.grid)
        cells = _chosen(expand(grid, given.runs), given.only)
        if given.dry_run:
            console.print(table(cells, [plan(cell) for cell in cells], "Dry run"))
            return 0
        if given.slurm:
            print(_write_slurm_script(cells, given.grid, grid["slurm"], given.runs))
            return 0
        backend = RayCluster(given.ray, given.threads) if given.ray else LocalPool(given.workers, given.threads)
    except (ValueError, ImportError, ConnectionError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2
    try:
        outcomes = sweep(cells, backend, console)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(report(cells, outcomes))
    return int(any(outcome.state == "failed" for outcome in outcomes.values()))


if __name__ == "__main__":
    # Slurm sends SIGUSR2 before the time limit, as submitit asks it to.
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, _stop)
    sys.exit(main())
