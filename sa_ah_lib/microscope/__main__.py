"""``python -m sa_ah_lib.microscope --scale micro-sum``: what each rule does to the gradient of frozen rollouts.

It also replays every rule on the tokens of the same rollouts, see ``replay``.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from sa_ah_lib.train import models  # first: it imports unsloth, which patches what follows

import torch

from sa_ah_lib.config import preset
from sa_ah_lib.microscope import frozen, replay, study
from sa_ah_lib.train import data
from sa_ah_lib.train.scales import resolve_scale


def look(
    scale: str, warm_start: int = 0, alpha: float = 0.5, prompts: int = 128, generations: int = 0, bins: int = 4,
    seed: int = 123, model: str = "", adapter: str = "", progress: bool = True,
) -> tuple[dict, list[dict], list[dict]]:  # fmt: skip
    """Sample frozen rollouts of a scale's model and measure every rule's gradient on them.

    Args:
        prompts: training problems, one group each. generations: rollouts per prompt; 0 is the scale's own number.
        model: a directory or hub id in place of the scale's own model; adapter: a finished run's, else a fresh one.

    Returns:
        The settings, the rows of ``study.study`` and those of ``replay.replay``.
    """
    changes: dict[str, Any] = {"warm_start": warm_start, "seed": seed, "train_examples": prompts, "eval_examples": 1}
    changes |= {"model": model} if model else {}
    changes |= {"num_generations": generations} if generations else {}
    config = preset(resolve_scale(scale), "grpo", **changes)
    models.choose_threads(config)
    torch.manual_seed(seed)
    loaded = models.load(config, adapter or None)
    started = time.monotonic()
    groups = frozen.sample(loaded.model, loaded.tokenizer, data.load(config).train, config, seed, progress)
    batches = [group.batch for group in groups]
    tokens = replay.replay(batches, replay.replayable(batches, config, alpha))
    rules = study.arms(config, alpha)
    rows = study.study(loaded.model, groups, rules, bins, config.prompts_per_step, progress)
    more = {"seed": seed, "adapter": Path(adapter).parent.name if adapter else "fresh", "device": loaded.device}
    more |= {"seconds": round(time.monotonic() - started)}
    return study.described(groups, config, alpha, **more), rows, tokens


def main(arguments: list[str] | None = None) -> None:
    """Measure what each rule does to the policy gradient of frozen rollouts; writes two JSON files."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.microscope", description=main.__doc__)
    parser.add_argument("--scale", default="micro-sum", help="whose model and problems (micro-sum)")
    parser.add_argument("--warm-start", type=int, default=0, help="which warm start of a micro model (0)")
    parser.add_argument("--alpha", type=float, default=0.5, help="strength of every rule that has one (0.5)")
    parser.add_argument("--prompts", type=int, default=128, help="prompts, one group of rollouts each (128)")
    parser.add_argument("--generations", type=int, default=0, help="rollouts per prompt; 0 is the scale's own")
    parser.add_argument("--bins", type=int, default=4, help="bins of token positions (4)")
    parser.add_argument("--seed", type=int, default=123, help="of the adapter and the rollouts (123)")
    parser.add_argument("--model", default="", help="a directory or hub id in place of the scale's own model")
    parser.add_argument("--adapter", default="", help="the adapter/ of a finished run; without, a fresh one")
    parser.add_argument("--out", default="runs/microscope", help="folder of the JSON files (runs/microscope)")
    options = parser.parse_args(arguments)
    given = {name: value for name, value in vars(options).items() if name != "out"}
    settings, rows, tokens = look(**given)
    name = f"{settings['scale']}-{settings['warm_start']}-a{options.alpha:g}"
    name += "" if settings["adapter"] == "fresh" else f"-{settings['adapter']}"
    for start, table in (("gradients", rows), ("replay", tokens)):
        print(study.save(Path(options.out) / f"{start}-{name}.json", settings, table))


if __name__ == "__main__":
    main()
