"""One study: the gradients of several rules on the same frozen rollouts, measured whole, by part and by layer."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from sa_ah_lib.config import METHOD_LABELS, METHODS, RunConfig
from sa_ah_lib.microscope import gradients
from sa_ah_lib.microscope.frozen import Group
from sa_ah_lib.microscope.measures import measure, resamples, with_interval

WHOLE, EVERYWHERE = "all tokens", "all layers"
RATIOS = {"norm": "norm ratio", "noise": "noise ratio", "signal_to_noise": "signal-to-noise ratio"}
"""{measure: what its ratio to GRPO's is called}."""
METHODS_SEEN = tuple(method for method in METHODS if method != "zero-shot")
DIGITS = 6


def arms(base: RunConfig, alpha: float, methods: tuple[str, ...] = METHODS_SEEN) -> dict[str, RunConfig]:
    """{label: configuration} of GRPO and every method at ``alpha``, and of AH-GRPO by position; GRPO first."""
    found = {METHOD_LABELS["grpo"]: base.sibling("grpo")}
    for method in methods:
        if method != "grpo":
            found[METHOD_LABELS[method]] = base.sibling(method, alpha)
    if "ah-grpo" in methods:
        found["AH-GRPO, by position"] = base.sibling("ah-grpo", alpha).replace(rule="position")
    return found


def study(
    model: Any, groups: list[Group], rules: dict[str, RunConfig], bins: int = 4, step: int = 8, progress: bool = True
) -> list[dict[str, Any]]:
    """The measures of every rule, one dict per rule, part of the tokens, group of layers and measure.

    Args:
        model: the policy that sampled ``groups``, which is not changed.
        rules: {label: configuration}; the first is what the others are compared with, and should be GRPO.
        bins: bins of token positions. step: prompts of an optimizer step.

    Returns:
        Dicts of ``rule``, ``part``, ``layers``, ``measure`` (a key of ``measures.measure``, or of ``RATIOS``), and
        ``estimate``, ``low``, ``high``: 95% bootstrap intervals over prompts, None where infinite or not defined.
    """
    (first, base), *others = rules.items()
    look = gradients.lens(model, groups, bins, base.temperature)
    weights = resamples(len(groups))
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(rules) * len(groups), disable=not progress, leave=False, unit="gradient") as bar:
        plain = gradients.of_rule(look, groups, base, done=bar.update)
        compared = measure(plain.sum(0), plain.sum(0), weights, step)
        for label, config in [(first, base), *others]:
            bar.set_description(label)
            known = (base, plain)
            found = plain if label == first else gradients.of_rule(look, groups, config, known, bar.update)
            for part, layers, taken, other in _views(look, found, plain.sum(0)):
                values = measure(taken, other, weights, step)
                if (part, layers) == (WHOLE, EVERYWHERE):
                    with np.errstate(divide="ignore", invalid="ignore"):
                        values |= {name: values[key] / compared[key] for key, name in RATIOS.items()}
                rows += [_row(label, part, layers, name, series) for name, series in values.items()]
    return rows


def described(groups: list[Group], config: RunConfig, alpha: float, **more: Any) -> dict[str, Any]:
    """What a study was made on: the model, how many prompts and rollouts, and how they turned out."""
    lengths = [float(length) for group in groups for length in group.batch.lengths]
    entropies = [float(group.batch.entropy.sum() / group.batch.mask.sum()) for group in groups]
    rewards = [float(reward) for group in groups for reward in torch.as_tensor(group.batch.rewards)]
    return {
        "scale": config.scale, "model": config.model, "warm_start": config.warm_start, "dataset": config.dataset,
        "alpha": alpha, "prompts": len(groups), "rollouts": len(lengths), "per_step": config.prompts_per_step,
        "silent_groups": sum(not group.batch.advantages.any() for group in groups),
        "mean_reward": round(float(np.mean(rewards)), DIGITS), "mean_length": round(float(np.mean(lengths)), DIGITS),
        "mean_entropy": round(float(np.mean(entropies)), DIGITS), **more,
    }  # fmt: skip


def save(path: str | Path, settings: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    """Write a study as JSON, one line per row; the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f'{{"settings": {json.dumps(settings)},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")
    return path


def _views(look, found, reference) -> Iterator[tuple]:
    """(part, layers, gradients (P, D'), GRPO's (P, D')): the whole, each sign, each bin, each group of layers."""
    whole, slices = found.sum(0), look.slices
    yield WHOLE, EVERYWHERE, whole, reference
    for place, names in ((0, gradients.SIGNS), (1, look.bins)):
        for name in names:
            yield name, EVERYWHERE, found[[s[place] == name for s in slices]].sum(0), reference
    for name, columns in look.layers.items():
        yield WHOLE, name, whole[:, columns], reference[:, columns]


def _row(label, part, layers, name, series):
    seen = with_interval(series)
    values = {key: getattr(seen, key) for key in ("estimate", "low", "high")}
    shown = {k: float(f"{v:.{DIGITS}g}") if math.isfinite(v) else None for k, v in values.items()}
    return {"rule": label, "part": part, "layers": layers, "measure": name, **shown}
