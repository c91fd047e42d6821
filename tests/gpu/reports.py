"""Runs ``cases.py`` and ``equalities.py`` in processes of their own and reads what they wrote, for the tests."""

import subprocess
import sys
from pathlib import Path

from cases import clean_environment

from sa_ah_lib.gpu_card import verdicts

HERE = Path(__file__).parent


def prepared(directory, size):
    """``directory``, with the models and references of this size in it."""
    _run("cases.py", directory, size)
    return directory


def compared(directory, device, backend, dtype, chosen=()):
    """The report of one place, as ``verdicts.read`` gives it.

    Args:
        chosen: names of cases, "LAYOUT, CASE", and "training"; all when empty.
    """
    path = directory / f"report-{device}-{backend}-{dtype}.jsonl"
    path.unlink(missing_ok=True)
    _run("equalities.py", directory, device, backend, dtype, *chosen)
    report = verdicts.read(path)
    assert report["cases"].keys() == set(chosen) - {"training"} or not chosen, "a case was asked for and left out"
    return report


def _run(script, *arguments):
    done = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        env=clean_environment(), capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
