"""Where a trainer can run, and how it is imported, loaded and made there."""

import os
import sys
from dataclasses import dataclass

from cases import ROOT


@dataclass(frozen=True)
class Place:
    """Where the trainer runs: "cuda", "cpu" or "interpreter"; "unsloth" or "trl"; and the model's type by name."""

    device: str
    backend: str
    dtype: str

    @property
    def torch_dtype(self):
        import torch

        return getattr(torch, self.dtype)

    @property
    def fast(self):
        """Whether Unsloth's own fast model and kernels run."""
        return self.backend == "unsloth" and self.device != "cpu"

    @property
    def flags(self):
        """``GRPOConfig``'s settings of the device."""
        card = self.device == "cuda"
        return {
            "use_cpu": not card, "bf16": card and self.dtype == "bfloat16", "fp16": card and self.dtype == "float16",
            "gradient_checkpointing": card,
        }  # fmt: skip

    def report(self, directory):
        """The file of its results, one JSON object per line, each written as soon as it is known."""
        return directory / f"report-{self.device}-{self.backend}-{self.dtype}.jsonl"


def start(place):
    """Unsloth first, where it is wanted; nothing compiled and no GPU in sight on a CPU."""
    if place.device != "cuda":
        os.environ.update(UNSLOTH_ALLOW_CPU="1", UNSLOTH_COMPILE_DISABLE="1", TORCHDYNAMO_DISABLE="1")
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if place.device == "interpreter":
        sys.path.insert(0, str(ROOT / "tests" / "unsloth"))
        import interpreted

        interpreted.pretend()
    elif place.backend == "unsloth":
        import unsloth  # noqa: F401
    import trl
    import trl.trainer.utils

    if place.backend == "unsloth" and not trl.GRPOTrainer.__name__.startswith("Unsloth"):
        from unsloth.models.rl import _patch_trl_rl_trainers

        _patch_trl_rl_trainers("grpo_trainer")
    if place.backend == "trl" and place.device == "cpu":
        import tiny

        trl.trainer.utils._ChunkedLogProbFunction = tiny.PlainHead
    if place.backend == "unsloth" and place.device == "cpu" and place.dtype != "float32":
        # As a card of compute capability 8 answers; a CPU's own answer is logits rounded to the head's type.
        from unsloth_zoo.fused_losses import fused_linear

        fused_linear._logits_mode = lambda *a, **k: (True, False)


def load(directory, place, adapter=None):
    """The adapter's model: by the library's own loader for Unsloth's fast model, else by peft."""
    adapter = adapter or directory / "adapter"
    if place.fast:
        from sa_ah_lib.config import preset
        from sa_ah_lib.train import models

        models.precision = lambda: (place.torch_dtype, {})
        config = preset("micro-s", "sa-ah-grpo", model=str(directory / "model"), lora_dropout=0.0)
        return models.load(config, adapter).model
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(directory / "model", dtype=place.torch_dtype).to(place.device)
    policy = PeftModel.from_pretrained(base, adapter, is_trainable=True)
    policy.for_training, policy.for_inference = (lambda **k: policy.train()), (lambda **k: policy.eval())
    return policy


def trainer(policy, directory, place, config, **rule):
    import tiny

    if "ref" in policy.peft_config:
        # Stock TRL copies the adapter for its reference, once a trainer.
        policy.delete_adapter("ref")
    made = tiny.trainer(directory, policy, config={**place.flags, **config}, reward_threshold=0.0, **rule)
    if place.device != "cuda":
        # Unsloth trains under an autocast of its own choice; here it is the model's type or none.
        made._autocast_enabled = place.device == "interpreter" and place.dtype != "float32"
        made._autocast_dtype = place.torch_dtype if made._autocast_enabled else None
    return made
