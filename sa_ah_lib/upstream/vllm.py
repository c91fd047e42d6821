"""vLLM rollouts: every option that decides the loss, and why. Needs no torch, and imports no vLLM.

vLLM samples from its own copy of the policy, mu, whose probabilities differ from the trained model's, pi_old, by
rounding; ``train.models`` has it apply the adapter beside the weights, where Unsloth would fold it in. TRL corrects a
token's loss by rho = pi_old / mu. Under Eq. 6 and 9 three things had to be decided:

- The ratio multiplies the surrogate beside the weight, w rho l, and leaves both denominators alone: the paper's
  sum of w m is part of its objective, not of the expectation that rho corrects. TRL and Unsloth's trainer do just
  this (hook first, then ratio, then the KL, which stays uncorrected), so nothing has to be overridden.
- The ratio is the token's own, truncated ("token_truncate"), as the surrogate of Eq. 2 is a token's own. TRL's default,
  "sequence_mask", takes the product over the completion and drops the whole rollout where it exceeds a bound: tokens
  late in a long failed rollout, which the weights all but remove, would decide whether its first tokens count.
- The correction is on. TRL's default is on and that of the trainer which Unsloth generates is off, so it is said.
"""

from importlib.util import find_spec
from typing import Any

from sa_ah_lib.config import RunConfig

OFF: dict[str, Any] = {"use_vllm": False}
ON: dict[str, Any] = {
    "use_vllm": True,
    "vllm_mode": "colocate",
    "vllm_importance_sampling_correction": True,
    "vllm_importance_sampling_mode": "token_truncate",
    # One-sided: a token that vLLM overrates is taken down fully, one that it underrates counts at most twice.
    "vllm_importance_sampling_clip_max": 2.0,
    "vllm_importance_sampling_clip_min": None,
    # Every token may be sampled. TRL and transformers say so with 0, vLLM with -1.
    "top_k": -1,
}


def arguments(fast_inference: bool) -> dict[str, Any]:
    """What ``GRPOConfig`` is given for rollouts by vLLM (True) or by the model's own ``generate`` (False)."""
    return dict(ON if fast_inference else OFF)


def loader_arguments(config: RunConfig) -> dict[str, Any]:
    """What ``FastLanguageModel.from_pretrained`` is given; {} without ``config.fast_inference``.

    Raises:
        ValueError: vLLM is wanted and not installed.
    """
    if not config.fast_inference:
        return {}
    if find_spec("vllm") is None:
        raise ValueError(
            "fast_inference=True needs vLLM, which is not installed here. Install it beside Unsloth on a CUDA machine "
            "(pip install vllm, a version that matches the installed torch), or set fast_inference to False."
        )
    return {"fast_inference": True, "max_lora_rank": config.lora_rank}


def restore_generation_config(model: Any, path: str) -> None:
    """Give a model its own ``generation_config.json``, if it has one.

    Unsloth builds the model beside vLLM from ``config.json`` alone, which names one of Qwen's two end tokens: answers
    that end with the other would go on in an evaluation, and lose that token in training.
    """
    from transformers import GenerationConfig

    try:
        model.generation_config = GenerationConfig.from_pretrained(path)
    except OSError:
        return
