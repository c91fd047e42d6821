"""Token weights for a trainer that is not this one: weight times advantage of every token, and the mask they go with.

``python -m sa_ah_lib.export.per_token runs/RUN --step 150 --out step150.safetensors`` takes them from a run's log.

A loss that is sum(policy term * mask) / sum(mask) over the whole batch, with these advantages in the place of one per
rollout, is the rule's loss: the factor that its own denominator asks for is in them.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sa_ah_lib.rules import RolloutBatch
from sa_ah_lib.train.logged import groups
from sa_ah_lib.train.run import Run
from sa_ah_lib.train.runlog import read_run
from sa_ah_lib.weighting import group_normalized

DIVIDED_BY = "the sum of response_mask over all rows"
"""What a loss must divide its sum over tokens by."""


def per_token(batch: RolloutBatch, weights: torch.Tensor, denominator: str) -> dict[str, torch.Tensor]:
    """The (B, T) advantages that give a loss by tokens the policy term of a rule.

    Args:
        batch: whole groups, all that one loss is computed on; weights: (B, T), at least 0, what a rule returns for it.
        denominator: what the rule's own loss is divided by, one of ``rulebook.DENOMINATORS``.

    Returns:
        ``advantages`` (B, T) float32, 0 on padding; ``response_mask`` (B, T) int64; ``groups`` (B,) int64; and
        ``responses`` (B, T) int64, token ids, where the batch has them.

    Raises:
        ValueError: a negative weight. Inside the minimum of Eq. 2 it would choose the other branch.
    """
    if (weights[batch.tokens] < 0).any():
        least = weights[batch.tokens].min().item()
        raise ValueError(f"weights must be at least 0 to stand in an advantage, inside the clipping. Got {least:.4g}.")
    factors = group_normalized(weights, batch.mask, batch.groups, denominator)
    found = {"advantages": factors * batch.advantages[:, None].float(), "response_mask": batch.mask.long()}
    ids = {} if batch.completion_ids is None else {"responses": batch.completion_ids.long()}
    return {**found, "groups": batch.groups.long(), **ids}


def logged(run: Run, step: int | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """``per_token`` of the group that a run logged at one step, with the weights as logged.

    Args:
        step: None is the last step that has one.

    Returns:
        The tensors, and what there is to say of them: rule, parameters, denominator, the tokens' texts.

    Raises:
        ValueError: nothing was logged at that step; says at which.
    """
    config, steps = run.config, sorted({row["step"] for row in run.completions if "weights" in row})
    if (step is not None and step not in steps) or not steps:
        raise ValueError(f"step must be one whose weights {config.run_id} logged, of {steps}. Got {step}.")
    step = steps[-1] if step is None else step
    group = next(groups([row for row in run.completions if row["step"] == step], config))
    told = {
        "run": config.run_id, "step": step, "rule": config.rule, "alpha": config.alpha, "scope": config.scope,
        "rule_parameters": dict(config.rule_parameters), "denominator": config.denominator, "divided_by": DIVIDED_BY,
        "prompt": group.rows[0]["prompt"], "tokens": [row["tokens"] for row in group.rows],
    }  # fmt: skip
    # Texts have numbers there, which no trainer could take for ids.
    batch = replace(group.batch, completion_ids=None)
    return per_token(batch, group.weights, config.denominator), told


def save(path: str | Path, tensors: Mapping[str, torch.Tensor], told: Mapping[str, Any]) -> Path:
    """Write a safetensors file; ``told`` is JSON under the key ``per_token`` of its metadata. Returns its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, path, {"per_token": json.dumps(dict(told), ensure_ascii=False)})
    return path


def main(arguments: list[str] | None = None) -> None:
    """Write the per-token advantages of one logged step of a run."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.export.per_token", description=main.__doc__)
    parser.add_argument("run", help="a run's directory")
    parser.add_argument("--step", type=int, help="a step whose rollouts were logged (the last)")
    parser.add_argument("--out", default="per_token.safetensors", help="the file (%(default)s)")
    given = parser.parse_args(arguments)
    try:
        tensors, told = logged(read_run(given.run), given.step)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    rows, width = tensors["advantages"].shape
    print(f"{save(given.out, tensors, told)}: step {told['step']}, {rows} rollouts of up to {width} tokens")


if __name__ == "__main__":
    main()
