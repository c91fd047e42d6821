"""AH-GRPO and SA-AH-GRPO as a subclass of whatever ``trl.GRPOTrainer`` is: stock TRL's or Unsloth's.

Both trainers, asked for ``top_entropy_quantile < 1``, hand the current policy's per-token entropies to the public
method ``get_high_entropy_mask`` and multiply what it returns into the policy term, before the KL is added. The
subclass returns the paper's weights there instead of a 0/1 mask. No loss is copied, so new options of TRL and
Unsloth keep working.
"""

import math
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from sa_ah_lib import rulebook, rules
from sa_ah_lib.upstream.decoding import check_padding
from sa_ah_lib.upstream.diagnostics import StepSums
from sa_ah_lib.upstream.entrance import OwnPass, on_loss_columns
from sa_ah_lib.upstream.entropy_tap import EntropyTap
from sa_ah_lib.upstream.hooks import (
    BATCH_KEYS,
    ENTRANCES,
    HookNotCalledError,
    PrivateHooks,
    check_arguments,
    check_batch,
    check_instance,
    check_upstream,
    forget_reference,
)
from sa_ah_lib.upstream.versions import remedy
from sa_ah_lib.weighting import (
    check_name,
    check_reward_threshold,
    check_top_k,
    group_normalized,
    silenced,
    spread,
)

GROUP_KEY, REWARD_KEY = "rollout_group", "rollout_reward"


def sa_ah_trainer_class(base: type | None = None) -> type:
    """The token-weighted subclass of ``base``, by default of ``trl.GRPOTrainer`` as it is at this call.

    Call it after ``import unsloth`` and after loading the model, so that Unsloth's generated trainer is the base.
    The constructor takes GRPOTrainer's own arguments (with ``GRPOConfig(**SEAM_ARGUMENTS, ...)``) and those of
    ``TokenWeighted``.

    Raises:
        UpstreamChangedError: ``base`` lacks what the weights go through; names it, and the versions to install.
    """
    if base is None:
        import trl

        base = trl.GRPOTrainer
    made = type("SAAHGRPOTrainer", (TokenWeighted, base), {"__doc__": TokenWeighted.__doc__})
    made.entrance = check_upstream(base, made)
    return made


