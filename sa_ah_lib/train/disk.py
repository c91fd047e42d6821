"""Whether a run's files will fit, and whether another process writes them; asked before hours are spent. No torch."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sa_ah_lib.config import RunConfig

ADAPTERS = 2  # the policy's and its frozen reference, which TRL saves beside it
MOMENTS = 2  # Adam's
CHECKPOINTS = 3  # two are kept while a third is written
CHECKPOINT_EXTRA = 32e6  # tokenizer files, random states and the trainer's log history
LINE_EXTRA = 2000  # a question, and the keys of a line


def check_writable(runs_dir: str | Path) -> None:
    """Make ``runs_dir`` where it is missing and write a file there.

    Raises:
        OSError: it could not be made or written to; says what to set.
    """
    try:
        Path(runs_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_dir) as file:
            file.write(b"0")
    except OSError as error:
        raise OSError(
            f"the runs directory must be writable. Got {error.strerror or error} for {runs_dir}; set RUNS to a "
            "directory of your own."
        ) from error


@contextmanager
def alone(runs_dir: str | Path, run_id: str) -> Generator[None]:
    """Hold ``runs_dir/.locks/<run_id>``: of two processes at one run the second waits, and then finds it finished.

    A killed process gives its lock back. Where the file system has no locks (some mounted drives), it is said once.
    """
    path = Path(runs_dir) / ".locks" / run_id
    path.parent.mkdir(exist_ok=True)
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another process is at {run_id}; waiting for it")
            lock.acquire()
    except (NotImplementedError, OSError) as error:
        print(f"no lock on {path} ({error}); take care not to start {run_id} twice at once")
    try:
        yield
    finally:
        lock.release()


def run_bytes(config: RunConfig, trainable: int) -> int:
    """An upper estimate of what a run writes, in bytes: checkpoints, adapter and logs.

    Args:
        config: a ``RunConfig``.
        trainable: the number of trained parameters, stored in float32.
    """
    if not config.steps:
        trained = 0
    else:
        adapter = ADAPTERS * 4 * trainable + CHECKPOINT_EXTRA
        trained = adapter + CHECKPOINTS * (adapter + MOMENTS * 4 * trainable)
    evaluations = 2 + config.steps // config.eval_every
    # A token is some four characters of text; a sampled one has a string and two numbers of its own.
    line = LINE_EXTRA + 4 * config.max_completion_tokens
    sample = LINE_EXTRA + 4 * config.max_prompt_tokens + 40 * config.max_completion_tokens
    logs = config.steps * LINE_EXTRA + evaluations * (config.eval_examples * line + config.num_generations * sample)
    return int(trained + logs)


def check_room(directory: str | Path, needed: int) -> None:
    """Raise OSError where fewer bytes are free than ``needed``, those already in ``directory`` counted in."""
    directory = Path(directory)
    there = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) if directory.is_dir() else 0
    place = directory if directory.is_dir() else directory.parent
    free = shutil.disk_usage(place).free
    if free + there < needed:
        raise OSError(
            f"the disk of {place} must have {needed / 1e6:.0f} MB for this run. Got {(free + there) / 1e6:.0f} MB; "
            "free some, or set RUNS to another disk."
        )
