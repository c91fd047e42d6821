"""Waiting for what other processes do, and seeing whether they are gone; read from Linux's /proc."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


def until(done: Callable[[], Found], process: subprocess.Popen | None = None, seconds: float = 240) -> Found:
    """What ``done()`` gives, once it is true; a hang is a failure, slowness is none.

    Args:
        process: one that must not end before; where it does, the failure shows what it printed into its pipe.
    """
    end = time.monotonic() + seconds
    while not (found := done()):
        if process and process.poll() is not None:
            raise AssertionError(f"the process ended with {process.returncode}: {process.communicate()[0]}")
        assert time.monotonic() < end, f"waited {seconds:g} s in vain"
        time.sleep(0.1)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waited for is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
