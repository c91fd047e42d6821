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

    A forward hook on the decoder keeps its last hidden states (detached) while the loss is computed. The
    completion's are the last T positions, shifted by one; ``entropies`` checks that on the first call by
    recomputing the exact entropy at some tokens and comparing it with the trainer's own.
    """

    def __init__(self, top_k, temperature):
        self.top_k = top_k
        self.temperature = temperature
        self._hidden = []
        self._checked = False

    @contextmanager
    def listening(self, model):
        """Record the decoder's last hidden states (B, P+T, D) of every forward of ``model`` inside the block."""
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
    def entropies(self, model, exact_nats, mask, log_vocabulary):
        """Top-K normalised entropies, (B, T) float32 with 0 on padding.

        Args:
            exact_nats: (B, T) exact entropies in nats as the trainer computed them; mask: (B, T).

        Raises:
            RuntimeError: the recorded hidden states do not reproduce ``exact_nats``.
        """
        length = mask.shape[1]
        if not self._hidden or any(part.shape[1] <= length for part in self._hidden):
            raise RuntimeError(self._complaint(f"saw hidden states of shapes {[tuple(h.shape) for h in self._hidden]}"))
        # The state at position t - 1 predicts token t.
        hidden = torch.cat([part[:, -length - 1 : -1] for part in self._hidden])  # (B, T, D)
        tokens = mask.bool()
        if hidden.shape[:2] != tokens.shape:
            raise RuntimeError(self._complaint(f"saw {hidden.shape[0]} rows where the loss has {mask.shape[0]}"))
        head = model.get_output_embeddings()
        score = lambda rows, top_k: hidden_state_entropy(rows, head.weight, top_k, head.bias, self.temperature)  # noqa: E731
        if not self._checked:
            sample = tokens.nonzero()[:256]
            rebuilt = score(hidden[sample[:, 0], sample[:, 1]], None)
            expected = exact_nats[sample[:, 0], sample[:, 1]].float() / log_vocabulary
            # bf16 logits differ in the third digit; another token's entropy differs far more.
            if sample.numel() and (rebuilt - expected).abs().mean() > 0.02 * expected.mean() + 1e-4:
                raise RuntimeError(self._complaint("recomputed entropies that differ from the loss's own"))
            self._checked = True
        entropy = torch.zeros(tokens.shape, dtype=torch.float32, device=hidden.device)
        entropy[tokens] = score(hidden[tokens], self.top_k)
        return entropy

    def _complaint(self, seen):
        return (
            f"The top-K entropy needs the decoder's hidden states in the loss's own layout, but {seen}. "
            "Use entropy_top_k=None (exact, and free), or an installed set that notebook 00 reports as tested."
        )
