"""Entropies and log-probabilities from the hidden states of the loss's own forward pass, and the tap on them."""

import functools
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from sa_ah_lib.weighting import normalized_entropy

TRANSFORMS = {
    "final_logit_softcapping": None, "output_logit_soft_cap": None, "logits_soft_cap": None,
    "logit_scale": 1, "logits_scaling": 1, "lm_head_multiplier": 1, "output_multiplier": 1,
}  # fmt: skip
"""{setting of a model that changes its logits behind the LM head: the value at which it changes nothing}."""


def check_plain_head(model: Any) -> None:
    """Raise ValueError where a model's logits are not its LM head's output, which is what is computed here."""
    config = model.config.get_text_config()
    changed = {name: getattr(config, name, None) for name in TRANSFORMS}
    changed = {name: value for name, value in changed.items() if value not in (None, TRANSFORMS[name])}
    if changed:
        raise ValueError(
            "top-K entropies, rules that read log-probabilities and the entrance 'advantages' need a model whose "
            f"logits are its LM head's output. Got {config.model_type} with {changed}; use entropy_top_k=None, and "
            "entrance='mask' with versions of TRL and Unsloth that notebook 00 reports as tested."
        )


@torch.no_grad()
def hidden_state_entropy(
    hidden: torch.Tensor,
    lm_head: torch.Tensor,
    top_k: int | None = 500,
    bias: torch.Tensor | None = None,
    temperature: float = 1.0,
    max_elements: int = 1 << 24,
) -> torch.Tensor:
    """``normalized_entropy`` straight from hidden states, a chunk of rows at a time.

    The (rows, V) logits never exist at once: at most ``max_elements`` of them do. They are float32 whatever the head's
    type and whatever autocast is on: rounded to bfloat16 they move a low entropy by some percent.

    Args:
        hidden: (N, D) last hidden states; rounded to the head's type, as the head itself takes them.
        lm_head: (V, D) output embedding; bias: (V,) or None.
        temperature: the sampling temperature, > 0.

    Returns:
        (N,) float32 in [0, 1].
    """
    chunks = _chunked_logits(hidden, lm_head, bias, temperature, max_elements)
    found = [normalized_entropy(logits, top_k) for logits in chunks]
    return torch.cat(found) if found else hidden.new_zeros(0, dtype=torch.float32)  # (N,)


@torch.no_grad()
def hidden_state_log_probs(
    hidden: torch.Tensor,
    lm_head: torch.Tensor,
    ids: torch.Tensor,
    bias: torch.Tensor | None = None,
    temperature: float = 1.0,
    max_elements: int = 1 << 24,
) -> torch.Tensor:
    """Log-probabilities of the tokens ``ids`` (N,), in chunks as ``hidden_state_entropy``; (N,) float32, nats."""
    chunks = _chunked_logits(hidden, lm_head, bias, temperature, max_elements)
    found = torch.zeros(len(hidden), dtype=torch.float32, device=hidden.device)
    start = 0
    for logits in chunks:
        part = slice(start, start + len(logits))
        found[part] = torch.log_softmax(logits, -1).gather(1, ids[part, None])[:, 0]
        start = part.stop
    return found


