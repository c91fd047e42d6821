"""One mechanism for every rule: a function of a batch, its record, and the checks around both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sa_ah_lib import rulebook
from sa_ah_lib.rulebook import Record
from sa_ah_lib.rules.batch import RolloutBatch
from sa_ah_lib.weighting import check_name

RULES: dict[str, "Rule"] = {}
"""{name: rule} of every rule that was registered."""


@dataclass(frozen=True)
class Rule:
    """A rule that can be called: ``rule(batch, **parameters)`` gives its weights."""

    record: Record
    weigh: Callable[..., torch.Tensor]

    @torch.no_grad()
    def __call__(self, batch: RolloutBatch, **parameters) -> torch.Tensor:
        """The weights of a micro-batch.

        Args:
            parameters: any of the record's; the others keep their defaults.

        Returns:
            (B, T) float32, finite, 1 on padding; not negative unless the record says ``signed``.

        Raises:
            ValueError: a parameter that the rule does not have, an input that it asks for and the batch lacks, NaN
                among entropies or advantages, or weights that are not what is promised above.
        """
        parameters = self.record.resolve(parameters)
        self._check_inputs(batch)
        # A rule that joins the values of all processes must be reached by all, also by one without a token.
        if not batch.tokens.any() and "gather" not in self.record.inputs:
            return torch.ones(batch.mask.shape, dtype=torch.float32, device=batch.mask.device)
        weights = self.weigh(batch, **parameters)
        self._check_weights(weights, batch)
        return torch.where(batch.tokens, weights, 1.0).float()

    def strength(self, alpha: float | None, scope: str | None, parameters: Mapping[str, Any]) -> tuple[float, str]:
        """(alpha, scope) of a run under this rule; its record's where None, (0.0, "none") if it has none.

        Raises:
            ValueError: values out of range, among ``parameters`` too, where alpha and scope do not belong; or an alpha
                or a scope that it would ignore.
        """
        if self.record.takes_scope:
            named = {"alpha": alpha, "scope": scope}
            given = {name: value for name, value in named.items() if value is not None}
            resolved = self.record.resolve({**given, **self.record.apart(parameters)})
            return resolved["alpha"], resolved["scope"]
        if alpha or scope not in (None, "none"):
            raise ValueError(
                f"rule {self.record.name!r} does not take alpha and scope but rule_parameters "
                f"{sorted(self.record.defaults)}. Got alpha {alpha}, scope {scope!r}."
            )
        self.record.resolve(parameters)
        return 0.0, "none"

    def called_with(self, alpha: float, scope: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What the rule of a run is called with, beside its batch."""
        return {**({"alpha": alpha, "scope": scope} if self.record.takes_scope else {}), **parameters}

    def _check_inputs(self, batch):
        missing = [name for name in self.record.inputs if getattr(batch, name) is None]
        if missing:
            raise ValueError(f"rule {self.record.name!r} needs {', '.join(missing)}, which this batch does not have.")
        if torch.isnan(batch.advantages).any():
            raise ValueError("advantages must be numbers. Got NaN; check what the reward functions return.")
        if not torch.isfinite(batch.entropy[batch.tokens]).all():
            raise ValueError("entropy must be finite on every completion token. Got NaN or infinity.")

    def _check_weights(self, weights, batch):
        name, shape = self.record.name, tuple(batch.mask.shape)
        if not isinstance(weights, torch.Tensor) or tuple(weights.shape) != shape:
            found = tuple(weights.shape) if isinstance(weights, torch.Tensor) else type(weights).__name__
            raise ValueError(f"rule {name!r} must return a tensor of shape (B, T) = {shape}. Got {found}.")
        if weights.requires_grad:
            raise ValueError(f"weights of rule {name!r} must be constants of the loss. Got a gradient; detach them.")
        counted = weights[batch.tokens]
        if not torch.isfinite(counted).all():
            raise ValueError(f"weights of rule {name!r} must be finite. Got NaN or infinity.")
        if not self.record.signed and (counted < 0).any():
            raise ValueError(
                f"weights of rule {name!r} must not be negative unless its record says signed=True. "
                f"Got {counted.min().item():.4g}."
            )


def rule(record: str | Record) -> Callable[[Callable[..., torch.Tensor]], Rule]:
    """Decorator: register ``weigh(batch, **parameters) -> (B, T)`` under its record.

    Args:
        record: the name of a rule in ``rulebook``, or a ``Record`` of one's own, which is entered there.
    """

    known = rulebook.get(record) if isinstance(record, str) else rulebook.add(record)

    def register(weigh):
        RULES[known.name] = Rule(known, weigh)
        return RULES[known.name]

    return register


def find(wanted: str | Rule) -> Rule:
    """The rule of a name, or ``wanted`` itself where it is one.

    Raises:
        ValueError: no such rule; names those there are.
    """
    if isinstance(wanted, Rule):
        return wanted
    check_name("rule", wanted, tuple(RULES))
    return RULES[wanted]
