"""The second entrance for token weights: (B, T) advantages, for a trainer that no longer calls get_high_entropy_mask.

TRL's loss takes advantages of shape (B, T), for subclasses that have them, and Unsloth's leaves them as they are. For
weights that are not negative, A * w in the place of A gives the loss and the gradient of w times the policy term. The
entropies must then be known before the loss, so the rollouts go through the model once more, without gradients.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from sa_ah_lib.upstream.entropy_tap import check_plain_head, hidden_state_entropy, hidden_state_log_probs


class OwnPass:
    """One pass of the rollouts through the policy, without gradients and without dropout.

    Args:
        model: the policy, unwrapped. batch: TRL's micro-batch. temperature: the sampling temperature.

    Raises:
        ValueError: the model's logits are not its LM head's output.
    """

    @torch.no_grad()
    def __init__(self, model: Any, batch: Mapping[str, torch.Tensor], temperature: float):
        check_plain_head(model)
        self.mask = batch["completion_mask"].bool()  # (B, T)
        self._ids = batch["completion_ids"]
        self._head, self._temperature = model.get_output_embeddings(), temperature
        whole = {
            name: torch.cat([batch[f"prompt_{part}"], batch[f"completion_{part}"]], dim=1)
            for name, part in (("input_ids", "ids"), ("attention_mask", "mask"))
        }
        with _evaluating(model):
            hidden = model.get_decoder()(**whole, use_cache=False).last_hidden_state
        # The state at one position predicts the token at the next.
        self._states = hidden[:, -self.mask.shape[1] - 1 : -1][self.mask]  # (tokens, D)

    def entropies(self, top_k: int | None) -> torch.Tensor:
        """(B, T) float32 in [0, 1], 0 on padding; see ``hidden_state_entropy``."""
        head = self._head
        return self._placed(hidden_state_entropy(self._states, head.weight, top_k, head.bias, self._temperature))

    def log_probs(self) -> torch.Tensor:
        """(B, T) float32 in nats, 0 on padding: the sampled tokens' log-probabilities."""
        head, ids = self._head, self._ids[self.mask]
        return self._placed(hidden_state_log_probs(self._states, head.weight, ids, head.bias, self._temperature))

    def _placed(self, values):
        placed = torch.zeros(self.mask.shape, dtype=torch.float32, device=values.device)
        placed[self.mask] = values
        return placed


def on_loss_columns(values: torch.Tensor, inputs: Mapping[str, torch.Tensor], unsloth: bool) -> torch.Tensor:
    """(B, T) values in the columns of the completions, moved to the columns of the loss.

    Unsloth packs rows to the left, over the padding of their prompts. Its loss is as much wider as the widest padding
    of the micro-batch, or as the log-probabilities that the micro-batch carries already.
    """
    if not unsloth:
        return values
    rows, width = values.shape
    padding = (inputs["prompt_mask"] == 0).sum(1)  # (B,)
    carried = [inputs[name] for name in ("old_per_token_logps", "ref_per_token_logps") if inputs.get(name) is not None]
    most = carried[0].shape[1] - width if carried else int(padding.max())
    columns = torch.arange(width, device=values.device) + (most - padding)[:, None]
    return values.new_zeros(rows, width + most).scatter(1, columns, values)


@contextmanager
def _evaluating(model) -> Generator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