def _chunked_logits(hidden, lm_head, bias, temperature, max_elements):
    if hidden.dim() != 2 or lm_head.dim() != 2 or hidden.shape[1] != lm_head.shape[1]:
        raise ValueError(
            f"hidden must have shape (N, D) and lm_head (V, D). Got {tuple(hidden.shape)} and {tuple(lm_head.shape)}."
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0. Got {temperature}.")
    with torch.autocast(hidden.device.type, enabled=False):
        for part in hidden.split(max(1, max_elements // lm_head.shape[0])):
            logits = _float32_logits(part.to(lm_head.dtype), lm_head, max_elements)  # (rows, V)
            yield (logits if bias is None else logits + bias.float()) / temperature


def _float32_logits(states, head, max_elements):
    if states.dtype not in (torch.bfloat16, torch.float16):
        return (states @ head.T).float()
    if _multiplies_to_float32(states.device, states.dtype):
        return torch.mm(states, head.T, out_dtype=torch.float32)
    # Elsewhere from float32 copies, of a slice of the head at a time: a copy of all of it can be a gigabyte.
    slices = head.split(max(1, max_elements // head.shape[1]))
    return torch.cat([states.float() @ part.float().T for part in slices], dim=1)


@functools.cache
def _multiplies_to_float32(device, dtype):
    """Whether this device multiplies this half type into float32: CUDA only, and bfloat16 not on a T4."""
    try:
        square = torch.ones(8, 8, device=device, dtype=dtype)
        return torch.mm(square, square, out_dtype=torch.float32).dtype == torch.float32
    except (RuntimeError, TypeError):  # also NotImplementedError; torch before 2.8 has no out_dtype
        return False


class EntropyTap:
    """Top-K entropies and sampled log-probabilities from the hidden states of the loss's own forward pass.

    A forward hook on the decoder keeps its last hidden states (detached) while the loss is computed. They come in
    one of two layouts: rows padded to prompt + completion columns, as TRL and Unsloth's fallback have them, or
    Unsloth's packed one, every row's tokens end to end in a single row. ``entropies`` checks on the first call
    that it read them right, by recomputing the exact entropy at some tokens and comparing it with the trainer's own.
    ``difference`` is what it found then: mean absolute difference over mean entropy, or None before.
    """

    @classmethod
    def of(cls, model: Any, top_k: int | None, temperature: float) -> "EntropyTap":
        """A tap on ``model``, whose logits must be its LM head's output; else ValueError."""
        check_plain_head(model)
        return cls(top_k, temperature)

    def __init__(self, top_k, temperature):
        self.top_k = top_k
        self.temperature = temperature
        self._hidden = []
        self.difference = None

    @contextmanager
    def listening(self, model: Any) -> Generator[None]:
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
    def entropies(
        self, model: Any, exact_nats: torch.Tensor, mask: torch.Tensor, real: torch.Tensor, log_vocabulary: float
    ) -> torch.Tensor:
        """Top-K normalised entropies, (B, T) float32 with 0 on padding.

        Args:
            exact_nats: (B, T) exact entropies in nats as the trainer computed them; mask: (B, T).
            real: (B, columns of prompt and completion) true where a token is not padding.

        Raises:
            RuntimeError: the recorded hidden states do not reproduce ``exact_nats``.
        """
        hidden = self._checked_states(model, exact_nats, mask, real, log_vocabulary)
        head = model.get_output_embeddings()
        found = hidden_state_entropy(hidden, head.weight, self.top_k, head.bias, self.temperature)
        return _on_tokens(found, mask)

    @torch.no_grad()
    def log_probs(
        self,
        model: Any,
        exact_nats: torch.Tensor,
        mask: torch.Tensor,
        real: torch.Tensor,
        log_vocabulary: float,
        ids: torch.Tensor,
    ) -> torch.Tensor:
        """Log-probability of each sampled token in nats, (B, T) float32 with 0 on padding.

        Args:
            ids: (B, T) token ids in the columns of ``mask``; the others as in ``entropies``.
        """
        hidden = self._checked_states(model, exact_nats, mask, real, log_vocabulary)
        head = model.get_output_embeddings()
        found = hidden_state_log_probs(hidden, head.weight, ids[mask.bool()], head.bias, self.temperature)
        return _on_tokens(found, mask)

    def _checked_states(self, model, exact_nats, mask, real, log_vocabulary):
        """(tokens, D) states that predict the mask's tokens; the first ones must give the loss's own entropies."""
        tokens = mask.bool()
        hidden = self._predicting_states(tokens, real.bool())  # (tokens, D)
        head = model.get_output_embeddings()
        if self.difference is None and len(hidden):
            expected = exact_nats[tokens][:256].float() / log_vocabulary
            exact = hidden_state_entropy(hidden[:256], head.weight, None, head.bias, self.temperature)
            self.difference = self._agreement(exact, expected)
        return hidden

    def _agreement(self, rebuilt, expected):
        """Mean absolute difference over mean entropy; raises where it is as large as another token's would be."""
        apart, mean = (rebuilt - expected).abs().mean().item(), expected.mean().item()
        # Logits rounded to bfloat16 move low entropies by some percent; a layout off by one, by nearly all of the mean.
        by_one = (expected - expected.roll(1)).abs().mean().item()
        if not apart <= max(0.02 * mean, 0.25 * by_one) + 1e-4:
            seen = f"recomputed entropies that differ from the loss's own by {apart:.4f} at a mean of {mean:.4f}"
            raise RuntimeError(self._complaint(seen))
        return apart / max(mean, 1e-9)

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
            "Use entropy_top_k=None (the exact one), or an installed set that notebook 00 reports as tested."
        )


def _on_tokens(values, mask):
    placed = torch.zeros(mask.shape, dtype=torch.float32, device=values.device)
    placed[mask.bool()] = values
    return placed
