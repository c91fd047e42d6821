"""Where the library touches what TRL and Unsloth do not promise: every such place, each with a probe.

The weights go in through the public ``get_high_entropy_mask`` (see ``trainer``). This module holds the private
methods that are overridden (``PrivateHooks``) and the probes that name what an upgrade changed (``PROBES``). The tap
that reads hidden states is in ``entropy_tap``, the settings that route the loss through the hook in ``settings``.
"""

import inspect
import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sa_ah_lib.upstream.decoding import own_rules_off
from sa_ah_lib.upstream.settings import SEAM_ARGUMENTS, check_arguments
from sa_ah_lib.upstream.versions import UpstreamChangedError, remedy

__all__ = [
    "BATCH_KEYS", "ENTRANCES", "PROBES", "REFERENCE", "SEAM_ARGUMENTS", "HookNotCalledError", "PrivateHooks", "Probe",
    "UpstreamChangedError", "check_arguments", "check_batch", "check_instance", "check_upstream", "forget_reference",
]  # fmt: skip

LOG = logging.getLogger("sa_ah_lib")

ENTRANCES = ("mask", "advantages")
"""Where weights get into the loss: what ``get_high_entropy_mask`` returns, or (B, T) advantages; see ``entrance``."""

REFERENCE = "ref"
"""The name that TRL gives its copy of the policy's adapter, from which the KL is measured."""

BATCH_KEYS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages")
"""What TRL puts into a micro-batch and the trainer reads from it."""


class HookNotCalledError(RuntimeError):
    """The loss was computed without the token weights: training would silently be plain GRPO."""


class PrivateHooks:
    """Every private method of TRL that the library overrides, and what it changes of TRL's private state."""

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        # Unsloth's trainer keeps the KL of a process's own rollouts, and the main process alone writes it down.
        kept = getattr(self, "_metrics", {}).get("train" if self.model.training else "eval", {})
        if self.accelerator.num_processes > 1 and kept.get("kl"):
            own = torch.tensor(kept["kl"], device=self.accelerator.device)
            kept["kl"] = self.accelerator.reduce(own, "mean").tolist()
        super().log(logs, start_time)

    def _calculate_rewards(self, inputs, *args, **kwargs):
        self._rewards = super()._calculate_rewards(inputs, *args, **kwargs)  # (all rollouts, functions)
        return self._rewards

    def _generate_and_score_completions(self, inputs):
        self._rewards = None
        # Else generate would sample by rules of the model's own file, of which the loss knows nothing.
        with own_rules_off(self.model):
            output = super()._generate_and_score_completions(inputs)
        if self._rewards is None:
            raise UpstreamChangedError(f"Rollouts were scored without calling _calculate_rewards. {remedy()}")
        return self.rollouts_scored(output, self._rewards)

    def rollouts_scored(self, output: dict[str, Any], rewards: torch.Tensor) -> dict[str, Any]:
        """Change a generated batch: TRL's dictionary of it, and rewards (all processes' rollouts, functions)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Probe:
    """One thing relied on upstream. ``look(base, made)`` returns what is wrong with it, or None.

    ``base`` is the trainer class that is extended (stock TRL's or Unsloth's), ``made`` the class extending it.
    ``entrance``: the only one of ``ENTRANCES`` that needs it; "" where both do.
    """

    name: str
    without: str
    look: Any
    entrance: str = ""


def check_upstream(base: type, made: type) -> str:
    """Look at every probe; returns the entrance that ``made`` has, the first of ``ENTRANCES`` wherever it is open.

    Raises:
        UpstreamChangedError: a probe failed that both need: every failed one by name, the versions and the remedy.
    """
    failed = [(probe, wrong) for probe in PROBES if (wrong := probe.look(base, made))]
    lines = "".join(f"\n- {probe.name}: {wrong}; {probe.without}." for probe, wrong in failed)
    if any(not probe.entrance for probe, _ in failed):
        raise UpstreamChangedError(f"{base.__name__} is not what this library was tested with:{lines}\n{remedy()}")
    if not failed:
        LOG.info("Token weights reach %s through get_high_entropy_mask.", base.__name__)
        return "mask"
    LOG.warning("Token weights reach %s as advantages of tokens, one more pass of the model a loss:%s",
                base.__name__, lines)  # fmt: skip
    return "advantages"


def check_instance(trainer: Any) -> None:
    """Raise UpstreamChangedError where a trainer lacks an attribute that is read from it after ``__init__``.

    Also ValueError where it adds a mixture of experts' own loss.
    """
    names = ("accelerator", "args", "num_generations", "num_generations_eval", "processing_class", "reward_weights")
    missing = [name for name in names if not hasattr(trainer, name)]
    if missing:
        raise UpstreamChangedError(f"{type(trainer).__name__} has no {', '.join(missing)}. {remedy()}")
    if getattr(trainer, "aux_loss_enabled", False):
        raise ValueError(
            "router_aux_loss_coef must be 0, as Eq. 2 has no loss of a router. Got the model's own, "
            f"{trainer.router_aux_loss_coef}; pass router_aux_loss_coef=0.0 to GRPOConfig."
        )


def check_batch(inputs: Mapping[str, Any], own_keys: Iterable[str]) -> None:
    """Raise UpstreamChangedError where a micro-batch lacks TRL's keys, or ours because a hook was not called."""
    missing = [key for key in BATCH_KEYS if key not in inputs]
    if missing:
        raise UpstreamChangedError(f"The micro-batch has no {', '.join(missing)}. {remedy()}")
    if any(key not in inputs for key in own_keys):
        raise UpstreamChangedError(
            f"The micro-batch has no {', '.join(own_keys)}: _generate_and_score_completions was not called, or its "
            f"result was rebuilt. {remedy()}"
        )


