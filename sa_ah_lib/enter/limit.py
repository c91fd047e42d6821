"""An end for a user's code that runs on and on."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def within(seconds: float) -> Generator[None]:
    """Stop the block after ``seconds``; in another thread than the main one, or without POSIX timers, it has no limit.

    One long call into compiled code ends before it is stopped.

    Raises:
        TimeoutError: the block was stopped; its traceback ends in the line that ran.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number, frame):
        raise TimeoutError(f"expected an end within {seconds:g} seconds, it was still running")

    # Not as Ctrl-C: a job in the background of a script has that ignored.
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
