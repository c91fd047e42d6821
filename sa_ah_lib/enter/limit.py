"""An end for a user's code that runs on and on."""

import _thread
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def within(seconds: float) -> Generator[None]:
    """Stop the block after ``seconds`` as Ctrl-C would; in another thread than the main one it has no limit.

    One long call into compiled code ends before it is stopped.

    Raises:
        TimeoutError: the block was stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    late = threading.Event()

    def stop():
        late.set()
        _thread.interrupt_main()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not late.is_set():
            raise
        error = TimeoutError(f"expected an end within {seconds:g} seconds, it was still running")
        # The line that it was stopped in.
        raise error.with_traceback(interrupt.__traceback__) from None
    finally:
        timer.cancel()
