"""Where the library touches what TRL and Unsloth do not document: every such place, each with its check.

The weights themselves go in through the public ``get_high_entropy_mask`` (see ``trainer``); this module holds
the arguments that route the loss through it and the tap that reads hidden states for the top-K entropy.
"""

from contextlib import contextmanager

import torch

from sa_ah_lib.weighting import hidden_state_entropy

SEAM_ARGUMENTS = {
    # Any value below 1 makes TRL compute entropies and call get_high_entropy_mask; the number itself is unused.
    "top_entropy_quantile": 0.5,
    # One token sum over the micro-batch divided by its mask sum: the form `group_normalized` folds weights into.
    "loss_type": "bnpo",
    # One generation a micro-batch, so that a micro-batch holds whole groups and stays on-policy.
    "steps_per_generation": 1,
    "num_iterations": 1,
    "importance_sampling_level": "token",
    "scale_rewards": "group",
    # Eq. 2 has the plain k3 estimator; TRL's default corrects it by the importance ratio.
    "use_bias_correction_kl": False,
}
"""What ``GRPOConfig`` must be given for the paper's loss; ``check_arguments`` enforces it."""


class HookNotCalledError(RuntimeError):
    """The loss was computed without the token weights: training would silently be plain GRPO."""


def check_arguments(args, num_generations):
    """Raise ValueError where ``GRPOConfig`` would compute another loss than the paper's."""
    for name, wanted in SEAM_ARGUMENTS.items():
        found = getattr(args, name)
        if name == "top_entropy_quantile":
            if not found < 1.0:
                raise ValueError(f"{name} must be below 1, or TRL never asks for token weights. Got {found}.")
        elif found != wanted:
            raise ValueError(f"{name} must be {wanted!r} for the paper's loss. Got {found!r}; pass **SEAM_ARGUMENTS.")
    if args.per_device_train_batch_size % num_generations:
        raise ValueError(
            "per_device_train_batch_size must hold whole groups: a multiple of num_generations "
            f"({num_generations}). Got {args.per_device_train_batch_size}."
        )


class EntropyTap:
    """Top-K entropies from the hidden states of the loss's own forward pass, at no second forward.

    A forward hook on the decoder keeps its last hidden states (detached) while the loss is computed. They come in
    one of two layouts: rows padded to prompt + completion columns, as TRL and Unsloth's fallback have them, or
    Unsloth's packed one, every row's tokens end to end in a single row. ``entropies`` checks on the first call
    that it read them right, by recomputing the exact entropy at some tokens and comparing it with the trainer's own.
    """

    def __init__(self, top_k, temperature):
        self.top_k = top_k
        self.temperature = temperature
        self._hidden = []
        self._checked = False

    @contextmanager
    def listening(self, model):
        """Record the decoder's last hidden states of every forward of ``model`` inside the block."""
        handle = model.get_decoder().register_forward_hook(self._keep)
        try:
            yield
        finally:
            handle.remove()
            self._hidden.clear()

    def _keep(self, module, inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output.last_hidden_state
        self._hidden.append(hidden.detach())

    @torch.no_grad()
    def entropies(self, model, exact_nats, mask, real, log_vocabulary):
        """Top-K normalised entropies, (B, T) float32 with 0 on padding.

        Args:
            exact_nats: (B, T) exact entropies in nats as the trainer computed them; mask: (B, T).
            real: (B, columns of prompt and completion) true where a token is not padding.

        Raises:
            RuntimeError: the recorded hidden states do not reproduce ``exact_nats``.
        """
        tokens = mask.bool()
        hidden = self._predicting_states(tokens, real.bool())  # (tokens, D)
        head = model.get_output_embeddings()
        score = lambda rows, top_k: hidden_state_entropy(rows, head.weight, top_k, head.bias, self.temperature)  # noqa: E731
        if not self._checked:
            rebuilt = score(hidden[:256], None)
            expected = exact_nats[tokens][:256].float() / log_vocabulary
            # bf16 logits differ in the third digit; another token's entropy differs far more.
            if len(rebuilt) and (rebuilt - expected).abs().mean() > 0.02 * expected.mean() + 1e-4:
                raise RuntimeError(self._complaint("recomputed entropies that differ from the loss's own"))
            self._checked = len(rebuilt) > 0
        entropy = torch.zeros(tokens.shape, dtype=torch.float32, device=hidden.device)
        entropy[tokens] = score(hidden, self.top_k)
        return entropy

    def _predicting_states(self, tokens, real):
        """(tokens, D): for each true place of ``tokens`` (B, T), the state at the position before it."""
        rows, width = real.shape
        row, column = tokens.nonzero(as_tuple=True)
        column = column + width - tokens.shape[1] - 1
        padded = self._last_rows(rows, width)
        if padded is not None:
            return padded[row, column]
        # Unsloth packs row after row without padding; the rows it forwards next only verify the packed one.
        lengths = real.sum(1)
        packed = [part for part in self._hidden if part.shape[:2] == (1, int(lengths.sum()))]
        if not packed or (column >= lengths[row] - 1).any():
            raise RuntimeError(self._complaint(f"saw hidden states of shapes {[tuple(h.shape) for h in self._hidden]}"))
        return packed[-1][0, (lengths.cumsum(0) - lengths)[row] + column]

    def _last_rows(self, rows, width):
        """The last recorded forwards joined to (rows, width, D), or None where they are not padded to ``width``."""
        parts = []
        for part in reversed(self._hidden):
            if part.shape[1] != width or rows <= 0:
                break
            parts.insert(0, part)
            rows -= part.shape[0]
        return torch.cat(parts) if rows == 0 else None

    def _complaint(self, seen):
        return (
            f"The top-K entropy needs the decoder's hidden states in the loss's own layout, but {seen}. "
            "Use entropy_top_k=None (exact, and free), or an installed set that notebook 00 reports as tested."
        )
