"""Where the cells of a sweep run: processes of this machine, a Ray cluster, or a Slurm array. Needs no torch.

The first two take a cell and give a ``concurrent.futures.Future`` of its ``Outcome``; the third only writes a script.
"""

import importlib
import inspect
import os
import queue
import shlex
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sa_ah_lib.sweep_cell import run_cell


class LocalPool:
    """Cells in processes of this machine: one GPU each where there are GPUs, an equal share of the cores each.

    Args:
        workers: cells at a time; None is one a GPU, or one for every four cores where there is no GPU.
        threads: cores for one cell, as OMP_NUM_THREADS; None shares them all.

    Raises:
        ValueError: more workers than GPUs, or than cores where there is no GPU.
    """

    def __init__(self, workers=None, threads=None):
        gpus, cores = visible_gpus(), _cores()
        workers = workers or len(gpus) or max(1, cores // 4)
        limit, what = (len(gpus), "GPUs") if gpus else (cores, "cores")
        if not 1 <= workers <= limit:
            raise ValueError(f"workers must be in 1 to {limit}, the {what} of this machine. Got {workers}.")
        self.environment = {"OMP_NUM_THREADS": str(threads or max(1, cores // workers))}
        self.name = f"{workers} at a time on this machine, {self.environment['OMP_NUM_THREADS']} threads each"
        self._stop, self._gpus = threading.Event(), queue.SimpleQueue()
        for gpu in gpus:
            self._gpus.put(gpu)
        self._has_gpus = bool(gpus)
        self._executor = ThreadPoolExecutor(workers)

    def submit(self, cell):
        return self._executor.submit(self._run, cell)

    def close(self):
        """End the running cells, and wait until they have ended."""
        self._stop.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _run(self, cell):
        if not self._has_gpus:
            return run_cell(cell, self.environment, self._stop)
        gpu = self._gpus.get()
        try:
            return run_cell(cell, {**self.environment, "CUDA_VISIBLE_DEVICES": gpu}, self._stop)
        finally:
            self._gpus.put(gpu)


class RayCluster:
    """The same on a running Ray cluster: one GPU a cell, none where the cluster has none.

    Ray starts a cell again where its worker or node was lost; RUNS must be one directory for all nodes, on a file
    system with working locks, and this library must be installed on each.

    Args:
        address: as ``ray.init`` takes it, "auto" for the cluster of this machine.
        threads: cores for one cell, None is 1.
    """

    def __init__(self, address, threads=None):
        ray = _optional("ray", "ray")
        ray.init(address=address, log_to_driver=False, logging_level="warning")
        self._ray, threads = ray, threads or 1
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        self.name = f"Ray at {address}, {gpus} GPU and {threads} cores a cell"
        environment = {"OMP_NUM_THREADS": str(threads)}
        remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=3)(run_cell)
        self._submit = lambda cell: remote.remote(cell, environment)

    def submit(self, cell):
        return self._submit(cell).future()

    def close(self):
        self._ray.shutdown()


def slurm_script(cells, grid, options):
    """Text of a Slurm array script, one task a cell, each a sweep of that cell alone.

    Args:
        cells: those to run, at least one. grid: the grid file.
        options: what submitit's Slurm executor takes, such as time (minutes, required), partition or gpus_per_node
            (1 unless given).

    Raises:
        ValueError: time is missing, or an option that submitit does not know.
    """
    make = _sbatch_maker()
    internal = ("command", "folder", "map_count", "use_srun", "setup")
    allowed = sorted(set(inspect.signature(make).parameters) - set(internal))
    if unknown := sorted(set(options) - set(allowed)):
        raise ValueError(f"slurm must hold options of submitit. Got {unknown}; allowed are {allowed}.")
    if "time" not in options:
        raise ValueError("slurm.time must give the minutes that one cell may take. Got none.")
    runs = Path(cells[0].runs)
    (runs / "sweep" / "slurm").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sa_ah_lib.sweep", str(Path(grid).resolve()), "--runs", str(runs)]
    return make(
        command=f'{shlex.join(command)} --workers 1 --only "${{CELLS[$SLURM_ARRAY_TASK_ID]}}"',
        folder=runs / "sweep" / "slurm",
        map_count=len(cells),
        setup=[f"CELLS=({' '.join(shlex.quote(cell.id) for cell in cells)})"],
        **{"job_name": "sa-ah-sweep", "gpus_per_node": 1, **options},
    )


def _sbatch_maker():
    """submitit's writer of sbatch scripts: not public, and its executor makes none without submitting it."""
    slurm = _optional("submitit.slurm.slurm", "slurm")
    if not hasattr(slurm, "_make_sbatch_string"):
        raise ImportError("submitit must have _make_sbatch_string. Got another version; pip install -e '.[slurm]'")
    return slurm._make_sbatch_string


def _optional(module, extra):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"--{extra} needs more than is installed ({error}); pip install -e '.[{extra}]'") from error


def visible_gpus():
    """Names for CUDA_VISIBLE_DEVICES of the GPUs this process may use, [] where there are none."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return found.split()


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