class TokenWeighted(PrivateHooks):
    """GRPO whose policy term is weighted token by token (Eq. 6, 8 and 9).

    To try a rule of your own, pass it as ``rule`` (see ``rules``) or override ``token_weights``.

    Args:
        alpha: strength of the discount of the paper's rule and its controls, finite; 0.5 when None. 0 is GRPO (Eq. 5).
        scope: the rollouts they discount: "none" (GRPO), "all" (AH-GRPO), "negative" (SA-AH-GRPO, when None) or
            "positive" (its mirror).
        rule: a name in ``rules.RULES``, by default "cumulative" (Eq. 5), or a ``rules.Rule``.
        rule_parameters: {parameter: value} of a rule that does not take alpha and scope; its defaults when None.
        denominator: "group" (Eq. 6 and 9), "batch", "sequence" (Eq. 2) or "tokens" (TRL's own), see ``weighting``;
            what the rule's source divides by when None.
        entropy_top_k: K of the top-K entropy (Table 1), or None for the exact one, which costs nothing.
        reward_threshold: groups whose rewards have a standard deviation below this carry no signal: their
            advantages are set to 0. Our reading of Table 1's "reward threshold"; 0 switches it off.
        entrance: "mask", or "advantages" where TRL or Unsloth no longer calls get_high_entropy_mask: one more pass of
            the model a micro-batch, see ``upstream.entrance``. None takes the one that the probes found open.

    Raises:
        ValueError: an argument out of range, or a ``GRPOConfig`` that computes another loss.
        HookNotCalledError: at the first loss that was computed without asking for the weights.
    """

    def __init__(
        self,
        *args,
        alpha=None,
        scope=None,
        denominator=None,
        entropy_top_k=500,
        reward_threshold=0.15,
        rule="cumulative",
        rule_parameters=None,
        entrance=None,
        **kwargs,
    ):
        self.entrance = type(self).entrance if entrance is None else entrance
        check_name("entrance", self.entrance, ENTRANCES)
        check_reward_threshold(reward_threshold)
        self._rule = rules.find(rule)
        self.denominator, self.reward_threshold = denominator or self._rule.record.denominator, reward_threshold
        check_name("denominator", self.denominator, rulebook.DENOMINATORS)
        self.rule, self.rule_parameters = self._rule.record.name, dict(rule_parameters or {})
        self.alpha, self.scope = self._rule.strength(alpha, scope, self.rule_parameters)
        forget_reference(kwargs.get("model", args[0] if args else None))
        super().__init__(*args, **kwargs)
        check_instance(self)
        check_arguments(self.args, self.num_generations, self.entrance)
        check_padding(self)
        vocabulary = self._policy.get_output_embeddings().weight.shape[0]
        self._log_vocabulary = math.log(vocabulary)
        self._exact = check_top_k(entropy_top_k) is None or entropy_top_k >= vocabulary
        tapped = self.entrance == "mask" and (not self._exact or "log_probs" in self._rule.record.inputs)
        self._top_k = None if self._exact else entropy_top_k
        self._tap = EntropyTap.of(self._policy, entropy_top_k, self.args.temperature) if tapped else None
        self._tap_logged = False
        self._micro_batch = self.last_rollouts = None
        self._sums = StepSums(self.alpha, self.scope, reward_threshold)

    @property
    def _policy(self):
        return self.accelerator.unwrap_model(self.model)

    def token_weights(self, entropy: torch.Tensor, mask: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
        """The rule: (B, T) weights from normalised entropies (B, T), the mask (B, T) and advantages (B,)."""
        batch, order = self.rollout_batch(entropy, mask, advantages)
        weights = self._rule(batch, **self._rule.called_with(self.alpha, self.scope, self.rule_parameters))
        return torch.ones_like(weights).scatter(1, order, weights)

    def rollout_batch(
        self, entropy: torch.Tensor, mask: torch.Tensor, advantages: torch.Tensor
    ) -> tuple[rules.RolloutBatch, torch.Tensor]:
        """The micro-batch in training as ``rules.RolloutBatch``, and the columns of ``mask`` it comes from."""
        known = {key: self._micro_batch.get(key) for key in ("groups", "rewards", "nats", "sampled_ids", "log_probs")}
        return rules.left_aligned(
            entropy, mask, advantages, **known,  # ty: ignore[invalid-argument-type]
            log_vocabulary=self._log_vocabulary,
            progress=self.state.global_step / max(1, self.state.max_steps),
            # A resumed run draws as an unbroken one. Torch's generator reads a seed's low 32 bits only.
            seed=(1_000_003 * self.args.seed + self.state.global_step) % 2**32,
            gather=partial(rules.of_all_processes, self.accelerator),
        )  # fmt: skip

    def get_high_entropy_mask(self, entropies: torch.Tensor, mask: torch.Tensor, threshold: float) -> torch.Tensor:
        """TRL's hook: entropies in nats (B, T) and the loss mask (B, T) in, the policy term's factors (B, T) out."""
        if self.entrance == "advantages":
            return mask.float()
        batch = self._micro_batch
        if batch is None:
            raise RuntimeError("get_high_entropy_mask was called outside compute_loss, so the advantages are unknown.")
        here = (self._policy, entropies, mask, self._real_tokens(batch), self._log_vocabulary)
        if (ids := rules.sampled_ids(batch["completion_ids"], batch["completion_mask"], mask)) is not None:
            batch["sampled_ids"] = ids
            if "log_probs" in self._rule.record.inputs:
                batch["log_probs"] = self._tap.log_probs(*here, ids)
        if self._exact:
            batch["nats"] = entropies.detach().float()
            entropy = (entropies.detach().float() / self._log_vocabulary).clamp(0.0, 1.0)
        else:
            entropy = self._tap.entropies(*here)
        return self._factors(batch, entropy, mask)

    def _token_advantages(self, batch: dict[str, Any], inputs: dict[str, Any]) -> torch.Tensor:
        """(B, T) advantages times factors, in the loss's columns: the second entrance."""
        rollouts = OwnPass(self._policy, inputs, self.args.temperature)
        entropy = rollouts.entropies(None if self._exact else self._top_k)
        batch["sampled_ids"] = batch["completion_ids"] * rollouts.mask
        if "log_probs" in self._rule.record.inputs:
            batch["log_probs"] = rollouts.log_probs()
        factors = self._factors(batch, entropy, batch["completion_mask"])
        unsloth = any(base.__name__.startswith("Unsloth") for base in type(self).__mro__)
        return on_loss_columns(batch["advantages"][:, None] * factors, inputs, unsloth)

    def _factors(self, batch: dict[str, Any], entropy: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The policy term's factors (B, T) of the micro-batch, which is kept as ``last_rollouts``."""
        weights = self.token_weights(entropy, mask, batch["advantages"])
        self.last_rollouts = {**batch, "entropy": entropy, "weights": weights, "mask": mask}
        if self.model.training:
            self._sums.add(self.last_rollouts)
        return group_normalized(weights, mask, batch["groups"], self.denominator)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        check_batch(inputs, (GROUP_KEY, REWARD_KEY))
        self._micro_batch = {key: inputs[key] for key in BATCH_KEYS}
        self._micro_batch |= {"groups": inputs[GROUP_KEY], "rewards": inputs[REWARD_KEY]}
        # Before 2026.10.9 Unsloth's bnpo divided by this count, of all processes, and not by the micro-batch's own.
        items = inputs["completion_mask"].sum() * self.accelerator.num_processes
        inputs = {**inputs, "num_items_in_batch": items}
        self.last_rollouts = None
        try:
            if self.entrance == "advantages":
                inputs["advantages"] = self._token_advantages(self._micro_batch, inputs)
            with self._tap.listening(self._policy) if self._tap else nullcontext():
                loss = super().compute_loss(
                    model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
                )
        finally:
            self._micro_batch = None
        if self.last_rollouts is None:
            lineage = type(self).__mro__
            base = lineage[lineage.index(PrivateHooks) + 1].__name__
            raise HookNotCalledError(
                f"{base} computed a loss without calling get_high_entropy_mask, so it trained plain GRPO. {remedy()} "
                "Or pass entrance='advantages'."
            )
        return loss

    def _real_tokens(self, batch):
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        # As Unsloth packs them: by id, not by mask, which also hides the tokens of truncated completions.
        return ids != getattr(self.processing_class, "tokenizer", self.processing_class).pad_token_id

    def rollouts_scored(self, output: dict[str, Any], rewards: torch.Tensor) -> dict[str, Any]:
        """Silence groups below the threshold, and put each row's group and reward beside TRL's own tensors."""
        advantages = output["advantages"]  # (B,)
        size = self.num_generations if self.model.training else self.num_generations_eval
        scored = rewards * self.reward_weights.to(rewards.device)  # of all processes: (all, functions)
        # As in TRL, a rollout that no function scored has no reward; it is not one that earned 0.
        totals = scored.nansum(1).masked_fill(scored.isnan().all(1), math.nan)  # (all,)
        # Before the rows are shared out: a group of an evaluation may span processes.
        without_signal = silenced(spread(totals.view(-1, size)), self.reward_threshold).repeat_interleave(size)
        rows = torch.arange(len(advantages), device=advantages.device)
        here = rows + self.accelerator.process_index * len(advantages)
        # Tensors beside TRL's own are shuffled with them, so each row keeps its group and reward.
        output["advantages"] = torch.where(without_signal[here], 0.0, advantages)
        output[GROUP_KEY] = here // size
        output[REWARD_KEY] = totals[here]
        return output

    def diagnostics(self) -> dict[str, float | None]:
        """Table 6's columns since the last log, over all processes and micro-batches; empties the sums.

        Returns:
            {key: value} as ``upstream.metrics`` says, for every key of the trainer's own but ``sa_ah/tap_difference``.
        """
        return self._sums.take(self.accelerator)

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        # An evaluation between two training logs must not take their sums.
        if self._sums and self.model.training:
            logs.update(self.diagnostics())
            if self._tap and not self._tap_logged and self._tap.difference is not None:
                logs["sa_ah/tap_difference"], self._tap_logged = self._tap.difference, True
        super().log(logs, start_time)
