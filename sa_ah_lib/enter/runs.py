"""The runs of an entry: which there must be, and training those that are missing, two at a time.

Needs no torch until a run begins, because Unsloth must be imported first.
"""

import hashlib
import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sa_ah_lib.config import RunConfig
from sa_ah_lib.train.run import Run
from sa_ah_lib.train.runlog import ENTERED, read_run


class RunFailedError(RuntimeError):
    """A run's process ended before its run did; the message says where its output is."""


Job = tuple[RunConfig, str | Path]
"""(configuration, parent of its run directory)."""

LOG = "output.log"


def directory(path: str | Path, runs: str | Path) -> Path:
    """Where an entry's runs go: named by the rule file's contents, so that a changed rule reads no older run."""
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]
    return Path(runs) / ENTERED / f"{Path(path).stem}-{digest}"


def keep(path: str | Path, home: str | Path) -> Path:
    """A copy of a rule file in the directory of its runs, which each of them loads; the copy.

    What is written into the file while runs are trained is another rule's, and none of theirs.

    Raises:
        ValueError: the file is not the one that ``home`` is named by.
    """
    copy = Path(home) / Path(path).name
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.is_file():
        copy.write_bytes(Path(path).read_bytes())
    if directory(copy, copy.parents[2]) != copy.parent:
        raise ValueError(f"{path} must stay as it was until its runs have begun. It was changed; enter it again.")
    return copy


def train(jobs: Sequence[Job], rule_file: str | Path | None = None, workers: int = 2, samples: int = 0) -> list[Run]:
    """Train runs, ``workers`` at a time, each on one core, with one bar over all steps.

    A run that was stopped goes on from its checkpoint. What a run prints is in ``output.log`` beside it. Runs end with
    the process that started them, however it ends.

    Args:
        rule_file: the file that registers their rule, or None.
        samples: completions sampled of each problem when a run is trained, see ``train.sampled``; 0 samples none.

    Returns:
        The runs, read back from their logs.

    Raises:
        ValueError: ``samples`` is negative. And whatever a run raised; runs that have not begun are not started.
        KeyboardInterrupt ends those that have.
        RunFailedError: the process of a run was ended from outside.
    """
    if samples < 0:
        raise ValueError(f"SAMPLES must be at least 1, or 0 for none. Got {samples}.")
    if not jobs:
        return []
    # Python's own start method on Linux copies a process that may have imported torch before Unsloth.
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    with (
        ProcessPoolExecutor(min(workers, len(jobs)), context, _end_with_parent) as pool,
        tqdm(total=sum(c.steps for c, _ in jobs), initial=sum(map(steps_done, jobs)), unit="step") as bar,
    ):
        given = str(rule_file) if rule_file else None
        try:
            # Inside, because a worker may be at work before the last run is handed in.
            pending = [pool.submit(_one, config.to_dict(), str(parent), given, samples) for config, parent in jobs]
            while not all(job.done() for job in pending):
                time.sleep(1)
                if new := sum(map(steps_done, jobs)) - bar.n:
                    bar.update(new)
                for job in pending:
                    if job.done():
                        job.result()
            bar.update(bar.total - bar.n)
        except KeyboardInterrupt:
            # Leaving the pool would wait for whole runs, one of them not begun yet.
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise
        except BrokenProcessPool as error:
            logs = " and ".join(sorted({str(Path(parent) / LOG) for _, parent in jobs}))
            raise RunFailedError(
                f"every run must end by itself. The process of one was ended from outside, perhaps for want of memory; "
                f"what it said last is in {logs}. The same command goes on; --workers 1 needs half the memory."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    for job in pending:
        job.result()
    return [read_run(Path(parent) / config.run_id) for config, parent in jobs]


def _end_with_parent() -> None:
    """End this process when its parent is gone: a killed entry would train on unseen and hold its runs' locks."""
    parent = multiprocessing.parent_process()

    def wait():
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _one(values: dict[str, Any], parent: str, rule_file: str | None, samples: int) -> None:
    """One run, in a process of its own."""
    Path(parent).mkdir(parents=True, exist_ok=True)
    log = os.open(Path(parent) / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from sa_ah_lib.train import sampled, training  # first: they import Unsloth, which patches torch

    if rule_file:
        from sa_ah_lib.enter.rule_file import load

        load(rule_file)
    run = training.run(RunConfig.from_dict(values), parent, progress=False)
    if samples:
        sampled.evaluate_sampled(run.directory, samples, progress=False)


def steps_done(job: Job) -> int:
    """Steps that the log of a run holds already."""
    config, parent = job
    path = Path(parent) / config.run_id / "train.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0
