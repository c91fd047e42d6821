"""Runs in memory with a given final Pass@1 and training variance: what the tests of comparisons over seeds share."""

from pathlib import Path

from sa_ah_lib.config import preset
from sa_ah_lib.train.run import assemble

PROBLEMS = 500


def made_run(method="grpo", seed=123, correct=400, spread=1.0, scale="micro-s", steps=8, samples=(), **changes):
    """A finished run that answers ``correct`` of 500 problems at its end; rewards of its second half are +-spread.

    ``samples``: how many of 16 sampled answers are right, one number a problem.
    """
    config = preset(scale, method, seed=seed, steps=steps, **changes)
    train = [
        {"step": step, "reward": 9.0 * step if step <= steps // 2 else 3.0 + spread * (-1) ** step}
        for step in range(1, steps + 1)
    ]
    counts = {0: 100, steps: correct}
    rows = [{"step": step, "problem": k, "correct": k < n} for step, n in counts.items() for k in range(PROBLEMS)]
    sampled = [{"problem": k, "n": 16, "correct": n, "problems": len(samples)} for k, n in enumerate(samples)]
    environment = {"data": {"source": "made up"}, "device": "cpu", "started": "2026-01-05T00:00:00+00:00"}
    logs = {"train": train, "eval": rows, "completions": [], "samples": sampled}
    return assemble(Path(config.run_id), config, environment, True, **logs)


def made_of(config, correct):
    """``made_run`` of a whole configuration."""
    named = ("method", "seed", "scale", "steps")
    rest = {name: value for name, value in config.to_dict().items() if name not in named}
    return made_run(config.method, config.seed, correct, scale=config.scale, steps=config.steps, **rest)


def family(method, corrects, spreads=None, **changes):
    """One run a seed (0, 1, ...), with these final counts and reward spreads."""
    spreads = spreads or [1.0] * len(corrects)
    pairs = zip(corrects, spreads, strict=True)
    return [made_run(method, seed, correct, spread, **changes) for seed, (correct, spread) in enumerate(pairs)]
