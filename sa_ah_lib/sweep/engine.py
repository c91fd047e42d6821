"""Runs the cells of a sweep on Ray: on this machine, or on a running cluster. Needs no torch."""

import os
import signal
from collections.abc import Iterator
from typing import Any

from sa_ah_lib.sweep.cell import Cell, now

OBJECT_STORE = 80 * 2**20  # bytes, near the least that Ray takes: a cell hands over one word


def run(cells: list[Cell], address: str, workers: int | None = None) -> Iterator[dict[str, str]]:
    """Start Ray here ("local") or join the cluster at ``address``, run the cells, and end those that still run.

    Gives, about once per second, {cell id: "finished", "skipped", "failed", or "busy" while another sweep has it}. A
    cell that fails is tried once more, so is one whose worker or node was lost. It gets one GPU where there are any,
    and an equal share of a machine's cores.

    Args:
        workers: cells at a time on a machine; None is one for every GPU, else one for every four cores.

    Raises:
        ValueError: more workers than GPUs, or cores where there is none. ConnectionError: no Ray.
    """
    ray = _connect(address, workers)
    # After Ray's own handler, which would leave without a word.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        share = _share([node["Resources"] for node in ray.nodes() if node["Alive"]], workers)
        task = ray.remote(max_retries=1, retry_exceptions=True, **share)(Cell.execute)
        began, states, pending = now(), {}, {task.remote(cell): cell for cell in cells}
        while pending:
            for done in ray.wait(list(pending), timeout=1)[0]:
                cell = pending.pop(done)
                try:
                    states[cell.id] = ray.get(done)
                except Exception as error:
                    states[cell.id] = "failed"
                    # Nobody wrote it down where the worker was killed, or never came as far as the cell.
                    if cell.record().get("state") != "failed" or not cell.failures(began):
                        error = getattr(error, "cause", None) or error
                        cell.fail(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
                if states[cell.id] == "busy":
                    pending[task.remote(cell)] = cell
            yield states
    finally:
        ray.shutdown()


def _connect(address, workers):
    """Ray, started here or joined at ``address``."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    here: dict[str, Any] = {
        "num_cpus": _cores(workers),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
    }
    try:
        ray.init(address, **quiet, **(here if address == "local" else {}))
    except Exception as error:
        raise ConnectionError(f"Ray must start, or run at the address. Got {address!r}: {error}") from error
    return ray


def _cores(workers):
    """The cores that this process may use, less those that ``workers`` equal shares leave over."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores - cores % min(max(1, workers or 1), cores)


def _share(machines, workers):
    """{num_cpus, num_gpus} of a cell that fits each machine; where one has GPUs, those without are left out."""
    machines = [machine for machine in machines if machine.get("GPU")] or [m for m in machines if m.get("CPU")]
    gpus, cores = (int(min(machine.get(kind, 0) for machine in machines)) for kind in ("GPU", "CPU"))
    workers = (gpus or max(1, cores // 4)) if workers is None else workers
    if not 1 <= workers <= (gpus or cores):
        raise ValueError(f"--workers must be in 1 to {gpus or cores}, the GPUs or cores of a machine. Got {workers}.")
    return {"num_cpus": max(1, cores // workers), "num_gpus": min(gpus, 1)}
