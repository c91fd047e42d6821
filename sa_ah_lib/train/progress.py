"""How far a run is, in one place: a line with curves in a notebook, a bar in a terminal. Needs no torch.

In a notebook one output is updated in place, without a widget: JupyterLab and Colab show it live, and under papermill
its last state stays in the executed file. Its plain text is one line, marked by ``MARK`` for whoever watches a kernel.
"""

import html
import sys
import time
from collections.abc import Iterable

from tqdm import tqdm

from sa_ah_lib.config import METHODS, RunConfig

MARK = {"sa_ah_lib": "progress"}
SECONDS_BETWEEN = 0.5
WIDTH, HEIGHT = 260, 36


def label(config: RunConfig) -> str:
    """What a run is called while it is under way: its method, and what is unusual of it."""
    unusual = [f"α = {config.alpha:g}"] if config.alpha != METHODS[config.method]["alpha"] else []
    unusual += [f"seed {config.seed}"] if config.seed != type(config).seed else []
    return config.label + (f" ({', '.join(unusual)})" if unusual else "")


class Progress:
    """One run's progress.

    Args:
        config: the run's ``RunConfig``.
        shown: False shows nothing.
    """

    def __init__(self, config, shown=True):
        self.name, self.steps = label(config), config.steps
        self.step, self.first, self.started = 0, 0, time.monotonic()
        self.rewards, self.scores, self.now = [], {}, ""
        self._show = (_Notebook if _in_notebook() else _Terminal)(self) if shown else None

    def begin(self, step: int, rewards: Iterable[float] = ()) -> None:
        """Training starts after ``step`` steps, whose mean rewards are ``rewards`` where they are known."""
        self.step = self.first = step
        self.rewards, self.started = list(rewards), time.monotonic()
        self._changed()

    def stepped(self, step: int, reward: float | None = None) -> None:
        """An optimizer step is done; ``reward``: the mean total reward of its rollouts."""
        self.step, self.now = step, ""
        self.rewards += [] if reward is None else [reward]
        self._changed()

    def evaluating(self, done: int, problems: int) -> None:
        """``done`` of ``problems`` have been answered."""
        self.now = f"evaluating, {done} of {problems} problems"
        self._changed()

    def evaluated(self, step: int, correct: int, problems: int) -> None:
        """Pass@1 of ``step`` is known."""
        self.scores[step], self.now = correct / problems, ""
        self._changed(at_once=True)

    def close(self) -> None:
        """The run has ended, or stopped where it is."""
        self.now = ""
        if self._show:
            self._show.close()
            self._show = None

    @property
    def text(self) -> str:
        """Where the run is, in one line: "GRPO, step 7 of 150: reward 2.31, Pass@1 0.434 at step 0, 03:05 left"."""
        place = f", step {self.step} of {self.steps}" if self.steps else ""
        facts = [f"reward {self.rewards[-1]:.2f}"] if self.rewards else []
        facts += [f"Pass@1 {self.scores[max(self.scores)]:.3f} at step {max(self.scores)}"] if self.scores else []
        facts += [fact for fact in (self.now, self.left) if fact]
        return f"{self.name}{place}" + (f": {', '.join(facts)}" if facts else "")

    @property
    def left(self) -> str:
        """The time that the steps to come take at the mean speed so far, evaluations included; "" if not known."""
        done = self.step - self.first
        if not done or self.step == self.steps:
            return ""
        seconds = (time.monotonic() - self.started) / done * (self.steps - self.step)
        return f"{tqdm.format_interval(seconds)} left"

    def _changed(self, at_once=False):
        if self._show:
            self._show.update(at_once)


class _Terminal:
    """tqdm's bar, and one line per evaluation above it."""

    def __init__(self, progress):
        self.progress, self.said = progress, set()
        layout = "{desc} {bar} {elapsed}<{remaining}{postfix}" if progress.steps else "{desc} {elapsed}"
        self.bar = tqdm(total=progress.steps or None, desc=progress.name, bar_format=layout)

    def update(self, at_once: bool) -> None:
        progress, bar = self.progress, self.bar
        for step, score in progress.scores.items():
            if step not in self.said:
                self.said.add(step)
                bar.write(f"{progress.name}, step {step}: Pass@1 {score:.3f}", file=sys.stderr)
        bar.n, bar.initial = progress.step, progress.first
        place = f", step {progress.step} of {progress.steps}" if progress.steps else ""
        bar.set_description_str(progress.name + place, refresh=False)
        facts = [progress.now] if progress.now else [f"reward {r:.2f}" for r in progress.rewards[-1:]]
        bar.set_postfix_str(", ".join(facts), refresh=at_once)
        bar.update(0)

    def close(self) -> None:
        self.bar.close()


class _Notebook:
    """One output of the running cell, drawn anew at most every ``SECONDS_BETWEEN``."""

    def __init__(self, progress):
        from IPython.display import display

        self.progress, self.drawn = progress, time.monotonic()
        self.handle = display(self._bundle(), raw=True, display_id=True, metadata=MARK)

    def update(self, at_once: bool) -> None:
        if at_once or time.monotonic() - self.drawn > SECONDS_BETWEEN:
            self.drawn = time.monotonic()
            self.handle.update(self._bundle(), raw=True, metadata=MARK)

    def close(self) -> None:
        self.update(at_once=True)

    def _bundle(self):
        progress = self.progress
        bar = f"<progress value='{progress.step}' max='{progress.steps}'></progress> " if progress.steps else ""
        first = progress.step + 1 - len(progress.rewards)
        drawn = _curve("mean reward", "#0072B2", list(enumerate(progress.rewards, first)), progress.steps)
        drawn += _curve("Pass@1", "#D55E00", sorted(progress.scores.items()), progress.steps)
        return {"text/plain": progress.text, "text/html": f"<div>{bar}{html.escape(progress.text)}</div>{drawn}"}


def _curve(name, colour, points, steps):
    """A small picture of (step, value) points with their lowest and highest value; nothing of one point."""
    if len(points) < 2:
        return ""
    values = [value for _, value in points]
    low, high = min(values), max(values)
    across = [4 + step / steps * (WIDTH - 8) for step, _ in points]
    down = [HEIGHT - 4 - (value - low) / (high - low or 1) * (HEIGHT - 8) for value in values]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    return (
        f"<span style='display:inline-block;margin-right:2em'>{name} {low:.3g} to {high:.3g}<br>"
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='{name} by step'>"
        f"<rect width='100%' height='100%' fill='none' stroke='#bbb'/>"
        f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='1.5'/></svg></span>"
    )


def _in_notebook():
    """Whether a Jupyter kernel runs this process, whose outputs a page or an executed file shows."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module else None
    return hasattr(shell, "kernel")
