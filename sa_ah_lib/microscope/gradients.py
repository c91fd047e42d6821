"""The policy gradient of each prompt under a rule, cut into successes and failures and into token positions.

At the policy that sampled the rollouts the ratio is 1, the clip never acts and the KL's gradient is 0. So the gradient
of Eq. 9 is -sum(e A grad log p), with e the weights over their sum in the group. ``coefficients`` are the -e A.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sa_ah_lib import rules
from sa_ah_lib.config import RunConfig
from sa_ah_lib.microscope.frozen import Group, log_probs
from sa_ah_lib.weighting import group_normalized

SIGNS = ("successes", "failures")
LAYER_GROUPS = 4


@dataclass(frozen=True)
class Lens:
    """Where and how finely gradients are looked at.

    Args:
        model: the frozen policy, in evaluation mode.
        parameters: {name: parameter} that have a gradient, D numbers in all.
        edges: last position (counted from 1) of each bin of token positions but the last.
        temperature: at which the rollouts were sampled.
    """

    model: Any
    parameters: dict[str, torch.nn.Parameter]
    edges: tuple[int, ...]
    temperature: float = 1.0

    @property
    def bins(self) -> list[str]:
        """Names of the bins of token positions."""
        starts = [1, *(edge + 1 for edge in self.edges)]
        return [f"tokens {a}-{b}" for a, b in zip(starts, self.edges, strict=False)] + [f"tokens {starts[-1]}+"]

    @property
    def slices(self) -> list[tuple[str, str]]:
        """(sign, bin) of each slice, in order; together they are the whole gradient."""
        return [(sign, name) for sign in SIGNS for name in self.bins]

    @property
    def layers(self) -> dict[str, np.ndarray]:
        """{name: indices among the D numbers} of groups of consecutive layers, ``LAYER_GROUPS`` at most."""
        owners = np.concatenate([np.full(p.numel(), _layer(name)) for name, p in self.parameters.items()])
        parts = np.array_split(np.unique(owners), min(LAYER_GROUPS, len(np.unique(owners))))
        return {_span(part): np.flatnonzero(np.isin(owners, part)) for part in parts}


def lens(model: Any, groups: list[Group], bins: int, temperature: float = 1.0) -> Lens:
    """A lens on ``model`` whose bins of positions hold about as many tokens each.

    Parameters without any gradient on ``groups`` are left out: of a fresh adapter all A matrices, because B is 0.

    Raises:
        ValueError: fewer bins than 1, or no group with a success and a failure.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1. Got {bins}.")
    signal = next((group for group in groups if group.batch.advantages.any()), None)
    if signal is None:
        raise ValueError(f"rewards must differ within a group for a gradient. Got {len(groups)} groups of equal ones.")
    model.eval()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    whole = Lens(model, trainable, (), temperature)
    plain = -signal.batch.advantages[:, None] * signal.batch.mask
    found = slice_gradients(whole, signal, plain[None]).sum(0)
    pieces = found.split([p.numel() for p in trainable.values()])
    moved = {name: p for (name, p), piece in zip(trainable.items(), pieces, strict=True) if piece.any()}
    places = torch.cat([group.batch.positions[group.batch.tokens] for group in groups]).float()
    cuts = torch.quantile(places, torch.arange(1, bins, device=places.device) / bins).floor()
    return Lens(model, moved, tuple(dict.fromkeys(int(cut) for cut in cuts)), temperature)


@torch.no_grad()
def coefficients(group: Group, config: RunConfig) -> torch.Tensor:
    """(G, T): what the loss's gradient multiplies each log-probability's gradient by, under the rule of ``config``."""
    rule, batch = rules.find(config.rule), group.batch
    weights = rule(batch, **rule.called_with(config.alpha, config.scope, dict(config.rule_parameters)))
    factors = group_normalized(weights, batch.mask, batch.groups, config.denominator) / batch.mask.sum()
    return -factors * batch.advantages[:, None]


def of_rule(
    look: Lens,
    groups: list[Group],
    config: RunConfig,
    known: tuple[RunConfig, np.ndarray] | None = None,
    done: Callable[[], object] = int,
) -> np.ndarray:
    """The gradient of every prompt and slice under one rule; (slices, prompts, D) float32.

    Args:
        known: another rule and its result. Slices that the two weigh alike up to a factor are taken from it.
        done: called after each prompt.
    """
    size = sum(p.numel() for p in look.parameters.values())
    found = np.zeros((len(look.slices), len(groups), size), dtype=np.float32)
    for place, group in enumerate(groups):
        wanted = _sliced(look, group, coefficients(group, config))
        if known is not None:
            others = _sliced(look, group, coefficients(group, known[0]))
            for s, (new, old) in enumerate(zip(wanted, others, strict=True)):
                factor = (new * old).sum() / (old * old).sum().clamp(min=1e-30)
                if torch.allclose(new, factor * old, rtol=1e-5, atol=1e-9):
                    found[s, place] = factor.item() * known[1][s, place]
                    new.zero_()
        found[:, place] += slice_gradients(look, group, wanted).numpy()
        done()
    return found


def slice_gradients(look: Lens, group: Group, wanted: torch.Tensor) -> torch.Tensor:
    """(S, D) float32 on the CPU: the gradient of sum(c log p) for each c of (S, G, T) coefficients."""
    parameters = list(look.parameters.values())
    found = torch.zeros(len(wanted), sum(p.numel() for p in parameters))
    for rows in (group.batch.advantages > 0, group.batch.advantages < 0):
        todo = [s for s in range(len(wanted)) if wanted[s][rows].any()]
        if todo:
            scores = log_probs(look.model, group.ids[rows], group.prompt, look.temperature)
        for s in todo:
            parts = torch.autograd.grad(
                scores, parameters, wanted[s][rows].to(scores.dtype), retain_graph=s != todo[-1], allow_unused=True
            )
            flat = [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, parts, strict=True)]
            found[s] += torch.cat(flat).float().cpu()
    return found


def _sliced(look, group, values):
    """(slices, G, T): ``values`` on the tokens of each slice, 0 elsewhere."""
    bounds = torch.tensor(look.edges, device=values.device)
    bin_of = torch.bucketize(group.batch.positions, bounds)  # (G, T); position p is in the first bin with edge >= p
    signs = group.batch.advantages[:, None]
    return torch.stack([
        torch.where(kept & (bin_of == number), values, 0.0)
        for kept in (signs > 0, signs < 0)
        for number in range(len(look.bins))
    ])  # fmt: skip


def _layer(name):
    found = re.search(r"\.layers\.(\d+)\.", name)
    return int(found[1]) if found else -1


def _span(layers):
    first, last = int(layers[0]) + 1, int(layers[-1]) + 1
    return f"layer {first}" if first == last else f"layers {first}-{last}"
