"""The form of a rule's record, what a rule can ask for and what that costs, and where records are kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCOPES = ("none", "all", "negative", "positive")
"""The rollouts that the paper's rule and its controls discount, by the sign of the advantage."""

DENOMINATORS = ("group", "batch", "sequence", "tokens")
"""What a loss is divided by, see ``weighting.group_normalized``."""

INPUTS = {
    "entropy": "(B, T), normalised to [0, 1] or in nats. Exact: the loss computes it. Top-K: one more pass of "
    "the LM head in chunks, without gradients",
    "mask": "(B, T), 1 on completion tokens. Free",
    "advantages": "(B,), normalised within groups, 0 in silenced ones. Free",
    "groups": "(B,), equal numbers mark rollouts of one prompt. Free",
    "rewards": "(B,), total reward as weighted by the trainer, NaN where no function gave one. Free",
    "completion_ids": "(B, T), token ids. Free",
    "log_probs": "(B, T), the current policy's log-probability of each sampled token, in nats at the sampling "
    "temperature. One more pass of the LM head in chunks, without gradients; no second forward of the model",
    "progress": "share of the training steps done, in [0, 1]. Free",
    "seed": "the step's own random seed. Free",
    "gather": "joins values of all processes: one collective call per micro-batch, nothing with one process",
}


@dataclass(frozen=True)
class Record:
    """The facts of one rule.

    Args:
        name: what ``RunConfig.rule`` and the registry call it; label: what tables and figures call it.
        source: arXiv id, or "this project".
        equation: the weight in LaTeX, without dollar signs.
        inputs: what it reads, keys of ``INPUTS``.
        denominator: what its source divides the loss by, one of ``DENOMINATORS``.
        defaults: {parameter: default}.
        ranges: {parameter: (least, largest)} of numbers, {parameter: choices} of strings, {parameter: (type,)} of
            lists of lists of that type; others are free.
        neutral: {parameter: value} at which the rule is GRPO; None where there is no such value.
        limits: what of the source cannot be expressed by a token weight, or is read differently here.
        checked: what the formula was checked against.
        signed: whether a weight may be negative.
    """

    name: str
    label: str
    source: str
    equation: str
    inputs: tuple[str, ...]
    denominator: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, tuple] = field(default_factory=dict)
    neutral: Mapping[str, Any] | None = None
    limits: str = ""
    checked: str = ""
    signed: bool = False

    def __post_init__(self):
        unknown = sorted(set(self.inputs) - INPUTS.keys())
        if unknown:
            raise ValueError(f"inputs of rule {self.name!r} must be among {sorted(INPUTS)}. Got {unknown}.")

    @property
    def takes_scope(self) -> bool:
        """Whether ``alpha`` and ``scope`` of the run are its parameters: the paper's rule and its controls."""
        return "scope" in self.defaults

    def resolve(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """``defaults`` updated by ``parameters``, numbers in the defaults' own type.

        Raises:
            ValueError: a parameter that the rule does not have, or a value of another type, not finite or out of range.
        """
        unknown = sorted(set(parameters) - self.defaults.keys())
        if unknown:
            raise ValueError(f"rule {self.name!r} has the parameters {sorted(self.defaults)}. Got {unknown}.")
        return {**self.defaults, **{name: self._checked(name, value) for name, value in parameters.items()}}

    def apart(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """``parameters`` as given, of a rule whose alpha and scope, if it has them, are given beside them.

        Raises:
            ValueError: they are among ``parameters``.
        """
        named = sorted({"alpha", "scope"} & parameters.keys()) if self.takes_scope else []
        if named:
            raise ValueError(
                f"{' and '.join(named)} of rule {self.name!r} must be given beside rule_parameters, by name. "
                f"Got rule_parameters={dict(parameters)}."
            )
        return parameters

    def _checked(self, name, value):
        value, allowed = _like(self, name, self.defaults[name], value), self.ranges.get(name)
        if isinstance(value, float) and allowed and not allowed[0] <= value <= allowed[1]:
            raise ValueError(f"{name} of rule {self.name!r} must be in {list(allowed)}. Got {value}.")
        if isinstance(value, tuple) and allowed and not all(_is_list_of(allowed[0], part) for part in value):
            kind = allowed[0].__name__
            raise ValueError(f"{name} of rule {self.name!r} must be lists of {kind}, none of them empty. Got {value}.")
        if isinstance(value, str) and allowed and value not in allowed:
            raise ValueError(f"{name} of rule {self.name!r} must be one of {allowed}. Got {value!r}.")
        return value


def _is_list_of(kind, value):
    return isinstance(value, tuple) and len(value) > 0 and all(type(one) is kind for one in value)


def _like(record, name, default, value):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, float) and number and math.isfinite(value):
        return float(value) + 0.0  # 1 and 1.0, 0.0 and -0.0 are one run
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(tuple(v) if isinstance(v, (list, tuple)) else v for v in value)
    if isinstance(default, str) and isinstance(value, str):
        return value
    wanted = {float: "a finite number", str: "a string", tuple: "a list"}[type(default)]
    raise ValueError(f"{name} of rule {record.name!r} must be {wanted}. Got {value!r}.")


RECORDS: dict[str, Record] = {}
"""{name: record} of every rule, in the order of the documentation."""


def add(*records: Record) -> Record:
    """Enter records under their names, so that configurations may use them; returns the last.

    Raises:
        ValueError: a name belongs to a rule of another source.
    """
    for record in records:
        known = RECORDS.get(record.name, record)
        if known.source != record.source:
            raise ValueError(f"a rule named {record.name!r} is there already, of {known.source}; choose another name.")
        RECORDS[record.name] = record
    return records[-1]


def get(name: str) -> Record:
    """The record of a rule; ValueError with the known names where there is none."""
    if name not in RECORDS:
        raise ValueError(f"rule must be one of {tuple(RECORDS)}. Got {name!r}.")
    return RECORDS[name]
