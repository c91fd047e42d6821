"""Runs a grid of notebook parameters, cell by cell: skipped where finished, resumed where interrupted."""

import argparse
import os
import signal
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0 where every cell is finished, else 1, 2 for bad input, 130 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.sweep", description=__doc__)
    parser.add_argument("grid", help="YAML file with notebook, fixed and grid")
    parser.add_argument("--runs", default="runs", help="the notebooks' RUNS; state and outputs go to RUNS/sweep")
    parser.add_argument("--dry-run", action="store_true", help="list the cells and what would be done")
    parser.add_argument("--workers", type=int, help="cells at a time (default: one per GPU, else one per four cores)")
    address = "a Ray cluster's address (default: RAY_ADDRESS, else Ray is started on this machine)"
    parser.add_argument("--address", default=os.environ.get("RAY_ADDRESS", "local"), help=address)
    parser.add_argument("--cell", type=int, metavar="#", help="run only this one, without Ray: for array jobs")
    given = parser.parse_args(arguments)
    try:
        return _sweep(given)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except ImportError as error:
        print(f"sweep: {error}; sweeps need a few packages more: pip install -e '.[sweep]'", file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"sweep: {error}", file=sys.stderr)
    return 2


def _sweep(given):
    from rich.console import Console

    from sa_ah_lib.sweep import engine, grid, table
    from sa_ah_lib.train.disk import check_writable

    cells, console = grid.read_cells(given.grid, given.runs), Console()
    if given.dry_run:
        console.print(table.table(cells, [table.standing(cell) for cell in cells], "Dry run"))
        return 0
    check_writable(Path(given.runs) / "sweep")
    title, ended = f"Sweep on Ray ({given.address})", engine.run(cells, given.address, given.workers)
    if given.cell is not None:
        if not 0 <= given.cell < len(cells):
            raise ValueError(f"--cell must be in 0 to {len(cells) - 1}, as --dry-run counts. Got {given.cell}.")
        cells, title = [cells[given.cell]], f"Cell {given.cell} of the sweep"
        ended = _alone(cells[0])
    states = table.watch(cells, ended, title, console)
    return int(not set(states.values()) <= {"finished", "skipped"})


def _alone(cell):
    # Slurm sends it before the time limit.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield {cell.id: cell.execute()}
    except RuntimeError:
        yield {cell.id: "failed"}


if __name__ == "__main__":
    sys.exit(main())
