"""What a sweep shows: a table of its cells, a bar while they run, and what failed. Needs no torch."""

from collections.abc import Iterable

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from sa_ah_lib.sweep.cell import Cell, now


def table(cells: list[Cell], states: list[str], title: str) -> Table:
    """One row per cell, numbered as ``--cell`` counts; the title counts what precedes each state's comma."""
    names = [state.split(",")[0] for state in states]
    counts = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
    made = Table("#", "cell", "parameters", "state", title=f"{title}: {counts}")
    for number, (cell, state) in enumerate(zip(cells, states, strict=True)):
        style = "red" if state.startswith("failed") else None
        made.add_row(str(number), cell.id, cell.words(), state, style=style)
    return made


def standing(cell: Cell) -> str:
    """Where a cell stands, as its files and its lock tell: finished, running, or to run."""
    if cell.is_finished():
        return "finished"
    record = cell.record()
    if record.get("state") == "running" and cell.is_locked():
        return f"running, since {record['started'][11:19]} UTC"
    before = {"running": ", interrupted", "failed": ", failed before", "finished": ", its output or run was deleted"}
    return "to run" + before.get(record.get("state"), "")


def watch(cells: list[Cell], ended: Iterable[dict[str, str]], title: str, console: Console) -> dict[str, str]:
    """Show the cells until ``ended`` has no more {cell id: how it ended}, then what failed; returns the last of these.

    On a terminal a table and a bar, elsewhere one line for each cell that ends, and the table once.
    """
    began, known = now(), {}
    bar = Progress(BarColumn(), MofNCompleteColumn(), "cells", TimeElapsedColumn())
    task = bar.add_task("", total=len(cells))
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for states in ended:
            done = [cell for cell in cells if states.get(cell.id, "busy") != "busy"]
            bar.update(task, completed=len(done))
            if console.is_terminal:
                live.update(Group(_now(cells, states, title, began), bar), refresh=True)
            else:
                for cell in (cell for cell in done if cell.id not in known):
                    known[cell.id] = print(f"{_state(cell, states, began)}: {cell.id} {cell.words()}", flush=True)
    console.print(_now(cells, states, title, began))
    for cell in cells:
        for attempt, failure in enumerate(cell.failures(began), 1):
            print(f"{cell.id} ({cell.words()}), attempt {attempt}: {failure['error']}")
            print(f"  in cell {failure['cell']}: {failure['source']}\n  output so far: {failure['output']}")
    return states


def _now(cells, states, title, began):
    return table(cells, [_state(cell, states, began) for cell in cells], title)


def _state(cell, states, began):
    if states.get(cell.id, "busy") == "busy":
        return standing(cell)
    failed = len(cell.failures(began))
    return states[cell.id] + (f", failed attempts: {failed}" if failed else "")
