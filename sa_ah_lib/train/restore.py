"""What transformers leaves out when it resumes a GRPO run with a LoRA adapter; the rest it restores itself.

Seen with transformers 5.17 and TRL 1.15, where each alone changes the run in silence:

- TRL keeps the reference policy as a second adapter, "ref", saved in a folder of the checkpoint. Where a checkpoint has
  such a folder, transformers loads the folders only: the policy itself starts untrained.
- A resumed data loader skips the batches of the current pass over the prompts, but TRL's sampler draws its first
  shuffle again in a later pass.
"""

from pathlib import Path
from typing import Any

from peft import load_peft_weights, set_peft_model_state_dict
from transformers import TrainerCallback


class RestoreCallback(TrainerCallback):
    """Loads the policy's own adapter and puts the prompts' order where it was; does nothing without a checkpoint."""

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, train_dataloader: Any = None, **kwargs: Any
    ) -> None:
        if self.checkpoint is None:
            return
        load_policy(model, self.checkpoint)
        for _ in range(int(state.epoch)):
            # The first row of a pass draws that pass's shuffle from the sampler's own generator.
            next(iter(_sampler(train_dataloader)))


def load_policy(model: Any, checkpoint: str | Path) -> None:
    """Load the adapter at the root of ``checkpoint`` into ``model``'s active one.

    Raises:
        RuntimeError: the checkpoint's parameters are not the adapter's.
    """
    adapter = model.active_adapters[0]
    weights = load_peft_weights(str(checkpoint), device=str(model.device))
    trained = [name for name, p in model.named_parameters() if p.requires_grad and f".{adapter}." in name]
    strangers = set_peft_model_state_dict(model, weights, adapter_name=adapter).unexpected_keys
    if strangers or len(weights) != len(trained):
        raise RuntimeError(
            f"{checkpoint} must hold the adapter's {len(trained)} tensors. Got {len(weights)}, of them unknown: "
            f"{strangers[:3]}; move the run directory away to start anew."
        )


def _sampler(loader):
    """The prompts' sampler below a prepared loader, which several processes read through a shard."""
    batches = loader.batch_sampler
    return getattr(batches, "batch_sampler", batches).sampler
