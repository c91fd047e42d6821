"""What ``GRPOConfig`` must be given for the paper's loss, and the refusal of everything else that would change it."""

import os
from typing import Any

from sa_ah_lib.upstream.versions import UpstreamChangedError, remedy

SEAM_ARGUMENTS: dict[str, Any] = {
    # Any value below 1 makes TRL compute entropies and call get_high_entropy_mask; the number itself is unused.
    "top_entropy_quantile": 0.5,
    # One token sum over the micro-batch divided by its mask sum: the form `group_normalized` folds weights into.
    "loss_type": "bnpo",
    # One generation per micro-batch, so that a micro-batch holds whole groups and stays on-policy.
    "steps_per_generation": 1,
    "num_iterations": 1,
    "importance_sampling_level": "token",
    # Eq. 1: rewards are summed, then normalised within their group.
    "scale_rewards": "group",
    "multi_objective_aggregation": "sum_then_normalize",
    # Eq. 2 has the plain k3 estimator, of a fixed reference; TRL's default corrects it by the importance ratio.
    "use_bias_correction_kl": False,
    "sync_ref_model": False,
    # What Eq. 2 does not have: an entropy bonus (over the weighted tokens, too), a second clip, a sequence mask.
    "entropy_coef": 0.0,
    "use_adaptive_entropy": False,
    "delta": None,
    "off_policy_mask_threshold": None,
    "mask_truncated_completions": False,
}
"""What ``GRPOConfig`` must be given for the paper's loss; ``check_arguments`` enforces it."""

UNSLOTH_SWITCHES = {
    "UNSLOTH_GRPO_ZERO_VARIANCE_EXCLUDE": "replaces the loss's denominator",
    "UNSLOTH_GRPO_LOSS_AGGREGATION": "replaces the loss's denominator",
    "UNSLOTH_GRPO_ROLLOUT_LOGPROBS_AS_OLD": "takes the rollout engine's log-probabilities as the old ones",
    "UNSLOTH_GRPO_ROLLOUT_RS": "drops tokens from the loss",
    "UNSLOTH_GRPO_VLLM_IS_MODE": "replaces the ratio that corrects vLLM's rollouts",
    "UNSLOTH_GRPO_VLLM_IS_CLIP": "replaces the bound of the ratio that corrects vLLM's rollouts",
}
"""Variables of the process that change Unsloth's GRPO loss whatever ``GRPOConfig`` says."""


QUANTILE = "top_entropy_quantile"


def known_by(config_class: type) -> dict[str, Any]:
    """``SEAM_ARGUMENTS`` without the switch of an entrance that this ``GRPOConfig`` no longer has."""
    kept = vars(config_class).get("__dataclass_fields__", {})
    return {name: value for name, value in SEAM_ARGUMENTS.items() if name != QUANTILE or name in kept}


def check_arguments(args: Any, num_generations: int, entrance: str = "mask") -> None:
    """Raise ValueError where ``GRPOConfig`` would compute another loss than the paper's.

    Args:
        entrance: one of ``hooks.ENTRANCES``; with "advantages" the entropy quantile may be what it likes.

    Raises:
        ValueError: a setting of ``SEAM_ARGUMENTS``, the upper clip or the batch size, or a variable of
            ``UNSLOTH_SWITCHES`` that is on. UpstreamChangedError: a setting that this TRL does not know.
    """
    needed = {name: value for name, value in SEAM_ARGUMENTS.items() if name != QUANTILE or entrance == "mask"}
    unknown = [name for name in needed if not hasattr(args, name)]
    if unknown:
        raise UpstreamChangedError(f"GRPOConfig has no {', '.join(unknown)}. {remedy()}")
    for name, wanted in needed.items():
        found = getattr(args, name)
        if name == QUANTILE:
            if not found < 1.0:
                raise ValueError(f"{name} must be below 1, or TRL never asks for token weights. Got {found}.")
        elif found != wanted:
            raise ValueError(f"{name} must be {wanted!r} for the paper's loss. Got {found!r}; pass **SEAM_ARGUMENTS.")
    if args.use_vllm and args.vllm_importance_sampling_correction:
        mode = args.vllm_importance_sampling_mode
        if mode != "token_truncate":
            raise ValueError(
                "vllm_importance_sampling_mode must be 'token_truncate', the ratio of each token beside its weight. "
                f"Got {mode!r}; pass **upstream.vllm.arguments(True)."
            )
    if args.epsilon_high not in (None, args.epsilon):
        raise ValueError(
            f"epsilon_high must be None or epsilon ({args.epsilon}), as Eq. 2 clips both sides alike. "
            f"Got {args.epsilon_high}."
        )
    if args.per_device_train_batch_size % num_generations:
        raise ValueError(
            "per_device_train_batch_size must hold whole groups: a multiple of num_generations "
            f"({num_generations}). Got {args.per_device_train_batch_size}."
        )
    for name, effect in UNSLOTH_SWITCHES.items():
        if os.environ.get(name, "") not in ("", "0"):
            raise ValueError(f"{name} must be unset, because it {effect}. Got {os.environ[name]!r}; unset it.")
