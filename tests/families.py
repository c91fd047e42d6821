"""Made-up run directories with the trainer's own keys, and results with chosen numbers: what the tests of tables,
figures and claims share. Needs no torch."""

from pathlib import Path

import numpy as np

from sa_ah_lib.analysis.results import Family
from sa_ah_lib.config import METHODS, preset
from sa_ah_lib.report.schematic import token_weights
from sa_ah_lib.train.run import Run
from sa_ah_lib.train.runlog import RunLog, read_run

METHOD_NAMES = ("grpo", "ah-grpo", "sa-ah-grpo")
SWEEP = (-0.25, 0.1, 0.25)
PROBLEMS = 40
ENVIRONMENT = {"device": "some CPU", "data": {"source": "made up"}, "parameters": 1_050_000,
               "started": "2026-01-05T10:00:00+00:00"}  # fmt: skip


def train_row(step, rng, reward=None):
    """One line of train.jsonl as the trainer logs it, with values in their real ranges."""
    negative = float(rng.integers(0, 5)) / 8
    entropy = 0.03 * np.exp(-step / 200) * rng.uniform(0.8, 1.2)
    return {
        "step": step, "reward": 3 + step / 60 + rng.normal(0, 0.3) if reward is None else reward,
        "reward_std": rng.uniform(0.5, 1.5), "kl": 1e-5 * step, "grad_norm": 0.1, "learning_rate": 2e-4,
        "sa_ah/entropy": entropy, "sa_ah/weight": rng.uniform(0.6, 1), "sa_ah/negative_fraction": negative,
        "sa_ah/weight_negative": rng.uniform(0.2, 0.8) if negative else 0.0,
        "sa_ah/reward_between_variance": rng.uniform(0.5, 1), "sa_ah/reward_within_variance": rng.uniform(1, 2),
        "sa_ah/effective_horizon": 1 / (0.5 * entropy), "completions/mean_length": rng.uniform(20, 40),
    }  # fmt: skip


def rollout(step, prompt, advantage, config, entropy, tokens=None):
    """One line of completions.jsonl; its weights are those of the configuration's rule."""
    tokens = tokens or [str(i % 10) for i in range(len(entropy))]
    weights = [round(float(w), 6) for w in token_weights(entropy, advantage, config.alpha, config.scope)]
    return {"step": step, "prompt": prompt, "tokens": list(tokens), "entropy": list(entropy), "weights": weights,
            "advantage": advantage, "reward": 4.0 + advantage, "completion": "".join(tokens)}  # fmt: skip


def pair(step, config, entropies=(0.05, 0.1, 0.4, 0.2)):
    """A good and a bad rollout of one prompt."""
    return [rollout(step, "2 + 2 =", advantage, config, list(entropies)) for advantage in (0.9, -0.9)]


def write_run(parent, config, seed=0, finish=True, environment=None, checkpoints=None):
    """A run directory: every step logged, ``PROBLEMS`` problems every 30 steps, two rollouts at the first and last."""
    rng = np.random.default_rng([seed, *config.run_id.encode()])
    log = RunLog(Path(parent) / config.run_id, config, ENVIRONMENT if environment is None else environment)
    for step in range(1, config.steps + 1):
        log.write("train", train_row(step, rng))
    for step in checkpoints or range(0, config.steps + 1, 30):
        right = rng.random(config.eval_examples) < 0.3 + step / 600
        for problem, correct in enumerate(right):
            log.write("eval", {"step": step, "problem": problem, "correct": bool(correct), "reward": 1.0, "gold": 4.0,
                               "question": "2 + 2 =", "completion": "4"})  # fmt: skip
    for step in sorted({1, config.steps} if config.steps else ()):
        for row in pair(step, config):
            log.write("completions", row)
    log.finish({"seconds": 1.0}) if finish else log.close()
    return read_run(log.directory)


def protocol(scale="micro-s", sweep=SWEEP, **changes):
    """The configurations of the paper's protocol: three methods, then the sweep of alpha."""
    changes = {"eval_examples": PROBLEMS, **changes}
    methods = [preset(scale, method, **changes) for method in METHOD_NAMES]
    return methods + [preset(scale, "ah-grpo", alpha=alpha, **changes) for alpha in sweep]


def write_protocol(parent, scale="micro-s", sweep=SWEEP, **changes):
    """Run directories of the whole protocol; the runs."""
    return [write_run(parent, config) for config in protocol(scale, sweep, **changes)]


def result(method="grpo", rates=(), scale="micro-s", base=None, answers=None, total=100, rewards=(), rows=None,
           **changes):  # fmt: skip
    """A measured result with Pass@1 ``rates`` every 30 steps, and rewards or whole rows of a training log."""
    alpha = changes.pop("alpha", METHODS[method]["alpha"])
    config = preset(scale, method, alpha=alpha, eval_examples=total, **changes)
    counts = {30 * (i + 1): (round(rate * total), total) for i, rate in enumerate(rates)}
    train = rows or [{"step": step, "reward": float(reward)} for step, reward in enumerate(rewards, 1)]
    return Run("measured", config, counts, base, train, answers or {})


def family(*results):
    """A measured family of ``results``."""
    return Family(tuple(results))