def forget_reference(model: Any) -> None:
    """Delete the reference adapter that an earlier trainer left on a PEFT model; TRL makes a new one of the policy.

    TRL copies the policy's adapter under the name "ref" and fails where the name is taken. The earlier trainer, should
    it go on, then takes the new reference, too.
    """
    if REFERENCE in getattr(model, "peft_config", {}):
        model.delete_adapter(REFERENCE)


def _takes(method, *names):
    def look(base, made):
        function = getattr(base, method, None)
        if function is None:
            return "it is gone"
        parameters = inspect.signature(function).parameters.values()
        # A wrapper of Unsloth's may take (self, *args, **kwargs), which hands on whatever it is given.
        open_ended = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        found = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][: len(names)]
        if found == list(names) or (open_ended and found == list(names[: len(found)])):
            return None
        return f"it takes ({', '.join(found)}), expected ({', '.join(names)})"

    return look


def _called(method):
    def look(base, made):
        functions = [f for c in base.__mro__ for f in vars(c).values() if inspect.isfunction(f)]
        for function in functions:  # grows: what a decorator wrapped hides in its closure
            cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
            inner = [cell.cell_contents for name, cell in cells if name != "__class__"]
            functions += [f for f in inner if inspect.isfunction(f) and f not in functions]
        return None if any(method in f.__code__.co_names for f in functions) else "no method of the trainer calls it"

    return look


def _rows_stay_together(base, made):
    shared = inspect.unwrap(base._prepare_inputs).__globals__
    if "shuffle_sequence_dict" not in shared or "split_tensor_dict" not in shared:
        return "_prepare_inputs no longer shuffles and splits dictionaries of rows"
    rows = torch.arange(8)
    moved = shared["shuffle_sequence_dict"]({"prompt_ids": rows[:, None], "own": rows})
    parts = shared["split_tensor_dict"](moved, 2)
    same = all(torch.equal(part["prompt_ids"][:, 0], part["own"]) for part in parts)
    return None if same and len(parts) == 2 else "keys beside TRL's own are not moved with the rows"


def _unsloth_calls_ours(base, made):
    # With several processes Unsloth reads the hook's source to decide whether to call it or a copy of its own.
    decides = getattr(sys.modules.get("unsloth_zoo.rl_replacements"), "_high_entropy_mask_pads", None)
    if decides is None or decides(made.get_high_entropy_mask):
        return None
    return "with several processes Unsloth replaces ours by its own quantile mask"


_PLAIN = "through it the policy term would be plain GRPO's"
_LOST = "rewards, groups and the reward threshold would be lost"
PROBES = (
    Probe(
        "get_high_entropy_mask",
        _PLAIN,
        _takes("get_high_entropy_mask", "self", "entropies", "mask", "threshold"),
        "mask",
    ),
    Probe("get_high_entropy_mask under Unsloth", _PLAIN, _unsloth_calls_ours, "mask"),
    Probe(
        "compute_loss",
        "the advantages would be unknown",
        _takes("compute_loss", "self", "model", "inputs", "return_outputs", "num_items_in_batch"),
    ),
    Probe("_calculate_rewards", _LOST, _takes("_calculate_rewards", "self", "inputs")),
    Probe("_calculate_rewards is called", _LOST, _called("_calculate_rewards")),
    Probe("_generate_and_score_completions", _LOST, _takes("_generate_and_score_completions", "self", "inputs")),
    Probe("_generate_and_score_completions is called", _LOST, _called("_generate_and_score_completions")),
    Probe("rows of a micro-batch", "rollouts would be trained with another's group and reward", _rows_stay_together),
)
"""Looked at whenever the trainer's class is made, by notebook 00 and by the tests."""
