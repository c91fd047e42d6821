"""Seconds of nested stages, for the benchmarks. Needs no torch, which Unsloth must come before."""

from collections.abc import Callable, Generator
from contextlib import contextmanager


class Clock:
    """Seconds of nested stages; what an inner stage took is taken out of the outer one.

    Attributes:
        spent: {stage: seconds} so far. open: the names of the stages that are entered, the innermost last.
    """

    def __init__(self, timer: Callable[[], float]):
        self.timer = timer
        """Seconds since any fixed moment."""
        self.spent, self.open = {}, []

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """What is done inside counts as stage ``name``, once more where it was entered before."""
        self.open.append(name)
        started = self.timer()
        try:
            yield
        finally:
            took = self.timer() - started
            self.open.pop()
            self.spent[name] = self.spent.get(name, 0.0) + took
            if self.open:
                self.spent[self.open[-1]] = self.spent.get(self.open[-1], 0.0) - took
